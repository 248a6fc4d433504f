"""The gated norm of the `cpu` backend gives what torch's formula gives."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emma_viz import kernels
from emma_viz.errors import BackendError


def norm_of(x, gate, weight, groups, backend, eps=1e-5):
    return kernels.gated_rms_norm(x, gate, weight, groups=groups, eps=eps, backend=backend)


def inputs(batch=2, length=7, inner=24, seed=0):
    rand = torch.Generator().manual_seed(seed)
    x, gate = torch.randn(2, batch, length, inner, generator=rand).unbind()
    return x, gate, torch.randn(inner, generator=rand)


def by_hand(x, gate, weight, groups, eps=1e-5):
    x, gate, weight = x.double(), gate.double(), weight.double()
    gated = (x * gate / (1 + torch.exp(-gate))).unflatten(-1, (groups, -1))
    return (gated / (gated.square().mean(-1, keepdim=True) + eps).sqrt()).flatten(-2) * weight


@settings(max_examples=25, derandomize=True)
@given(data=st.data())
def test_it_gives_the_definition(data):
    batch, length, size, groups = (data.draw(st.integers(1, top)) for top in (3, 9, 90, 4))
    given = inputs(batch, length, size * groups, data.draw(st.integers(0, 99)))
    for backend in ("cpu", "torch"):
        torch.testing.assert_close(
            norm_of(*given, groups, backend).double(), by_hand(*given, groups), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float16, 2e-3)])
def test_half_precision_is_rounded_once(dtype, tolerance):
    x, gate, weight = (t.to(dtype) for t in inputs(inner=640))
    y = norm_of(x, gate, weight, 2, "cpu")
    assert y.dtype == dtype
    torch.testing.assert_close(
        y, norm_of(x.float(), gate.float(), weight, 2, "cpu").to(dtype), rtol=0, atol=0
    )
    torch.testing.assert_close(y.double(), by_hand(x, gate, weight, 2), rtol=tolerance, atol=tolerance)


def test_slices_and_two_threads():
    x, gate, weight = inputs(3, 31, 4096)  # as many as threads share
    wide = torch.cat([gate, x], dim=-1)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        for dtype in (torch.float32, torch.bfloat16):
            z, u = wide.to(dtype).chunk(2, dim=-1)
            actual = norm_of(u, z, weight, 4, "cpu")
            torch.set_num_threads(1)
            assert torch.equal(actual, norm_of(u.contiguous(), z.contiguous(), weight, 4, "cpu"))
            torch.set_num_threads(2)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nan_and_infinity_stay_in_their_own_group_and_token(dtype):
    x, gate, weight = inputs(inner=40)
    for number in (float("nan"), float("inf")):
        hard = x.clone()
        hard[1, 3, 25] = number
        actual, expected = (norm_of(hard.to(dtype), gate.to(dtype), weight, 2, b) for b in ("cpu", "torch"))
        torch.testing.assert_close(
            actual, expected, rtol=2e-2 if dtype != torch.float32 else 1e-5, atol=1e-5, equal_nan=True
        )
        assert actual.isnan().sum() >= 1


def test_numbers_whose_squares_leave_the_range():
    x, gate, weight = inputs()
    for factor in (1e-30, 1e-20, 1e15, 1e22):
        for eps in (1e-5, 1e-12):
            actual, expected = (norm_of(x * factor, gate, weight, 1, b, eps) for b in ("cpu", "torch"))
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)


def test_a_gradient_is_that_of_the_formula():
    results = []
    for backend in ("cpu", "reference"):
        given = [t.clone().requires_grad_() for t in inputs()]
        norm_of(*given, 2, backend).square().sum().backward()
        results.append([t.grad for t in given])
    for actual, expected in zip(*results, strict=True):
        assert torch.equal(actual, expected)


def test_what_cannot_run_is_told_why():
    x, gate, weight = inputs()
    with pytest.raises(BackendError, match="computes in fp32"):
        norm_of(x.double(), gate.double(), weight, 1, "cpu")
