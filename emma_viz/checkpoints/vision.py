"""Weights of the frozen image encoders: published ones in the transformers layout, and the project's own files."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor, nn

from emma_viz.checkpoints import hub
from emma_viz.checkpoints.hub_models import cached_weights, fetch_weights
from emma_viz.checkpoints.layouts import FLOATS, not_floats
from emma_viz.checkpoints.materialize import check_filled, fill
from emma_viz.checkpoints.model_files import LM_WEIGHTS, SourceLike
from emma_viz.checkpoints.readers.files import WeightFile, open_weights
from emma_viz.checkpoints.readers.tensors import TensorRef
from emma_viz.checkpoints.sources import BUNDLED
from emma_viz.errors import CheckpointError, KeyMismatchError
from emma_viz.files.named import named_path
from emma_viz.models.meta import on_meta
from emma_viz.models.positions import resample_positions
from emma_viz.models.towers.vision import VisionEncoder
from emma_viz.models.vision_config import TextTowerConfig, TowerConfig, VisionConfig
from emma_viz.progress import Progress

VisionSource = SourceLike | Mapping[str, SourceLike] | None
"""Where encoders come from: one file of this project, or a path or hub id for each tower; None means the usual."""


@dataclass(frozen=True, kw_only=True)
class TowerTable:
    """How published weights of one kind of tower are named."""

    prefixes: tuple[str, ...]
    """The tower's keys begin with one of these; the first that occurs counts."""
    others: tuple[str, ...] = ()
    """Beginnings of keys that belong to other parts of the published model and are not read."""
    renames: tuple[tuple[str, str], ...] = ()
    """(pattern, name): older names on the left. They are applied to the file and to the model, because releases of
    transformers differ."""
    positions: str
    """The position table, resampled when the grid differs."""
    prefix_rows: int
    """Rows of the position table that belong to no patch."""


_WEIGHTS = ("model*.safetensors*", "pytorch_model*.bin*")
"""Patterns of LM_WEIGHTS, with their shards: CLIP's repository has the second alone."""
TEXT = "clip-text"
"""What `vision_source` calls the encoder of the instruction."""
_CLIP = ("logit_scale", "visual_projection.", "text_projection.")

_TABLES = {
    "dinov2": TowerTable(
        prefixes=("dinov2_with_registers.", "dinov2.", ""),
        others=("classifier.",),
        renames=(
            (r"\.attention\.attention\.(query|key|value)\.", r".attention.\1."),
            (r"\.attention\.(q|k|v)_proj\.", r".attention.\1."),
            (r"\.attention\.query\.", ".attention.q."),
            (r"\.attention\.key\.", ".attention.k."),
            (r"\.attention\.value\.", ".attention.v."),
            (r"\.attention\.(output\.dense|o_proj)\.", ".attention.out."),
        ),
        positions="embeddings.position_embeddings",
        prefix_rows=1,
    ),
    "siglip": TowerTable(
        prefixes=("vision_model.", ""),
        others=("text_model.", "logit_scale", "logit_bias", "vision_model.embeddings.position_ids"),
        positions="embeddings.position_embedding.weight",
        prefix_rows=0,
    ),
    "clip": TowerTable(
        prefixes=("vision_model.", ""),
        others=(*_CLIP, "text_model.", "vision_model.embeddings.position_ids"),
        positions="embeddings.position_embedding.weight",
        prefix_rows=1,
    ),
    TEXT: TowerTable(
        prefixes=("text_model.", ""),
        others=(*_CLIP, "vision_model.", "text_model.embeddings.position_ids"),
        positions="",
        prefix_rows=0,
    ),
}


def load_vision(
    encoder: VisionEncoder,
    source: VisionSource = None,
    *,
    dtype: torch.dtype,
    device: str | torch.device,
    progress: Progress | None = None,
) -> None:
    """Fill the encoders of a model.

    Args:
        encoder: built on the meta device.
        source: a mapping from tower (`dinov2`, `siglip`) to a folder, file or hub id in the transformers layout;
            or the path of a file that `save_vision_encoder` wrote; or None for the bundled file of this encoder,
            and without one the towers' own hub ids.

    Raises:
        CheckpointError: weights cannot be had or do not fit; the message says what to download.
    """
    # All files are found before the first is read.
    for part in list(_parts(encoder, source)):
        fill(
            part.module,
            part.references,
            dtype=dtype,
            device=device,
            what=part.what,
            transforms=part.transforms,
            progress=progress,
        )
    check_filled(encoder, "The vision encoder")


def require_vision(config: VisionConfig, source: VisionSource = None) -> None:
    """Make sure that the encoders of a model can be had and fit it: what `load_vision` would raise, without reading
    values.

    Raises:
        CheckpointError: as `load_vision`.
    """
    with on_meta():
        encoder = VisionEncoder(config)
    list(_parts(encoder, source))


def local_encoders(config: VisionConfig, source: VisionSource = None) -> dict[str, TensorRef | Tensor] | None:
    """The weights of a model's encoders, in their files.

    Args:
        config: of the encoders.
        source: as for `load_vision`.

    Returns:
        Name in `VisionEncoder` → tensor; a position table that is resampled as it is put in is in memory, float32. None
        where weights that the user does not name are not on this machine.

    Raises:
        CheckpointError: as `load_vision`.
    """
    with on_meta():
        encoder = VisionEncoder(config)
    if source is None and not encoder.state_dict():
        return {}
    here = _here(encoder, source)
    if here is None:
        return None
    prefixes = {module: f"{name}." if name else "" for name, module in encoder.named_modules()}
    found: dict[str, TensorRef | Tensor] = {}
    for part in _parts(encoder, here):
        for name, reference in part.references.items():
            change = part.transforms.get(name)
            value = reference if change is None else change(reference.read(dtype=torch.float32))
            found[prefixes[part.module] + name] = value
    return found


def _here(encoder: VisionEncoder, source: VisionSource) -> VisionSource:
    """Sources of a whole encoder, with the files of what the user does not name, so that `_parts` asks no hub for it;
    None where one of them is not on this machine."""
    config = encoder.config
    if source is None:
        source = bundled_encoder(config)
    if source is not None and not isinstance(source, Mapping):
        return source
    named = dict(source or {})
    asked: dict[str, str | None] = {
        tower.kind: tower.hub_id if tower.kind in _TABLES else None for tower in config.towers
    }
    if config.text is not None:
        asked[TEXT] = config.text.hub_id
    for kind, hub_id in asked.items():
        if kind in named:
            continue
        path = cached_weights(hub_id, LM_WEIGHTS) if hub_id else None
        if path is None:
            return None
        named[kind] = path
    return named


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A module and the weights that go into it."""

    module: nn.Module
    references: Mapping[str, TensorRef]
    what: str
    transforms: Mapping[str, Callable[[Tensor], Tensor]]


def _parts(encoder: VisionEncoder, source: VisionSource) -> Iterator[_Part]:
    """The whole encoder from one file, or its towers from one each; nothing where it has no weights."""
    if source is None and not encoder.state_dict():
        return
    if source is None:
        source = bundled_encoder(encoder.config)
    if source is None or isinstance(source, Mapping):
        yield from _towers(encoder, dict(source or {}))
    else:
        references = _own_file(open_weights(named_path(source)), encoder)
        yield _Part(module=encoder, references=references, what="vision encoder", transforms={})


def bundled_encoder(config: VisionConfig) -> Path | None:
    """The file of an encoder that ships with the package, or None."""
    # Looked up, not joined: a config from a stranger could name a path.
    return next((path for path in BUNDLED.glob("*.safetensors") if path.stem == config.backbone_id), None)


def _own_file(file: WeightFile, encoder: VisionEncoder) -> dict[str, TensorRef]:
    """Match a file that is named as the encoder names its tensors."""
    expected = encoder.state_dict()
    found = dict(file.tensors)
    missing = [name for name in expected if name not in found]
    unknown = [name for name in [*found, *file.others] if name not in expected]
    misfits = {
        name: _misfit(ref, expected[name], tuple(expected[name].shape))
        for name, ref in found.items()
        if name in expected
    }
    misshapen = [f"{name}: {misfit}" for name, misfit in misfits.items() if misfit]
    if missing or unknown or misshapen:
        raise KeyMismatchError(
            str(file.path),
            missing,
            unknown,
            misshapen,
            hint=f"Expected the encoder {encoder.config.backbone_id}, as save_vision_encoder writes it.",
        )
    return found


def _towers(encoder: VisionEncoder, sources: dict[str, SourceLike]) -> Iterator[_Part]:
    text = encoder.config.text
    known = [tower.kind for tower in encoder.config.towers] + [TEXT] * (text is not None)
    if odd := sorted(set(sources) - set(known)):
        raise CheckpointError(
            f"vision_source names {', '.join(odd)}; this model's towers are {', '.join(known)}."
        )
    for tower in encoder.config.towers:
        if tower.kind not in _TABLES:
            raise CheckpointError(
                f"No weights of the encoder {encoder.config.backbone_id} ship with this package; pass the path of a "
                "file that save_vision_encoder wrote as vision_source."
            )
        file = open_weights(_tower_file(tower.kind, tower.hub_id, sources.get(tower.kind)))
        module = encoder.towers[tower.kind].get_submodule("model")
        references, transforms = _match_tower(file, tower.kind, tower, module)
        yield _Part(module=module, references=references, what=f"{tower.kind} encoder", transforms=transforms)
    if encoder.text is not None and text is not None:
        file = open_weights(_tower_file(TEXT, text.hub_id, sources.get(TEXT)))
        references, _ = _match_tower(file, TEXT, text, encoder.text.model)
        yield _Part(module=encoder.text.model, references=references, what=f"{TEXT} encoder", transforms={})


def _tower_file(kind: str, hub_id: str | None, source: SourceLike | None) -> Path:
    """A tower's weight file, or the index of its shards."""
    if source is None and hub_id is None:
        raise CheckpointError(
            f"The {kind} tower has no published weights; pass vision_source={{'{kind}': path}}."
        )
    if source is None:
        # A name that a config holds is a hub id, never a path on this machine.
        return _from_hub(kind, str(hub_id))
    given = str(source)
    path = named_path(given)
    if path.is_file():
        return path
    if path.is_dir():
        present = [path / name for name in LM_WEIGHTS if (path / name).is_file()]
        if not present:
            raise CheckpointError(f"{path} has none of the weights {', '.join(LM_WEIGHTS)}.")
        return present[0]
    if not hub.is_hub_id(given, folders=False):
        raise CheckpointError(
            f"There is no {path} for the {kind} tower. Pass its weight file, a folder that holds one of "
            f"{', '.join(LM_WEIGHTS)}, or a hub id (owner/name)."
        )
    try:
        return _from_hub(kind, given)
    except CheckpointError as error:
        raise CheckpointError(f"There is no {path}, and as a hub id it cannot be had: {error}") from error


def _from_hub(kind: str, hub_id: str) -> Path:
    try:
        return fetch_weights(hub_id, LM_WEIGHTS, needed=_WEIGHTS)
    except CheckpointError as error:
        raise CheckpointError(
            f"{error} Or pass vision_source={{'{kind}': path}}, the weight file or its folder."
        ) from error


def _match_tower(file: WeightFile, kind: str, tower: TowerConfig | TextTowerConfig, module: torch.nn.Module):
    """Pair published weights with a tower's parameters.

    Returns:
        (the module's name → tensor reference, the module's name → what to do with its values).
    """
    table = _TABLES[kind]
    expected = module.state_dict()
    by_canonical = {_canonical(name, table): name for name in expected}
    keys = [key for key in file.tensors if not key.startswith(table.others)]
    prefix = next(p for p in table.prefixes if not p or any(key.startswith(p) for key in keys))
    found: dict[str, TensorRef] = {}
    transforms = {}
    unknown, misshapen = [], []
    for key in keys:
        name = (
            by_canonical.get(_canonical(key.removeprefix(prefix), table)) if key.startswith(prefix) else None
        )
        if name is None:
            unknown.append(key)
            continue
        reference, shape = file.tensors[key], tuple(expected[name].shape)
        found[name] = reference
        square = isinstance(tower, TowerConfig) and _is_square_table(reference, table, shape)
        if name == table.positions and reference.shape != shape and square:
            transforms[name] = lambda values, shape=shape: _resample(values, shape, tower, table)
            shape = reference.shape
        if misfit := _misfit(reference, expected[name], shape):
            misshapen.append(f"{key}: {misfit}")
    missing = [prefix + name for name in expected if name not in found]
    if missing or unknown or misshapen:
        hint = f"Expected the {kind} encoder {tower.hub_id or ''} in the layout of transformers."
        raise KeyMismatchError(str(file.path), missing, unknown, misshapen, hint=hint)
    return found, transforms


def _misfit(reference: TensorRef, expected: Tensor, shape: tuple[int, ...]) -> str:
    """Why a tensor of a file cannot be one of the module; empty where it can. Counters of batches are integers."""
    if reference.shape != shape:
        return f"{tuple(reference.shape)}, expected {shape}"
    if expected.is_floating_point() and reference.dtype not in FLOATS:
        return not_floats(reference.dtype)
    return ""


def _canonical(name: str, table: TowerTable) -> str:
    for pattern, replacement in table.renames:
        name = re.sub(pattern, replacement, name)
    return name


def _is_square_table(reference: TensorRef, table: TowerTable, shape: tuple[int, ...]) -> bool:
    if len(reference.shape) != len(shape) or len(shape) < 2 or reference.shape[-1] != shape[-1]:
        return False
    rows = reference.shape[-2] - table.prefix_rows
    return rows > 0 and round(rows**0.5) ** 2 == rows


def _resample(values: Tensor, shape: tuple[int, ...], tower: TowerConfig, table: TowerTable) -> Tensor:
    """A learned position table on the model's grid: once, when the weights are loaded."""
    flat = rearrange(values, "... n D -> (... n) D")
    side = round((flat.shape[0] - table.prefix_rows) ** 0.5)
    return resample_positions(flat, (side, side), tower.grid, prefix=table.prefix_rows).reshape(shape)
