"""Plain English about tabletop scenes: captions, questions with their answers, and conversations made of them."""

import re
from dataclasses import dataclass

import numpy as np

from emma_viz.data.tabletop.kinds import COLOURS, KIND_INDEX, KINDS, SURFACES
from emma_viz.data.tabletop.scenes import Scene, Thing

DESCRIBE = "Describe the image in detail."
NUMBERS = ("No", "One", "Two", "Three", "Four", "Five")
QUARTERS = ("top left", "top right", "bottom left", "bottom right")
YES, NO = "Yes.", "No."


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One question and its true answer.

    Attributes:
        topic: "existence", "color", "count", "where", "relation" or "caption".
        question: what the user asks.
        answer: the truth, as a sentence.
    """

    topic: str
    question: str
    answer: str


def with_article(phrase: str) -> str:
    """ "apple" → "an apple", "red cup" → "a red cup"."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def caption(scene: Scene) -> str:
    """One sentence that names every object, grouped by kind: "A red cup and two forks on a wooden table."."""
    phrases = []
    for kind in scene.kinds:
        things = [thing for thing in scene.things if thing.kind == kind]
        colours = {thing.colour for thing in things}
        colour = f"{colours.pop()} " if len(colours) == 1 and things[0].colour else ""
        if len(things) == 1:
            phrases.append(with_article(f"{colour}{kind}"))
        else:
            phrases.append(f"{NUMBERS[len(things)].lower()} {colour}{KINDS[KIND_INDEX[kind]].plural}")
    listed = " and ".join([", ".join(phrases[:-1]), phrases[-1]] if len(phrases) > 1 else phrases)
    sentence = f"{listed} {SURFACES[scene.surface]}."
    return sentence[0].upper() + sentence[1:]


def existence(scene: Scene, kind: str) -> Turn:
    """ "Is there a spoon in the image?"."""
    answer = YES if scene.count(kind) else NO
    return Turn(topic="existence", question=f"Is there {with_article(kind)} in the image?", answer=answer)


def count(scene: Scene, kind: str) -> Turn:
    """ "How many forks are there?"."""
    question = f"How many {KINDS[KIND_INDEX[kind]].plural} are there?"
    return Turn(topic="count", question=question, answer=f"{NUMBERS[scene.count(kind)]}.")


def color(thing: Thing) -> Turn:
    """ "What color is the cup?"; `thing` must be the only one of its kind."""
    return Turn(
        topic="color",
        question=f"What color is the {thing.kind}?",
        answer=f"The {thing.kind} is {thing.colour}.",
    )


def where(thing: Thing) -> Turn:
    """ "Where is the cup?"; `thing` must be the only one of its kind."""
    return Turn(topic="where", question=f"Where is the {thing.kind}?", answer=f"At the {thing.quarter}.")


def relation(first: Thing, second: Thing, *, word: str) -> Turn:
    """ "Is the cup left of the fork?"; word is "left of", "right of", "above" or "below"."""
    holds = {
        "left of": first.x < second.x,
        "right of": first.x > second.x,
        "above": first.y < second.y,
        "below": first.y > second.y,
    }[word]
    question = f"Is the {first.kind} {word} the {second.kind}?"
    return Turn(topic="relation", question=question, answer=YES if holds else NO)


def caption_turn(scene: Scene) -> Turn:
    """ "Describe the image in detail."."""
    return Turn(topic="caption", question=DESCRIBE, answer=caption(scene))


def named_kinds(text: str) -> frozenset[str]:
    """The kinds that a text names, in the singular or the plural."""
    words = set(re.findall(r"[a-z]+", text.lower()))
    return frozenset(kind.name for kind in KINDS if words & {kind.name, kind.plural})


def single_things(scene: Scene) -> list[Thing]:
    """The objects that are the only one of their kind, so that "the cup" means one thing."""
    return [thing for thing in scene.things if scene.count(thing.kind) == 1]


def absent_kind(
    scene: Scene, rng: np.random.Generator, *, mode: str = "random", asked: frozenset[str] = frozenset()
):
    """A kind that is not in the scene.

    Args:
        scene: the scene.
        rng: random stream.
        mode: "random": any; "adversarial": a usual companion of something that is there (any, when none is left).
        asked: kinds not to choose again.

    Returns:
        The kind's name.
    """
    pool = [kind.name for kind in KINDS if not scene.count(kind.name) and kind.name not in asked]
    if mode == "adversarial":
        near = {friend for kind in scene.kinds for friend in KINDS[KIND_INDEX[kind]].companions}
        pool = [kind for kind in pool if kind in near] or pool
    return pool[int(rng.integers(len(pool)))]


def existence_turns(scene: Scene, rng: np.random.Generator, *, most: int) -> list[Turn]:
    """Fair-coin existence questions; the list stops once every kind that is there was asked.

    After that point the answer could only be no, and the model would learn the list instead of the image.
    """
    present = list(rng.permutation(scene.kinds))
    asked: set[str] = set()
    turns = []
    while present and len(turns) < most:
        if rng.random() < 0.5:
            kind = str(present.pop())
        else:
            mode = "adversarial" if rng.random() < 0.5 else "random"
            kind = absent_kind(scene, rng, mode=mode, asked=frozenset(asked))
        asked.add(kind)
        turns.append(existence(scene, kind))
    return turns


def detail_turns(scene: Scene, rng: np.random.Generator, *, most: int) -> list[Turn]:
    """Questions about objects that are there: how many, what colour, where, and how two of them lie."""
    single = single_things(scene)
    turns = [color(thing) for thing in single if thing.colour]
    turns += [where(thing) for thing in single]
    turns += [count(scene, kind) for kind in scene.kinds if scene.count(kind) > 1 or rng.random() < 0.35]
    for first in single:
        others = [thing for thing in single if thing is not first]
        if others and rng.random() < 0.5:
            second = others[int(rng.integers(len(others)))]
            turn = _clear_relation(first, second, rng)
            turns += [turn] if turn else []
    order = rng.permutation(len(turns))[:most]
    return [turns[i] for i in order]


def _clear_relation(first: Thing, second: Thing, rng: np.random.Generator) -> Turn | None:
    """A relation along the axis on which two objects clearly differ (16 pixels), or none."""
    across, along = abs(first.x - second.x), abs(first.y - second.y)
    if max(across, along) < 16:
        return None
    words = ("left of", "right of") if across >= along else ("above", "below")
    return relation(first, second, word=words[int(rng.integers(2))])


def conversation(scene: Scene, rng: np.random.Generator) -> list[Turn]:
    """One training conversation about a scene.

    Questions about existence come first, because every other question says what is there; a third of the
    conversations has none, so that the other kinds of question are also met as a first turn. A caption names
    everything and can only come last.
    """
    style = rng.random()
    if style < 0.2:
        return [caption_turn(scene)]
    turns = existence_turns(scene, rng, most=4) if style < 0.75 else []
    turns += detail_turns(scene, rng, most=4)
    if not turns or rng.random() < 0.35:
        turns.append(caption_turn(scene))
    return turns


def corpus() -> list[str]:
    """Every word of the world in sentences of each form: what a tokenizer must know."""
    lines = [
        DESCRIBE,
        *(f"{n}." for n in NUMBERS),
        *(f"At the {q}." for q in QUARTERS),
        *SURFACES.values(),
        YES,
        NO,
    ]
    for kind in KINDS:
        lines += [f"Is there {with_article(kind.name)} in the image?", f"How many {kind.plural} are there?"]
        lines += [
            f"What color is the {kind.name}?",
            f"Where is the {kind.name}?",
            f"{with_article(kind.name).capitalize()},",
        ]
        lines += [f"{n.lower()} {kind.plural} and {with_article(kind.name)}" for n in NUMBERS]
        lines += [
            f"Is the {kind.name} {word} the {kind.name}?"
            for word in ("left of", "right of", "above", "below")
        ]
        lines += [
            f"The {kind.name} is {colour}. {with_article(colour).capitalize()} {kind.name}"
            for colour in COLOURS
        ]
    return lines
