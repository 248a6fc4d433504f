"""Which backend runs: a literal table, the probes, and the choice for "auto"."""

import importlib
import importlib.util
import logging
import os
from functools import cache
from types import ModuleType

import torch
from torch.autograd import forward_ad
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext

from emma_viz.errors import BackendError, InputError

BACKENDS = {
    "reference": "emma_viz.kernels.reference",
    "torch": "emma_viz.kernels.torch.backend",
    "cpu": "emma_viz.kernels.cpu",
    "cuda": "emma_viz.kernels.cuda",
    "triton": "emma_viz.kernels.triton.backend",
}
"""Backend → the module that holds its kernels; imported when it is first used."""

KERNELS = ("selective_scan", "ssd", "causal_conv1d")
"""Names of the kernels that every backend module provides."""

_PREFERRED = {"cpu": ("cpu",), "cuda": ("cuda", "triton")}
"""Device → what "auto" tries there, in this order, before torch."""

_PACKAGES = {
    "cpu": ("numba", "pip install numba"),
    "triton": ("triton", "it comes with torch's CUDA builds; pip install triton"),
}
"""Backend → the package that it runs on, and where that comes from."""

_log = logging.getLogger("emma_viz.kernels")


def available_backends() -> dict[str, str]:
    """For each backend, "available: …" or "unavailable: …" with the reason, on this machine."""
    answers = {
        "reference": "available: plain torch on any device; slow, the specification",
        "torch": "available: chunked torch on any device",
    }
    missing = _unusable("cpu")
    answers["cpu"] = (
        f"unavailable: {missing}" if missing else "available: numba kernels in fp32 for CPU tensors"
    )
    reasons = {kernel: _cuda_missing(kernel) for kernel in KERNELS}
    lacking = [f"{kernel}: {reason}" for kernel, reason in reasons.items() if reason]
    if len(lacking) == len(KERNELS):
        answers["cuda"] = "unavailable: " + "; ".join(lacking)
    else:
        present = ", ".join(kernel for kernel, reason in reasons.items() if not reason)
        answers["cuda"] = "; ".join([f"available: {present}", *lacking])
    missing = _misplaced("triton", "cuda" if torch.cuda.is_available() else "cpu") or _unusable("triton")
    answers["triton"] = f"unavailable: {missing}" if missing else "available: Triton kernels for CUDA tensors"
    return answers


def resolve_backend(
    device: torch.device | str,
    dtype: torch.dtype,
    requested: str = "auto",
    *,
    kernel: str = "selective_scan",
    sizes: dict[str, int] | None = None,
) -> str:
    """Choose the backend of a kernel for tensors on `device` of `dtype`.

    Args:
        device: where the tensors are.
        dtype: of the first argument.
        requested: a backend's name, or "auto": the fastest that can run. The log says once which, and why; where torch
            stands in for a package that is missing or broken, it is a warning.
        kernel: "selective_scan", "ssd" or "causal_conv1d".
        sizes: the sizes of the axes by name, for kernels that do not take all of them.

    Returns:
        "reference", "torch", "cpu", "cuda" or "triton".

    Raises:
        BackendError: the requested backend cannot run here; the message says why.
        InputError: there is no backend or kernel of that name.
    """
    device = torch.device(device)
    if kernel not in KERNELS:
        raise InputError(f"There is no kernel {kernel!r}; expected one of {', '.join(KERNELS)}.")
    if requested == "auto":
        name, reason = _automatic(device.type, dtype, kernel, sizes)
        _log_once(kernel, device.type, dtype, name, reason)
        if name == "torch" and dtype != torch.float64 and device.type in _PREFERRED:
            last = _PREFERRED[device.type][-1]
            if problem := _unusable(last):
                _warn_once(last, problem)
        return name
    require_backend(requested)
    problem = _obstacle(requested, device.type, dtype, kernel, sizes)
    if problem:
        raise BackendError(
            f"The kernel backend {requested!r} cannot run {kernel} here: {problem}. "
            'Ask for another one, or for "auto".'
        )
    return requested


def require_backend(requested: str) -> None:
    """Raise InputError unless there is a backend of that name, or it is "auto"."""
    if requested != "auto" and requested not in BACKENDS:
        raise InputError(f"There is no kernel backend {requested!r}; expected auto, {', '.join(BACKENDS)}.")


def backend_module(name: str) -> ModuleType:
    """The module of a backend that `resolve_backend` returned."""
    return importlib.import_module(BACKENDS[name])


def has_numba() -> bool:
    """Whether the `cpu` backend can run."""
    return not _unusable("cpu")


def wants_gradient(*tensors: torch.Tensor | None) -> bool:
    """Whether autograd is to follow what is done with these, backward or forward."""
    if forward_ad._current_level >= 0:
        return True
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)


def is_watched() -> bool:
    """Whether something follows what is done with tensors, whatever they hold: a compiler, a trace, `vmap`, a mode.

    A default device is a mode, too, and follows nothing.
    """
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or bool(torch._C._len_torch_dispatch_stack())
        or torch._C._functorch.peek_interpreter_stack() is not None
        or bool(torch._C._len_torch_function_stack() and not _only_a_default_device())
    )


def _only_a_default_device() -> bool:
    return all(isinstance(mode, DeviceContext) for mode in _get_current_function_mode_stack())


def _automatic(device: str, dtype: torch.dtype, kernel: str, sizes: dict[str, int] | None) -> tuple[str, str]:
    problems = []
    for preferred in _PREFERRED.get(device, ()):
        problem = _obstacle(preferred, device, dtype, kernel, sizes)
        if not problem:
            return preferred, "; ".join([*problems, f"it is the fastest for {device} tensors"])
        problems.append(f"{preferred} cannot run: {problem}")
    return "torch", "; ".join(problems) or f"no other backend runs on {device} tensors"


def _obstacle(name: str, device: str, dtype: torch.dtype, kernel: str, sizes: dict[str, int] | None) -> str:
    """Why a backend cannot run a kernel; empty when it can."""
    if name in ("reference", "torch"):
        return ""
    if problem := _misplaced(name, device):
        return problem
    if dtype == torch.float64:
        return "it computes in fp32, and these tensors are fp64"
    if problem := _cuda_missing(kernel) if name == "cuda" else _unusable(name):
        return problem
    return backend_module(name).limits(kernel, sizes) if sizes and name != "cpu" else ""


def _misplaced(name: str, device: str) -> str:
    """Why tensors of a device are not for a backend; empty when they are."""
    place = "cuda" if name == "triton" else name
    if device == place or (name == "triton" and os.environ.get("TRITON_INTERPRET") == "1"):
        return ""
    return f"it runs on {place} tensors, and these are on {device}"


@cache
def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


@cache
def _unusable(name: str) -> str:
    """Why the package of a backend is of no use; empty when it is.

    What will be called is imported, not only looked for, and found out once: a failed import runs again at every try.
    """
    package, source = _PACKAGES[name]
    if not _installed(package):
        return f"{package} is not installed ({source})"
    try:
        module = backend_module(name)
    except Exception as error:  # of a package that wants another NumPy or torch, or is broken
        return f"{package} is installed, but cannot be imported: {type(error).__name__}: {error}"
    return module.start() if name == "triton" else ""


def _cuda_missing(kernel: str) -> str:
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    return backend_module("cuda").missing(kernel)


@cache
def _log_once(kernel: str, device: str, dtype: torch.dtype, name: str, reason: str) -> None:
    _log.info("%s on %s (%s) runs on the %s backend: %s.", kernel, device, dtype, name, reason)


@cache
def _warn_once(name: str, problem: str) -> None:
    _log.warning(
        "the %s backend cannot run: %s; the torch backend runs in its place, and takes longer", name, problem
    )
