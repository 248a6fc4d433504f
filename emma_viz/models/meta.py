"""Modules with shapes and no memory."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

_DRAWING = frozenset(
    {Tensor.normal_, Tensor.uniform_, init.normal_, init.uniform_, init.trunc_normal_}
    | {init.kaiming_normal_, init.kaiming_uniform_, init.xavier_normal_, init.xavier_uniform_}
)


@contextmanager
def on_meta() -> Generator[None]:
    """Modules built inside stand on PyTorch's meta device, to be filled by `load_state_dict(assign=True)`.

    Unlike inside `torch.device("meta")` alone, no initial weights are drawn: for a tensor without memory
    PyTorch draws them by its compiler's rules, and to import those takes longer than to load a small model.
    """
    with torch.device("meta"), _NothingDrawn():
        yield


class _NothingDrawn(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _DRAWING:
            filled = args[0] if args else (kwargs or {})["tensor"]
            if filled.is_meta:
                return filled
        return func(*args, **(kwargs or {}))
