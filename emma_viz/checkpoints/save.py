"""Writing checkpoints: run directories in the official layout, and encoder files.

Every file appears whole or not at all.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from emma_viz.checkpoints.layouts import HEAD, TABLE_KEY
from emma_viz.checkpoints.materialize import as_dtype
from emma_viz.checkpoints.model_files import METADATA_KEY, RUN_WEIGHTS, TOKENIZER
from emma_viz.checkpoints.run_config import run_config
from emma_viz.data.provenance import dump_json
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.errors import CheckpointError, KeyMismatchError
from emma_viz.files.atomic import write_files
from emma_viz.models.config import VLMConfig
from emma_viz.models.families.layout import Layout
from emma_viz.models.families.table import family_named
from emma_viz.models.sizes import vlm_shapes
from emma_viz.models.towers.vision import VisionEncoder

Format = Literal["safetensors", "pt"]


def save_run_directory(
    path: str | os.PathLike[str],
    config: VLMConfig,
    state: Mapping[str, Tensor],
    *,
    format: Format = "safetensors",
    dtype: torch.dtype | str | None = None,
    tokenizer: Tokenizer | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Path:
    """Write a model as a run directory that `load_model` and, as `.pt`, the official code read.

    All files are written under temporary names and only then given their own, the config last: an interruption
    leaves what was there before. Other files of the directory are not touched.

    Args:
        path: the directory; made when missing.
        config: what the model is made of.
        state: `vlm.state_dict()`. The frozen encoder (`vision.*`) is left out, as in the official layout; see
            `save_vision_encoder`.
        format: `safetensors` (flat keys, the tied head once, the config in its metadata too) or `pt` (the official
            nested dictionaries, written by torch).
        dtype: float32, bfloat16 or float16; None keeps each tensor's.
        tokenizer: written beside it as `tokenizer.json` when given.
        provenance: free record of the training, JSON-able.

    Returns:
        The directory.

    Raises:
        KeyMismatchError: `state` does not fit `config`.
        CheckpointError: the directory holds weights of the other format, or cannot be written.
    """
    folder = Path(path)
    weights = folder / RUN_WEIGHTS[0 if format == "safetensors" else 1]
    other = folder / RUN_WEIGHTS[1 if format == "safetensors" else 0]
    if other.exists():
        raise CheckpointError(
            f"{other} exists; a run directory holds one format. Remove it, or save as that one."
        )
    tensors, layout = _checked(config, state, as_dtype(dtype)), family_named(config.family).layout
    text = dump_json(run_config(config, provenance=provenance))
    writers: dict[Path, Callable[[Path], None]] = {}
    if format == "safetensors":
        flat = {layout.file_key(name): tensor for name, tensor in tensors.items()}
        writers[weights] = lambda target: _write_safetensors(target, flat, {METADATA_KEY: text})
    else:
        nested = _nested({**tensors, HEAD: tensors.get(HEAD, tensors[TABLE_KEY])}, layout)
        writers[weights] = lambda target: _write_archive(target, nested)
    if tokenizer is not None:
        writers[folder / TOKENIZER] = tokenizer.save
    writers[folder / "config.json"] = lambda target: _write_text(target, text)
    write_all(writers)
    return folder


def save_vision_encoder(
    path: str | os.PathLike[str],
    encoder: VisionEncoder,
    *,
    dtype: torch.dtype | str | None = None,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Write the encoders of a model as one safetensors file, which `vision_source` takes.

    Args:
        path: the file.
        encoder: `vlm.vision`.
        dtype: float32, bfloat16 or float16; None keeps each tensor's.
        about: what made it, such as data and licences, as plain data; kept in the file's header as JSON.
    """
    target = Path(path)
    wanted = as_dtype(dtype)
    tensors = {name: _converted(tensor, wanted) for name, tensor in encoder.state_dict().items()}
    metadata = {"backbone_id": encoder.config.backbone_id}
    if about is not None:
        metadata["provenance"] = dump_json(about)
    write_all({target: lambda temporary: _write_safetensors(temporary, tensors, metadata)})
    return target


def write_all(writers: Mapping[Path, Callable[[Path], None]]) -> None:
    """Write several files, each whole; see `write_files`.

    Each writer is given a temporary path in the target's folder; when all have succeeded the files are given
    their names, in order.

    Raises:
        CheckpointError: the system refuses (no space, no permission, a folder where a file is to go).
    """
    try:
        for target in writers:
            target.parent.mkdir(parents=True, exist_ok=True)
        write_files(writers)
    except OSError as error:
        raise CheckpointError(
            f"Cannot write {error.filename or 'the checkpoint'}: {error.strerror}."
        ) from error


def _checked(config: VLMConfig, state: Mapping[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """The state without encoders and tied head, of the type wanted."""
    expected = vlm_shapes(config)
    kept = {name: tensor for name, tensor in state.items() if not name.startswith("vision.")}
    missing = [name for name in expected if name not in kept and name != HEAD]
    unknown = [name for name in kept if name not in expected]
    misshapen = [
        f"{name}: {tuple(tensor.shape)}, expected {expected[name]}"
        for name, tensor in kept.items()
        if name in expected and tuple(tensor.shape) != expected[name]
    ]
    if missing or unknown or misshapen:
        raise KeyMismatchError("The state to be saved", missing, unknown, misshapen)
    tied = config.llm.tied
    return {name: _converted(tensor, dtype) for name, tensor in kept.items() if not tied or name != HEAD}


def _converted(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Contiguous, on the CPU, without gradient, and alone in its storage."""
    tensor = tensor.detach().cpu()
    if dtype is not None and tensor.is_floating_point():
        tensor = tensor.to(dtype)
    whole = tensor.untyped_storage().nbytes() == tensor.nbytes
    return tensor.contiguous() if whole else tensor.clone(memory_format=torch.contiguous_format)


def _nested(tensors: Mapping[str, Tensor], layout: Layout) -> dict[str, OrderedDict[str, Tensor]]:
    nested: dict[str, OrderedDict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        component, _, key = layout.file_key(name).partition(".")
        nested.setdefault(component, OrderedDict())[key] = tensor
    return nested


def _write_safetensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata={"format": "pt", **metadata})
    except SafetensorError as error:
        raise CheckpointError(f"Cannot write {path.parent}: {error}") from error


def _write_archive(path: Path, nested: Mapping[str, OrderedDict[str, Tensor]]) -> None:
    try:
        torch.save({"model": dict(nested)}, path)
    except RuntimeError as error:  # torch's way of saying that the disk is full
        raise CheckpointError(f"Cannot write {path.parent}: {error}") from error


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
