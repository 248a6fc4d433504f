"""Words that fit their place: cleaned, measured with the font that draws them, wrapped and cut."""

import functools
import re
import unicodedata
import warnings
from collections.abc import Callable, Sequence

FAMILY = "DejaVu Sans"
"""Ships with matplotlib, so that a figure is the same on every machine."""

FALLBACKS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Noto Sans JP",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Arial Unicode MS",
    "Noto Sans Devanagari",
    "Noto Sans Symbols",
    "Noto Emoji",
)
"""For scripts that the first font lacks, before any other that is installed."""

_UNPRINTABLE = ("Cc", "Cs", "Cn")

_LEADING = 1.32
"""Distance of baselines in units of the font size."""


def clean(text: str) -> str:
    """One line of printable text: white space runs become one space, control and unpaired characters go."""
    spaced = (" " if char.isspace() else char for char in text)
    return " ".join(
        "".join(char for char in spaced if unicodedata.category(char) not in _UNPRINTABLE).split()
    )


def distinct(names: Sequence[str], *details: Sequence[str]) -> tuple[str, ...]:
    """Names that a reader can tell apart: the same where no two are alike once they are `clean`.

    Args:
        names: what some things are called.
        details: further words for each, the most telling first. Things called alike get the first in which they
            differ, then the next; what is alike in all of them is numbered.

    Examples:
        >>> distinct(["cobra", "cobra", "emma"], ["ridge", "native", "ridge"])
        ('cobra, ridge', 'cobra, native', 'emma')
        >>> distinct(["cobra", "cobra"])
        ('cobra (1)', 'cobra (2)')
    """
    found = list(names)
    for words in details:
        for group in _alike(found):
            if len({words[index] for index in group}) > 1:
                for index in group:
                    found[index] = f"{found[index]}, {words[index]}"
    while groups := _alike(found):
        for number, index in enumerate(groups[0], start=1):
            found[index] = f"{found[index]} ({number})"
    return tuple(found)


def _alike(names: Sequence[str]) -> list[list[int]]:
    """The places of names that are alike, where there are several."""
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(clean(name), []).append(index)
    return [group for group in groups.values() if len(group) > 1]


@functools.cache
def _preferred() -> tuple[str, ...]:
    """The first font, and those of the fallbacks that are installed."""
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return (FAMILY, *(name for name in FALLBACKS if name in installed))


def families(text: str = "") -> tuple[str, ...]:
    """The fonts to draw a text with, the first first: any installed one is found that has what the others lack."""
    return (*_preferred(), *_others(lacking(text, _preferred())))


def undrawable(text: str) -> frozenset[str]:
    """The characters of a text that no installed font has; they are drawn as boxes."""
    return lacking(text, families(text))


def lacking(text: str, fonts: tuple[str, ...]) -> frozenset[str]:
    """The characters of a text that none of these fonts has."""
    left = frozenset(char for char in text if not char.isspace() and not char.isascii())
    for name in fonts:
        left = frozenset(char for char in left if ord(char) not in _characters(name)) if left else left
    return left


@functools.lru_cache(maxsize=256)
def _others(missing: frozenset[str]) -> tuple[str, ...]:
    """Further installed fonts that have some of the missing characters, as few as a greedy search finds."""
    from matplotlib import font_manager

    found = []
    # Fonts of coloured pictures and of last resort have no outlines of the characters themselves.
    names = {font.name for font in font_manager.fontManager.ttflist}
    for name in sorted(name for name in names if "Color" not in name and "Last Resort" not in name):
        if not missing:
            break
        left = frozenset(char for char in missing if ord(char) not in _characters(name))
        if left != missing:
            found.append(name)
        missing = left
    return tuple(found)


@functools.lru_cache(maxsize=512)
def _characters(name: str) -> frozenset[int]:
    """The code points that an installed font has."""
    from matplotlib import font_manager

    path = next((font.fname for font in font_manager.fontManager.ttflist if font.name == name), None)
    try:
        return frozenset(font_manager.get_font(path).get_charmap()) if path else frozenset()
    except (RuntimeError, OSError):  # a font that was removed, or that FreeType cannot open
        return frozenset()


@functools.lru_cache(maxsize=64)
def _font(bold: bool, names: tuple[str, ...]):
    from matplotlib import font_manager

    weight = "bold" if bold else "normal"
    paths = [font_manager.findfont(font_manager.FontProperties(family=name, weight=weight)) for name in names]
    return font_manager.get_font(paths)


@functools.lru_cache(maxsize=4096)
def width(text: str, size: float, bold: bool = False) -> float:
    """Width of one line, inches.

    Args:
        text: cleaned text.
        size: font size, points.
        bold: whether it is drawn bold.
    """
    font = _font(bold, families(text))
    font.set_size(100, 72)
    with warnings.catch_warnings():
        # A character that no installed font has is measured as the box it is drawn as.
        warnings.simplefilter("ignore", UserWarning)
        font.set_text(text, 0.0)
    return font.get_width_height()[0] / 64 * size / 100 / 72


def line_height(size: float) -> float:
    """Distance of baselines, inches."""
    return size * _LEADING / 72


def wrap(text: str, room: float, size: float, *, lines: int, bold: bool = False) -> list[str]:
    """Break text into lines that fit.

    Args:
        text: any text.
        room: the width there is, inches.
        size: font size, points.
        lines: at most so many lines; the last ends in … when there is more.
        bold: whether it is drawn bold.

    Returns:
        The lines; none for empty text.
    """
    wrapped: list[str] = []
    line = ""
    for piece, spaced in _pieces(clean(text), room, size, bold):
        longer = f"{line} {piece}" if line and spaced else line + piece
        if line and width(longer, size, bold) > room:
            wrapped.append(line)
            line = piece
            if len(wrapped) > lines:
                break
        else:
            line = longer
    if line:
        wrapped.append(line)
    if len(wrapped) <= lines:
        return wrapped
    return [*wrapped[: lines - 1], shorten(wrapped[lines - 1] + " ", room, size, bold=bold, always=True)]


def shorten(text: str, room: float, size: float, *, bold: bool = False, always: bool = False) -> str:
    """Cut a line to the room it has, with … for what is cut (or always, if more text follows)."""
    if not always and width(text, size, bold) <= room:
        return text
    kept = text.rstrip()
    while kept and width(kept.rstrip() + "…", size, bold) > room:
        kept = kept[:-1]
    return kept.rstrip(" ,;:.") + "…"


def shorten_apart(texts: Sequence[str], shorten: Callable[[str], str]) -> list[str]:
    """Lines that are each cut to their room, so that they are told apart: of "name, lens" inside the name where others
    have the name as well, and at their starts where all of these are alike.

    Args:
        texts: the lines.
        shorten: cuts the end of one, with … for what is cut.
    """
    cut = [shorten(text) for text in texts]
    if cut == list(texts):
        return cut
    if len(set(texts)) == 1 or len({text[:4] for text in texts}) > 1:
        inside = [_inside(text, shorten) if _of_several(text, texts) else shorten(text) for text in texts]
        for shown in (inside, cut):
            if len(set(shown)) == len(set(texts)):
                return shown
    return [shorten(text[::-1])[::-1] for text in texts]


def _of_several(text: str, texts: Sequence[str]) -> bool:
    name, comma, _ = text.rpartition(", ")
    return bool(comma) and sum(each.startswith(f"{name}, ") for each in texts) > 1


def _inside(text: str, shorten: Callable[[str], str]) -> str:
    """The line with its end whole, and … for what is cut before."""
    name, _, end = text.rpartition(", ")
    lines = [text, *(f"{name[:length].rstrip(' -')}…, {end}" for length in range(len(name) - 1, 2, -1))]
    return next((line for line in lines if shorten(line) == line), shorten(text))


def _pieces(text: str, room: float, size: float, bold: bool):
    """(piece, whether a space goes before it): words, those wider than the room cut, at hyphens if possible."""
    for word in text.split():
        before = True
        for part in re.findall(r".*?[-_/.:]+|.+", word) if width(word, size, bold) > room else [word]:
            piece = ""
            for char in part if width(part, size, bold) > room else [part]:
                if piece and width(piece + char, size, bold) > room:
                    yield piece, before
                    piece, before = char, False
                else:
                    piece += char
            yield piece, before
            before = False
