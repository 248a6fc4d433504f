"""`is_finite` finds a number that is none wherever it stands."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emma_viz.finite import is_finite

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@given(data=st.data())
def test_one_number_among_others(data):
    dtype = data.draw(st.sampled_from(FLOATS))
    shape = data.draw(st.sampled_from([(1,), (7,), (3, 33), (2, 5, 70), (4099,)]))
    values = (
        torch.randn(shape, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 9)))) * 100
    ).to(dtype)
    if data.draw(st.booleans()):
        values = values.mT if values.ndim > 1 else values.flip(0)
    assert is_finite(values)
    at = tuple(data.draw(st.integers(0, size - 1)) for size in values.shape)
    values[at] = data.draw(st.sampled_from([float("nan"), float("inf"), float("-inf")]))
    assert not is_finite(values)


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_greatest_numbers_of_a_type_are_finite(dtype):
    most = torch.finfo(dtype).max
    assert is_finite(torch.tensor([most, -most, torch.finfo(dtype).tiny, 0.0], dtype=dtype))
    assert is_finite(torch.empty(0, 3, dtype=dtype))


def test_what_has_no_order_and_what_wants_a_gradient():
    assert is_finite(torch.ones(2, dtype=torch.uint16))
    assert is_finite(torch.ones(2, dtype=torch.bool))
    assert not is_finite(torch.tensor([complex("nan"), 1j]))
    assert is_finite(torch.nn.Parameter(torch.ones(2)))
