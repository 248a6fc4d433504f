"""The held-out questions about a scene, each to be asked alone: what models are measured on."""

from collections.abc import Iterator

from emma_viz.data.tabletop.kinds import KIND_INDEX
from emma_viz.data.tabletop.language import (
    ABSENT_MODES,
    SceneTurn,
    absent_kind,
    caption_turn,
    color_turns,
    count,
    existence,
    relation_turns,
    where_turns,
)
from emma_viz.data.tabletop.scenes import Scene, stream

ASKED = 1
"""Purpose number of the stream that chooses a test scene's questions (far from the training conversations')."""


def scene_questions(scene: Scene) -> Iterator[tuple[str, SceneTurn]]:
    """The questions about one held-out scene, as (topic, turn).

    Existence comes in pairs of one present and one absent kind, so that "Yes." and "No." are equally often right:
    "random" absent kinds are any, "popular" ones frequent, and "adversarial" ones usually lie beside something that
    is there.
    """
    rng = stream(scene.split, scene.index, 10_000 + ASKED)
    present = scene.kinds[int(rng.integers(len(scene.kinds)))]
    for mode in ABSENT_MODES:
        yield f"existence {mode}", existence(scene, present)
        yield f"existence {mode}", existence(scene, absent_kind(scene, rng, mode=mode))
    for turns in (color_turns(scene), where_turns(scene), relation_turns(scene, rng)):
        if turns:
            turn = turns[int(rng.integers(len(turns)))]
            yield turn.topic, turn
    most = max(scene.kinds, key=lambda kind: (scene.count(kind), KIND_INDEX[kind]))
    for turn in (count(scene, most), caption_turn(scene)):
        yield turn.topic, turn
