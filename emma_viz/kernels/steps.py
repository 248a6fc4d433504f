"""One token at a time: what generation runs. The `cpu` and `triton` backends have kernels of their own; elsewhere, and
where a gradient is wanted, it is plain torch."""

from types import ModuleType

from jaxtyping import Float
from torch import Tensor

from emma_viz.kernels import reference
from emma_viz.kernels.backends import backend_module, resolve_backend, wants_gradient
from emma_viz.kernels.checks import check_activation, check_groups, check_rank, check_shapes

_WITH_STEPS = {"selective_scan": ("cpu", "triton"), "ssd": ("cpu", "triton"), "causal_conv1d": ("cpu",)}
"""Kernel → the backends whose module has a kernel of one step of it."""


def selective_scan_step(
    state: Float[Tensor, "B E N"],
    u: Float[Tensor, "B E"],
    delta: Float[Tensor, "B E"],
    A: Float[Tensor, "E N"],
    B: Float[Tensor, "B N"],
    C: Float[Tensor, "B N"],
    D: Float[Tensor, " E"] | None = None,
    *,
    z: Float[Tensor, "B E"] | None = None,
    delta_bias: Float[Tensor, " E"] | None = None,
    delta_softplus: bool = False,
    backend: str = "auto",
) -> tuple[Float[Tensor, "B E"], Float[Tensor, "B E N"]]:
    """One token of `selective_scan`.

    Args:
        state: state before the token. The others as in `selective_scan`, without the axis L.

    Returns:
        The output in u's dtype, and the new state in fp32; `state` is left as it was.

    Raises:
        InputError: a tensor's shape does not fit the others.
        BackendError: the requested backend cannot run here.
    """
    check_rank("selective_scan_step", "state", state, "B E N")
    sizes = dict(zip("BEN", state.shape, strict=True))
    expected = {
        "u": (u, "B E"), "delta": (delta, "B E"), "A": (A, "E N"), "B": (B, "B N"), "C": (C, "B N"),
        "D": (D, "E"), "z": (z, "B E"), "delta_bias": (delta_bias, "E"),
    }  # fmt: skip
    check_shapes("selective_scan_step", sizes, expected)
    module = _module(backend, "selective_scan", state, u, delta, A, B, C, D, z, delta_bias)
    return module.selective_scan_step(state, u, delta, A, B, C, D, z, delta_bias, delta_softplus)


def ssd_step(
    state: Float[Tensor, "B H P N"],
    x: Float[Tensor, "B H P"],
    dt: Float[Tensor, "B H"],
    A: Float[Tensor, " H"],
    B: Float[Tensor, "B G N"],
    C: Float[Tensor, "B G N"],
    D: Float[Tensor, " H"] | None = None,
    *,
    dt_bias: Float[Tensor, " H"] | None = None,
    dt_softplus: bool = False,
    backend: str = "auto",
) -> tuple[Float[Tensor, "B H P"], Float[Tensor, "B H P N"]]:
    """One token of `ssd`.

    Args:
        state: state before the token. The others as in `ssd`, without the axis L.

    Returns:
        The output in x's dtype, and the new state in fp32; `state` is left as it was.

    Raises:
        InputError: a tensor's shape does not fit the others.
        BackendError: the requested backend cannot run here.
    """
    check_rank("ssd_step", "state", state, "B H P N")
    check_rank("ssd_step", "B", B, "B G N")
    sizes = {**dict(zip("BHPN", state.shape, strict=True)), "G": B.shape[1]}
    expected = {
        "x": (x, "B H P"), "dt": (dt, "B H"), "A": (A, "H"), "B": (B, "B G N"), "C": (C, "B G N"),
        "D": (D, "H"), "dt_bias": (dt_bias, "H"),
    }  # fmt: skip
    check_shapes("ssd_step", sizes, expected)
    check_groups("ssd_step", sizes["H"], sizes["G"])
    module = _module(backend, "ssd", state, x, dt, A, B, C, D, dt_bias)
    return module.ssd_step(state, x, dt, A, B, C, D, dt_bias, dt_softplus)


def causal_conv1d_step(
    state: Float[Tensor, "B J E"],
    x: Float[Tensor, "B E"],
    weight: Float[Tensor, "E K"],
    bias: Float[Tensor, " E"] | None = None,
    *,
    activation: str | None = None,
    backend: str = "auto",
) -> tuple[Float[Tensor, "B E"], Float[Tensor, "B J E"]]:
    """One token of `causal_conv1d`.

    Args:
        state: the J = K − 1 inputs before the token, oldest first. The others as in `causal_conv1d`.

    Returns:
        The output in x's dtype, and the new state; `state` is left as it was.

    Raises:
        InputError: a tensor's shape does not fit the others.
        BackendError: the requested backend cannot run here.
    """
    check_rank("causal_conv1d_step", "state", state, "B J E")
    check_activation("causal_conv1d_step", activation)
    sizes = {**dict(zip("BJE", state.shape, strict=True)), "K": state.shape[1] + 1}
    expected = {"x": (x, "B E"), "weight": (weight, "E K"), "bias": (bias, "E")}
    check_shapes("causal_conv1d_step", sizes, expected)
    module = _module(backend, "causal_conv1d", state, x, weight, bias)
    return module.causal_conv1d_step(state, x, weight, bias, activation)


def _module(requested: str, kernel: str, *tensors: Tensor | None) -> ModuleType:
    """What computes a step of these tensors, the state first and the inputs second."""
    if wants_gradient(*tensors):
        return reference
    inputs = tensors[1]
    assert inputs is not None
    name = resolve_backend(inputs.device, inputs.dtype, requested, kernel=kernel)
    return backend_module(name) if name in _WITH_STEPS[kernel] else reference
