"""Cross-attention from one set of tokens to another: the part that Table 7 of the EMMA paper calls CA."""

from typing import Literal

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from emma_viz.errors import InputError
from emma_viz.kernels.reference import without_autocast

Attention = Literal["softmax", "linear"]
"""How a query weighs the context; "linear" is the paper's ablation LA."""


class CrossAttention(nn.Module):
    """Multi-head attention: queries from one sequence, keys and values from another of the same width.

    Three linear layers with biases (q, kv, proj): 4·D² + 4·D parameters, 26.2M at D = 2560. Softmax and
    linear attention have the same parameters, so they start from the same weights under the same seed.

    Args:
        width: D of queries and context.
        n_heads: heads that the width is split into.
        kind: "softmax", or "linear" (see `linear_attention`).
    """

    def __init__(self, width: int, n_heads: int, kind: Attention = "softmax"):
        super().__init__()
        self.n_heads, self.kind = n_heads, kind
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(
        self,
        queries: Float[Tensor, "B Q D"],
        context: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "Q T"] | None = None,
    ) -> Float[Tensor, "B Q D"]:
        """Attend.

        Args:
            mask: True where a query may look at a context token; None lets every query see all of them.

        Raises:
            InputError: a mask is given to linear attention.
        """
        q = rearrange(self.q(queries), "b q (h d) -> b h q d", h=self.n_heads)
        k, v = rearrange(self.kv(context), "b t (two h d) -> two b h t d", two=2, h=self.n_heads)
        if self.kind == "softmax":
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        elif mask is None:
            mixed = linear_attention(q, k, v)
        else:
            raise InputError(
                "Linear attention sums the whole context once for all queries and takes no mask; use softmax "
                "attention where some tokens must be hidden."
            )
        return self.proj(rearrange(mixed, "b h q d -> b q (h d)"))


def linear_attention(
    q: Float[Tensor, "B H Q d"], k: Float[Tensor, "B H T d"], v: Float[Tensor, "B H T d"]
) -> Float[Tensor, "B H Q d"]:
    """Attention whose weights are φ(q)·φ(k) in place of exp(q·k/√d): linear in the number of tokens.

    out_i = φ(q_i)ᵀ Σ_j φ(k_j) v_jᵀ / φ(q_i)ᵀ Σ_j φ(k_j), φ(x) = elu(x) + 1
    (Katharopoulos et al. 2020, "Transformers are RNNs", Eq. 5 and 7, without a mask; queries are not scaled).
    The weights are positive and add up to 1 for each query. The sums are in fp32, whatever the inputs' type and under
    autocast, too.
    """
    weights_q, weights_k = _positive(q.float()), _positive(k.float())
    with without_autocast(q.device):
        summary = einsum(weights_k, v.float(), "b h t d, b h t e -> b h d e")
        mixed = einsum(weights_q, summary, "b h q d, b h d e -> b h q e")
        total = einsum(weights_q, weights_k.sum(dim=2), "b h q d, b h d -> b h q")
    return (mixed / total[..., None].clamp(min=1e-30)).to(v.dtype)


def _positive(x: Float[Tensor, "*axes d"]) -> Float[Tensor, "*axes d"]:
    """elu(x) + 1 without the subtraction, which rounds to 0 below −17 in fp32 and would divide 0 by 0."""
    return torch.where(x > 0, x + 1, x.clamp(max=0).exp())
