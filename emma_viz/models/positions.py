"""Resampling of learned position tables to another token grid."""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, cat
from torch.nn import functional

from emma_viz.errors import InputError
from emma_viz.models.ranges import Grid


def resample_positions(
    table: Float[Tensor, "n D"], source: Grid, target: Grid, *, prefix: int = 0
) -> Float[Tensor, "m D"]:
    """Resample a position table from one patch grid to another: bicubic, antialiased, in fp32.

    The same arithmetic as timm's `resample_abs_pos_embed`, which the released models were trained with.
    DINOv2's 37×37 table becomes 27×27 this way, once, when its weights are loaded.

    Args:
        table: `prefix` rows that belong to no patch (class token), then one row a patch, row-major.
        source: rows and columns the table was learned on.
        target: rows and columns wanted.
        prefix: rows to keep as they are.

    Returns:
        The table for `target`, in the type of `table`; the very same tensor when the grids are equal.

    Raises:
        InputError: the table's length is not prefix + source rows × columns.
    """
    expected = prefix + source[0] * source[1]
    if table.shape[0] != expected:
        raise InputError(
            f"Expected a position table of {prefix} + {source[0]}×{source[1]} = {expected} rows, "
            f"got {table.shape[0]}."
        )
    if source == target:
        return table
    plane = rearrange(table[prefix:].float(), "(R C) D -> 1 D R C", R=source[0])
    plane = functional.interpolate(plane, size=target, mode="bicubic", antialias=True, align_corners=False)
    patches = rearrange(plane, "1 D R C -> (R C) D").to(table.dtype)
    return cat([table[:prefix], patches])
