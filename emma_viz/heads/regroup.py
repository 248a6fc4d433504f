"""Token orders of the released decoder: 3×3 regrouping, interleaved slices, the block-causal mask."""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from emma_viz.errors import InputError

_GROUP = 3
"""Side of a group of neighbouring patches."""


def regroup(tokens: Float[Tensor, "B T D"], grid: tuple[int, int]) -> Float[Tensor, "B T D"]:
    """Order the tokens by 3×3 groups: row-major over the groups, then row-major inside each.

    On a 6×6 grid the first nine are tokens 0, 1, 2, 6, 7, 8, 12, 13, 14.

    Raises:
        InputError: rows or columns are no multiple of 3, or do not give the number of tokens.
    """
    rows, columns = _checked(grid, tokens.shape[1])
    pattern = "b (gr r gc c) d -> b (gr gc r c) d"
    return rearrange(tokens, pattern, gr=rows // _GROUP, gc=columns // _GROUP, r=_GROUP, c=_GROUP)


def ungroup(tokens: Float[Tensor, "B T D"], grid: tuple[int, int]) -> Float[Tensor, "B T D"]:
    """Undo `regroup`: back to row-major order over the whole grid.

    Raises:
        InputError: as `regroup`.
    """
    rows, columns = _checked(grid, tokens.shape[1])
    pattern = "b (gr gc r c) d -> b (gr r gc c) d"
    return rearrange(tokens, pattern, gr=rows // _GROUP, gc=columns // _GROUP, r=_GROUP, c=_GROUP)


def interleaved(fused: Float[Tensor, "B T nD"], n_slices: int) -> Float[Tensor, "n B T D"]:
    """The slices of a fused feature: channel c of slice n is channel c·n_slices + n.

    The released code reshapes to (tokens, D, n): the slices alternate along the channel, they are not blocks.
    """
    return rearrange(fused, "b t (d n) -> n b t d", n=n_slices)


def block_causal_mask(grid: tuple[int, int], device: torch.device | None = None) -> Bool[Tensor, "T T"]:
    """Which key each query may see: its own segment and the earlier ones.

    There are R segments of C tokens, each in the order that the sequence has: 27 of 27 in the released code.
    """
    rows, columns = grid
    segment = torch.arange(rows * columns, device=device) // columns
    return segment[:, None] >= segment[None, :]


def _checked(grid: tuple[int, int], n_tokens: int) -> tuple[int, int]:
    rows, columns = grid
    if rows % _GROUP or columns % _GROUP:
        raise InputError(
            "Tokens are regrouped in 3×3 neighbourhoods, so rows and columns must be multiples of 3; this "
            f"grid is {rows}×{columns}. Use the paper form of the decoder for it."
        )
    if rows * columns != n_tokens:
        raise InputError(f"A grid of {rows}×{columns} has {rows * columns} tokens; {n_tokens} came.")
    return rows, columns
