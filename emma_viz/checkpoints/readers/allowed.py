"""Which names a pickle may mention, and what each of them becomes. Nothing here is ever imported or called.

A name in none of these tables makes the whole file refused, wherever in the file it stands.
"""

import re

import torch

from emma_viz.checkpoints.readers.allowance import LONGEST_KEY

STORAGES = {
    ("torch", "DoubleStorage"): torch.float64,
    ("torch", "FloatStorage"): torch.float32,
    ("torch", "HalfStorage"): torch.float16,
    ("torch", "BFloat16Storage"): torch.bfloat16,
    ("torch", "LongStorage"): torch.int64,
    ("torch", "IntStorage"): torch.int32,
    ("torch", "ShortStorage"): torch.int16,
    ("torch", "CharStorage"): torch.int8,
    ("torch", "ByteStorage"): torch.uint8,
    ("torch", "BoolStorage"): torch.bool,
    ("torch", "ComplexFloatStorage"): torch.complex64,
    ("torch", "ComplexDoubleStorage"): torch.complex128,
    ("torch", "QInt8Storage"): torch.qint8,
    ("torch", "QUInt8Storage"): torch.quint8,
    ("torch", "QInt32Storage"): torch.qint32,
    ("torch.storage", "UntypedStorage"): torch.uint8,
}
"""Storage classes in persistent ids, and the type of their elements."""

TENSORS = {("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_tensor")}
"""Calls (storage, offset, shape, strides, …) that stand for a tensor."""

TYPED_TENSORS = {("torch._utils", "_rebuild_tensor_v3")}
"""Calls (storage, offset, shape, strides, gradient, hooks, type, …): the storage is one of bytes."""

DTYPES = {
    ("torch", name): getattr(torch, name)
    for name in (
        "float8_e4m3fn",
        "float8_e5m2",
        "float8_e4m3fnuz",
        "float8_e5m2fnuz",
        "uint16",
        "uint32",
        "uint64",
    )
}
"""Types of tensors that have no storage class of their own."""

QUANTISED = ("torch._utils._rebuild_qtensor", "bitsandbytes.", "torchao.", "auto_gptq.", "hqq.", "quanto.")
"""Beginnings of the names of what a quantised model is pickled with."""

WRAPPERS = {
    ("torch._utils", "_rebuild_parameter"),
    ("torch._utils", "_rebuild_parameter_with_state"),
}
"""Calls (tensor, …) that stand for the tensor in them."""

MAPPINGS = {("collections", "OrderedDict"), ("collections", "defaultdict"), ("builtins", "dict")}
"""Calls that stand for a dictionary."""

TABLES = (STORAGES, TENSORS, TYPED_TENSORS, WRAPPERS, MAPPINGS, DTYPES)

PLACEHOLDERS = tuple(
    (re.compile(module), re.compile(name))
    for module, name in (
        # Optimizers and schedulers, which EMMA's FSDP runs pickle whole.
        (r"torch\.optim(\.\w+)*", r"[A-Z]\w*"),
        (r"transformers\.optimization", r"[A-Z]\w*|_?get_\w*(schedule|lambda)\w*"),
        (r"torch\.(cuda\.)?amp\.grad_scaler", r"\w+"),
        (r"torch\.distributed\.fsdp(\.\w+)*", r"[A-Z]\w*"),
        (r"functools", r"partial"),
        # Other forms of tensors, and what describes them.
        (r"torch\._utils", r"_rebuild_\w+"),
        (r"torch\._tensor", r"_rebuild_from_type_v2"),
        (r"torch\.nn\.parameter", r"Parameter|Buffer"),
        (r"torch", r"Size|Tensor|device|Generator|u?int\d+|b?float\d+|double|half|long|bool"),
        (r"torch\.serialization", r"_get_layout"),
        (r"torch", r"per_(tensor|channel)_affine\w*"),
        # Plain data.
        (
            r"builtins",
            r"set|frozenset|list|tuple|int|float|complex|bool|str|bytes|bytearray|range|slice|object",
        ),
        (r"collections", r"deque|Counter"),
        (r"datetime", r"date|datetime|time|timedelta|timezone"),
        (r"pathlib(\._local)?", r"(Pure)?(Posix|Windows)?Path"),
        (r"argparse", r"Namespace"),
        (r"types", r"SimpleNamespace"),
        (r"copyreg", r"_reconstructor"),
        (r"_codecs", r"encode"),
        (r"numpy", r"dtype|ndarray"),
        (r"numpy\.(_?core)\.multiarray", r"scalar|_reconstruct"),
    )
)
"""Names that become an inert placeholder outside the model part."""


def is_placeholder(module: str, name: str) -> bool:
    """Whether `module.name` may stand, unused, in a checkpoint."""
    # Looked at first: the patterns take time with the square of a name's length, and memory.
    short = len(module) + len(name) <= LONGEST_KEY
    return short and any(m.fullmatch(module) and n.fullmatch(name) for m, n in PLACEHOLDERS)
