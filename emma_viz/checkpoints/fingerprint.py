"""A fingerprint of a model's weights: what ties a lens, a trace and a picture to one model.

It is the SHA-256 over the sorted names and shapes of projector and language model and over at most 32 values of
each tensor, evenly strided and rounded to bfloat16. Reading it touches a few kilobytes of a checkpoint of any
size. It is the same for the same stored values in every file format and layout, and whatever type they are
loaded as, because it is taken from the file. A copy in bfloat16 of a float32 file keeps it; one in float16 does
not, since rounding twice is not rounding once: take the fingerprint after the last conversion.
"""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from emma_viz.checkpoints.layouts import HEAD, TABLE_KEY
from emma_viz.checkpoints.readers.tensors import TensorRef

SAMPLES = 32
"""The most values of one tensor that count."""
COMPONENTS = ("projector.", "llm.")
"""What counts. The vision encoder is frozen and shared, and the tied head is the embedding again."""
_DIGITS = 32
"""Hexadecimal digits kept."""


def fingerprint(tensors: Mapping[str, TensorRef | Tensor]) -> str:
    """The fingerprint of weights under the model's own names.

    Args:
        tensors: `projector.*` and `llm.*`, in a file or in memory; other names and a tied head are ignored.

    Returns:
        32 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        if not name.startswith(COMPONENTS) or (name == HEAD and _is_table(tensors)):
            continue
        tensor = tensors[name]
        values = sampled(tensor)
        digest.update(f"{name}:{tuple(tensor.shape)}:".encode())
        digest.update(values.to(torch.bfloat16).view(torch.int16).numpy().astype("<i2").tobytes())
    return digest.hexdigest()[:_DIGITS]


def _is_table(tensors: Mapping[str, TensorRef | Tensor]) -> bool:
    """Whether the head is the embedding again."""
    head, table = tensors[HEAD], tensors.get(TABLE_KEY)
    return table is None or torch.equal(sampled(head), sampled(table))


def sampled(tensor: TensorRef | Tensor) -> Tensor:
    """At most 32 values, evenly strided over the tensor."""
    count = tensor.numel if isinstance(tensor, TensorRef) else tensor.numel()
    indices = list(range(0, count, max(1, -(-count // SAMPLES))))
    if isinstance(tensor, TensorRef):
        return tensor.sample(indices)
    return tensor.detach().reshape(-1)[indices].cpu()
