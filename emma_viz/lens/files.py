"""Lens files: one safetensors file with the weights, and a JSON description in its header.

The header's entry `emma_viz.lens` is {"schema": 2, "info": {…LensInfo…}, "parts": {…}}; `parts` is what the
kind of lens needs beside its tensors (a native lens: the sizes of its decoder and its taps). The hashes of its fit
images are a tensor of bytes. Nothing is pickled.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError

from emma_viz.checkpoints import FoundModel, LoadedModel
from emma_viz.checkpoints.layouts import FLOATS, odd_type
from emma_viz.checkpoints.materialize import require_room
from emma_viz.data.provenance import dump_json
from emma_viz.errors import EmmaVizError, LensError
from emma_viz.files.tensors import write_tensors
from emma_viz.lens.headers import FIT_IMAGES, KEY, LENS_SCHEMA, open_lens
from emma_viz.lens.info import LensInfo, require_fit
from emma_viz.lens.kinds import is_kind, kind_names, kind_of
from emma_viz.lens.places import find_lens
from emma_viz.lens.protocol import Lens


def save_lens(lens: Lens, path: str | Path) -> Path:
    """Write a lens to one file, whole or not at all.

    Raises:
        LensError: the file cannot be written, there is no such kind of lens, or the lens is none of that kind.
    """
    kind = kind_of(lens.info.kind)
    if not isinstance(lens, kind.lens):
        raise LensError(
            f"A lens of kind {lens.info.kind!r} is a {kind.lens.__name__}; this one is a {type(lens).__name__}."
        )
    tensors, parts = kind.write(lens)
    return _write(Path(path), tensors, lens.info, parts)


def load_lens(
    source: LoadedModel | FoundModel | str | Path, kind: str = "ridge", *, force: bool = False
) -> Lens:
    """Read a lens.

    Args:
        source: a lens file; a run directory, or the name of a bundled model, which hold `<kind>.lens`; or a model,
            loaded or not (`require_model`), whose lens is found by the fingerprint of its weights: in its folder,
            whatever the file is called, beside that folder, in the cache, then among those that ship.
        kind: which lens of the model; a lens file that is named itself may be of any kind.
        force: accept a lens that was fitted on other weights than the loaded model's.

    Raises:
        LensError: there is no such lens, or the file is damaged or of another version.
        LensMismatchError: the lens in the model's folder belongs to other weights.
    """
    if not is_kind(kind):
        raise LensError(f"There is no kind of lens {kind!r}; choose one of {', '.join(kind_names())}.")
    lens = _read(find_lens(source, kind))
    if isinstance(source, LoadedModel | FoundModel):
        require_fit(lens.info.mismatch(source.info), force=force)
    return lens


def _write(path: Path, tensors: dict[str, torch.Tensor], info: LensInfo, parts: dict) -> Path:
    header = dump_json({"schema": LENS_SCHEMA, "info": info.to_json() | {"fit_images": ()}, "parts": parts})
    if info.fit_images:
        kept = np.frombuffer(bytes.fromhex("".join(info.fit_images)), np.uint8)
        tensors = tensors | {FIT_IMAGES: torch.from_numpy(kept.reshape(len(info.fit_images), -1).copy())}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, tensors, {KEY: header})
    except (SafetensorError, OSError) as error:
        raise LensError(f"The lens cannot be written to {path}: {error}") from error
    return path


def _read(path: Path) -> Lens:
    file = open_lens(path)
    try:
        kind = kind_of(file.info.kind)
        if odd := next((name for name, ref in file.tensors.items() if ref.dtype not in FLOATS), None):
            raise LensError(f"{odd} holds {odd_type(file.tensors[odd].dtype)}; a lens has real weights.")
        require_room(file.tensors, torch.float32, "cpu")
        lens = kind.read(file.info, file.tensors, file.parts)
    except EmmaVizError as error:
        raise LensError(f"{path}: {error}") from error
    return lens
