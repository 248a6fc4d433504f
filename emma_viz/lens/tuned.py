"""The tuned lens: a pixel decoder trained on a frozen model, with one affine translator a layer.

pixels of layer i = decoder(translator_i(state of layer i)); see docs/decisions/0004-tuned-lens.md. The decoder
(fusion of a single tap, then the paper's pixel decoder) is shared by all layers, the translators are not. At
every layer the picture is made from that layer's states alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from emma_viz.data.provenance import ModelInfo
from emma_viz.errors import InputError, LensError
from emma_viz.files.schema import require_ranges, shape
from emma_viz.finite import is_finite
from emma_viz.heads.config import PaperConfig, paper_config
from emma_viz.heads.head import PaperHead
from emma_viz.heads.losses import paper_loss
from emma_viz.heads.pixels import from_units
from emma_viz.lens.info import LensInfo
from emma_viz.lens.translators import build_translator
from emma_viz.models.ranges import Depth, Width

_FLOOR = 1e-3
"""Smallest scale of a channel, relative to the root mean square of its layer's channels."""


@dataclass(frozen=True, kw_only=True)
class TunedConfig:
    """Sizes of a tuned lens."""

    n_layers: Depth
    """Layers Y that it decodes, each with a translator of its own."""
    head: PaperConfig
    """Fusion and decoder that all layers share; the fusion has one tap."""
    rank: Width | None = None
    """Rank of the translators' change; None: full, D² + D parameters a layer."""

    def __post_init__(self):
        require_ranges(self, error=InputError)
        if self.rank is not None and self.rank > self.head.width:
            raise InputError(
                f"TunedConfig: rank must lie in 1…{self.head.width} (the width), or be None for full rank; got "
                f"rank={self.rank}."
            )
        if self.head.n_taps != 1 or self.head.decoder.target != "pixels":
            raise InputError(
                "TunedConfig: a tuned lens decodes one layer at a time to pixels, so head.fusion.n_taps must be 1 "
                f"and head.decoder.target pixels; got {self.head.n_taps} and {self.head.decoder.target}."
            )

    def to_json(self) -> dict[str, Any]:
        """A plain dict that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "TunedConfig":
        """Undo `to_json`.

        Raises:
            LensError: a field is missing, unknown, of another type or out of its range.
        """
        return shape(value, cls, where="the sizes of this tuned lens", error=LensError)


def tuned_config(
    *, width: int, patch: int, n_layers: int, rank: int | None = None, decoder_layers: int | None = None
) -> TunedConfig:
    """A tuned lens at any width: the paper's fusion of one tap (with itself) and the paper's decoder.

    Args:
        width: D of the states.
        patch: side of a patch, pixels.
        n_layers: layers to decode.
        rank: of the translators' change; None for full rank. At full size 64 of them have 420M parameters;
            rank 64 has 21M.
        decoder_layers: Mamba layers of the decoder; the paper's four when None. Fewer make a smaller lens that can
            mix tokens less.
    """
    head = paper_config(width=width, patch=patch, n_taps=1)
    if decoder_layers is not None:
        head = replace(head, decoder=replace(head.decoder, n_layers=decoder_layers))
    return TunedConfig(n_layers=n_layers, head=head, rank=rank)


class TunedHead(nn.Module):
    """Translators, fusion and decoder: what is trained while the model stays frozen.

    Each layer's states are first put on one scale by fixed numbers (`calibrate`): the residual stream grows
    many times over with depth, and some of its channels are far larger than others. That is affine too, so
    with its translator it is still one affine map a layer.
    """

    def __init__(self, config: TunedConfig, *, backend: str = "auto"):
        super().__init__()
        self.config = config
        width = config.head.width
        self.translators = nn.ModuleList(build_translator(width, config.rank) for _ in range(config.n_layers))
        self.head = PaperHead(config.head, backend=backend)
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(config.n_layers, width))
        self.register_buffer("scale", torch.ones(config.n_layers, width))

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Take mean and standard deviation of every channel of every layer from some states.

        Args:
            batches: states "Y B T D" of all layers; B may differ.

        Raises:
            LensError: no states came, or some are not finite.
        """
        count, mean, squares = 0, torch.zeros_like(self.mean).double(), torch.zeros_like(self.mean).double()
        for states in batches:
            for row, layer in enumerate(states):  # one at a time: bounds the copy in float64
                values = rearrange(layer, "b t d -> (b t) d").to(mean.device).double()
                new, shift = len(values), values.mean(dim=0) - mean[row]
                between = shift**2 * (count * new / (count + new))
                squares[row] += values.var(dim=0, correction=0) * new + between
                mean[row] += shift * (new / (count + new))
            count += states.shape[1] * states.shape[2]
        if not count:
            raise LensError("A tuned lens is calibrated on states, and none came.")
        if bad := [row for row, each in enumerate(squares) if not is_finite(each)]:
            raise LensError(
                f"Layers number {bad} (from 0) hold values that are not finite; a lens cannot be fitted on them."
            )
        scale = (squares / count).sqrt()
        least = _FLOOR * scale.square().mean(dim=-1, keepdim=True).sqrt()
        scale = torch.maximum(scale, least)
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(scale > 0, scale, torch.ones_like(scale)))

    def forward(
        self, states: Float[Tensor, "k B T D"], rows: Sequence[int] | None = None
    ) -> Float[Tensor, "k B T P"]:
        """Decode some layers, each from its own states, in the units of `paper_loss`.

        Args:
            states: of k layers.
            rows: which layers those are, counted from 0 among the lens's own; all of them when None.

        Raises:
            InputError: there are not as many rows as layers.
        """
        rows = range(self.config.n_layers) if rows is None else rows
        if len(rows) != len(states):
            raise InputError(f"States of {len(states)} layers came for {len(rows)} rows {list(rows)}.")
        translated = torch.stack([self._translate(each, row) for each, row in zip(states, rows, strict=True)])
        # Layers are samples to the shared decoder: nothing passes from one to another.
        decoded = self.head([rearrange(translated, "k b t d -> (k b) t d")])
        return rearrange(decoded, "(k b) t p -> k b t p", k=len(rows))

    def layer_losses(
        self,
        states: Float[Tensor, "k B T D"],
        patches: Float[Tensor, "B T p p c"],
        rows: Sequence[int] | None = None,
    ) -> Float[Tensor, " k"]:
        """`paper_loss` of each layer; arguments as for `loss`, pixels in [0, 1]."""
        return torch.stack([paper_loss(decoded, patches) for decoded in self(states, rows)])

    def loss(
        self,
        states: Float[Tensor, "k B T D"],
        patches: Float[Tensor, "B T p p c"],
        rows: Sequence[int] | None = None,
    ) -> Float[Tensor, ""]:
        """What a training step minimises: the mean over the layers of the squared error of their pixels.

        Layers that are left out take no gradient (None, not zero), so an optimiser passes over their
        translators.

        Args:
            states: of k layers of the frozen model, image tokens alone.
            patches: the true pixels in [0, 1].
            rows: which layers those are, counted from 0 among the lens's own; all of them when None.
        """
        return self.layer_losses(states, patches, rows).mean()

    def pictures(self, states: Float[Tensor, "B T D"], row: int) -> Float[Tensor, "B T p p c"]:
        """Pixels on the scale of [0, 1], not clipped, from the states of one layer."""
        return from_units(self(states[None], [row])[0], self.config.head.decoder.patch)

    def _translate(self, states: Float[Tensor, "B T D"], row: int) -> Float[Tensor, "B T D"]:
        even = (states.to(self.mean.device).float() - self.mean[row]) / self.scale[row]
        return self.translators[row](even.to(next(self.head.parameters()).dtype))


@dataclass(frozen=True, kw_only=True)
class TunedLens:
    """Decodes the states of each layer by that layer's translator and the decoder that all share."""

    info: LensInfo
    """What the lens says about itself; `info.layers` are the rows of the head."""
    head: TunedHead
    """In evaluation mode."""

    def __repr__(self) -> str:
        return self.info.line("TunedLens")

    def __post_init__(self):
        self.info.require_patch(self.head.config.head.decoder.patch)
        if len(self.info.layers) != self.head.config.n_layers:
            raise LensError(
                f"This tuned lens has translators of {self.head.config.n_layers} layers; {len(self.info.layers)} "
                f"were named: {self.info.layers}."
            )

    @property
    def default_layers(self) -> tuple[int, ...]:
        """The layers that are decoded when none are named: all fitted ones."""
        return self.info.layers

    def reads(self, layer: int) -> tuple[tuple[str, int], ...]:
        """The (site, layer) whose states `decode` takes for `layer`: its own alone."""
        self.info.index_of(layer)
        return ((self.info.site, layer),)

    @torch.inference_mode()
    def decode(self, states: Float[Tensor, "B T D"], layer: int) -> Float[Tensor, "B T p p c"]:
        """Turn one layer's image-token states into patches.

        Returns:
            float32 pixels, on the scale of [0, 1] but not clipped.

        Raises:
            LensMismatchError: the layer was not fitted, or the width is another.
        """
        row = self.info.index_of(layer)
        self.info.require_width(states.shape[-1], self.head.config.head.width)
        return self.head.pictures(states, row).float()


def tuned_lens(
    head: TunedHead,
    model: ModelInfo,
    *,
    site: str,
    layers: Sequence[int],
    fitted_on: str,
    n_fit: int,
    notes: Sequence[str] = (),
) -> TunedLens:
    """Make a lens of a trained head; measure its quality afterwards.

    Args:
        head: with trained weights; it is put in evaluation mode and takes no more gradients.
        model: the frozen model that it was trained on.
        site: the hook site of the states.
        layers: the layers of the head's rows, ascending.
        fitted_on: the training images, in words.
        n_fit: how many they were.
        notes: what a reader of the pictures should know besides; say the budget here.

    Raises:
        LensError: the model takes no images, or the number of layers does not fit the head.
    """
    if model.grid is None:
        raise LensError(
            f"{model.name} has no grid of image tokens that all images share, which this lens is built for; fit "
            "a ridge lens."
        )
    info = LensInfo(
        kind="tuned",
        model_name=model.name,
        model_fingerprint=model.fingerprint,
        site=site,
        layers=tuple(layers),
        patch=head.config.head.decoder.patch,
        grid=model.grid,
        fitted_on=fitted_on,
        n_fit=n_fit,
        n_heldout=0,
        form="paper",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        notes=tuple(notes),
    )
    return TunedLens(info=info, head=head.requires_grad_(False).eval())
