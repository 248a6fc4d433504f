"""The `cpu` kernels on bf16 give, bit for bit, what they give on the same numbers in fp32, rounded once at the end."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emma_viz import kernels

numba = pytest.importorskip("numba")

HARD = (float("inf"), float("-inf"), float("nan"), 1e-40, -1e-40, 3e38, -3e38, 0.0, -0.0)
SEARCH = settings(max_examples=8, derandomize=True)


@pytest.fixture(autouse=True, params=[1, 2], ids=["one thread", "two threads"])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def assert_same_bits(case):
    """What is a sequence comes in bf16, the parameters and the first state in fp32, as a model has them."""
    tensors = [t if t is None or t.ndim < 3 else t.bfloat16() for t in case.tensors]
    (y, state), expected = case.values("cpu", tensors), case.values("cpu", [_wide(t) for t in tensors])
    assert y.dtype == torch.bfloat16
    for actual, wide in zip((y, state), expected, strict=True):
        torch.testing.assert_close(actual, wide.to(actual.dtype), rtol=0, atol=0, equal_nan=True)


def _wide(tensor):
    return None if tensor is None else tensor.float()


@SEARCH
@given(data=st.data())
def test_scan(scan_case, data):
    sizes = [data.draw(st.integers(1, top)) for top in (3, 40, 130, 20)]
    options = {name: data.draw(st.booleans()) for name in ("gate", "skip", "bias", "softplus", "initial")}
    assert_same_bits(scan_case(*sizes, **options, seed=data.draw(st.integers(0, 99))))


@SEARCH
@given(data=st.data())
def test_ssd(ssd_case, data):
    batch, length, per_group, size, groups, states = (
        data.draw(st.integers(1, top)) for top in (3, 40, 3, 70, 3, 20)
    )
    options = {name: data.draw(st.booleans()) for name in ("skip", "bias", "softplus", "initial")}
    case = ssd_case(
        batch, length, per_group * groups, size, groups, states, **options, seed=data.draw(st.integers(0, 99))
    )
    assert_same_bits(case)


@SEARCH
@given(data=st.data())
def test_conv(conv_case, data):
    sizes = [data.draw(st.integers(1, top)) for top in (3, 40, 130, 6)]
    options = {name: data.draw(st.booleans()) for name in ("bias", "silu", "initial")}
    assert_same_bits(conv_case(*sizes, **options, seed=data.draw(st.integers(0, 99))))


def test_infinities_nan_and_the_ends_of_the_range(scan_case, ssd_case, conv_case):
    for case in (scan_case(2, 30, 70, 4), ssd_case(2, 30, 2, 40, 1, 4), conv_case(2, 30, 70, 4)):
        for number in HARD:
            sequence = case.tensors[0].clone()
            sequence[0, 4:9].flatten()[3:40:5] = number
            assert_same_bits(replace(case, tensors=(sequence, *case.tensors[1:])))


def test_widening_and_rounding_of_every_kind_of_number():
    from emma_viz.kernels.numba.bf16 import held, value

    @numba.njit
    def convert(numbers, out):
        for i in range(out.shape[0]):
            out[i] = held(out, value(numbers[i]))

    bits = np.arange(1 << 16, dtype=np.uint16)
    wide = np.empty(bits.size, np.float32)
    convert(bits, wide)
    expected = torch.from_numpy(bits).view(torch.bfloat16).float()
    torch.testing.assert_close(torch.from_numpy(wide), expected, rtol=0, atol=0, equal_nan=True)
    # Every upper half, with lower halves about the middle, where rounding turns.
    exact = (bits.astype(np.uint32) << 16)[:, None] + np.array(
        [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32
    )
    exact = exact.ravel().view(np.float32)
    narrow = np.empty(exact.size, np.uint16)
    convert(exact, narrow)
    expected = torch.from_numpy(exact).bfloat16()
    torch.testing.assert_close(
        torch.from_numpy(narrow).view(torch.bfloat16), expected, rtol=0, atol=0, equal_nan=True
    )


def test_slices_of_a_projection(scan_case, conv_case):
    u, delta, A, B, C, D, z, bias, _ = scan_case(3, 20, 24, 4).tensors
    wide = torch.cat([u, z, delta, B, C], dim=-1).bfloat16()
    u, z, delta, B, C = wide.split([24, 24, 24, 4, 4], dim=-1)
    options = {"delta_bias": bias, "delta_softplus": True, "backend": "cpu"}
    y, state = kernels.selective_scan(u, delta, A, B, C, D, z=z, **options)
    expected, after = kernels.selective_scan(
        u.float(), delta.float(), A, B.float(), C.float(), D, z=z.float(), **options
    )
    assert torch.equal(y, expected.bfloat16())
    assert torch.equal(state, after)
    for odd in (
        u.transpose(0, 1).contiguous().transpose(0, 1),
        u[:1].expand(3, 20, 24),
        wide[..., ::4],
        u[:, :1],
    ):
        weight = torch.randn(odd.shape[2], 3)
        y, _ = kernels.causal_conv1d(odd, weight, backend="cpu")
        assert torch.equal(y, kernels.causal_conv1d(odd.float(), weight, backend="cpu")[0].bfloat16())


def test_a_sequence_that_is_not_bf16_in_all_parts_is_converted(scan_case):
    u, *others = scan_case(2, 9, 20, 4).tensors
    case = scan_case(2, 9, 20, 4)
    y, _ = case.call(u.bfloat16(), *others, backend="cpu")
    expected, _ = case.call(u.bfloat16().float(), *others, backend="cpu")
    assert torch.equal(y, expected.bfloat16())
