"""The tabletop world as a benchmark: held-out scenes, drawn when they are needed; nothing is downloaded.

Existence is asked as in POPE: of each scene one object that is there, in all three splits, beside an absent one that is
random, popular or adversarial. The other topics are splits of their own.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emma_viz.data.tabletop import KINDS, Scene, draw_scene, make_scene, named_kinds, scene_questions
from emma_viz.records.benchmarks.kinds import Benchmark, Complain, FoundRecord
from emma_viz.records.benchmarks.pope import asked_object
from emma_viz.records.benchmarks.record import AskedFor, BenchmarkRecord
from emma_viz.records.objects import ObjectWords

_SCENES = 200
"""Scenes of the test split that are asked about."""
_PLACE = re.compile(r"(train|val|test)-(\d{1,9})\.png")
_NAMES = ObjectWords({kind.name: (kind.name, kind.plural) for kind in KINDS})


def _read(files: Sequence[Path], complain: Complain) -> Iterator[FoundRecord]:
    for index in range(_SCENES):
        yield from ((record, None) for record in scene_records("test", index))


def scene_records(split: str, index: int) -> Iterator[BenchmarkRecord]:
    """The records of one scene.

    Args:
        split: of the tabletop world.
        index: the scene's number.
    """
    scene = make_scene(split, index)
    for number, (topic, turn) in enumerate(scene_questions(scene)):
        plain = turn.answer.rstrip(".").lower()
        asked: AskedFor = (
            "description" if turn.topic == "caption" else "yes-no" if plain in ("yes", "no") else "short"
        )
        yield BenchmarkRecord(
            benchmark="tabletop",
            split=topic.removeprefix("existence "),
            id=f"{index}-{number}",
            asked=asked,
            question=turn.question,
            image=f"{split}-{index}.png",
            truth="" if asked == "description" else plain,
            present=tuple(sorted(named_kinds(turn.answer))) if asked == "description" else (),
            object=asked_object(turn.question),
            category=turn.topic,
        )


def _scene(record: BenchmarkRecord) -> Scene:
    found = _PLACE.fullmatch(record.image or "")
    assert found is not None, f"{record.image!r} is no scene"  # Records of this benchmark are made here.
    return make_scene(found[1], int(found[2]))


def _draw(record: BenchmarkRecord) -> Any:
    return draw_scene(_scene(record)).image


def _mask(record: BenchmarkRecord) -> Any:
    """The pixels of all things of the kind that is asked about."""
    scene = _scene(record)
    numbers = [number for number, thing in enumerate(scene.things, start=1) if thing.kind == record.object]
    return np.isin(draw_scene(scene).mask, numbers) if numbers else None


BENCHMARK = Benchmark(
    title="drawn scenes: existence as in POPE, colours, places, numbers, relations, captions",
    source="part of this package",
    read=_read,
    scorers=("first-word", "pope", "lmms-eval", "vlmevalkit", "cobra"),
    draw=_draw,
    mask=_mask,
    mentions=lambda record, text: _NAMES.mentions(text),
    bundled=True,
)
