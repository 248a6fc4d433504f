"""Objects that a text names: words and their plurals, several words for one object, two words that mean one thing."""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

_WORDS = re.compile(r"[a-z]+")
IRREGULAR = {
    "people": "person",
    "men": "man",
    "women": "woman",
    "children": "child",
    "knives": "knife",
    "mice": "mouse",
    "geese": "goose",
    "feet": "foot",
    "teeth": "tooth",
    "loaves": "loaf",
    "leaves": "leaf",
    "wolves": "wolf",
    "calves": "calf",
    "shelves": "shelf",
    "oxen": "ox",
}
_TAILS = ("men", "women", "children", "knives")
"""Ends of compounds whose plural is irregular: policemen."""
YOUNG = ("baby", "adult")
"""Before an animal, they say which animal and are no person of their own."""


def singulars(word: str) -> tuple[str, ...]:
    """What a word may be the plural of, itself first.

    Examples:
        >>> singulars("glasses")
        ('glasses', 'glasse', 'glass')
    """
    found = [word]
    if word in IRREGULAR:
        found.append(IRREGULAR[word])
    found += [word[: -len(t)] + IRREGULAR[t] for t in _TAILS if word.endswith(t) and word != t]
    if word.endswith("s") and not word.endswith("ss"):
        found.append(word[:-1])
        if word.endswith("es"):
            found.append(word[:-2])
        if word.endswith("ies"):
            found.append(word[:-3] + "y")
    return tuple(found)


def _lower(text: str) -> str:
    """In small letters, each where it stood: of some signs Python's own makes two."""
    return "".join(small if len(small := sign.lower()) == 1 else sign for sign in text)


class ObjectWords:
    """A table of words, asked which objects a text names.

    Args:
        table: object → the words for it, in the singular, of one or several words each.
        nothing: sayings that contain such a word and mean none of these objects.
        animals: objects before which `YOUNG` words are no object of their own.
    """

    def __init__(
        self,
        table: Mapping[str, Iterable[str]],
        *,
        nothing: Iterable[str] = (),
        animals: Iterable[str] = (),
    ):
        self._known: dict[tuple[str, ...], str | None] = {
            tuple(_WORDS.findall(word.lower())): name for name, words in table.items() for word in words
        }
        self._known |= {tuple(_WORDS.findall(each.lower())): None for each in nothing}
        self._longest = max((len(words) for words in self._known), default=0)
        self._animals = frozenset(animals)

    def mentions(self, text: str) -> tuple[str, ...]:
        """The objects that a text names, in order, each as often as it does; of overlapping words the longest."""
        return tuple(name for name, _, _ in self.places(text))

    def places(self, text: str) -> list[tuple[str, int, int]]:
        """The same with where their words stand: (object, start, end), in characters of the text."""
        plain = _lower(text)
        spans = [each.span() for each in _WORDS.finditer(plain)]
        words = [plain[start:end] for start, end in spans]
        found, at = [], 0
        while at < len(words):
            length, name = self._match(words, at)
            if name is not None and words[at] in YOUNG and length == 1:
                after = self._match(words, at + 1)
                if after[1] in self._animals:
                    length, name = 1 + after[0], after[1]
            if name is not None:
                found.append((name, spans[at][0], spans[at + length - 1][1]))
            at += max(1, length)
        return found

    def _match(self, words: list[str], at: int) -> tuple[int, str | None]:
        """How many words from here name something, and what; (0, None) where they name nothing that is known."""
        for length in range(min(self._longest, len(words) - at), 0, -1):
            *first, last = words[at : at + length]
            for form in singulars(last):
                if (*first, form) in self._known:
                    return length, self._known[*first, form]
        return 0, None


@lru_cache(maxsize=4096)
def _of_names(names: tuple[str, ...]) -> ObjectWords:
    return ObjectWords({name: (name,) for name in names})


def named_words(text: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of some objects that a text names by their own words, in order, each as often as it does.

    Examples:
        >>> named_words("Two dogs beside a dog house and a boat.", ("dog", "cat", "boat"))
        ('dog', 'dog', 'boat')
    """
    return _of_names(tuple(dict.fromkeys(names))).mentions(text)
