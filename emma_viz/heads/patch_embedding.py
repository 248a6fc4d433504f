"""The target of the released decoder: an encoder's patch embedding, and the way back from it to pixels."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from emma_viz.errors import InputError
from emma_viz.heads.regroup import regroup, ungroup
from emma_viz.models.towers.vision import VisionEncoder
from emma_viz.models.vision_config import TowerKind

EPS = 1e-6


class PatchEmbedding(nn.Module):
    """A frozen copy of an encoder's patch convolution, with what turns its outputs back into pixels.

    All tensors are buffers: they are stored with the lens, so that its pictures need no encoder. The released code
    does not freeze its copy: there the target is trained along.
    """

    def __init__(self, *, width: int, patch: int, grid: tuple[int, int]):
        """
        Args:
            width: channels of the embedding (1152 in SigLIP).
            patch: side of a patch, pixels.
            grid: rows and columns of patches.
        """
        super().__init__()
        self.patch, self.grid = patch, grid
        self.weight: Tensor
        self.bias: Tensor
        self.pixel_mean: Tensor
        self.pixel_std: Tensor
        self.token_mean: Tensor
        self.token_std: Tensor
        self.register_buffer("weight", torch.zeros(width, 3, patch, patch))
        self.register_buffer("bias", torch.zeros(width))
        self.register_buffer("pixel_mean", torch.zeros(3))
        self.register_buffer("pixel_std", torch.ones(3))
        self.register_buffer("token_mean", torch.zeros(()))
        self.register_buffer("token_std", torch.ones(()))

    @torch.no_grad()
    def copy_from(
        self, convolution: nn.Conv2d, *, pixel_mean: Sequence[float], pixel_std: Sequence[float]
    ) -> "PatchEmbedding":
        """Take the weights of an encoder's patch convolution and the normalisation of its input.

        Args:
            convolution: with a weight "F 3 p p" and a stride of one patch.
            pixel_mean: of each colour, for pixels in [0, 1].
            pixel_std: likewise.

        Raises:
            InputError: the convolution has other sizes, or is none over patches.
        """
        if convolution.weight.shape != self.weight.shape or convolution.stride != (self.patch, self.patch):
            raise InputError(
                f"A patch convolution with weight {tuple(self.weight.shape)} and stride {self.patch} is "
                f"expected; this one has {tuple(convolution.weight.shape)} and stride {convolution.stride}."
            )
        self.weight.copy_(convolution.weight)
        if convolution.bias is not None:
            self.bias.copy_(convolution.bias)
        self.pixel_mean.copy_(torch.tensor(pixel_mean))
        self.pixel_std.copy_(torch.tensor(pixel_std))
        return self

    def copy_from_encoder(self, vision: VisionEncoder, kind: TowerKind = "siglip") -> "PatchEmbedding":
        """Take the patch convolution of one of a model's frozen encoders: SigLIP's, as released.

        Raises:
            InputError: the model has no such encoder, or that encoder has no patch convolution of this size.
        """
        tower = next((each for each in vision.config.towers if each.kind == kind), None)
        convolution = getattr(vision.towers[kind], "patch_convolution", None) if tower else None
        if tower is None or convolution is None:
            raise InputError(
                f"The released form predicts the patch embedding of a {kind} encoder; this model's encoders are "
                f"{', '.join(vision.towers)}. Name a transformer encoder that it has (kind=…), or use the "
                "paper form, whose target is the pixels."
            )
        return self.copy_from(convolution, pixel_mean=tower.mean, pixel_std=tower.std)

    def embed(self, pixels: Float[Tensor, "B 3 height width"]) -> Float[Tensor, "B T F"]:
        """The patch embedding of images that are normalised as the encoder wants them, row-major.

        Pixels beyond the last whole patch (6 of 384 at full size) are seen by no patch.
        """
        maps = F.conv2d(pixels.to(self.weight.dtype), self.weight, self.bias, stride=self.patch)
        return rearrange(maps, "b f r c -> b (r c) f")

    def embed_patches(self, patches: Float[Tensor, "B T p p c"]) -> Float[Tensor, "B T F"]:
        """The same embedding from patches with pixels in [0, 1], as the paper's form takes them, row-major."""
        pixels = (patches - self.pixel_mean.float()) / self.pixel_std.float()
        flat = rearrange(pixels, "b t h w c -> b t (c h w)").to(self.weight.dtype)
        return F.linear(flat, rearrange(self.weight, "f c h w -> f (c h w)"), self.bias)

    @torch.no_grad()
    def target(self, pixels: Float[Tensor, "B 3 height width"]) -> Float[Tensor, "B T F"]:
        """What the decoder shall predict: each token normalised over its channels, in 3×3 regrouped order.

        The variance is the unbiased one (divided by F − 1), as in the released code.

        Raises:
            InputError: the embedding holds no weights yet.
        """
        return self._target(self.embed(pixels))

    @torch.no_grad()
    def target_of_patches(self, patches: Float[Tensor, "B T p p c"]) -> Float[Tensor, "B T F"]:
        """`target` from patches with pixels in [0, 1]; nothing but them is needed when features are cached.

        Raises:
            InputError: the embedding holds no weights yet.
        """
        return self._target(self.embed_patches(patches))

    def _target(self, tokens: Float[Tensor, "B T F"]) -> Float[Tensor, "B T F"]:
        if not self.weight.any():
            raise InputError(
                "The patch embedding is all zeros: its target would be the same for every image. Take an "
                "encoder's weights first (copy_from_encoder)."
            )
        tokens = tokens.float()
        variance, mean = torch.var_mean(tokens, dim=-1, correction=1, keepdim=True)
        return regroup((tokens - mean) / (variance + EPS).sqrt(), self.grid)

    @torch.no_grad()
    def calibrate(self, pixels: Float[Tensor, "B 3 height width"]) -> None:
        """Remember the typical mean and scale of a token over these images.

        The target has lost each token's own mean and scale. `pictures` puts the typical ones back, so
        brightness and contrast of a patch are those of an average patch: only its structure is evidence.
        """
        tokens = self.embed(pixels)
        self.token_mean.copy_(tokens.mean(dim=-1).mean())
        self.token_std.copy_(tokens.std(dim=-1, correction=1).mean())

    @torch.no_grad()
    def pictures(self, decoded: Float[Tensor, "B T F"]) -> Float[Tensor, "B T p p c"]:
        """Pixels on the scale of [0, 1] (not clipped) from the decoder's output, row-major.

        The regrouping is undone, the typical mean and scale of a token put back (see `calibrate`), the
        convolution inverted by least squares, and the encoder's normalisation undone.
        """
        tokens = ungroup(decoded.to(self.weight.dtype), self.grid) * self.token_std + self.token_mean
        return invert_patch_embedding(self.weight, self.bias, tokens) * self.pixel_std + self.pixel_mean


def invert_patch_embedding(
    weight: Float[Tensor, "F c p p"], bias: Float[Tensor, "F"], tokens: Float[Tensor, "B T F"]
) -> Float[Tensor, "B T p p c"]:
    """The patches whose embedding is closest to these tokens: the pseudo-inverse of the convolution's weight.

    Exact for tokens that a patch gave, when the weight has rank 3·p² (1152 ≥ 588 channels in SigLIP). Tokens
    that were normalised have lost their mean and scale: give them some back first, or read the result up to
    a scale and an offset per patch.

    Args:
        weight: of the patch convolution.
        bias: of the patch convolution.
        tokens: patch embeddings.

    Returns:
        Patches in the units of the convolution's input (the encoder's normalised pixels).
    """
    patch = weight.shape[-1]
    inverse = torch.linalg.pinv(rearrange(weight.double(), "f c h w -> f (h w c)"))
    flat = (tokens.double() - bias.double()) @ inverse.T
    return rearrange(flat, "b t (h w c) -> b t h w c", h=patch, w=patch).to(tokens.dtype)
