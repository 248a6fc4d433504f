"""The kinds of lens there are: how each becomes a file, and a file each.

A kind is one line of `BUILT_IN`, or an entry point of the group `emma_viz.lenses` in any installed package, whose name
is the kind's and whose object is a `LensKind` (docs/extending/add-a-lens.md).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from emma_viz.checkpoints.materialize import check_filled, fill, not_finite
from emma_viz.checkpoints.readers.tensors import TensorRef
from emma_viz.errors import InputError, LensError
from emma_viz.files.schema import shape
from emma_viz.finite import is_finite
from emma_viz.heads.config import PaperConfig, ReleasedConfig
from emma_viz.heads.head import Head, build_head, head_from_json, head_to_json
from emma_viz.lens.headers import LensFile
from emma_viz.lens.info import LensInfo
from emma_viz.lens.native import NativeLens
from emma_viz.lens.protocol import Lens
from emma_viz.lens.ridge import RidgeLens
from emma_viz.lens.tuned import TunedConfig, TunedHead, TunedLens
from emma_viz.models.meta import on_meta
from emma_viz.plugins import Plugins
from emma_viz.shapes import CHANNELS

Filled = TypeVar("Filled", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class LensKind:
    """One kind of lens: its class, and how it becomes tensors and JSON, and back."""

    lens: type
    """The class; see `emma_viz.lens.protocol.Lens`."""
    write: Callable[[Any], tuple[dict[str, Tensor], dict[str, Any]]]
    """Lens → (tensors, parts): `parts` is JSON that the kind keeps beside its tensors."""
    read: Callable[[LensInfo, Mapping[str, TensorRef], Mapping[str, Any]], Lens]
    """(info, tensors, parts) → lens. It checks every shape, and raises LensError where one does not fit."""


def kind_names() -> tuple[str, ...]:
    """The kinds of lens there are: our own, then those of installed packages."""
    return _PLUGINS.names()


def is_kind(name: str) -> bool:
    """Whether there is a kind of lens of that name."""
    return name in _PLUGINS


def kind_of(name: str) -> LensKind:
    """One kind of lens.

    Args:
        name: as `kind_names` has it.

    Raises:
        LensError: there is no such kind, or the package that brings it cannot be imported.
    """
    return BUILT_IN.get(name) or _PLUGINS.bring(name)


def native_sizes(file: LensFile) -> PaperConfig | ReleasedConfig:
    """The sizes of a native lens's fusion and decoder, from the file's header alone.

    Raises:
        LensError: the file is not a readable native lens, or its tensors have other sizes.
    """
    if kind_of(file.info.kind).lens is not NativeLens:
        raise LensError(
            f"This is a {file.info.kind} lens; one with a fusion and decoder of a model was expected."
        )
    config = head_from_json(_native_parts(file.parts).head)
    _require_shapes(_empty_head(config), file.tensors)
    return config


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
        with on_meta():
            return build_head(config)
    except InputError as error:
        raise LensError(f"The sizes of the decoder do not fit together: {error}") from error


def _write_tuned(lens: TunedLens) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return dict(lens.head.state_dict()), {"sizes": lens.head.config.to_json()}


def _read_tuned(info: LensInfo, tensors: Mapping[str, TensorRef], parts: Mapping[str, Any]) -> TunedLens:
    stored = shape(parts, _TunedParts, where="the sizes of this tuned lens", error=LensError)
    with on_meta():
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


BUILT_IN: dict[str, LensKind] = {
    "ridge": LensKind(lens=RidgeLens, write=_write_ridge, read=_read_ridge),
    "tuned": LensKind(lens=TunedLens, write=_write_tuned, read=_read_tuned),
    "native": LensKind(lens=NativeLens, write=_write_native, read=_read_native),
}
"""The kinds that are part of this package."""
_PLUGINS = Plugins(
    group="emma_viz.lenses", what="kind of lens", expected=LensKind, ours=BUILT_IN, error=LensError
)
