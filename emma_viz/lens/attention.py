"""Cross-attention from one set of tokens to another: the part that Table 7 of the EMMA paper calls CA."""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn


class CrossAttention(nn.Module):
    """Multi-head attention: queries from one sequence, keys and values from another of the same width.

    Three linear layers with biases (q, kv, proj): 4·D² + 4·D parameters, 26.2M at D = 2560.
    """

    def __init__(self, width: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
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
        """
        q = rearrange(self.q(queries), "b q (h d) -> b h q d", h=self.n_heads)
        k, v = rearrange(self.kv(context), "b t (two h d) -> two b h t d", two=2, h=self.n_heads)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.proj(rearrange(mixed, "b h q d -> b q (h d)"))
