"""Named places in a model where a forward hook can look, and at some of them reach in."""

from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import contextmanager

from torch import Tensor, nn


class HookPoint(nn.Module):
    """A module without parameters that only exists to be hooked.

    Three uses, fixed by how the model calls it:

    - pass-through: the model calls `point(value)` and goes on with what comes back, so a forward hook
      that returns a tensor intervenes, as at any other module;
    - observation: the model calls `point.observe(compute)`. The value is a by-product that the model
      does not need; it is computed only while the point has a hook, and what a hook returns is ignored;
    - replacement: the model calls `point.replaced(compute)`. The value is computed only while the point has a
      hook, and the model uses it only where a hook returned another one: looking changes no bit.

    Hooks that return None never change the model's output at any kind.
    """

    def forward(self, value: Tensor) -> Tensor:
        """What came; a forward hook may put another tensor in its place.

        Args:
            value: of any shape, which is the hook site's (`emma_viz.capture.SITES`).
        """
        return value

    @property
    def hooked(self) -> bool:
        """Whether anyone is looking."""
        return bool(self._forward_hooks or self._forward_pre_hooks)

    def observe(self, compute: Callable[[], Tensor]) -> None:
        """Show hooks the value of `compute()`; do nothing without hooks."""
        if self.hooked:
            self(compute())

    def replaced(self, compute: Callable[[], Tensor]) -> Tensor | None:
        """What hooks put in the place of the value of `compute()`; None without hooks, or where they left it."""
        if not self.hooked:
            return None
        value = compute()
        given = self(value)
        return None if given is value else given


@contextmanager
def unhooked(module: nn.Module) -> Generator[None]:
    """No forward hook below a module fires inside; behind, all are back."""
    kept = [(each, each._forward_hooks, each._forward_pre_hooks) for each in module.modules()]
    for each, _, _ in kept:
        each._forward_hooks, each._forward_pre_hooks = OrderedDict(), OrderedDict()
    try:
        yield
    finally:
        for each, hooks, before in kept:
            each._forward_hooks, each._forward_pre_hooks = hooks, before
