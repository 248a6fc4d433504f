"""The triton backend gives the reference's values and gradients: under Triton's interpreter, or on a GPU."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from emma_viz import kernels
from emma_viz.kernels import reference

pytest.importorskip("triton")
pytestmark = pytest.mark.slow  # the interpreter takes a millisecond a token

PLACE = "cuda" if torch.cuda.is_available() else "cpu"
NOTHING = {"gate": False, "skip": False, "bias": False, "softplus": False, "initial": False, "final": False}


@pytest.mark.parametrize(
    ("sizes", "options"),
    [
        ((1, 34, 5, 3), {}),
        ((2, 1, 33, 16), {}),
        ((1, 6, 32, 4), NOTHING),
        ((2, 5, 3, 20), {"softplus": False, "initial": False}),
        ((1, 7, 3, 1), {"gate": False, "final": False}),
    ],
)
def test_scan(assert_agrees, scan_case, sizes, options):
    assert_agrees(scan_case(*sizes, **options), "triton")


@pytest.mark.parametrize(
    ("sizes", "options"),
    [
        ((1, 1, 1, 1, 1, 1), {}),
        ((2, 33, 4, 6, 2, 5), {}),
        ((1, 64, 2, 64, 1, 32), {}),
        ((1, 71, 3, 33, 3, 17), {"initial": False}),
        ((2, 10, 6, 4, 2, 9), {key: value for key, value in NOTHING.items() if key != "gate"}),
        ((1, 40, 2, 3, 1, 130), {"softplus": False, "final": False}),
    ],
)
def test_ssd(assert_agrees, ssd_case, sizes, options):
    assert_agrees(ssd_case(*sizes, **options), "triton")


@pytest.mark.parametrize(
    ("sizes", "options"),
    [
        ((1, 1, 1, 1), {}),
        ((2, 1, 9, 4), {}),
        ((2, 2, 65, 4), {"initial": False}),
        ((1, 40, 33, 2), {"bias": False, "initial": False}),
        ((3, 12, 5, 7), {"silu": False}),
    ],
)
def test_conv(assert_agrees, conv_case, sizes, options):
    assert_agrees(conv_case(*sizes, **options), "triton")


def test_an_empty_batch(assert_agrees, scan_case, ssd_case, conv_case):
    for case in (scan_case(0, 9, 5, 3), ssd_case(0, 40, 4, 5, 2, 3), conv_case(0, 9, 5, 4)):
        assert_agrees(case, "triton")


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float16, 2e-3)])
def test_half_precision_in_strides_of_its_own(scan_case, ssd_case, conv_case, dtype, tolerance):
    for case in (scan_case(2, 9, 5, 3), ssd_case(2, 40, 4, 5, 2, 3), conv_case(2, 20, 9, 4)):
        # Every second number of a tensor twice as wide: no stride is the one that a kernel would like.
        half = [t.to(dtype).repeat_interleave(2, dim=-1)[..., ::2] for t in case.tensors]
        assert not half[0].is_contiguous()
        y, state = case.values("triton", half)
        expected, expected_state = case.values("reference", [t.float() for t in half])
        assert y.dtype == dtype
        torch.testing.assert_close(y.float(), expected, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(state.float(), expected_state, rtol=tolerance, atol=tolerance)


def test_a_step_that_forgets_and_one_that_does_nothing(scan_case, ssd_case):
    for case in (scan_case(1, 3, 4, 4), ssd_case(1, 3, 2, 4, 1, 4)):
        tensors = list(case.tensors)
        tensors[1] = torch.full_like(tensors[1], -1e4)
        assert torch.equal(case.values("triton", tensors)[1], tensors[-1])
        tensors[1] = torch.full_like(tensors[1], 300.0)
        for actual, expected in zip(
            case.values("triton", tensors), case.values("reference", tensors), strict=True
        ):
            torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-3)


def scan_step(tensors, backend, softplus=True):
    """The first token of a scan's tensors."""
    u, delta, A, B, C, D, z, bias, state = (None if t is None else t.to(PLACE) for t in tensors)
    return kernels.selective_scan_step(
        state, u[:, 0], delta[:, 0], A, B[:, 0], C[:, 0], D, z=None if z is None else z[:, 0],
        delta_bias=bias, delta_softplus=softplus, backend=backend,
    )  # fmt: skip


def ssd_step(tensors, backend, softplus=True):
    """The first token of an SSD's tensors."""
    x, dt, A, B, C, D, bias, state = (None if t is None else t.to(PLACE) for t in tensors)
    return kernels.ssd_step(
        state, x[:, 0], dt[:, 0], A, B[:, 0], C[:, 0], D, dt_bias=bias, dt_softplus=softplus, backend=backend
    )


@pytest.mark.parametrize(
    ("kind", "sizes", "options"),
    [
        ("scan", (1, 1, 1, 1), {}),
        ("scan", (3, 1, 33, 16), {}),
        ("scan", (2, 1, 64, 5), dict.fromkeys(("gate", "skip", "bias", "softplus"), False)),
        ("scan", (0, 1, 5, 3), {}),
        ("ssd", (1, 1, 1, 1, 1, 1), {}),
        ("ssd", (3, 1, 6, 33, 2, 17), {}),
        ("ssd", (2, 1, 4, 64, 4, 128), dict.fromkeys(("skip", "bias", "softplus"), False)),
        ("ssd", (0, 1, 4, 5, 2, 3), {}),
    ],
)
def test_a_token_by_itself(monkeypatch, scan_case, ssd_case, kind, sizes, options):
    case, step = (scan_case, scan_step) if kind == "scan" else (ssd_case, ssd_step)
    tensors = case(*sizes, **options).tensors
    softplus = options.get("softplus", True)
    expected = step(tensors, "reference", softplus)
    with monkeypatch.context() as patch:
        patch.delattr(reference, f"{'selective_scan' if kind == 'scan' else 'ssd'}_step")  # not what runs
        before = tensors[-1].clone()
        actual = step(tensors, "triton", softplus)
    assert torch.equal(tensors[-1], before)
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, e, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float16, 2e-3)])
def test_a_token_by_itself_in_half_precision(scan_case, ssd_case, dtype, tolerance):
    for case, step in ((scan_case(2, 3, 9, 4), scan_step), (ssd_case(2, 3, 4, 5, 2, 3), ssd_step)):
        *inputs, state = case.tensors
        half = [t.to(dtype).repeat_interleave(2, dim=-1)[..., ::2] for t in inputs]
        y, new = step([*half, state], "triton")
        expected, final = step([*(t.float() for t in half), state], "reference")
        assert (y.dtype, new.dtype) == (dtype, torch.float32)
        torch.testing.assert_close(y.float(), expected, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(new, final, rtol=1e-5, atol=1e-5)


def test_a_token_that_does_nothing_leaves_the_state(scan_case, ssd_case):
    for case, step in ((scan_case(1, 1, 4, 4), scan_step), (ssd_case(1, 1, 2, 4, 1, 4), ssd_step)):
        tensors = list(case.tensors)
        tensors[1] = torch.full_like(tensors[1], -1e4)
        assert torch.equal(step(tensors, "triton")[1].cpu(), tensors[-1])


def test_the_gradient_of_ssd_keeps_its_digits_where_it_cancels(ssd_case):
    case = ssd_case(1, 76, 1, 1, 1, 7, skip=False, bias=False, seed=32)
    double = replace(
        case,
        tensors=tuple(None if t is None else t.double() for t in case.tensors),
        weights=tuple(None if t is None else t.double() for t in case.weights),
    )
    actual, expected = case.run("triton")[1][2], double.run("reference")[1][2]  # of A
    assert float((actual - expected).abs() / expected.abs()) < 1e-5


def test_many_states_are_left_to_torch_where_a_card_lacks_shared_memory(monkeypatch):
    from emma_viz.kernels.triton.backend import limits

    card = SimpleNamespace(shared_memory_per_block_optin=101_376)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    assert not limits("ssd", {"N": 128})
    assert "256 states take 121616 bytes of shared memory, and this GPU has 101376" in limits(
        "ssd", {"N": 256}
    )
    card.shared_memory_per_block_optin = 166_912
    assert not limits("ssd", {"N": 256})
    assert "at most 256 states" in limits("ssd", {"N": 257})
