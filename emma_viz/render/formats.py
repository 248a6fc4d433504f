"""Writing a figure to a file, in the format that its name asks for."""

import io
from pathlib import Path

from emma_viz.errors import InputError
from emma_viz.render.output import write_atomically
from emma_viz.render.recipe import with_recipe
from emma_viz.render.sidecar import to_json
from emma_viz.render.spec import FigureSpec

SUFFIXES = (".png", ".svg", ".pdf", ".html")
"""What a figure can be written as."""

LARGEST_SIDE = 2**16 - 1
"""Pixels that a PNG may have on a side."""


def save(spec: FigureSpec, path: str | Path, *, dpi: int = 220, recipe: bool = True) -> Path:
    """Draw a figure and write it, whole or not at all; the same spec gives the same bytes.

    Args:
        spec: what to draw.
        path: ends in one of `SUFFIXES`; an existing file is replaced.
        dpi: pixels per inch of a PNG, and of the photographs in a PDF or SVG.
        recipe: put the spec into the picture, the photographs with it, so that `read_spec(path)` finds it there.

    Returns:
        The path.

    Raises:
        InputError: the suffix is unknown, the folder does not exist, or the figure is too tall for a PNG.
    """
    path = Path(path)
    check_suffix(path)
    content = encode(spec, path.suffix, dpi=dpi, recipe=to_json(spec) if recipe else None)
    return write_atomically(path, lambda stream: stream.write(content))


def encode(spec: FigureSpec, suffix: str, *, dpi: int = 220, recipe: str | None = None) -> bytes:
    """Draw a figure as the content of a file.

    Args:
        spec: what to draw.
        suffix: one of `SUFFIXES`.
        dpi: as for `save`.
        recipe: the spec's `to_json`, to put into the picture; none when None.

    Raises:
        InputError: the figure is too tall for a PNG.
    """
    suffix = suffix.lower()
    if suffix == ".html":
        from emma_viz.render.html import page

        content = page(spec).encode("utf-8")
    else:
        content = _drawn(spec, suffix, dpi)
    return content if recipe is None else with_recipe(content, suffix, recipe)


def _drawn(spec: FigureSpec, suffix: str, dpi: int) -> bytes:
    from emma_viz.render.figure import draw

    figure = draw(spec)
    height = figure.get_size_inches()[1] * dpi
    if suffix == ".png" and height > LARGEST_SIDE:
        raise InputError(
            f"expected a figure of at most {LARGEST_SIDE} pixels, but {len(spec.images)} images at {dpi} "
            f"dpi are {height:.0f} pixels tall; draw fewer images in one figure, or write a .pdf or .html."
        )
    stream = io.BytesIO()
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
