"""Where lenses are found: by the weights and the image tokens that they were fitted on, wherever they lie."""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from emma_viz.checkpoints import BUNDLED, FoundModel, LoadedModel
from emma_viz.checkpoints.readers.files import trusted_folder
from emma_viz.data.provenance import ModelInfo
from emma_viz.errors import LensError, MissingLensError
from emma_viz.files.inside import inside
from emma_viz.files.named import named_path
from emma_viz.lens.headers import SUFFIX, read_info

_MOST = 256
"""Lenses of one folder that are looked at."""


def find_lens(source: LoadedModel | FoundModel | str | Path, kind: str = "ridge") -> Path:
    """The lens file that a source stands for (see `load_lens`).

    Raises:
        MissingLensError: there is none; the message says where it was looked for.
    """
    if isinstance(source, LoadedModel | FoundModel):
        return _of_model(source.info, kind, source.folder)
    named = [named_path(source), BUNDLED / str(source)]
    places = [beside(place, f"{kind}{SUFFIX}") if place.is_dir() else place for place in named]
    for place in places:
        if place.is_file():
            return place
    raise _missing(kind, places)


def _of_model(model: ModelInfo, kind: str, folder: Path | None) -> Path:
    """The lens of these very weights and tokens: in the model's folder, beside it, in the cache, or among the bundled.

    Args:
        model: whose lens it is.
        kind: of lens.
        folder: where files of the model lie; None for one that is nowhere.

    Returns:
        The file; where none is of these weights, whatever the tokens, the one in the folder that has the usual name,
        which belongs to others.

    Raises:
        MissingLensError: there is none; the message says where it was looked for.
    """
    usual = None if folder is None else beside(folder, lens_name(kind, model))
    unlike = ""
    for path in _candidates(usual, folder):
        try:
            info = read_info(path)
        except (
            LensError
        ):  # one that cannot be read is nobody's; under its usual name it is reported when it is read
            continue
        if info.kind == kind and info.model_fingerprint == model.fingerprint:
            if info.part == model.part:
                return path
            unlike = f"; {path} is of its {info.part or 'tile'} tokens"
    if usual is not None and usual.is_file() and not unlike:
        return usual
    places = [] if usual is None or folder is None else [usual, folder, folder.parent]
    raise _missing(
        kind, [*places, lens_cache(), BUNDLED], f" of the weights {model.fingerprint[:12]}", unlike
    )


def lens_name(kind: str, model: ModelInfo) -> str:
    """What the file of a model's lens is called, where nobody named it."""
    return f"{kind}{SUFFIX}" if model.part is None else f"{kind}-{model.part}{SUFFIX}"


def lens_cache() -> Path:
    """Where lenses are kept of models whose folder is not ours to write: `$XDG_CACHE_HOME/emma_viz/lenses`."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "emma_viz" / "lenses"


def beside(folder: Path, name: str) -> Path:
    """The path of a lens in a model's folder.

    Raises:
        LensError: it is a link that leads out of the folder (or, in the hub's cache, of the repository).
    """
    return inside(folder, name, error=LensError, within=trusted_folder(folder))


def bundled_lenses() -> tuple[str, ...]:
    """The lenses that ship with the package, as `model/kind`."""
    return tuple(f"{path.parent.name}/{path.stem}" for path in sorted(BUNDLED.glob(f"*/*{SUFFIX}")))


def _candidates(usual: Path | None, folder: Path | None) -> Iterator[Path]:
    if usual is not None and folder is not None:
        yield usual
        yield from _lenses(folder)
        yield from _lenses(folder.parent)
    yield from _lenses(lens_cache())
    yield from sorted(BUNDLED.glob(f"*/*{SUFFIX}"))


def _lenses(folder: Path) -> Iterator[Path]:
    """The lens files of a folder, by name; a link that leads out of it is none of them."""
    try:
        names = sorted(path.name for path in islice(folder.glob(f"*{SUFFIX}"), _MOST))
    except OSError:  # a folder that may not be read
        return
    for name in names:
        try:
            yield beside(folder, name)
        except LensError:
            continue


def _missing(kind: str, places: list[Path], of: str = "", unlike: str = "") -> MissingLensError:
    return MissingLensError(
        f"No {kind} lens{of} was found (looked at {', '.join(map(str, places))}{unlike}). Pass the path of a lens "
        f"file, or fit one with fit_ridge or fit_tuned; bundled lenses: {', '.join(bundled_lenses()) or 'none'}."
    )
