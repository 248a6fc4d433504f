"""The triton backend gives the reference's values and gradients: under Triton's interpreter, or on a GPU."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("triton")
pytestmark = pytest.mark.slow  # the interpreter takes a millisecond a token

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
    assert "256 states take 121360 bytes of shared memory, and this GPU has 101376" in limits(
        "ssd", {"N": 256}
    )
    card.shared_memory_per_block_optin = 166_912
    assert not limits("ssd", {"N": 256})
    assert "at most 256 states" in limits("ssd", {"N": 257})
