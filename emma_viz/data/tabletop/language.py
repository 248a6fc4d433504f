"""Plain English about tabletop scenes: captions, descriptions, and questions with their answers."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from emma_viz.data.tabletop.charts import TITLES, ChartPicture, ChartSeries
from emma_viz.data.tabletop.kinds import BY_FREQUENCY, COLOURS, KIND_INDEX, KINDS, SURFACES
from emma_viz.data.tabletop.scenes import Scene, Thing
from emma_viz.errors import InputError

_Item = TypeVar("_Item")

DESCRIBE = "Describe the image in detail."
NUMBERS = ("No", "One", "Two", "Three", "Four", "Five")
QUARTERS = ("top left", "top right", "bottom left", "bottom right")
YES, NO = "Yes.", "No."

_COMPARED = {"bar": ("taller than", "shorter than"), "line": ("above", "below")}
"""Form of chart → how two of its series are compared: the first word holds when the first one is higher."""
EXTREMES = {"tallest": max, "shortest": min}

ABSENT_MODES = ("random", "popular", "adversarial")
"""How an absent kind can be chosen, as in POPE."""
EXISTENCE_ASKED = 4
"""Existence questions about a scene in training."""
OTHERS_ASKED = 3
"""Most questions of every other topic."""

POPULAR = 5
"""A popular absent kind is one of this many: the most frequent of those that are not there."""


@dataclass(frozen=True, kw_only=True)
class SceneTurn:
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
    """One sentence that names every object, by kind: "A red cup at the top left and two forks on a wooden table.".

    The only one of its kind is said with its place; of several, how many there are.
    """
    if scene.chart:
        return _chart_caption(scene.chart)
    phrases = []
    for kind in scene.kinds:
        things = [thing for thing in scene.things if thing.kind == kind]
        colours = {thing.colour for thing in things}
        colour = f"{colours.pop()} " if len(colours) == 1 and things[0].colour else ""
        if len(things) == 1:
            phrases.append(f"{with_article(f'{colour}{kind}')} at the {things[0].quarter}")
        else:
            phrases.append(f"{NUMBERS[len(things)].lower()} {colour}{KINDS[KIND_INDEX[kind]].plural}")
    sentence = f"{_listed(phrases)} {SURFACES[scene.surface]}."
    return sentence[0].upper() + sentence[1:]


def _chart_caption(chart: ChartPicture) -> str:
    """ "A bar chart with three bars, red, blue and green, titled Sales."."""
    colours = [series.colour for series in chart.series]
    if len(colours) == 1:
        shown = f"{with_article(f'{colours[0]} {chart.form}')},"
    else:
        number = NUMBERS[len(colours)].lower()
        shown = f"{number} {KINDS[KIND_INDEX[chart.form]].plural}, {_listed(colours)},"
    return f"{with_article(chart.form).capitalize()} chart with {shown} titled {chart.title}."


def _listed(phrases: list[str]) -> str:
    """ "red", "red and blue", "red, blue and green"."""
    return " and ".join([", ".join(phrases[:-1]), phrases[-1]] if len(phrases) > 1 else phrases)


def existence(scene: Scene, kind: str) -> SceneTurn:
    """ "Is there a spoon in the image?"."""
    answer = YES if scene.count(kind) else NO
    return SceneTurn(
        topic="existence", question=f"Is there {with_article(kind)} in the image?", answer=answer
    )


def count(scene: Scene, kind: str) -> SceneTurn:
    """ "How many forks are there?"."""
    question = f"How many {KINDS[KIND_INDEX[kind]].plural} are there?"
    return SceneTurn(topic="count", question=question, answer=f"{NUMBERS[scene.count(kind)]}.")


def color(thing: Thing) -> SceneTurn:
    """ "What color is the cup?"; `thing` must be the only one of its kind."""
    answer = f"{thing.colour.capitalize()}."
    return SceneTurn(topic="color", question=f"What color is the {thing.kind}?", answer=answer)


def where(thing: Thing) -> SceneTurn:
    """ "Where is the cup?"; `thing` must be the only one of its kind."""
    answer = f"{thing.quarter.capitalize()}."
    return SceneTurn(topic="where", question=f"Where is the {thing.kind}?", answer=answer)


def relation(first: Thing, second: Thing, *, word: str) -> SceneTurn:
    """ "Is the cup left of the fork?"; word is "left of", "right of", "above" or "below"."""
    holds = {
        "left of": first.x < second.x,
        "right of": first.x > second.x,
        "above": first.y < second.y,
        "below": first.y > second.y,
    }[word]
    question = f"Is the {first.kind} {word} the {second.kind}?"
    return SceneTurn(topic="relation", question=question, answer=YES if holds else NO)


def extreme(chart: ChartPicture, *, word: str) -> SceneTurn:
    """ "What color is the tallest bar?"; word is "tallest" or "shortest", the chart one of bars."""
    best = EXTREMES[word](chart.series, key=lambda series: series.values)
    answer = f"{best.colour.capitalize()}."
    return SceneTurn(topic="color", question=f"What color is the {word} bar?", answer=answer)


def comparison(form: str, first: ChartSeries, second: ChartSeries, *, word: str) -> SceneTurn:
    """ "Is the red bar taller than the blue bar?"; word is one of COMPARED[form].

    Either the whole of `first` must be higher than the whole of `second`, or lower.
    """
    holds = (first.values > second.values) == (word == _COMPARED[form][0])
    question = f"Is the {first.colour} {form} {word} the {second.colour} {form}?"
    return SceneTurn(topic="relation", question=question, answer=YES if holds else NO)


def caption_turn(scene: Scene) -> SceneTurn:
    """ "Describe the image in detail."."""
    return SceneTurn(topic="caption", question=DESCRIBE, answer=caption(scene))


def named_kinds(text: str) -> frozenset[str]:
    """The kinds that a text names, in the singular or the plural."""
    words = set(re.findall(r"[a-z]+", text.lower()))
    return frozenset(kind.name for kind in KINDS if words & {kind.name, kind.plural})


def single_things(scene: Scene) -> list[Thing]:
    """The objects that are the only one of their kind, so that "the cup" means one thing."""
    return [thing for thing in scene.things if scene.count(thing.kind) == 1]


def absent_kind(scene: Scene, rng: np.random.Generator, *, mode: str = "random") -> str:
    """A kind that is not in the scene.

    Args:
        scene: the scene.
        rng: random stream.
        mode: "random": any; "popular": one of the POPULAR most frequent that are left; "adversarial": a usual
            companion of something that is there (any, when none is left).

    Returns:
        The kind's name.
    """
    if mode not in ABSENT_MODES:
        raise InputError(f"An absent kind's mode is one of {', '.join(ABSENT_MODES)}; got {mode!r}.")
    pool = [kind for kind in BY_FREQUENCY if not scene.count(kind)]
    if mode == "popular":
        pool = pool[:POPULAR]
    if mode == "adversarial":
        near = {friend for kind in scene.kinds for friend in KINDS[KIND_INDEX[kind]].companions}
        pool = [kind for kind in pool if kind in near] or pool
    return pool[int(rng.integers(len(pool)))]


def color_turns(scene: Scene) -> list[SceneTurn]:
    """Every question about a colour that has one answer."""
    turns = [color(thing) for thing in single_things(scene) if thing.colour]
    if scene.chart and scene.chart.form == "bar":
        turns += [extreme(scene.chart, word=word) for word in EXTREMES]
    return turns


def where_turns(scene: Scene) -> list[SceneTurn]:
    """Where each object is that is the only one of its kind; about charts there are none."""
    return [] if scene.chart else [where(thing) for thing in single_things(scene)]


def relation_turns(scene: Scene, rng: np.random.Generator) -> list[SceneTurn]:
    """How each object lies to one other, where the two differ clearly; "Yes." and "No." are equally likely."""
    turns = []
    for first, second in _partners(scene.chart.series if scene.chart else single_things(scene), rng):
        if scene.chart:
            turns += _comparison_of(scene.chart.form, first, second, rng)
        else:
            turns += _relation_of(first, second, rng)
    return turns


def _partners(items: Sequence[_Item], rng: np.random.Generator) -> Iterator[tuple[_Item, _Item]]:
    """Each item beside one of the others."""
    for first in items:
        if others := [item for item in items if item is not first]:
            yield first, others[int(rng.integers(len(others)))]


def _relation_of(first: Thing, second: Thing, rng: np.random.Generator) -> list[SceneTurn]:
    """A relation along the axis on which two objects clearly differ (16 pixels), or none."""
    across, along = abs(first.x - second.x), abs(first.y - second.y)
    if max(across, along) < 16:
        return []
    words = ("left of", "right of") if across >= along else ("above", "below")
    return [relation(first, second, word=words[int(rng.integers(2))])]


def _comparison_of(
    form: str, first: ChartSeries, second: ChartSeries, rng: np.random.Generator
) -> list[SceneTurn]:
    """A comparison of two bars, or of two lines unless they meet."""
    gaps = [a - b for a, b in zip(first.values, second.values, strict=True)]
    if min(gaps) <= 0 <= max(gaps):
        return []
    return [comparison(form, first, second, word=_COMPARED[form][int(rng.integers(2))])]


def questions(scene: Scene, rng: np.random.Generator) -> list[SceneTurn]:
    """Questions for training, each to be asked by itself, and the caption.

    Existence questions are fair coins, drawn independently of one another; of the other topics, colour, place,
    relation and number, there are up to OTHERS_ASKED questions each.
    """
    turns = [existence(scene, _coin_kind(scene, rng)) for _ in range(EXISTENCE_ASKED)]
    several = [kind for kind in scene.kinds if scene.count(kind) > 1]
    counted = several if several and rng.random() < 0.6 else scene.kinds
    counts = [count(scene, kind) for kind in counted]
    for some in (color_turns(scene), where_turns(scene), relation_turns(scene, rng), counts):
        turns += [some[i] for i in rng.permutation(len(some))[:OTHERS_ASKED]]
    return [*turns, caption_turn(scene)]


def _coin_kind(scene: Scene, rng: np.random.Generator) -> str:
    """A kind that is there or, equally likely, one that is not."""
    if rng.random() < 0.5:
        return scene.kinds[int(rng.integers(len(scene.kinds)))]
    return absent_kind(scene, rng, mode=str(rng.choice(ABSENT_MODES)))


def description(scene: Scene, rng: np.random.Generator) -> str:
    """A scene in words, for a language model that has no image: "A red cup top left. A fork bottom right."

    The objects come in random order. A chart is described by its caption.
    """
    if scene.chart:
        return caption(scene) + "\n"
    parts = [
        f"{with_article(f'{thing.colour} {thing.kind}'.strip())} {thing.quarter}"
        for thing in (scene.things[i] for i in rng.permutation(len(scene.things)))
    ]
    return " ".join(f"{part[0].upper()}{part[1:]}." for part in [*parts, SURFACES[scene.surface]]) + "\n"


def described_questions(scene: Scene, rng: np.random.Generator) -> list[SceneTurn]:
    """Those of the scene's `questions` that its `description` answers."""
    unsaid = {"relation", "color"} if scene.chart else {"relation"}
    return [turn for turn in questions(scene, rng) if turn.topic not in unsaid]


def corpus() -> list[str]:
    """Every word of the world in sentences of each form: what a tokenizer must know."""
    lines = [
        *_chart_corpus(),
        DESCRIBE,
        *(f"{n}." for n in NUMBERS),
        *(f"{word.capitalize()}." for word in (*QUARTERS, *COLOURS)),
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
        lines += [f"{with_article(colour).capitalize()} {kind.name}" for colour in COLOURS]
    return lines


def _chart_corpus() -> list[str]:
    lines = [f"What color is the {word} bar?" for word in EXTREMES]
    for form, words in _COMPARED.items():
        lines += [
            f"{with_article(form).capitalize()} chart with two {form}s, titled {title}." for title in TITLES
        ]
        lines += [
            f"Is the {colour} {form} {word} the {colour} {form}?" for colour in COLOURS for word in words
        ]
    return lines
