"""The header of a lens file, from which all is known of a lens but its weights."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from emma_viz.checkpoints.readers.safetensors_file import read_references
from emma_viz.checkpoints.readers.tensors import TensorRef
from emma_viz.errors import EmmaVizError, LensError
from emma_viz.files.json_door import parse_json
from emma_viz.files.schema import shape
from emma_viz.files.versions import require_version
from emma_viz.lens.info import HASH_DIGITS, LensInfo

LENS_SCHEMA = 2
"""Version of the file; raised whenever an older reader could not read the new form. 2 brought `LensInfo.controls`."""
KEY = "emma_viz.lens"
SUFFIX = ".lens"
FIT_IMAGES = "emma_viz.fit_images"
"""Tensor of bytes, (images, HASH_DIGITS / 2): `LensInfo.fit_images`, which as text would be most of a small lens."""
_MOST = 10_000_000
"""Images whose hashes are read."""


@dataclass(frozen=True, kw_only=True)
class LensFile:
    """What the header of a lens file holds."""

    info: LensInfo
    parts: dict[str, Any]
    """What the kind of lens keeps beside its tensors."""
    tensors: dict[str, TensorRef]
    """None of them read yet."""


def read_info(path: str | Path) -> LensInfo:
    """What a lens file says about itself, without reading its weights.

    Raises:
        LensError: the file is missing, damaged, no lens, or of another version.
    """
    return open_lens(path).info


def open_lens(path: str | Path) -> LensFile:
    """The same with what its kind keeps beside, and where its tensors are.

    Raises:
        LensError: the file is missing, damaged, no lens, or of another version.
    """
    path = Path(path)
    tensors, notes = _opened(path)
    text = notes.get(KEY)
    if text is None:
        raise LensError(f"{path} is a safetensors file, but no lens: its header has no {KEY!r}.")
    where = f"{path}: the description in the header"
    value = parse_json(text, where=where, error=LensError)
    require_version(value, "schema", LENS_SCHEMA, where=str(path), error=LensError)
    header = shape(value, _Header, where=where, error=LensError, spare=True)
    try:
        kept = tensors.pop(FIT_IMAGES, None)
        info = LensInfo.from_json(header.info)
        if kept is not None:
            info = replace(info, fit_images=_hashes(kept))
        return LensFile(info=info, parts=header.parts, tensors=tensors)
    except LensError as error:
        raise LensError(f"{path}: {error}") from error


def _hashes(kept: TensorRef) -> tuple[str, ...]:
    """The hashes that FIT_IMAGES holds, as text."""
    count, width = kept.shape if len(kept.shape) == 2 else (-1, -1)
    if kept.dtype != torch.uint8 or width != HASH_DIGITS // 2 or not 0 <= count <= _MOST:
        raise LensError(
            f"expected {FIT_IMAGES} as bytes of shape (images, {HASH_DIGITS // 2}), at most {_MOST} images, got "
            f"{kept.dtype} of shape {kept.shape}. Write the lens again."
        )
    text = kept.read().numpy().tobytes().hex()
    return tuple(text[start : start + HASH_DIGITS] for start in range(0, len(text), HASH_DIGITS))


@dataclass(frozen=True, kw_only=True)
class _Header:
    """The entry KEY of the file's header."""

    schema: int
    info: dict[str, Any]
    parts: dict[str, Any]


def _opened(path: Path) -> tuple[dict[str, TensorRef], dict[str, str]]:
    """The tensors and the texts of a file, none of them read yet."""
    try:
        if not path.is_file():
            raise LensError(f"There is no lens file {path}.")
        return read_references(path)
    except (EmmaVizError, OSError) as error:
        raise LensError(f"{path} cannot be read as a lens file: {error}") from error
