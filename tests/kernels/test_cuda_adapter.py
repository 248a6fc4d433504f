"""The cuda adapter against stand-ins with the signatures and the layouts of mamba_ssm and causal_conv1d."""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch.nn import functional

from emma_viz.errors import BackendError
from emma_viz.kernels import backends, cuda, reference


class ChannelFirstScan(torch.autograd.Function):
    """mamba_ssm's scan: `B E L`, parameters in fp32, no initial state, no gradient through the last state."""

    @staticmethod
    def forward(ctx, u, delta, A, B, C, D, z, delta_bias, delta_softplus):
        assert u.shape == delta.shape
        assert u.dtype == delta.dtype == B.dtype == C.dtype
        assert A.dtype == torch.float32
        assert B.shape == C.shape == (u.shape[0], A.shape[1], u.shape[2])
        assert all(t is None or t.dtype == torch.float32 for t in (D, delta_bias))
        inputs = [
            None if t is None else t.detach().requires_grad_() for t in (u, delta, A, B, C, D, z, delta_bias)
        ]
        with torch.enable_grad():
            y, last = recurrence(*inputs, delta_softplus)
        ctx.inputs, ctx.y = inputs, y
        return y.detach(), last.detach()

    @staticmethod
    def backward(ctx, g, _):
        present = [t for t in ctx.inputs if t is not None]
        gradients = iter(torch.autograd.grad(ctx.y, present, g))
        return *(None if t is None else next(gradients) for t in ctx.inputs), None


def recurrence(u, delta, A, B, C, D, z, delta_bias, delta_softplus):
    """The scan as the paper writes it, with channels first."""
    step = delta.float()
    if delta_bias is not None:
        step = step + delta_bias[:, None]
    if delta_softplus:
        step = functional.softplus(step)
    state, outputs = torch.zeros(u.shape[0], *A.shape), []
    for t in range(u.shape[2]):
        inflow = (step[:, :, t] * u[:, :, t].float())[..., None] * B[:, None, :, t].float()
        state = torch.exp(step[:, :, t, None] * A) * state + inflow
        outputs.append((state * C[:, None, :, t].float()).sum(-1))
    y = torch.stack(outputs, dim=2)
    if D is not None:
        y = y + D[:, None] * u.float()
    if z is not None:
        y = y * functional.silu(z.float())
    return y.to(u.dtype), state


def selective_scan_fn(
    u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False
):
    y, last = ChannelFirstScan.apply(u, delta, A, B, C, D, z, delta_bias, delta_softplus)
    return (y, last) if return_last_state else y


def mamba_chunk_scan_combined(
    x, dt, A, B, C, chunk_size, D=None, z=None, dt_bias=None, initial_states=None, seq_idx=None, cu_seqlens=None,
    dt_softplus=False, dt_limit=(0.0, float("inf")), return_final_states=False,
):  # fmt: skip
    assert x.dtype == B.dtype == C.dtype
    heads, groups = x.shape[2], B.shape[2]
    B, C = (m.float().repeat_interleave(heads // groups, dim=2) for m in (B, C))
    step = dt.float() if dt_bias is None else dt.float() + dt_bias
    step = functional.softplus(step) if dt_softplus else step
    state = torch.zeros(*x.shape[::2], x.shape[3], B.shape[3]) if initial_states is None else initial_states
    outputs = []
    for t in range(x.shape[1]):
        inflow = torch.einsum("bhp,bhn->bhpn", step[:, t, :, None] * x[:, t].float(), B[:, t])
        state = torch.exp(step[:, t] * A)[..., None, None] * state + inflow
        outputs.append(torch.einsum("bhpn,bhn->bhp", state, C[:, t]))
    y = torch.stack(outputs, dim=1)
    if D is not None:
        y = y + D[:, None] * x.float()
    return (y.to(x.dtype), state) if return_final_states else y.to(x.dtype)


def causal_conv1d_fn(
    x, weight, bias=None, seq_idx=None, initial_states=None, return_final_states=False, final_states_out=None,
    activation=None,
):  # fmt: skip
    batch, width, _ = x.shape
    taps = weight.shape[1]
    assert x.stride(1) == 1, "initial states need the channel-last layout"
    assert x.stride(0) % 8 == x.stride(2) % 8 == 0, "the channel-last layout needs strides of multiples of 8"
    assert initial_states is None or initial_states.stride(1) == 1
    before = torch.zeros(batch, width, taps - 1) if initial_states is None else initial_states
    assert before.shape == (batch, width, taps - 1)
    y = functional.conv1d(torch.cat([before, x], dim=2), weight[:, None], bias, groups=width)
    return functional.silu(y) if activation == "silu" else y


@pytest.fixture
def stand_ins(monkeypatch):
    """Modules in the places where the adapter looks for the compiled kernels."""
    modules = {
        "selective_scan_cuda": {},
        "mamba_ssm": {},
        "mamba_ssm.ops": {},
        "mamba_ssm.ops.selective_scan_interface": {"selective_scan_fn": selective_scan_fn},
        "mamba_ssm.ops.triton": {},
        "mamba_ssm.ops.triton.ssd_combined": {"mamba_chunk_scan_combined": mamba_chunk_scan_combined},
        "causal_conv1d": {"causal_conv1d_fn": causal_conv1d_fn},
    }
    for name, content in modules.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def on_cuda(monkeypatch, stand_ins):
    """Send every call to the adapter, although the tensors are on the CPU."""
    modules, asked = {"cpu": cuda, "reference": reference}, set()

    def module(name):
        asked.add(name)
        return modules[name]

    monkeypatch.setattr("emma_viz.kernels.api.backend_module", module)
    yield
    assert "cpu" in asked  # or it was not the adapter that was tested


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gate": False},
        {"skip": False, "bias": False},
        {"initial": False},
        {"final": False},
        {"softplus": False},
    ],
    ids=str,
)
def test_scan(on_cuda, assert_agrees, scan_case, options):
    assert_agrees(scan_case(2, 13, 5, 4, **options), "cpu")


@pytest.mark.parametrize("options", [{}, {"skip": False, "bias": False}, {"initial": False}], ids=str)
def test_ssd(on_cuda, assert_agrees, ssd_case, options):
    assert_agrees(ssd_case(2, 13, 4, 5, 2, 3, **options), "cpu")


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"initial": False}, {"silu": False}], ids=str)
def test_conv(on_cuda, assert_agrees, conv_case, options):
    assert_agrees(conv_case(2, 13, 8, 4, **options), "cpu")


@pytest.mark.parametrize(("batch", "length"), [(2, 13), (1, 13), (2, 1), (1, 1)])
def test_conv_of_columns_between_others(on_cuda, conv_case, batch, length):
    """As in Mamba-2, whose in_proj gives the gate, what is convolved, and a step size a head."""
    case = conv_case(batch, length, 8, 4)
    columns = torch.randn(batch, length, 8 + 8 + 7)[..., 8:16]
    tensors = [columns, *case.tensors[1:]]
    for found, expected in zip(case.values("cpu", tensors), case.values("reference", tensors), strict=True):
        torch.testing.assert_close(found, expected)


def test_mixed_precision(on_cuda, scan_case, ssd_case, conv_case):
    """Inputs in bf16, steps and parameters in fp32: the kernels want one dtype for all inputs."""
    for case in (scan_case(2, 9, 8, 4), scan_case(2, 9, 8, 4, initial=False), ssd_case(2, 9, 2, 8, 1, 4)):
        tensors = [
            t if i == 1 or t is None or t.ndim < 3 else t.bfloat16() for i, t in enumerate(case.tensors)
        ]
        y, state = case.call(*tensors, backend="cpu")
        expected, expected_state = case.call(
            *(None if t is None else t.float() for t in tensors), backend="reference"
        )  # fmt: skip
        assert y.dtype == torch.bfloat16
        assert state.dtype == torch.float32
        torch.testing.assert_close(y.float(), expected, rtol=3e-2, atol=3e-2)
        torch.testing.assert_close(state, expected_state, rtol=3e-2, atol=3e-2)


def test_the_scan_extension_itself_is_probed(monkeypatch, stand_ins, forget):
    """mamba_ssm may import although it was built without the Mamba-1 kernel."""
    assert cuda.missing("selective_scan") == ""
    monkeypatch.setitem(sys.modules, "selective_scan_cuda", None)
    forget()
    assert "selective_scan_cuda" in cuda.missing("selective_scan")
    assert "pip install 'emma-viz[cuda]'" in cuda.missing("selective_scan")
    assert cuda.missing("ssd") == ""
    monkeypatch.delattr(sys.modules["causal_conv1d"], "causal_conv1d_fn")
    assert "no causal_conv1d_fn" in cuda.missing("causal_conv1d")


@pytest.mark.parametrize("otherwise", ["triton", "torch"])
def test_choice_on_a_gpu(monkeypatch, stand_ins, forget, otherwise):
    """mamba_ssm's compiled kernel where it is there, else triton, which comes with torch's CUDA builds."""

    def resolve(kernel, requested="auto", **sizes):
        return backends.resolve_backend("cuda", torch.float16, requested, kernel=kernel, sizes=sizes or None)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    found = ModuleSpec("triton", None) if otherwise == "triton" else None
    monkeypatch.setattr(
        backends.importlib.util, "find_spec", lambda name: found if name == "triton" else None
    )
    monkeypatch.setattr("emma_viz.kernels.backends.backend_module", lambda name: modules[name])
    modules = {"cuda": cuda, "triton": SimpleNamespace(limits=lambda kernel, sizes: "", start=lambda: "")}
    assert [resolve(kernel) for kernel in backends.KERNELS] == ["cuda"] * 3
    assert resolve("causal_conv1d", K=4, E=64) == "cuda"
    assert resolve("causal_conv1d", K=4, E=65) == otherwise
    assert resolve("causal_conv1d", K=5, E=64) == otherwise
    assert resolve("selective_scan", N=257) == otherwise
    with pytest.raises(BackendError, match="multiples of 8 channels, not 65"):
        resolve("causal_conv1d", "cuda", K=4, E=65)
    monkeypatch.setitem(sys.modules, "selective_scan_cuda", None)
    forget()
    assert resolve("selective_scan") == otherwise
    assert resolve("ssd") == "cuda"
    available = backends.available_backends()["cuda"]
    assert available.startswith("available: ssd, causal_conv1d; selective_scan: ")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kernel", backends.KERNELS)
def test_on_a_gpu(kernel, scan_case, ssd_case, conv_case):
    if cuda.missing(kernel):
        pytest.skip(cuda.missing(kernel))
    sizes = {
        "selective_scan": (2, 300, 64, 16),
        "ssd": (2, 300, 4, 64, 1, 64),
        "causal_conv1d": (2, 300, 64, 4),
    }
    case = {"selective_scan": scan_case, "ssd": ssd_case, "causal_conv1d": conv_case}[kernel](*sizes[kernel])
    y, state = case.call(*(t.cuda() for t in case.tensors), backend="cuda")
    expected, expected_state = case.call(*case.tensors, backend="reference")
    torch.testing.assert_close(y.cpu(), expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(state.cpu(), expected_state, rtol=1e-3, atol=1e-3)
    leaves = [t.cuda().requires_grad_() for t in case.tensors]
    torch.autograd.backward(case.call(*leaves, backend="cuda"), [w.cuda() for w in case.weights])
    for leaf, gradient in zip(leaves, case.run("reference")[1], strict=True):
        # mamba_ssm's SSD multiplies in tf32.
        torch.testing.assert_close(leaf.grad.cpu(), gradient, rtol=0, atol=1e-2 * float(gradient.abs().max()))
