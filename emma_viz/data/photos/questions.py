"""Plain English about pictures of the photo world: captions, and questions with their answers."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from emma_viz.data.photos.categories import PHOTO_CATEGORIES
from emma_viz.data.photos.pictures import PhotoScene, Placed
from emma_viz.data.tabletop.language import (
    ABSENT_MODES,
    DESCRIBE,
    EXISTENCE_ASKED,
    NO,
    NUMBERS,
    OTHERS_ASKED,
    POPULAR,
    QUARTERS,
    YES,
    SceneTurn,
)
from emma_viz.errors import InputError

WHAT = "What is in the image?"

GROUNDS: dict[str, str] = {
    "solid": "on a plain table",
    "gradient": "on a plain table",
    "wood": "on a wooden table",
    "checker": "on a checked cloth",
    "photo": "on a large picture",
}
"""Ground → how captions say it."""

_DIFFERS = 24
"""Centres of photographs whose relation is asked for differ by so much along it, pixels."""
_WORDS = ("left of", "right of", "above", "below")
_NAMES = sorted(
    (name for each in PHOTO_CATEGORIES for name in (each.name, each.plural)), key=len, reverse=True
)
_ANY = re.compile(rf"\b(?:{'|'.join(map(re.escape, _NAMES))})\b", re.IGNORECASE)
_NUMBER_OF = {
    name.lower(): number for number, each in enumerate(PHOTO_CATEGORIES) for name in (each.name, each.plural)
}


@dataclass(frozen=True, kw_only=True)
class Rivals:
    """What absent categories are chosen by.

    Attributes:
        popular: all categories, those with the most training photographs first.
        confused: for each category, those that the encoder confuses most with it, worst first.
    """

    popular: tuple[int, ...]
    confused: tuple[tuple[int, ...], ...]

    def __post_init__(self):
        wanted = set(range(len(PHOTO_CATEGORIES)))
        if set(self.popular) != wanted or len(self.confused) != len(wanted):
            raise InputError(
                f"Rivals: popular must name all {len(wanted)} categories and confused have as many rows; got "
                f"{len(self.popular)} and {len(self.confused)}."
            )


def what(scene: PhotoScene) -> SceneTurn:
    """ "What is in the image?" about a picture of one photograph: "A grand piano."."""
    return SceneTurn(
        topic="what", question=WHAT, answer=_sentence(PHOTO_CATEGORIES[scene.things[0].category].one)
    )


def photo_existence(scene: PhotoScene, category: int) -> SceneTurn:
    """ "Is there a grand piano in the image?"."""
    question = f"Is there {PHOTO_CATEGORIES[category].one} in the image?"
    return SceneTurn(topic="existence", question=question, answer=YES if scene.count(category) else NO)


def photo_count(scene: PhotoScene, category: int) -> SceneTurn:
    """ "How many anchors are there?"."""
    question = f"How many {PHOTO_CATEGORIES[category].plural} are there?"
    return SceneTurn(topic="count", question=question, answer=f"{NUMBERS[scene.count(category)]}.")


def photo_where(thing: Placed) -> SceneTurn:
    """ "Where is the anchor?"; `thing` must be the only one of its category."""
    question = f"Where is the {PHOTO_CATEGORIES[thing.category].name}?"
    return SceneTurn(topic="where", question=question, answer=_sentence(thing.quarter))


def photo_relation(first: Placed, second: Placed, *, word: str) -> SceneTurn:
    """ "Is the anchor left of the lamp?"; word is "left of", "right of", "above" or "below"."""
    holds = {
        "left of": first.x < second.x,
        "right of": first.x > second.x,
        "above": first.y < second.y,
        "below": first.y > second.y,
    }[word]
    one, other = (PHOTO_CATEGORIES[thing.category].name for thing in (first, second))
    return SceneTurn(
        topic="relation", question=f"Is the {one} {word} the {other}?", answer=YES if holds else NO
    )


def photo_caption(scene: PhotoScene) -> SceneTurn:
    """The description: "A photo of a lamp." or "An ant at the top left and two lamps on a wooden table."."""
    if scene.whole:
        text = _sentence(f"a photo of {PHOTO_CATEGORIES[scene.things[0].category].one}")
        return SceneTurn(topic="caption", question=DESCRIBE, answer=text)
    phrases = []
    for number in scene.categories:
        same = [thing for thing in scene.things if thing.category == number]
        category = PHOTO_CATEGORIES[number]
        if len(same) == 1:
            phrases.append(f"{category.one} at the {same[0].quarter}")
        else:
            phrases.append(f"{NUMBERS[len(same)].lower()} {category.plural}")
    listed = " and ".join([", ".join(phrases[:-1]), phrases[-1]] if len(phrases) > 1 else phrases)
    return SceneTurn(
        topic="caption", question=DESCRIBE, answer=_sentence(f"{listed} {GROUNDS[scene.ground]}")
    )


def named_categories(text: str) -> frozenset[int]:
    """The categories that a text names, in the singular or the plural; "a crocodile head" is not a crocodile."""
    return frozenset(_NUMBER_OF[found.lower()] for found in _ANY.findall(text))


def absent(scene: PhotoScene, rivals: Rivals, rng: np.random.Generator, *, mode: str) -> int:
    """A category that none of the picture's photographs is filed under; a Windsor chair is no chair here, nor is what
    the ground shows looked at.

    Args:
        scene: the picture.
        rivals: orders of the categories.
        rng: random stream.
        mode: "random": any; "popular": one of the POPULAR most photographed that are left; "adversarial": what the
            encoder confuses most with one of those that are there.

    Raises:
        InputError: there is no such mode.
    """
    if mode not in ABSENT_MODES:
        raise InputError(f"An absent category's mode is one of {', '.join(ABSENT_MODES)}; got {mode!r}.")
    pool = [number for number in rivals.popular if not scene.count(number)]
    if mode == "popular":
        pool = pool[:POPULAR]
    if mode == "adversarial":
        there = scene.categories[int(rng.integers(len(scene.categories)))]
        pool = [number for number in rivals.confused[there] if not scene.count(number)] or pool
    return pool[int(rng.integers(len(pool)))]


def photo_questions(scene: PhotoScene, rivals: Rivals, rng: np.random.Generator) -> list[SceneTurn]:
    """Questions for training, each to be asked by itself, and the caption.

    Existence questions are fair coins, drawn independently of one another. Where, relation and count are asked about
    scenes alone: of a photograph that fills the picture nobody has said how many things are in it, or where.
    """
    turns = [_coin(scene, rivals, rng, str(rng.choice(ABSENT_MODES))) for _ in range(EXISTENCE_ASKED)]
    if len(scene.things) == 1:
        turns.append(what(scene))
    for some in _of_scenes(scene, rng):
        turns += [some[i] for i in rng.permutation(len(some))[:OTHERS_ASKED]]
    return [*turns, photo_caption(scene)]


def held_out_questions(
    scene: PhotoScene, rivals: Rivals, rng: np.random.Generator
) -> Iterator[tuple[str, SceneTurn]]:
    """What models are measured on: (topic, question), each to be asked alone.

    Topics are those of the turns. Existence comes in pairs of one present and one absent category, parted by how the
    absent one is chosen, as in POPE.
    """
    present = scene.categories[int(rng.integers(len(scene.categories)))]
    for mode in ABSENT_MODES:
        yield f"existence {mode}", photo_existence(scene, present)
        yield f"existence {mode}", photo_existence(scene, absent(scene, rivals, rng, mode=mode))
    if scene.whole:
        yield "what", what(scene)
    for some in _of_scenes(scene, rng):
        if some:
            turn = some[int(rng.integers(len(some)))]
            yield turn.topic, turn
    yield "caption", photo_caption(scene)


def photo_corpus() -> list[str]:
    """Every word of the world in sentences of each form: what a tokenizer must know."""
    words = (*QUARTERS, *GROUNDS.values(), *(n.lower() for n in NUMBERS), *_WORDS)
    lines = [DESCRIBE, WHAT, YES, NO, *(_sentence(word) for word in words)]
    lines += [f"a {word}." for word in words] * 10
    for each in PHOTO_CATEGORIES:
        lines += [
            _sentence(each.one),
            _sentence(f"a photo of {each.one}"),
            f"Is there {each.one} in the image?",
            f"How many {each.plural} are there?",
            f"Where is the {each.name}?",
        ]
        lines += [f"Is the {each.name} {word} the {each.name}?" for word in _WORDS]
        lines += [f"{n.lower()} {each.plural}, {each.one} at the {q} and {each.one}" for n, q in
                  zip(NUMBERS[2:], QUARTERS, strict=True)]  # fmt: skip
    return lines


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _coin(scene: PhotoScene, rivals: Rivals, rng: np.random.Generator, mode: str) -> SceneTurn:
    """About a category that is there or, equally likely, one that is not."""
    if rng.random() < 0.5:
        return photo_existence(scene, scene.categories[int(rng.integers(len(scene.categories)))])
    return photo_existence(scene, absent(scene, rivals, rng, mode=mode))


def _of_scenes(scene: PhotoScene, rng: np.random.Generator) -> list[list[SceneTurn]]:
    """Where, relation and count; nothing about a photograph that fills the picture."""
    if scene.whole:
        return []
    alone = [thing for thing in scene.things if scene.count(thing.category) == 1]
    counted: Sequence[int] = scene.categories
    several = [number for number in counted if scene.count(number) > 1]
    if several and rng.random() < 0.6:
        counted = several
    return [
        [photo_where(thing) for thing in alone],
        _relations(alone, rng),
        [photo_count(scene, number) for number in counted],
    ]


def _relations(alone: Sequence[Placed], rng: np.random.Generator) -> list[SceneTurn]:
    """How each lies to one other, where the two differ clearly; "Yes." and "No." are equally likely."""
    turns = []
    for first in alone:
        others = [thing for thing in alone if thing is not first]
        if not others:
            continue
        second = others[int(rng.integers(len(others)))]
        across, along = abs(first.x - second.x), abs(first.y - second.y)
        if max(across, along) >= _DIFFERS:
            words = _WORDS[:2] if across >= along else _WORDS[2:]
            turns.append(photo_relation(first, second, word=words[int(rng.integers(2))]))
    return turns
