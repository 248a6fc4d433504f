"""Filling a model that was built on the meta device, one tensor at a time."""

from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from emma_viz.checkpoints.readers.tensors import TensorRef
from emma_viz.errors import CheckpointError, InputError
from emma_viz.finite import is_finite
from emma_viz.progress import Progress

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Types a model may be loaded as."""


def as_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """A type by its name; None and types pass.

    Raises:
        InputError: models cannot be loaded as this type.
    """
    if isinstance(dtype, str) and dtype in _DTYPES:
        return _DTYPES[dtype]
    if dtype is None or (isinstance(dtype, torch.dtype) and dtype in _DTYPES.values()):
        return dtype
    raise InputError(f"dtype must be one of {', '.join(_DTYPES)}, got {dtype}.")


def require_device(device: torch.device | str) -> None:
    """Refuse a device that is not here.

    Raises:
        InputError: there is no such device, or this computer or this build of torch has none.
    """
    try:
        if torch.device(device).type == "meta":
            raise InputError("device meta holds no values; use cpu or cuda.")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"The device {device} cannot be used here: {str(error).splitlines()[0]}. Use cpu."
        ) from error


def default_dtype(references: Mapping[str, TensorRef], device: str | torch.device) -> torch.dtype:
    """The type to load weights as when none is asked for: that of most values in the file.

    Except float16 on a CPU, which becomes float32: CPUs compute it slowly or not at all, and the bundled models are
    stored in it only to be small.
    """
    counts: Counter[torch.dtype] = Counter()
    for reference in references.values():
        if reference.dtype.is_floating_point:
            counts[reference.dtype] += reference.numel
    stored = counts.most_common(1)[0][0] if counts else torch.float32
    if stored == torch.float64 or (stored == torch.float16 and torch.device(device).type == "cpu"):
        return torch.float32
    return stored


def fill(
    module: nn.Module,
    references: Mapping[str, TensorRef],
    *,
    dtype: torch.dtype,
    device: str | torch.device,
    what: str,
    transforms: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    progress: Progress | None = None,
) -> None:
    """Replace a module's parameters and buffers by tensors read from files.

    Floating-point tensors become `dtype`; others keep their type. Whether a parameter takes a gradient stays as
    the module has it.

    Args:
        module: built on the meta device.
        references: the module's own names → where the values are.
        what: name of the module, for `progress`.
        transforms: names → what to do with the values, in float32, before they go in.
        progress: told how far the reading is.

    Raises:
        CheckpointError: a file is truncated, a value is not a number, or there is no room for the tensors.
    """
    transforms = transforms or {}
    total, done = sum(ref.span for ref in references.values()), 0
    for name, reference in references.items():
        floating = reference.dtype.is_floating_point
        with room_for(name, reference.path, device):
            if name in transforms:
                value = transforms[name](reference.read(dtype=torch.float32)).to(device=device, dtype=dtype)
            else:
                value = reference.read(dtype=dtype if floating else None, device=device)
        if floating and not is_finite(value):
            raise CheckpointError(not_finite(reference, name, dtype))
        put(module, name, value)
        done += reference.span
        if progress:
            progress(done, total, what)


@contextmanager
def room_for(what: str, path: Path, device: str | torch.device) -> Generator[None]:
    """Torch's way of saying that there is no memory left, as an error of ours.

    Args:
        what: is put on the device.
        path: of the file that it comes from.
        device: that may be too small.

    Raises:
        CheckpointError: it is.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        raise CheckpointError(f"{path}: no memory left on {device} for {what}: {error}") from error


def not_finite(reference: TensorRef, name: str, dtype: torch.dtype) -> str:
    """What is said of weights that are no numbers."""
    kind = str(dtype).removeprefix("torch.")
    return (
        f"{reference.path}: {name} holds values that are not finite (NaN, or infinite as {kind}). The training "
        "diverged or the file is damaged; take an earlier checkpoint, or another dtype."
    )


def require_room(references: Mapping[str, TensorRef], dtype: torch.dtype, device: str | torch.device) -> None:
    """Refuse weights that the machine cannot hold, before it is brought to its knees.

    Raises:
        CheckpointError: they need more than memory and swap together.
    """
    needed = sum(reference.numel * dtype.itemsize for reference in references.values())
    room = _memory()
    if torch.device(device).type == "cpu" and room is not None and needed > room:
        raise CheckpointError(
            f"The weights need {needed / 1e9:.3g} GB as {str(dtype).removeprefix('torch.')}; this machine has "
            f"{room / 1e9:.3g} GB of memory. Use a smaller dtype or another machine."
        )


def _memory() -> int | None:
    """Bytes of memory and swap; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = dict(line.split(":", 1) for line in lines)
        return sum(int(found[name].split()[0]) * 1024 for name in ("MemTotal", "SwapTotal"))
    except (OSError, ValueError, KeyError):
        return None


def put(module: nn.Module, name: str, value: Tensor) -> None:
    """Replace one parameter or buffer by `value`."""
    owner_name, _, leaf = name.rpartition(".")
    owner = module.get_submodule(owner_name)
    if leaf in owner._buffers:
        owner._buffers[leaf] = value
        return
    old = owner._parameters[leaf]
    setattr(owner, leaf, nn.Parameter(value, requires_grad=old is None or old.requires_grad))


def check_filled(module: nn.Module, what: str) -> None:
    """Make sure nothing was left on the meta device.

    Raises:
        CheckpointError: something was.
    """
    left = [name for name, tensor in [*module.named_parameters(), *module.named_buffers()] if tensor.is_meta]
    if left:
        raise CheckpointError(f"{what}: no values were found for {', '.join(left[:10])}.")
