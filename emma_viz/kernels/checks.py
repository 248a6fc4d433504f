"""Checks of what the public kernel functions were given."""

from torch import Tensor

from emma_viz.errors import InputError


def check_shapes(kernel: str, sizes: dict[str, int], expected: dict[str, tuple[Tensor | None, str]]) -> None:
    """Raise InputError unless each tensor has the shape that its axis names stand for, on one device.

    Args:
        kernel: name of the kernel, for the message.
        sizes: size of each axis by its name in the glossary.
        expected: argument name → (tensor or None, axis names separated by spaces).
    """
    device = next(tensor.device for tensor, _ in expected.values() if tensor is not None)
    for name, (tensor, axes) in expected.items():
        if tensor is None:
            continue
        shape = tuple(sizes[axis] for axis in axes.split())
        if tensor.shape != shape:
            raise InputError(
                f"{kernel}: {name} must have the shape ({axes}) = {shape}, but it has {tuple(tensor.shape)}."
            )
        if not tensor.is_floating_point():
            raise InputError(f"{kernel}: {name} must be a floating-point tensor, but it is {tensor.dtype}.")
        if tensor.device != device:
            raise InputError(
                f"{kernel}: {name} is on {tensor.device} and the first argument on {device}; move them together."
            )


def check_rank(kernel: str, name: str, tensor: Tensor, axes: str) -> None:
    """Raise InputError unless the tensor, whose shape names the sizes, has as many axes as named."""
    if tensor.ndim != len(axes.split()):
        raise InputError(f"{kernel}: {name} must be ({axes}), but it has the shape {tuple(tensor.shape)}.")


def check_not_empty(kernel: str, length: int) -> None:
    """Raise InputError for a sequence without tokens."""
    if length < 1:
        raise InputError(f"{kernel}: the sequence must hold at least one token, but its length is {length}.")


def check_groups(kernel: str, heads: int, groups: int) -> None:
    """Raise InputError unless the groups share the heads evenly."""
    if groups < 1 or heads % groups:
        raise InputError(f"{kernel}: {heads} heads cannot be shared evenly by {groups} groups of B and C.")


def check_activation(kernel: str, activation: str | None) -> None:
    """Raise InputError for an activation that no kernel has."""
    if activation not in (None, "silu"):
        raise InputError(f"{kernel}: activation must be None or 'silu', not {activation!r}.")
