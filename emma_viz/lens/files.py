"""Lens files: one safetensors file with the weights, and a JSON description in its header.

The header's entry `emma_viz.lens` is {"schema": 1, "info": {…LensInfo…}, "parts": {…}}; `parts` is what the
kind of lens needs beside its tensors (a native lens: the sizes of its decoder and its taps). Nothing is
pickled.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from emma_viz.capture.files import write_tensors
from emma_viz.checkpoints import BUNDLED, LoadedModel
from emma_viz.data.provenance import dump_json
from emma_viz.errors import LensError, StudyError
from emma_viz.heads.config import PaperConfig, ReleasedConfig
from emma_viz.heads.head import build_head, head_from_json, head_to_json
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
    read: Callable[[LensInfo, Mapping[str, Tensor], Mapping[str, Any]], Lens]
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
    except (StudyError, OSError) as error:
        raise LensError(f"The lens cannot be written to {path}: {error}") from error
    return path


def load_lens(source: LoadedModel | str | Path, kind: str = "ridge", *, force: bool = False) -> Lens:
    """Read a lens.

    Args:
        source: a lens file; a run directory, or the name of a bundled model, which hold `<kind>.lens`; or a
            loaded model, whose own lens is then found in the same way and checked against it.
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
        places = [] if source.folder is None else [source.folder / f"{kind}{SUFFIX}"]
    else:
        named = [Path(source).expanduser(), BUNDLED / str(source)]
        places = [place / f"{kind}{SUFFIX}" if place.is_dir() else place for place in named]
    for place in places:
        if place.is_file():
            return place
    looked = ", ".join(map(str, places)) or "nothing: this model was built in memory"
    raise LensError(
        f"No {kind} lens was found (looked at {looked}). Pass the path of a lens file, or fit one with "
        f"fit_ridge or fit_tuned; bundled lenses: {', '.join(bundled_lenses()) or 'none'}."
    )


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
        LensError: the file is not a readable native lens.
    """
    info, parts = _header(Path(path))
    if info.kind != "native":
        raise LensError(f"{path} is a {info.kind} lens; a native one was expected.")
    return head_from_json(parts["head"])


def _read(path: Path) -> Lens:
    info, parts = _header(path)
    form = FORMATS.get(info.kind)
    if form is None:
        raise LensError(
            f"{path} holds a lens of kind {info.kind!r}; this version of emma_viz reads {_kinds()}."
        )
    with _opened(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a file, not a dict)
    try:
        return form.read(info, tensors, parts)
    except KeyError as error:
        raise LensError(
            f"{path} lacks {error}; it was not written whole. Fit or download it again."
        ) from error
    except LensError as error:
        raise LensError(f"{path}: {error}") from error


def _header(path: Path) -> tuple[LensInfo, dict[str, Any]]:
    with _opened(path) as file:
        text = (file.metadata() or {}).get(KEY)
    if text is None:
        raise LensError(f"{path} is a safetensors file, but no lens: its header has no {KEY!r}.")
    try:
        header = json.loads(text)
        schema, info, parts = header["schema"], header["info"], header["parts"]
    except (ValueError, KeyError, TypeError) as error:
        raise LensError(
            f"{path}: the description in the header cannot be read: {error}. Fit the lens again."
        ) from error
    if schema != SCHEMA:
        raise LensError(
            f"{path} has schema {schema!r}; this version of emma_viz reads {SCHEMA}. Update emma_viz."
        )
    return LensInfo.from_json(info), parts


def _opened(path: Path):
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise LensError(
            f"{path} cannot be read as a lens file: {error}. It is missing, damaged or cut short."
        ) from error


def _write_ridge(lens: RidgeLens) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return {"weight": lens.weight, "bias": lens.bias}, {}


def _read_ridge(info: LensInfo, tensors: Mapping[str, Tensor], parts: Mapping[str, Any]) -> RidgeLens:
    weight, bias = tensors["weight"], tensors["bias"]
    expected = (len(info.layers), CHANNELS * info.patch**2)
    if weight.ndim != 3 or (weight.shape[0], weight.shape[2]) != expected or bias.shape != expected:
        raise LensError(
            f"a ridge lens of {expected[0]} layers with {expected[1]} pixel values a patch was described; "
            f"its weights have the shapes {tuple(weight.shape)} and {tuple(bias.shape)}. Fit it again."
        )
    return RidgeLens(info=info, weight=weight, bias=bias)


def _write_native(lens: NativeLens) -> tuple[dict[str, Tensor], dict[str, Any]]:
    parts = {"head": head_to_json(lens.head.config), "tap_layers": list(lens.tap_layers)}
    return dict(lens.head.state_dict()), parts


def _read_native(info: LensInfo, tensors: Mapping[str, Tensor], parts: Mapping[str, Any]) -> NativeLens:
    config = head_from_json(parts["head"])
    head = _filled(build_head(config), tensors)
    return NativeLens(info=info, head=head, tap_layers=tuple(parts["tap_layers"]))


def _write_tuned(lens: TunedLens) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return dict(lens.head.state_dict()), {"sizes": lens.head.config.to_json()}


def _read_tuned(info: LensInfo, tensors: Mapping[str, Tensor], parts: Mapping[str, Any]) -> TunedLens:
    return TunedLens(info=info, head=_filled(TunedHead(TunedConfig.from_json(parts["sizes"])), tensors))


def _filled(head: Filled, tensors: Mapping[str, Tensor]) -> Filled:
    """A head with the weights of a file, in float32 and evaluation mode; all must fit."""
    wanted = {name: tuple(tensor.shape) for name, tensor in head.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if wanted != found:
        wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise LensError(f"{len(wrong)} tensors do not fit the sizes of the decoder: {', '.join(wrong[:8])}.")
    head.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return head.requires_grad_(False).eval()


def _kinds() -> str:
    return ", ".join(FORMATS)


FORMATS: dict[str, Format] = {
    "ridge": Format(lens=RidgeLens, write=_write_ridge, read=_read_ridge),
    "tuned": Format(lens=TunedLens, write=_write_tuned, read=_read_tuned),
    "native": Format(lens=NativeLens, write=_write_native, read=_read_native),
}
"""Every kind of lens that can be written and read; a new kind adds its own line."""
