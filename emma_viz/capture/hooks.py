"""Forward hooks that look and never touch, and what each of them reports."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from emma_viz.capture.sites import Target
from emma_viz.errors import CaptureError
from emma_viz.files.schema import Count
from emma_viz.finite import is_finite

_log = logging.getLogger(__name__)

Pick = int | Callable[[tuple], Tensor]
"""Which tensor of a module that returns several: its index, or a function of the tuple."""

_Receive = Callable[[Target, Tensor], Tensor | None]
"""Takes what a hook saw; gives back the copy that is kept, or None when nothing of it is."""


@dataclass(frozen=True, kw_only=True)
class HookReport:
    """What one requested hook did.

    Attributes:
        name: long form of the hook, or its module path.
        fired: how many times its module was called.
        shape: shape of the module's output at the first call; None when it was never called.
        finite: whether every value that was kept is finite; None when nothing was kept.
    """

    name: str
    fired: Count
    shape: tuple[Count, ...] | None
    finite: bool | None


def foreign_hooks(module: nn.Module) -> tuple[str, ...]:
    """The paths of the modules that somebody's forward hooks are on; ours must not be in place.

    Those that transformers' classes put on their own parts, to read a layer of an encoder, are theirs, not somebody's.
    """
    return tuple(
        path or "the model"
        for path, each in module.named_modules()
        if any(
            not str(getattr(hook, "__module__", "")).startswith("transformers.")
            for hook in (
                *each._forward_hooks.values(),
                *each._forward_pre_hooks.values(),
            )  # torch has no public way
        )
    )


class Hooks:
    """Hooks on some modules, there while the `with` block runs and gone after it, also after an exception.

    Each hook hands the module's output to `receive` and gives the model nothing back, so the model's output
    cannot change. Hooks that others registered on the same modules are left alone.

    Args:
        module: the model the targets were resolved in.
        targets: where to hook.
        receive: called with each target and its tensor, outside autograd and inference mode, so that what it
            copies is an ordinary tensor. It must not write into the tensor it is given: that is the model's
            own.
        pick: which tensor to take from modules that return a tuple.

    Raises:
        CaptureError: on leaving the block, when a hook did not fire; inside it, when a module returned no
            tensor.
    """

    def __init__(self, module: nn.Module, targets: Sequence[Target], receive: _Receive, *, pick: Pick = 0):
        self._targets = [(target, module.get_submodule(target.path)) for target in targets]
        self._receive, self._pick = receive, pick
        self._handles: list = []
        self._fired = [0] * len(targets)
        self._shapes: list[tuple[int, ...] | None] = [None] * len(targets)
        self._finite: list[bool | None] = [None] * len(targets)

    def __enter__(self) -> "Hooks":
        if self._handles:
            raise CaptureError(
                "These hooks are already in place; leave the first `with` block, or make new ones."
            )
        try:
            for index, (_, module) in enumerate(self._targets):
                self._handles.append(self._register(index, module))
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, kind, error, trace) -> None:
        self._remove()
        if kind is None:
            self._check_fired()

    @property
    def reports(self) -> tuple[HookReport, ...]:
        """One report per requested hook, in the order asked for."""
        return tuple(
            HookReport(name=target.name, fired=fired, shape=shape, finite=finite)
            for (target, _), fired, shape, finite in zip(
                self._targets, self._fired, self._shapes, self._finite, strict=True
            )
        )

    def _remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _register(self, index: int, module: nn.Module):
        if self._targets[index][0].side == "output":
            return module.register_forward_hook(lambda module, inputs, output: self._see(index, output))
        return module.register_forward_pre_hook(
            # What a block or norm reads is its first argument, or the first that it is given by name.
            lambda module, inputs, named: self._see(
                index, inputs[0] if inputs else next(iter(named.values()))
            ),
            with_kwargs=True,
        )

    def _see(self, index: int, value: object) -> None:
        target = self._targets[index][0]
        with torch.inference_mode(False), torch.no_grad():
            # A named site is one thing, whatever else its module returns.
            seen = pick_tensor(target, value, 0 if target.site else self._pick)
            self._fired[index] += 1
            if self._shapes[index] is None:
                self._shapes[index] = tuple(seen.shape)
            kept = self._receive(target, seen)
            if kept is not None:
                self._note_finite(index, is_finite(kept))

    def _note_finite(self, index: int, finite: bool) -> None:
        if not finite and self._finite[index] is not False:
            _log.warning(
                "%s holds values that are not finite; they are kept as they are.",
                self._targets[index][0].name,
            )
        self._finite[index] = finite and self._finite[index] is not False

    def _check_fired(self) -> None:
        silent = [report.name for report in self.reports if not report.fired]
        if silent:
            shown = ", ".join(silent[:5]) + (f" and {len(silent) - 5} more" if len(silent) > 5 else "")
            raise CaptureError(
                f"{len(silent)} of {len(self._targets)} hooks did not fire: {shown}. Their modules were "
                "never called while "
                "the hooks were in place: either the model did not run, or a fused kernel passes them by "
                "(mamba_ssm's fast path does so inside its mixers; hook the mixer or the block instead)."
            )


def pick_tensor(target: Target, output: object, pick: Pick = 0) -> Tensor:
    """The tensor that a module's output stands for.

    A tensor is taken as it is. From a tuple or list, `pick` is the index to take, or a function of it: a
    block of mamba_ssm returns `(hidden, residual)`, so 0 is the mixer's output, 1 the residual stream before
    it, and `sum` the residual stream after the block.

    Raises:
        CaptureError: there is no tensor there.
    """
    if isinstance(output, Tensor):
        return output
    picked = output
    try:
        picked = pick(cast(tuple, output)) if callable(pick) else cast(tuple, output)[pick]
    except (TypeError, KeyError, IndexError) as error:
        raise CaptureError(
            f"{target.name} returned {_describe(output)}; pick={pick!r} takes no tensor from it ({error})."
        ) from error
    if not isinstance(picked, Tensor):
        raise CaptureError(
            f"{target.name} returned {_describe(output)}; pick={pick!r} gives {_describe(picked)}, and a "
            "tensor is needed. Say with pick= which element to keep."
        )
    return picked


def _describe(value: object) -> str:
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {', '.join(type(each).__name__ for each in value) or 'nothing'}"
    return f"a {type(value).__name__}"
