"""The ridge lens: per layer, the linear map from hidden state to patch pixels in closed form.

W = (Xᵀ X + λ·d·I)⁻¹ Xᵀ Y on centred states X (tokens × D) and centred pixels Y (tokens × 3p²), where d is the
mean of the diagonal of Xᵀ X, so that λ means the same at every layer whatever the scale of its states.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from emma_viz.errors import LensError
from emma_viz.finite import is_finite
from emma_viz.lens.info import LensInfo
from emma_viz.shapes import CHANNELS

RIDGE = 1e-5
"""Default λ, relative to the mean diagonal. 1e-8 gives the same curves on the pocket models."""

_PANEL = 512
"""Columns of the sum of squares that are added at once."""


@dataclass(frozen=True, kw_only=True)
class RidgeLens:
    """Decodes the states of each fitted layer by that layer's own linear map."""

    info: LensInfo
    """What the lens says about itself; `info.layers` names the first axis below."""
    weight: Float[Tensor, "Y D P"]
    """Maps to pixels in [0, 1], P = 3·p² of them: row by row, colours of a pixel side by side."""
    bias: Float[Tensor, "Y P"]
    """What a state of zeros decodes to."""

    def __repr__(self) -> str:
        return self.info.line("RidgeLens")

    @property
    def default_layers(self) -> tuple[int, ...]:
        """The layers that are decoded when none are named: all fitted ones."""
        return self.info.layers

    def reads(self, layer: int) -> tuple[tuple[str, int], ...]:
        """The (site, layer) whose states `decode` takes for `layer`."""
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
        index = self.info.index_of(layer)
        self.info.require_width(states.shape[-1], self.weight.shape[1])
        weight, bias = (each[index].to(states.device, torch.float32) for each in (self.weight, self.bias))
        flat = states.float() @ weight + bias
        p = self.info.patch
        return rearrange(flat, "b t (h w c) -> b t h w c", h=p, w=p, c=CHANNELS)


@dataclass(kw_only=True)
class RidgeStatistics:
    """The sums that a ridge fit needs, for all layers in one pass over the images.

    Each batch is centred on its own mean before it is added (Chan's update), so the result does not depend on
    how the images were batched and loses no digits to large means.

    Memory: layers × D × (D + 3p²) numbers. 64 layers of width 2560 with 14-pixel patches: 4.1 GB in float64
    (3.4 of them for the D×D sums). `dtype=torch.float32` halves that, and the time, at some loss of digits; or
    make several passes with some of the layers each (`fit_ridge(layers_per_pass=…)`).
    """

    layers: Sequence[int]
    """Layers of the states, in the order of their first axis."""
    dtype: torch.dtype = torch.float64
    """Type that the sums are computed and kept in; the solution is always found in float64."""
    n_tokens: int = field(default=0, init=False)
    """Tokens seen."""
    _gram: Tensor = field(default_factory=lambda: torch.empty(0), init=False, repr=False)
    _cross: Tensor = field(default_factory=lambda: torch.empty(0), init=False, repr=False)
    _state_mean: Tensor = field(default_factory=lambda: torch.empty(0), init=False, repr=False)
    _pixel_mean: Tensor = field(default_factory=lambda: torch.empty(0), init=False, repr=False)

    @torch.inference_mode()
    def update(self, states: Float[Tensor, "Y B T D"], patches: Float[Tensor, "B T p p c"]) -> None:
        """Add a batch of images.

        Args:
            states: image-token states, one entry per layer of `layers`.
            patches: the true patches, pixels in [0, 1].

        Raises:
            LensError: the shapes are not those of the earlier batches, or a state is not finite.
        """
        pixels = rearrange(patches, "b t h w c -> (b t) (h w c)").to(self.dtype)
        self._check(states, pixels)
        if not self.n_tokens:
            self._allocate(states.shape[-1], pixels.shape[1], states.device)
        n, total = pixels.shape[0], self.n_tokens + pixels.shape[0]
        pixel_mean = pixels.mean(dim=0)
        pixel_shift = pixel_mean - self._pixel_mean
        # The difference between the batch's mean and ours, with its weight: one more row of the products.
        weight = (self.n_tokens * n / total) ** 0.5
        pixels = torch.cat([pixels - pixel_mean, weight * pixel_shift[None]])
        for index in range(len(self.layers)):  # one layer at a time: bounds the copy in `dtype`
            rows = rearrange(states[index], "b t d -> (b t) d").to(self.dtype)
            mean = rows.mean(dim=0)
            shift = mean - self._state_mean[index]
            rows = torch.cat([rows - mean, weight * shift[None]])
            self._add_products(self._gram[index], rows)
            self._cross[index].addmm_(rows.T, pixels)
            self._state_mean[index] += shift * (n / total)
        self._pixel_mean += pixel_shift * (n / total)
        self.n_tokens = total

    @staticmethod
    def _add_products(gram: Float[Tensor, "D D"], rows: Float[Tensor, "n D"]) -> None:
        """Add the products of all pairs of columns, of which those above the diagonal's blocks are left out: the sum is
        symmetric, and `solve` reads its lower half."""
        for start in range(0, gram.shape[0], _PANEL):
            end = start + _PANEL
            gram[start:, start:end].addmm_(rows[:, start:].T, rows[:, start:end])

    @torch.inference_mode()
    def solve(self, ridge: float = RIDGE) -> tuple[Float[Tensor, "Y D P"], Float[Tensor, "Y P"]]:
        """The linear maps of all layers.

        Args:
            ridge: λ, relative to the mean diagonal of the layer's sum of squares.

        Returns:
            (weight, bias) in float32.

        Raises:
            LensError: nothing was added, or λ is too small for the states' rank.
        """
        if self.n_tokens < 2:
            raise LensError(f"A ridge lens needs at least two tokens to fit; {self.n_tokens} were added.")
        weights, biases = [], []
        for index, layer in enumerate(self.layers):
            weight = self._solve_layer(index, layer, ridge)
            biases.append(self._pixel_mean.double() - self._state_mean[index].double() @ weight)
            weights.append(weight.float())
        return torch.stack(weights), torch.stack(biases).float()

    def _solve_layer(self, index: int, layer: int, ridge: float) -> Tensor:
        # A copy: λ goes onto its diagonal, and what is already double would be the sums themselves.
        gram, cross = self._gram[index].to(torch.float64, copy=True), self._cross[index].double()
        scale = gram.diagonal().mean()
        if scale == 0:  # the layer never changes: the best decoding is the mean patch
            return torch.zeros_like(cross)
        gram.diagonal().add_(ridge * scale)
        factor, failed = torch.linalg.cholesky_ex(gram)  # reads the lower half
        if failed:
            raise LensError(
                f"The states of layer {layer} span fewer than {gram.shape[0]} dimensions, and λ = {ridge:g} "
                f"is too small to make the fit unique. Use λ = {RIDGE:g} or larger, or more images."
            )
        return torch.cholesky_solve(cross, factor)

    def _allocate(self, width: int, n_pixels: int, device: torch.device) -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=self.dtype, device=device)

        n_layers = len(self.layers)
        self._gram, self._cross = zeros(n_layers, width, width), zeros(n_layers, width, n_pixels)
        self._state_mean, self._pixel_mean = zeros(n_layers, width), zeros(n_pixels)

    def _check(self, states: Tensor, pixels: Tensor) -> None:
        if len(states) != len(self.layers):
            raise LensError(
                f"States of {len(self.layers)} layers {list(self.layers)} expected; {len(states)} came."
            )
        if self.n_tokens and self._cross.shape[1:] != (states.shape[-1], pixels.shape[1]):
            raise LensError(
                f"Earlier batches had width {self._cross.shape[1]} and {self._cross.shape[2]} pixel values a "
                f"patch; this one has {states.shape[-1]} and {pixels.shape[1]}."
            )
        for index, layer in enumerate(self.layers):
            if not is_finite(states[index]):
                raise LensError(
                    f"Layer {layer} holds values that are not finite; a lens cannot be fitted on it."
                )
