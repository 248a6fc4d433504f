"""The native lens: the fusion and decoder that a model was trained with.

It reads the model's taps together, so it makes ONE picture of an image, not one per layer: that of the final
depth. Feeding one layer's state in place of all the taps would be a basis mismatch, not a measurement. What
the paper's form does offer at smaller depths is the chain of fusion blocks cut short: B₁, then B₂(B₁, X_k),
…, each decoded by the same decoder. These prefixes are what Eq. 7 passes through, but the decoder was trained
on the complete chain alone, so a poor prefix may tell of the decoder rather than of the states.
docs/lenses.md says more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import torch
from jaxtyping import Float
from torch import Tensor

from emma_viz.data.provenance import ModelInfo
from emma_viz.errors import LensError, LensMismatchError
from emma_viz.heads.head import Head
from emma_viz.lens.info import TAPS, LensInfo

PREFIX_NOTE = (
    "Pictures above the deepest one decode a fusion chain that was cut short; the decoder was not trained on "
    "those."
)


@dataclass(frozen=True, kw_only=True)
class NativeLens:
    """Decodes the taps of the model that it was trained with."""

    info: LensInfo
    """What the lens says about itself; `info.layers` are the depths of `tap_layers` that it can decode."""
    head: Head
    """Fusion and decoder, in evaluation mode."""
    tap_layers: tuple[int, ...]
    """Blocks whose mixer outputs are fused, shallow to deep, then the last block, which stands for the final
    norm."""

    def __repr__(self) -> str:
        return self.info.line("NativeLens")

    def __post_init__(self):
        if not self.head.makes_pictures:
            raise LensError(
                f"The head of {self.info.model_name} was trained on an encoder's features (AVF), not on pixels, so it "
                "is no lens. Fit a ridge or tuned lens."
            )
        self.info.require_patch(self.head.config.patch)
        if len(self.tap_layers) != self.head.config.n_taps:
            raise LensError(
                f"This decoder fuses {self.head.config.n_taps} taps; {len(self.tap_layers)} were named: "
                f"{self.tap_layers}."
            )
        if odd := set(self.info.layers) - set(self.tap_layers):
            raise LensError(f"This lens says it decodes at layers {sorted(odd)}, which are none of its taps.")

    @property
    def default_layers(self) -> tuple[int, ...]:
        """The final depth alone: the one picture that the decoder was trained to make."""
        return self.info.layers[-1:]

    def reads(self, layer: int) -> tuple[tuple[str, int], ...]:
        """The taps down to that depth: mixer outputs, and the final norm (kept under the last block's
        index)."""
        depth = self._depth(layer)
        pairs = [("mixer_out", tap) for tap in self.tap_layers[:-1]] + [("norm_f", self.tap_layers[-1])]
        return tuple(pairs[: depth + 1])

    @torch.inference_mode()
    def decode(self, states: Float[Tensor, "*K B T D"], layer: int) -> Float[Tensor, "B T p p c"]:
        """Decode the taps of `reads(layer)`, stacked along the first axis.

        Returns:
            float32 pixels on the scale of [0, 1], not clipped.

        Raises:
            LensMismatchError: the lens has no such depth, or the states have another width.
        """
        needed = len(self.reads(layer))
        taps = states[None] if states.ndim == 3 else states
        width = self.head.config.width
        if len(taps) != needed or taps.shape[-1] != width:
            raise LensMismatchError(
                f"The native lens of {self.info.model_name} reads {needed} states of width {width} for layer "
                f"{layer}; {len(taps)} of width {taps.shape[-1]} came."
            )
        parameter = next(self.head.parameters())
        return self.head.pictures([tap.to(parameter.device, parameter.dtype) for tap in taps]).float()

    def _depth(self, layer: int) -> int:
        if layer not in self.info.layers:
            raise LensMismatchError(
                f"The native lens of {self.info.model_name} decodes at "
                f"{', '.join(map(str, self.info.layers))} (the depths of its taps); layer {layer} was asked "
                "for. A ridge lens decodes every layer."
            )
        # Where the last block is a tap too, its index stands for the final norm: the whole chain.
        return len(self.tap_layers) - 1 - self.tap_layers[::-1].index(layer)


def native_lens(
    head: Head,
    model: ModelInfo,
    *,
    patch: int,
    fitted_on: str,
    n_fit: int,
    taps: Sequence[int] | None = None,
    notes: Sequence[str] = (),
) -> NativeLens:
    """Make a lens of a head that was trained with a model; measure its quality with `with_quality`
    afterwards.

    Args:
        head: with trained weights; it is put in evaluation mode.
        model: the model it was trained with.
        patch: side of a patch, pixels.
        fitted_on: the training images, in words.
        n_fit: how many they were.
        taps: tap blocks; the model's own when None.
        notes: what pictures made with the lens must say, a sentence each.

    Raises:
        LensError: the model sees no images, the number of taps does not fit the head, or the head was trained
            on features and shows no pixels.
    """
    if model.grid is None:
        raise LensError(
            f"{model.name} has no grid of image tokens that all images share, which this lens is built for; fit "
            "a ridge lens."
        )
    layers = (*(model.taps if taps is None else taps), model.n_layer - 1)
    if len(layers) != head.config.n_taps:
        raise LensError(
            f"This decoder fuses {head.config.n_taps} taps; {model.name} has {len(layers)}: {layers}."
        )
    info = LensInfo(
        kind="native",
        model_name=model.name,
        model_fingerprint=model.fingerprint,
        site=TAPS,
        layers=tuple(dict.fromkeys(layers[depth] for depth in head.depths)),
        patch=patch,
        grid=model.grid,
        fitted_on=fitted_on,
        n_fit=n_fit,
        n_heldout=0,
        form=head.form,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        notes=(*notes, PREFIX_NOTE) if len(head.depths) > 1 else tuple(notes),
    )
    return NativeLens(info=info, head=head.eval(), tap_layers=layers)
