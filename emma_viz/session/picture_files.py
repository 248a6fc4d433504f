"""Pictures and their sidecars as files: refused before the work, written together, drawn again."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from emma_viz.errors import InputError
from emma_viz.files.room import require_writable
from emma_viz.render import FigureSpec, check_suffix, encode, read_spec, recipe_of
from emma_viz.render import save as save_picture
from emma_viz.render.film import MOVING
from emma_viz.render.formats import page_of
from emma_viz.render.output import write_together
from emma_viz.render.recipe import LARGEST
from emma_viz.render.sidecar import is_of, is_sidecar, read_sidecar, to_json

_MOST_PAGES = 999
"""Pages whose names are made sure to have room."""


def check_output(
    path: Path, *, inputs: Sequence[str | Path] = (), images: int | None = None, recipe: bool = True
) -> None:
    """Refuse a picture's path before anything runs that would be lost.

    Args:
        path: of the picture.
        inputs: files that are read, which it must not replace.
        images: how many images the picture will show, where that is known: of one, it has one page.
        recipe: whether the picture will hold its recipe, and a sidecar beside it too.

    Raises:
        InputError: the suffix is none that can be written, a film would be of several images, nothing can be written
            there, an input would be replaced, or the sidecar would replace a file that is none or stay beside a picture
            that is to have no recipe.
    """
    check_suffix(path)
    if images is not None and images != 1 and path.suffix.lower() in MOVING:
        raise InputError(f"{path}: expected one image for a film of its layers, got {images}.")
    paged = images != 1 and path.suffix.lower() in (".png", ".svg")
    names = [sidecar_of(path).name] if recipe else []
    longest = [sidecar_of(page_of(path, _MOST_PAGES)).name] if paged else []
    require_writable(path, beside=[*names, *longest])
    pages = sorted(_pages_at(path)) if paged else []
    for target in (path, *pages):
        if target.exists() and any(Path(each).exists() and target.samefile(each) for each in inputs):
            raise InputError(f"{target} is the image itself; it would be replaced. Choose another --out.")
    for page in pages:
        require_writable(page, beside=[sidecar_of(page).name])
        if not sidecar_of(page).exists() and not _holds_recipe(page):
            raise InputError(
                f"{page} exists and is no figure; it would be replaced if this one needs several pages. Choose another "
                "--out."
            )
    for sidecar in map(sidecar_of, (path, *pages)):
        _check_sidecar(sidecar, recipe)


def sidecar_of(path: Path) -> Path:
    """Where the sidecar of a picture goes: beside it, `.json` added to its name, so that each has its own."""
    return path.with_name(f"{path.name}.json")


def write_picture(spec: FigureSpec, path: Path, *, recipe: bool = True) -> tuple[Path, ...]:
    """Write a picture with its recipe inside and, beside it, the sidecar that draws it again.

    All are written before the first is put in its place, and a sidecar names the SHA-256 of its picture.

    Args:
        spec: what to draw.
        path: of the picture; `fig-1.png`, `fig-2.png`, … take its place where it needs several pages.
        recipe: without it, the picture holds none and has no sidecar.

    Returns:
        The paths of all.
    """
    contents = {}
    for drawn in encode(spec, path, recipe=recipe):
        contents[drawn.path] = drawn.content
        if recipe:
            contents[sidecar_of(drawn.path)] = to_json(drawn.spec, drawn.content).encode("ascii")
    write_together(contents)
    return tuple(contents)


def redraw(source: Path, path: Path, *, recipe: bool = True, limit: int = LARGEST) -> Path:
    """Draw a figure again from its recipe, without models or images.

    Args:
        source: a picture with a recipe inside, or a sidecar.
        path: of the new picture.
        recipe: put the recipe into the new picture too.
        limit: bytes of the longest recipe that is read.
    """
    return save_picture(read_spec(source, limit=limit), path, recipe=recipe)


def mispaired(source: Path, *, limit: int = LARGEST) -> str | None:
    """Why a sidecar and the picture beside it do not belong together; None where they do, or one is not there.

    Args:
        source: either of the two.
        limit: bytes of the longest recipe that is read.
    """
    picture, sidecar = (
        (source.with_suffix(""), source) if source.suffix == ".json" else (source, sidecar_of(source))
    )
    if not picture.is_file() or not sidecar.is_file():
        return None
    try:
        _, digest = read_sidecar(sidecar, limit=limit)
    except InputError as error:
        return f"{sidecar} cannot be read as the sidecar of {picture.name}: {error}"
    if digest is None or is_of(digest, picture):
        return None
    return (
        f"{picture} and {sidecar.name} do not belong together: one of them was changed or replaced later, or a "
        f"program was stopped while it wrote them. What is drawn is that of {source.name}."
    )


def _pages_at(path: Path) -> Iterator[Path]:
    """Files whose names are those of pages of a picture."""
    name = re.compile(rf"{re.escape(path.stem)}-[1-9]\d*{re.escape(path.suffix)}")
    with os.scandir(path.absolute().parent) as found:
        yield from (path.with_name(each.name) for each in found if name.fullmatch(each.name))


def _holds_recipe(picture: Path) -> bool:
    try:
        return recipe_of(picture) is not None
    except InputError:
        return False


def _check_sidecar(sidecar: Path, recipe: bool) -> None:
    if not os.path.lexists(sidecar):
        return
    if not recipe:
        raise InputError(
            f"{sidecar} is the recipe of an earlier picture of that name and would stay beside one that is to have "
            "none. Remove it, or choose another --out."
        )
    if not is_sidecar(sidecar):
        raise InputError(
            f"{sidecar} exists and is no figure's sidecar; it would be replaced. Choose another --out."
        )
