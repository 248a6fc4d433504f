"""The token orders of the released decoder against explicit loops."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emma_viz.errors import InputError
from emma_viz.heads.regroup import block_causal_mask, interleaved, regroup, ungroup

GRIDS = st.tuples(st.integers(1, 4), st.integers(1, 4)).map(lambda pair: (3 * pair[0], 3 * pair[1]))


def numbered(rows: int, columns: int) -> torch.Tensor:
    return torch.arange(rows * columns, dtype=torch.float32)[None, :, None].expand(1, -1, 2)


@given(GRIDS)
def test_regroup_is_row_major_over_groups_then_inside_each(grid):
    rows, columns = grid
    expected = [
        (3 * group_row + row) * columns + 3 * group_column + column
        for group_row in range(rows // 3)
        for group_column in range(columns // 3)
        for row in range(3)
        for column in range(3)
    ]
    assert regroup(numbered(rows, columns), grid)[0, :, 0].tolist() == expected


@given(GRIDS)
def test_ungroup_undoes_regroup(grid):
    tokens = torch.randn(2, grid[0] * grid[1], 3)
    assert torch.equal(ungroup(regroup(tokens, grid), grid), tokens)
    assert torch.equal(regroup(ungroup(tokens, grid), grid), tokens)


@pytest.mark.parametrize("order", [regroup, ungroup])
def test_a_grid_that_is_no_multiple_of_three_is_refused(order):
    with pytest.raises(InputError, match=r"multiples of 3.*16×16"):
        order(torch.zeros(1, 256, 2), (16, 16))
    with pytest.raises(InputError, match="36 tokens; 35 came"):
        order(torch.zeros(1, 35, 2), (6, 6))


def test_slices_alternate_along_the_channel():
    batch, tokens, width, n_slices = 2, 3, 5, 4
    fused = torch.randn(batch, tokens, width * n_slices)
    slices = interleaved(fused, n_slices)
    for n in range(n_slices):
        for b in range(batch):
            for t in range(tokens):
                for channel in range(width):
                    assert slices[n, b, t, channel] == fused[b, t, channel * n_slices + n]
    assert not torch.equal(slices[1], fused[..., width : 2 * width]), "slices must not be blocks of channels"


@pytest.mark.parametrize("grid", [(3, 3), (6, 9), (27, 27)])
def test_a_segment_sees_itself_and_earlier_ones(grid):
    rows, columns = grid
    mask = block_causal_mask(grid)
    expected = torch.zeros(rows * columns, rows * columns, dtype=torch.bool)
    for query_segment in range(rows):
        for key_segment in range(query_segment + 1):
            for query in range(columns):
                for key in range(columns):
                    expected[query_segment * columns + query, key_segment * columns + key] = True
        if grid == (27, 27) and query_segment == 3:
            break  # the loops are slow; the first four segments of the real grid are enough
    kept = slice(0, 4 * columns) if grid == (27, 27) else slice(None)
    assert mask.shape == expected.shape
    assert torch.equal(mask[kept], expected[kept])
