"""Writing a figure to a file, in the format that its name asks for."""

import io
import logging
from dataclasses import dataclass
from pathlib import Path

from emma_viz.errors import InputError
from emma_viz.render.film import MOVING, film
from emma_viz.render.output import write_together
from emma_viz.render.recipe import longest_recipe, with_recipe
from emma_viz.render.sidecar import to_json
from emma_viz.render.spec import FigureSpec

logger = logging.getLogger(__name__)

SUFFIXES = (".png", ".svg", ".pdf", ".html", *MOVING)
"""What a figure can be written as."""

LARGEST_SIDE = 2**16 - 1
"""Pixels that a PNG may have on a side."""
TALLEST = {".pdf": 200.0, ".svg": (2**15 - 1) / 96}
"""Inches: no PDF reader shows a taller page, and programs that draw SVG stop at 32 767 pixels."""
PDF_PAGE = 11.0
"""Inches that the pages of a PDF keep to which would be taller than one page can be."""


def save(spec: FigureSpec, path: str | Path, *, dpi: int = 220, recipe: bool = True) -> Path:
    """Draw a figure and write it, whole or not at all; the same spec gives the same bytes.

    Args:
        spec: what to draw.
        path: ends in one of `SUFFIXES`; an existing file is replaced.
        dpi: pixels per inch of a PNG, and of the photographs in a PDF or SVG; a film has `FILM_DPI`.
        recipe: put the spec into the picture, the photographs with it, so that `read_spec(path)` finds it there; a film
            holds none, nor does a picture whose recipe is longer than its `longest_recipe`: `write_spec` puts it
            beside.

    Returns:
        The path; where a PNG or SVG of many images needs several pages, that of the first: `fig-1.png` for `fig.png`.

    Raises:
        InputError: the suffix is unknown, the file cannot be written there, the figure is too wide for a PNG, or a
            film would be of several images.
    """
    drawn = encode(spec, path, dpi=dpi, recipe=recipe)
    write_together({each.path: each.content for each in drawn})
    return drawn[0].path


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A picture that is ready to be written."""

    path: Path
    """Where it is meant to go."""
    content: bytes
    spec: FigureSpec
    """What it shows: the figure, or the images of one of its pages."""


def encode(spec: FigureSpec, path: str | Path, *, dpi: int = 220, recipe: bool = True) -> tuple[Encoded, ...]:
    """Draw a figure as files that `save` would write: one, or the pages of a PNG or SVG that is too tall for one.

    Arguments as for `save`.

    Raises:
        InputError: the suffix is unknown, the figure is too wide for a PNG, or a film would be of several images.
    """
    path = Path(path)
    check_suffix(path)
    suffix = path.suffix.lower()
    if suffix == ".html":
        from emma_viz.render.web.html import page

        contents = [(spec, page(spec).encode("utf-8"))]
    elif suffix in MOVING:
        contents = [(spec, film(spec, suffix))]
    else:
        contents = _drawn(spec, suffix, dpi)
    return tuple(
        Encoded(
            path=path if len(contents) == 1 else page_of(path, index),
            content=_with_own(content, part, path) if recipe and suffix not in MOVING else content,
            spec=part,
        )
        for index, (part, content) in enumerate(contents, start=1)
    )


def _with_own(content: bytes, spec: FigureSpec, path: Path) -> bytes:
    """The picture with its recipe inside, where that is not longer than what a picture of its kind may hold."""
    document, longest = to_json(spec), longest_recipe(path.suffix)
    if len(document) <= longest:
        return with_recipe(content, path.suffix.lower(), document)
    logger.warning(
        "%s: its recipe takes %.0f MB, and at most %.0f MB go into a %s: only the .json beside it (`write_spec`) "
        "can draw it again. Fewer images or layers make it smaller.",
        path, len(document) / 2**20, longest / 2**20, path.suffix.removeprefix(".").upper(),
    )  # fmt: skip
    return content


def page_of(path: Path, number: int) -> Path:
    """What a page of a figure is called: `fig-2.png` for the second of `fig.png`."""
    return path.with_name(f"{path.stem}-{number}{path.suffix}")


def _drawn(spec: FigureSpec, suffix: str, dpi: int) -> list[tuple[FigureSpec, bytes]]:
    from emma_viz.render.figures.figure import height, pages

    tallest = TALLEST.get(suffix, LARGEST_SIDE / dpi)
    if suffix == ".pdf":
        parts = pages(spec, PDF_PAGE) if height(spec) > tallest else (spec,)
        return [(spec, _file(parts, suffix, dpi))]
    return [(part, _file((part,), suffix, dpi)) for part in pages(spec, tallest)]


def _file(parts: tuple[FigureSpec, ...], suffix: str, dpi: int) -> bytes:
    """One file: with a page for each part if it is a PDF."""
    from emma_viz.render.figures.figure import draw
    from emma_viz.render.figures.sheet import pdf_of

    stream = io.BytesIO()
    if len(parts) > 1:
        pdf_of((draw(part) for part in parts), stream, dpi=dpi)
        return stream.getvalue()
    figure = draw(parts[0])
    width, height = figure.get_size_inches()
    if suffix == ".png":
        if width * dpi > LARGEST_SIDE:
            raise InputError(
                f"expected a PNG of at most {LARGEST_SIDE} pixels on a side, but at {dpi} dpi it is {width * dpi:.0f} "
                "pixels wide; choose fewer dpi."
            )
        # One image with very many models and layers is drawn smaller, not left out.
        if height * dpi > LARGEST_SIDE:
            fewer = int(LARGEST_SIDE / height)
            logger.warning(
                "One image with so many rows would be %.0f pixels high at %d dpi, and a PNG has %d at most: it is "
                "drawn at %d dpi. A PDF has pages.",
                height * dpi, dpi, LARGEST_SIDE, fewer,
            )  # fmt: skip
            dpi = fewer
    figure.savefig(stream, format=suffix[1:], dpi=dpi)
    return stream.getvalue()


def check_suffix(path: str | Path) -> None:
    """Refuse a file name that no figure can be written as, before any work is done.

    Raises:
        InputError: the suffix is not one of `SUFFIXES`.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(
            f"{path}: cannot write a figure as {suffix or 'a file without a suffix'}; expected one of "
            f"{', '.join(SUFFIXES)}."
        )
