"""Dtypes, strides, threads and hard numbers, as real models bring them."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from emma_viz import kernels

BACKENDS = ("torch", "cpu")


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float16, 2e-3)])
def test_half_precision_keeps_the_dtype_and_accumulates_in_fp32(
    scan_case, ssd_case, conv_case, backend, dtype, tolerance
):
    for case in (scan_case(2, 40, 9, 4), ssd_case(2, 40, 4, 5, 2, 3), conv_case(2, 40, 9, 4)):
        half = [t.to(dtype) for t in case.tensors]
        y, state = case.call(*half, backend=backend)
        expected, expected_state = case.call(*(t.float() for t in half), backend="reference")
        assert y.dtype == dtype
        # The only rounding is that of the output, so the error does not grow along the sequence.
        torch.testing.assert_close(y.float(), expected, rtol=tolerance, atol=tolerance)
        if state.dtype == torch.float32:
            torch.testing.assert_close(state, expected_state, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_come_in_the_dtypes_of_the_tensors(scan_case, ssd_case, conv_case, backend):
    for case in (scan_case(), ssd_case(), conv_case()):
        # Inputs in bf16 and parameters in fp32, as a model in mixed precision has them.
        inputs = [(t.bfloat16() if t.ndim > 2 else t.clone()).requires_grad_() for t in case.tensors]
        case.call(*inputs, backend=backend)[0].sum().backward()
        assert [t.grad.dtype for t in inputs] == [t.dtype for t in inputs]


@pytest.mark.parametrize("backend", BACKENDS)
def test_slices_of_a_projection_need_not_be_contiguous(scan_case, conv_case, assert_agrees, backend):
    case = scan_case(3, 20, 8, 4, initial=False)
    u, delta, A, B, C, D, z, bias, _ = case.tensors
    wide = torch.cat([u, z, delta, B, C], dim=-1)
    u2, z2, delta2, B2, C2 = wide.split([8, 8, 8, 4, 4], dim=-1)
    settings = {"delta_bias": bias, "delta_softplus": True, "backend": backend}
    expected = kernels.selective_scan(u, delta, A, B, C, D, z=z, **settings)
    actual = kernels.selective_scan(u2, delta2, A, B2, C2, D, z=z2, **settings)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e)
    # Rows in an order of their own, repeated rows, and strides along the channels.
    for odd in (u.transpose(0, 1).contiguous().transpose(0, 1), u[:1].expand(3, 20, 8), wide[..., ::4]):
        weight = torch.ones(8, 3)
        actual, _ = kernels.causal_conv1d(odd, weight, backend=backend)
        torch.testing.assert_close(
            actual, kernels.causal_conv1d(odd.contiguous(), weight, backend="reference")[0]
        )


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gradient_that_is_an_expanded_scalar(scan_case, ssd_case, conv_case, backend):
    for case in (scan_case(), ssd_case(), conv_case()):
        gradients = []
        for name in ("reference", backend):
            tensors = [t.clone().requires_grad_() for t in case.tensors]
            case.call(*tensors, backend=name)[0].sum().backward()
            gradients.append([t.grad for t in tensors])
        for expected, actual in zip(*gradients, strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_memory_is_kept_without_gradients(scan_case, backend):
    case = scan_case()
    with torch.no_grad():
        y, state = case.call(*(t.clone().requires_grad_() for t in case.tensors), backend=backend)
    assert y.grad_fn is None
    assert state.grad_fn is None


@pytest.mark.parametrize("backend", BACKENDS)
def test_large_and_vanishing_steps(scan_case, ssd_case, backend):
    """A huge step forgets, a step of −10⁴ before softplus leaves the state alone; neither makes a NaN."""
    for case, states in ((scan_case(1, 3, 20, 4), (1, 20, 4)), (ssd_case(1, 3, 2, 20, 1, 4), (1, 2, 20, 4))):
        tensors = list(case.tensors)
        state = tensors[-1]
        assert state.shape == states
        tensors[1] = torch.full_like(tensors[1], -1e4)
        _, final = case.call(*tensors, backend=backend)
        assert torch.equal(final, state)
        tensors[1] = torch.full_like(tensors[1], 300.0)
        outputs = case.call(*tensors, backend=backend)
        for actual, expected in zip(outputs, case.call(*tensors, backend="reference"), strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_is_not_swallowed(scan_case, ssd_case, conv_case, backend):
    for case in (scan_case(1, 6, 40, 3), ssd_case(1, 6, 2, 20, 1, 3), conv_case(1, 6, 40, 4)):
        tensors = [t.clone() for t in case.tensors]
        tensors[0][0, 3].flatten()[7] = float("nan")
        y, _ = case.call(*tensors, backend=backend)
        bad = y.flatten(2)[0, :, 7].isnan()
        # Nothing is said of the tokens before: a chunk's matrix product multiplies them by zero.
        assert bad[3:].all()
        assert not y.flatten(2)[0, :, 8].isnan().any()


def test_cpu_kernels_follow_torchs_threads(scan_case, ssd_case, conv_case, assert_agrees):
    from emma_viz.kernels.numba import threads as numba_threads

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert numba_threads.thread_count() == 2
        for case in (scan_case(3, 30, 130, 4), ssd_case(3, 30, 4, 40, 2, 3), conv_case(3, 30, 130, 4)):
            assert_agrees(case, "cpu")
    finally:
        torch.set_num_threads(before)
    assert numba_threads.thread_count() == before


def test_the_first_kernel_leaves_torchs_threads_alone():
    code = """
import sys, torch
from emma_viz import kernels
torch.set_num_threads(1)
kernels.causal_conv1d(torch.ones(1, 3, 5), torch.ones(5, 2), backend="cpu")
sys.exit(torch.get_num_threads() - 1)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_cpu_kernels_run_from_several_threads_at_once(scan_case, ssd_case):
    cases = [
        make(2, 50, *sizes, seed=seed)
        for seed in range(4)
        for make, sizes in ((scan_case, (20, 4)), (ssd_case, ()))
    ]
    expected = [case.run("cpu") for case in cases]
    with ThreadPoolExecutor(4) as pool:
        actual = list(pool.map(lambda case: case.run("cpu"), cases * 3))
    for (values, gradients), (right, right_gradients) in zip(actual, expected * 3, strict=True):
        for a, e in zip(values + gradients, right + right_gradients, strict=True):
            assert torch.equal(a, e)


@pytest.mark.slow
def test_a_forked_process_has_threads_of_its_own():
    """A data loader forks after kernels ran: the threads that ran them are not in the child."""
    code = """
import os, torch
from emma_viz import kernels
torch.set_num_threads(2)
def run():
    return kernels.causal_conv1d(torch.ones(4, 9, 500), torch.ones(500, 2), backend="cpu")[0].sum().item()
expected = run()
child = os.fork()
if child == 0:
    os._exit(run() != expected)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0
