"""Lens files: one safetensors file with the weights, and a JSON description in its header.

The header's entry `emma_viz.lens` is {"schema": 1, "info": {…LensInfo…}, "parts": {…}}; `parts` is what the
kind of lens needs beside its tensors (a native lens: the sizes of its decoder and its taps). Nothing is
pickled.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from emma_viz.checkpoints import BUNDLED, LoadedModel
from emma_viz.checkpoints.files import trusted_folder
from emma_viz.checkpoints.layouts import FLOATS, odd_type
from emma_viz.checkpoints.materialize import check_filled, fill, not_finite, require_room
from emma_viz.checkpoints.safetensors_file import read_header
from emma_viz.checkpoints.tensors import TensorRef, is_finite
from emma_viz.data.provenance import dump_json
from emma_viz.errors import EmmaVizError, InputError, LensError
from emma_viz.files.inside import inside
from emma_viz.files.json_door import parse_json
from emma_viz.files.named import named_path
from emma_viz.files.schema import shape
from emma_viz.files.tensors import write_tensors
from emma_viz.heads.config import PaperConfig, ReleasedConfig
from emma_viz.heads.head import Head, build_head, head_from_json, head_to_json
from emma_viz.lens.info import KINDS, LensInfo, require_fit
from emma_viz.lens.native import NativeLens
from emma_viz.lens.protocol import Lens
from emma_viz.lens.ridge import RidgeLens
from emma_viz.lens.tuned import TunedConfig, TunedHead, TunedLens
from emma_viz.shapes import CHANNELS

Filled = TypeVar("Filled", bound=nn.Module)

SCHEMA = 1
"""Version of the file; raised whenever an older reader could not read the new form."""
KEY = "emma_viz.lens"
SUFFIX = ".lens"


@dataclass(frozen=True, kw_only=True)
class Format:
    """How one kind of lens becomes tensors and JSON, and back."""

    lens: type
    """The class."""
    write: Callable[[Any], tuple[dict[str, Tensor], dict[str, Any]]]
    """Lens → (tensors, parts)."""
    read: Callable[[LensInfo, Mapping[str, TensorRef], Mapping[str, Any]], Lens]
    """(info, tensors, parts) → lens."""


def save_lens(lens: Lens, path: str | Path) -> Path:
    """Write a lens to one file, whole or not at all.

    Raises:
        LensError: the file cannot be written, or there is no format for this kind of lens.
    """
    path = Path(path)
    form = FORMATS.get(lens.info.kind)
    if form is None or not isinstance(lens, form.lens):
        raise LensError(
            f"No file format for a {type(lens).__name__} of kind {lens.info.kind!r}; there are {_kinds()}."
        )
    tensors, parts = form.write(lens)
    header = dump_json({"schema": SCHEMA, "info": lens.info.to_json(), "parts": parts})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, tensors, {KEY: header})
    except (SafetensorError, OSError) as error:
        raise LensError(f"The lens cannot be written to {path}: {error}") from error
    return path


def load_lens(source: LoadedModel | str | Path, kind: str = "ridge", *, force: bool = False) -> Lens:
    """Read a lens.

    Args:
        source: a lens file; a run directory, or the name of a bundled model, which hold `<kind>.lens`; or a
            loaded model, whose lens is found by the fingerprint of its weights: in its folder, whatever the file
            is called, then among those that ship.
        kind: which lens of the model; a lens file that is named itself may be of any kind.
        force: accept a lens that was fitted on other weights than the loaded model's.

    Raises:
        LensError: there is no such lens, or the file is damaged or of another version.
        LensMismatchError: the lens in the model's folder belongs to other weights.
    """
    if kind not in KINDS:
        raise LensError(f"There is no lens of kind {kind!r}; choose one of {', '.join(KINDS)}.")
    path = find_lens(source, kind)
    lens = _read(path)
    if isinstance(source, LoadedModel):
        info = source.info
        reasons = lens.info.mismatch(
            fingerprint=info.fingerprint, model_name=info.name, sites=(lens.info.site,)
        )
        require_fit(reasons, force=force)
    return lens


def find_lens(source: LoadedModel | str | Path, kind: str = "ridge") -> Path:
    """The lens file that a source stands for (see `load_lens`).

    Raises:
        LensError: there is none; the message says where it was looked for.
    """
    if isinstance(source, LoadedModel):
        places = [] if source.folder is None else [beside(source.folder, f"{kind}{SUFFIX}")]
        if (own := _by_fingerprint(source, kind, places)) is not None:
            return own
    else:
        named = [named_path(source), BUNDLED / str(source)]
        places = [beside(place, f"{kind}{SUFFIX}") if place.is_dir() else place for place in named]
    for place in places:
        if place.is_file():
            return place
    looked = ", ".join(map(str, places)) or "nothing: this model was built in memory"
    raise LensError(
        f"No {kind} lens was found (looked at {looked}). Pass the path of a lens file, or fit one with "
        f"fit_ridge or fit_tuned; bundled lenses: {', '.join(bundled_lenses()) or 'none'}."
    )


def _by_fingerprint(model: LoadedModel, kind: str, first: list[Path]) -> Path | None:
    """A lens of these very weights: in the model's folder under its usual name, under another, or among the bundled."""
    near = (
        []
        if model.folder is None
        else [beside(model.folder, each.name) for each in model.folder.glob(f"*{SUFFIX}")]
    )
    for path in (*first, *sorted(near), *sorted(BUNDLED.glob(f"*/*{SUFFIX}"))):
        try:
            info = read_info(path)
        except (
            LensError
        ):  # one that cannot be read is nobody's; under its usual name it is reported when it is read
            continue
        if info.kind == kind and info.model_fingerprint == model.info.fingerprint:
            return path
    return None


def beside(folder: Path, name: str) -> Path:
    """The path of a lens in a model's folder.

    Raises:
        LensError: it is a link that leads out of the folder (or, in the hub's cache, of the repository).
    """
    return inside(folder, name, error=LensError, within=trusted_folder(folder))


def bundled_lenses() -> tuple[str, ...]:
    """The lenses that ship with the package, as `model/kind`."""
    return tuple(f"{path.parent.name}/{path.stem}" for path in sorted(BUNDLED.glob(f"*/*{SUFFIX}")))


def read_info(path: str | Path) -> LensInfo:
    """What a lens file says about itself, without reading its weights.

    Raises:
        LensError: the file is missing, damaged, no lens, or of another version.
    """
    return _header(Path(path))[0]


def native_sizes(path: str | Path) -> PaperConfig | ReleasedConfig:
    """The sizes of a native lens's fusion and decoder, from the file's header alone.

    Raises:
        LensError: the file is not a readable native lens, or its tensors have other sizes.
    """
    info, parts = _header(Path(path))
    if info.kind != "native":
        raise LensError(f"{path} is a {info.kind} lens; a native one was expected.")
    config = head_from_json(_native_parts(parts).head)
    _require_shapes(_empty_head(config), _opened(Path(path))[0])
    return config


def _read(path: Path) -> Lens:
    info, parts = _header(path)
    form = FORMATS.get(info.kind)
    if form is None:
        raise LensError(
            f"{path} holds a lens of kind {info.kind!r}; this version of emma_viz reads {_kinds()}."
        )
    tensors = _opened(path)[0]
    if odd := next((name for name, ref in tensors.items() if ref.dtype not in FLOATS), None):
        raise LensError(f"{path}: {odd} holds {odd_type(tensors[odd].dtype)}; a lens has real weights.")
    try:
        require_room(tensors, torch.float32, "cpu")
        return form.read(info, tensors, parts)
    except EmmaVizError as error:
        raise LensError(f"{path}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class _Header:
    """The entry KEY of the file's header."""

    schema: int
    info: dict[str, Any]
    parts: dict[str, Any]


def _header(path: Path) -> tuple[LensInfo, dict[str, Any]]:
    text = _opened(path)[1].get(KEY)
    if text is None:
        raise LensError(f"{path} is a safetensors file, but no lens: its header has no {KEY!r}.")
    where = f"{path}: the description in the header"
    header = shape(
        parse_json(text, where=where, error=LensError), _Header, where=where, error=LensError, spare=True
    )
    if header.schema != SCHEMA:
        raise LensError(
            f"{path} has schema {header.schema}; this version of emma_viz reads {SCHEMA}. Update emma_viz."
        )
    try:
        return LensInfo.from_json(header.info), header.parts
    except LensError as error:
        raise LensError(f"{path}: {error}") from error


def _opened(path: Path) -> tuple[dict[str, TensorRef], dict[str, str]]:
    """The tensors and the texts of a file, none of them read yet."""
    try:
        if not path.is_file():
            raise LensError(f"There is no lens file {path}.")
        return read_header(path)
    except (EmmaVizError, OSError) as error:
        raise LensError(f"{path} cannot be read as a lens file: {error}") from error


def _write_ridge(lens: RidgeLens) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return {"weight": lens.weight, "bias": lens.bias}, {}


def _read_ridge(info: LensInfo, tensors: Mapping[str, TensorRef], parts: Mapping[str, Any]) -> RidgeLens:
    if lacking := {"weight", "bias"} - set(tensors):
        raise LensError(f"it lacks {', '.join(map(repr, sorted(lacking)))}; it was not written whole.")
    weight, bias = tensors["weight"], tensors["bias"]
    expected = (len(info.layers), CHANNELS * info.patch**2)
    fits = len(weight.shape) == 3 and (weight.shape[0], weight.shape[2]) == expected and weight.shape[1]
    if not fits or bias.shape != expected:
        raise LensError(
            f"a ridge lens of {expected[0]} layers with {expected[1]} pixel values a patch was described; "
            f"its weights have the shapes {weight.shape} and {bias.shape}. Fit it again."
        )
    return RidgeLens(info=info, weight=_finite("weight", weight), bias=_finite("bias", bias))


def _finite(name: str, reference: TensorRef) -> Tensor:
    value = reference.read()
    if not is_finite(value):
        raise LensError(not_finite(reference, name, reference.dtype))
    return value


@dataclass(frozen=True, kw_only=True)
class _NativeParts:
    """What a native lens stores beside its tensors."""

    head: dict[str, Any]
    tap_layers: tuple[int, ...]


def _native_parts(parts: Mapping[str, Any]) -> _NativeParts:
    return shape(parts, _NativeParts, where="the sizes of the decoder", error=LensError)


def _write_native(lens: NativeLens) -> tuple[dict[str, Tensor], dict[str, Any]]:
    parts = {"head": head_to_json(lens.head.config), "tap_layers": list(lens.tap_layers)}
    return dict(lens.head.state_dict()), parts


def _read_native(info: LensInfo, tensors: Mapping[str, TensorRef], parts: Mapping[str, Any]) -> NativeLens:
    stored = _native_parts(parts)
    head = _filled(_empty_head(head_from_json(stored.head)), tensors)
    return NativeLens(info=info, head=head, tap_layers=stored.tap_layers)


def _empty_head(config: PaperConfig | ReleasedConfig) -> Head:
    """A head on the meta device: sizes that the file does not bear out take no memory."""
    try:
        with torch.device("meta"):
            return build_head(config)
    except InputError as error:
        raise LensError(f"The sizes of the decoder do not fit together: {error}") from error


def _write_tuned(lens: TunedLens) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return dict(lens.head.state_dict()), {"sizes": lens.head.config.to_json()}


def _read_tuned(info: LensInfo, tensors: Mapping[str, TensorRef], parts: Mapping[str, Any]) -> TunedLens:
    stored = shape(parts, _TunedParts, where="the sizes of this tuned lens", error=LensError)
    with torch.device("meta"):
        head = TunedHead(TunedConfig.from_json(stored.sizes))
    return TunedLens(info=info, head=_filled(head, tensors))


@dataclass(frozen=True, kw_only=True)
class _TunedParts:
    """What a tuned lens stores beside its tensors."""

    sizes: dict[str, Any]


def _filled(head: Filled, tensors: Mapping[str, TensorRef]) -> Filled:
    """A head on the meta device with the weights of a file, in float32 and evaluation mode; all must fit."""
    _require_shapes(head, tensors)
    fill(head, tensors, dtype=torch.float32, device="cpu", what="lens")
    check_filled(head, "The lens")
    return head.requires_grad_(False).eval()


def _require_shapes(head: nn.Module, tensors: Mapping[str, TensorRef]) -> None:
    wanted = {name: tuple(tensor.shape) for name, tensor in head.state_dict().items()}
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if wanted != found:
        wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise LensError(
            f"{len(wrong)} tensors do not fit the sizes of the decoder: {', '.join(wrong[:8])[:400]}."
        )


def _kinds() -> str:
    return ", ".join(FORMATS)


FORMATS: dict[str, Format] = {
    "ridge": Format(lens=RidgeLens, write=_write_ridge, read=_read_ridge),
    "tuned": Format(lens=TunedLens, write=_write_tuned, read=_read_tuned),
    "native": Format(lens=NativeLens, write=_write_native, read=_read_native),
}
"""Every kind of lens that can be written and read; a new kind adds its own line."""
