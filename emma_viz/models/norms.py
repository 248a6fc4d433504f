"""Root-mean-square norms of the Mamba models, computed in fp32, and any norm of states in fp32."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from emma_viz.kernels import gated_rms_norm


class RMSNorm(nn.Module):
    """x / rms(x) · weight over the last axis, in fp32, returned in the weight's type."""

    def __init__(self, width: int, *, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Float[Tensor, "*axes D"]) -> Float[Tensor, "*axes D"]:
        """The channels of each token over their root mean square, times the weight; computed in float32."""
        normed = functional.rms_norm(x.float(), self.weight.shape, self.weight.float(), self.eps)
        return normed.to(self.weight.dtype)


class GatedRMSNorm(nn.Module):
    """RMS norm of x · silu(z) within each of `groups` equal parts of the channels (Mamba-2).

    The gate comes before the norm, as in `mamba_ssm`'s `RMSNormGated(norm_before_gate=False)`.
    """

    def __init__(self, width: int, *, groups: int, eps: float, backend: str = "auto"):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.groups, self.eps, self.backend = groups, eps, backend

    def forward(self, x: Float[Tensor, "B L E"], gate: Float[Tensor, "B L E"]) -> Float[Tensor, "B L E"]:
        """Gate, then norm; computed in float32, given back in the type of `x`."""
        return gated_rms_norm(x, gate, self.weight, groups=self.groups, eps=self.eps, backend=self.backend)


def normed_wide(norm: nn.Module, states: Float[Tensor, "*axes D"]) -> Float[Tensor, "*axes D"]:
    """A norm of states in fp32, whatever type its weights have: PyTorch's layer norm takes one type alone.

    Args:
        norm: of a language model, ours or transformers'.
        states: fp32.
    """
    if not isinstance(norm, nn.LayerNorm):
        return norm(states)
    weight, bias = (None if each is None else each.float() for each in (norm.weight, norm.bias))
    return functional.layer_norm(states, norm.normalized_shape, weight, bias, norm.eps)
