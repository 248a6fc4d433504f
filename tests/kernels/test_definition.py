"""The reference is what it says: closed forms, fp64 gradients, and one run equals several."""

import pytest
import torch
from torch.autograd import forward_ad, gradcheck

from emma_viz import kernels

BACKENDS = ("reference", "torch", "cpu")


def double(case):
    """The tensors of a case in fp64, with gradients."""
    return [None if t is None else t.double().requires_grad_() for t in case.tensors]


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_gradients_in_fp64(scan_case, ssd_case, conv_case, backend):
    for case in (scan_case(1, 5, 2, 2), ssd_case(1, 5, 2, 2, 2, 2), conv_case(1, 5, 2, 3)):
        tensors = double(case)
        present = [t for t in tensors if t is not None]

        def call(*values, case=case, tensors=tensors):
            values = iter(values)
            return case.call(*(None if t is None else next(values) for t in tensors), backend=backend)

        assert gradcheck(call, present)


def test_scan_of_constant_inputs_is_a_geometric_series():
    steps, a, b, c, u, delta = 6, -0.7, 0.4, 1.3, 2.0, 0.5
    ones = torch.ones(1, steps, 1, dtype=torch.float64)
    y, state = kernels.selective_scan(
        u * ones,
        delta * ones,
        torch.full((1, 1), a, dtype=torch.float64),
        b * ones,
        c * ones,
        backend="reference",
    )
    decay = torch.tensor(a * delta, dtype=torch.float64).exp()
    expected = delta * b * u * (1 - decay ** torch.arange(1, steps + 1)) / (1 - decay)
    torch.testing.assert_close(y.flatten(), c * expected)
    torch.testing.assert_close(state.flatten(), expected[-1:])


def test_ssd_is_a_scan_whose_heads_share_their_decay(ssd_case):
    case = ssd_case(2, 7, 4, 3, 2, 5)
    x, dt, A, B, C, D, bias, initial = case.tensors
    y, state = case.call(*case.tensors, backend="reference")
    for head in range(4):
        wide = {"delta": dt[:, :, head, None].expand(-1, -1, 3), "A": A[head].expand(3, 5)}
        group = head // 2
        expected, expected_state = kernels.selective_scan(
            x[:, :, head], wide["delta"], wide["A"], B[:, :, group], C[:, :, group], D[head].expand(3),
            delta_bias=bias[head].expand(3), delta_softplus=True, initial_state=initial[:, head], backend="reference",
        )  # fmt: skip
        torch.testing.assert_close(y[:, :, head], expected)
        torch.testing.assert_close(state[:, head], expected_state)


def test_conv_is_a_padded_convolution(conv_case):
    case = conv_case(2, 9, 5, 4, initial=False)
    x, weight, bias, _ = case.tensors
    y, _ = case.call(*case.tensors, backend="reference")
    padded = torch.nn.functional.conv1d(x.transpose(1, 2), weight[:, None], bias, padding=3, groups=5)[
        ..., :9
    ]
    torch.testing.assert_close(y, torch.nn.functional.silu(padded).transpose(1, 2))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cut", [1, 4, 16, 22])
def test_two_halves_with_the_state_handed_over_equal_one_run(scan_case, ssd_case, conv_case, backend, cut):
    length = 23
    for case, along in (
        (scan_case(2, length, 5, 3), (0, 1, 3, 4, 6)),
        (ssd_case(2, length, 4, 3, 2, 5), (0, 1, 3, 4)),
        (conv_case(2, length, 5, 4), (0,)),
    ):
        whole, final = case.call(*case.tensors, backend=backend)
        first = [t[:, :cut] if i in along else t for i, t in enumerate(case.tensors)]
        second = [t[:, cut:] if i in along else t for i, t in enumerate(case.tensors)]
        y1, second[-1] = case.call(*first, backend=backend)
        y2, last = case.call(*second, backend=backend)
        torch.testing.assert_close(torch.cat([y1, y2], dim=1), whole, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(last, final, rtol=1e-5, atol=1e-5)


STEPPING = ("torch", "cpu")


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_changes_no_number(scan_case, ssd_case, conv_case, backend):
    """Kernels accumulate in fp32 where the layers around them compute in bf16."""
    for case in (scan_case(2, 70, 6, 4), ssd_case(2, 70, 4, 3, 2, 5), conv_case(2, 70, 6, 4)):
        found = []
        for autocast in (False, True):
            leaves = [t.clone().requires_grad_() for t in case.tensors]
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                outputs = case.call(*leaves, backend=backend)
            total = torch.stack([o.square().sum() for o in outputs]).sum()
            found.append([*outputs, *torch.autograd.grad(total, leaves)])
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(*found, strict=True))


@pytest.mark.parametrize("backend", STEPPING)
def test_scan_steps_equal_the_scan(scan_case, backend):
    for options in ({}, {"gate": False, "skip": False, "bias": False, "softplus": False}):
        case = scan_case(3, 6, 5, 4, **options)
        u, delta, A, B, C, D, z, bias, state = case.tensors
        expected, final = case.call(*case.tensors, backend="reference")
        before = state.clone()
        for t in range(6):
            y, new = kernels.selective_scan_step(
                state, u[:, t], delta[:, t], A, B[:, t], C[:, t], D, z=None if z is None else z[:, t],
                delta_bias=bias, delta_softplus=options.get("softplus", True), backend=backend,
            )  # fmt: skip
            torch.testing.assert_close(y, expected[:, t])
            if t == 0:
                assert torch.equal(state, before)
            state = new
        torch.testing.assert_close(state, final)


@pytest.mark.parametrize("backend", STEPPING)
def test_ssd_steps_equal_the_ssd(ssd_case, backend):
    for options in ({}, {"skip": False, "bias": False, "softplus": False}):
        case = ssd_case(3, 6, 4, 5, 2, 3, **options)
        x, dt, A, B, C, D, bias, state = case.tensors
        expected, final = case.call(*case.tensors, backend="reference")
        for t in range(6):
            y, state = kernels.ssd_step(
                state, x[:, t], dt[:, t], A, B[:, t], C[:, t], D, dt_bias=bias,
                dt_softplus=options.get("softplus", True), backend=backend,
            )  # fmt: skip
            torch.testing.assert_close(y, expected[:, t])
        torch.testing.assert_close(state, final)


@pytest.mark.parametrize("channels", [2, 2055])
def test_three_threads_share_a_step(scan_case, ssd_case, conv_case, channels, monkeypatch):
    """Also fewer channels than threads. The state is read in place, and written anew."""
    from emma_viz.kernels import cpu

    monkeypatch.setattr(cpu, "_SHARED", 1)
    monkeypatch.setattr(cpu, "thread_count", lambda: 3)
    scan, ssd = scan_case(8, 1, channels, 17), ssd_case(9, 1, channels // 64 + 2, 29, 1, 130)
    u, delta, A, B, C, D, z, bias, state = scan.tensors
    y, new = kernels.selective_scan_step(
        state, u[:, 0], delta[:, 0], A, B[:, 0], C[:, 0], D, z=z[:, 0], delta_bias=bias, delta_softplus=True,
        backend="cpu",
    )  # fmt: skip
    expected, final = scan.call(*scan.tensors, backend="reference")
    torch.testing.assert_close(y, expected[:, 0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(new, final, rtol=1e-5, atol=1e-5)
    x, dt, A, B, C, D, bias, state = ssd.tensors
    y, new = kernels.ssd_step(
        state, x[:, 0], dt[:, 0], A, B[:, 0], C[:, 0], D, dt_bias=bias, dt_softplus=True, backend="cpu"
    )
    expected, final = ssd.call(*ssd.tensors, backend="reference")
    torch.testing.assert_close(y, expected[:, 0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(new, final, rtol=1e-5, atol=1e-5)
    conv = conv_case(3, 1, channels, 4)
    x, weight, bias, state = conv.tensors
    y, new = kernels.causal_conv1d_step(state, x[:, 0], weight, bias, activation="silu", backend="cpu")
    expected, final = conv.call(*conv.tensors, backend="reference")
    torch.testing.assert_close(y, expected[:, 0], rtol=1e-5, atol=1e-5)
    assert torch.equal(new, final)


def test_a_step_with_a_gradient_has_one(scan_case):
    u, delta, A, B, C, D, z, bias, state = scan_case(2, 1, 5, 4).tensors
    rates = A.clone().requires_grad_()
    y, _ = kernels.selective_scan_step(
        state,
        u[:, 0],
        delta[:, 0],
        rates,
        B[:, 0],
        C[:, 0],
        D,
        z=z[:, 0],
        delta_bias=bias,
        delta_softplus=True,
    )
    (gradient,) = torch.autograd.grad(y.sum(), rates)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("taps", [1, 2, 4])
def test_conv_steps_equal_the_conv(conv_case, backend, taps, monkeypatch):
    from emma_viz.kernels import cpu

    calls, step = [], cpu.causal_conv1d_step
    monkeypatch.setattr(cpu, "causal_conv1d_step", lambda *given: calls.append(1) or step(*given))
    case = conv_case(3, 6, 5, taps)
    x, weight, bias, state = case.tensors
    expected, final = case.call(*case.tensors, backend="reference")
    before = state.clone()
    given = state
    for t in range(6):
        y, state = kernels.causal_conv1d_step(
            state, x[:, t], weight, bias, activation="silu", backend=backend
        )
        torch.testing.assert_close(y, expected[:, t])
    torch.testing.assert_close(state, final)
    assert torch.equal(given, before)
    assert len(calls) == (6 if backend == "auto" else 0)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # by torch's own code
def test_a_conv_step_keeps_a_tangent(conv_case):
    x, weight, bias, state = conv_case(3, 1, 5, 4).tensors
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x[:, 0], torch.ones_like(x[:, 0]))
        y, _ = kernels.causal_conv1d_step(state, dual, weight, bias)
        tangent = forward_ad.unpack_dual(y).tangent
    torch.testing.assert_close(tangent, weight[:, -1].expand(3, 5))


def test_a_conv_step_in_bf16_computes_in_fp32(conv_case):
    x, weight, bias, state = (each.bfloat16() for each in conv_case(3, 1, 70, 4).tensors)
    expected, _ = kernels.causal_conv1d_step(
        state, x[:, 0], weight, bias, activation="silu", backend="reference"
    )
    y, after = kernels.causal_conv1d_step(state, x[:, 0], weight, bias, activation="silu")
    assert y.dtype == after.dtype == torch.bfloat16
    torch.testing.assert_close(y, expected, rtol=2**-8, atol=1e-6)
    assert torch.equal(after, torch.cat([state[:, 1:], x], dim=1))
