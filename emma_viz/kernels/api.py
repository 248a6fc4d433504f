"""The kernels over whole sequences: checks, the choice of a backend, the call."""

from types import ModuleType

import torch
from jaxtyping import Float
from torch import Tensor

from emma_viz.errors import InputError
from emma_viz.kernels import reference
from emma_viz.kernels.backends import backend_module, resolve_backend, wants_gradient
from emma_viz.kernels.checks import check_activation, check_groups, check_not_empty, check_rank, check_shapes


def selective_scan(
    u: Float[Tensor, "B L E"],
    delta: Float[Tensor, "B L E"],
    A: Float[Tensor, "E N"],
    B: Float[Tensor, "B L N"],
    C: Float[Tensor, "B L N"],
    D: Float[Tensor, " E"] | None = None,
    *,
    z: Float[Tensor, "B L E"] | None = None,
    delta_bias: Float[Tensor, " E"] | None = None,
    delta_softplus: bool = False,
    initial_state: Float[Tensor, "B E N"] | None = None,
    backend: str = "auto",
) -> tuple[Float[Tensor, "B L E"], Float[Tensor, "B E N"]]:
    """Mamba-1 selective scan (Gu and Dao 2023, Algorithm 2), zero-order hold for A and Euler for B as released.

    h_t = exp(Δ_t A) h_{t-1} + Δ_t B_t u_t;  y_t = C_t·h_t + D u_t;  with z: y_t silu(z_t).
    Differentiable once in every tensor.

    Args:
        u: inputs, channels last.
        delta: step sizes before bias and softplus.
        A: decay rates, negative in a trained model.
        B, C: input and output vectors, shared by all channels.
        D: skip weight a channel.
        z: gate.
        delta_bias: added to delta.
        delta_softplus: whether softplus follows.
        initial_state: the state before the first token; zeros by default.
        backend: "auto", "reference", "torch", "cpu", "cuda" or "triton".

    Returns:
        y in u's dtype, and the state after the last token in fp32 (fp64 for fp64 inputs).

    Raises:
        InputError: a tensor's shape does not fit the others.
        BackendError: the requested backend cannot run here.
    """
    check_rank("selective_scan", "u", u, "B L E")
    check_rank("selective_scan", "A", A, "E N")
    sizes = {**dict(zip("BLE", u.shape, strict=True)), "N": A.shape[1]}
    expected = {
        "u": (u, "B L E"), "delta": (delta, "B L E"), "A": (A, "E N"), "B": (B, "B L N"), "C": (C, "B L N"),
        "D": (D, "E"), "z": (z, "B L E"), "delta_bias": (delta_bias, "E"), "initial_state": (initial_state, "B E N"),
    }  # fmt: skip
    check_shapes("selective_scan", sizes, expected)
    check_not_empty("selective_scan", sizes["L"])
    module = _backend(u, backend, "selective_scan", sizes)
    with reference.without_autocast(u.device):
        return module.selective_scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus, initial_state)


def ssd(
    x: Float[Tensor, "B L H P"],
    dt: Float[Tensor, "B L H"],
    A: Float[Tensor, " H"],
    B: Float[Tensor, "B L G N"],
    C: Float[Tensor, "B L G N"],
    D: Float[Tensor, " H"] | None = None,
    *,
    dt_bias: Float[Tensor, " H"] | None = None,
    dt_softplus: bool = False,
    initial_state: Float[Tensor, "B H P N"] | None = None,
    backend: str = "auto",
) -> tuple[Float[Tensor, "B L H P"], Float[Tensor, "B H P N"]]:
    """Mamba-2 state space duality (Dao and Gu 2024): one decay rate and one step size a head.

    h_t = exp(Δ_t A) h_{t-1} + Δ_t x_t ⊗ B_t;  y_t = h_t C_t + D x_t. Differentiable once in every tensor.

    Args:
        x: inputs by head.
        dt: step sizes before bias and softplus.
        A: decay rate a head, negative in a trained model.
        B, C: input and output vectors of G groups; heads g·H/G … (g+1)·H/G − 1 belong to group g.
        D: skip weight a head.
        dt_bias: added to dt.
        dt_softplus: whether softplus follows.
        initial_state: the state before the first token; zeros by default.
        backend: "auto", "reference", "torch", "cpu", "cuda" or "triton".

    Returns:
        y in x's dtype, and the state after the last token in fp32 (fp64 for fp64 inputs).

    Raises:
        InputError: a tensor's shape does not fit the others.
        BackendError: the requested backend cannot run here.
    """
    check_rank("ssd", "x", x, "B L H P")
    check_rank("ssd", "B", B, "B L G N")
    sizes = {**dict(zip("BLHP", x.shape, strict=True)), "G": B.shape[2], "N": B.shape[3]}
    expected = {
        "x": (x, "B L H P"), "dt": (dt, "B L H"), "A": (A, "H"), "B": (B, "B L G N"), "C": (C, "B L G N"),
        "D": (D, "H"), "dt_bias": (dt_bias, "H"), "initial_state": (initial_state, "B H P N"),
    }  # fmt: skip
    check_shapes("ssd", sizes, expected)
    check_groups("ssd", sizes["H"], sizes["G"])
    check_not_empty("ssd", sizes["L"])
    module = _backend(x, backend, "ssd", sizes)
    with reference.without_autocast(x.device):
        return module.ssd(x, dt, A, B, C, D, dt_bias, dt_softplus, initial_state)


def causal_conv1d(
    x: Float[Tensor, "B L E"],
    weight: Float[Tensor, "E K"],
    bias: Float[Tensor, " E"] | None = None,
    *,
    initial_state: Float[Tensor, "B J E"] | None = None,
    activation: str | None = None,
    backend: str = "auto",
) -> tuple[Float[Tensor, "B L E"], Float[Tensor, "B J E"]]:
    """Causal depthwise convolution: each output sees its token and the J = K − 1 before it.

    Differentiable once in every tensor.

    Args:
        x: inputs, channels last.
        weight: one filter a channel, oldest input first.
        bias: added before the activation.
        initial_state: the J inputs before the first token, oldest first; zeros by default.
        activation: None or "silu".
        backend: "auto", "reference", "torch", "cpu", "cuda" or "triton".

    Returns:
        y in x's dtype, and the last J inputs, which continue the sequence as `initial_state`.

    Raises:
        InputError: a tensor's shape does not fit the others, or the activation is unknown.
        BackendError: the requested backend cannot run here.
    """
    check_rank("causal_conv1d", "x", x, "B L E")
    check_rank("causal_conv1d", "weight", weight, "E K")
    check_activation("causal_conv1d", activation)
    taps = weight.shape[1]
    sizes = {**dict(zip("BLE", x.shape, strict=True)), "K": taps, "J": taps - 1}
    expected = {
        "x": (x, "B L E"), "weight": (weight, "E K"), "bias": (bias, "E"), "initial_state": (initial_state, "B J E"),
    }  # fmt: skip
    check_shapes("causal_conv1d", sizes, expected)
    check_not_empty("causal_conv1d", sizes["L"])
    module = _backend(x, backend, "causal_conv1d", sizes)
    y = module.causal_conv1d(x, weight, bias, initial_state, activation)
    return y, _last_inputs(x, initial_state, taps - 1)


def gated_rms_norm(
    x: Float[Tensor, "B L E"],
    gate: Float[Tensor, "B L E"],
    weight: Float[Tensor, " E"],
    *,
    groups: int,
    eps: float,
    backend: str = "auto",
) -> Float[Tensor, "B L E"]:
    """RMS norm of x · silu(gate) within each of `groups` equal parts of the channels, times the weight (Mamba-2).

    The gate comes before the norm, as in `mamba_ssm`'s `RMSNormGated(norm_before_gate=False)`. Computed in fp32. The
    `cpu` backend has a kernel of its own; elsewhere, and where a gradient is wanted, it is plain torch.

    Args:
        x: what is normed.
        gate: before its SiLU.
        weight: a factor a channel.
        groups: divides the channels evenly.
        eps: added to the mean square.
        backend: "auto", "reference", "torch", "cpu", "cuda" or "triton".

    Returns:
        y in x's dtype.

    Raises:
        InputError: a tensor's shape does not fit the others, or the groups do not share the channels evenly.
        BackendError: the requested backend cannot run here.
    """
    check_rank("gated_rms_norm", "x", x, "B L E")
    sizes = dict(zip("BLE", x.shape, strict=True))
    check_shapes(
        "gated_rms_norm", sizes, {"x": (x, "B L E"), "gate": (gate, "B L E"), "weight": (weight, "E")}
    )
    if groups < 1 or sizes["E"] % groups:
        raise InputError(f"gated_rms_norm: {sizes['E']} channels cannot be shared evenly by {groups} groups.")
    # It belongs to the SSD: what computes that computes this.
    name = resolve_backend(x.device, x.dtype, backend, kernel="ssd")
    alone = name == "cpu" and not wants_gradient(x, gate, weight)
    return (backend_module("cpu") if alone else reference).gated_rms_norm(x, gate, weight, groups, eps)


def _backend(first: Tensor, requested: str, kernel: str, sizes: dict[str, int]) -> ModuleType:
    return backend_module(resolve_backend(first.device, first.dtype, requested, kernel=kernel, sizes=sizes))


def _last_inputs(x: Tensor, initial: Tensor | None, kept: int) -> Tensor:
    """The last `kept` inputs `B kept E` as a tensor of its own, so that a cache does not hold on to x."""
    missing = kept - x.shape[1]
    if missing <= 0:
        return x[:, x.shape[1] - kept :].clone()
    if initial is None:
        return torch.nn.functional.pad(x, (0, 0, missing, 0))
    return torch.cat([initial[:, kept - missing :].to(x.dtype), x], dim=1)
