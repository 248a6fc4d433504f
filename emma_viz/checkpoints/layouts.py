"""Key tables: how each layout of a checkpoint names what the model calls `projector.*` and `llm.*`.

A layout is a list of prefixes, each with what stands in its place in the model; everything after the prefix is
the same in all of them. A key that no prefix fits, a key the architecture lacks, a missing one and one of another
shape are all errors, and all are listed: nothing is dropped in silence.
"""

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from emma_viz.checkpoints.nearest import nearest_of_keys
from emma_viz.checkpoints.readers.files import WeightFile, open_weights, trusted_folder
from emma_viz.checkpoints.readers.tensors import TensorRef
from emma_viz.errors import CheckpointError, KeyMismatchError
from emma_viz.files.inside import require_inside
from emma_viz.models.config import MambaConfig, VLMConfig
from emma_viz.models.families.layout import OFFICIAL, Layout
from emma_viz.models.families.table import OUR_FAMILIES, family_named

logger = logging.getLogger(__name__)

HEAD = "llm.lm_head.weight"
"""The head, which shares its values with TABLE and need not be in a file."""
TABLE_KEY = "llm.backbone.embedding.weight"

_Shape = tuple[int, ...]

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
"""Types that weights may be stored as."""
_QUANTISED = (
    *(".SCB", ".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map", ".weight_format", ".qweight"),
    *(
        ".qzeros",
        ".g_idx",
        ".weight_scale",
        ".weight_scale_inv",
        ".input_scale",
        ".weight_packed",
        ".codebooks",
    ),
)
"""Ends of the names that bitsandbytes, GPTQ, AWQ and the 8-bit float formats add."""
_COUNTERS = ("position_ids", "num_batches_tracked")
"""Ends of the names of buffers that are integers."""


TRANSFORMERS = Layout(
    name="transformers (-hf)",
    prefixes=(
        ("backbone.embeddings.", "llm.backbone.embedding."),
        ("backbone.layers.", "llm.backbone.layers."),
        ("backbone.norm_f.", "llm.backbone.norm_f."),
        ("lm_head.", "llm.lm_head."),
    ),
    signature=("backbone.embeddings.",),
    components=("llm",),
)
STATE_SPACES = Layout(
    name="state-spaces",
    prefixes=(("backbone.", "llm.backbone."), ("lm_head.", "llm.lm_head.")),
    signature=("backbone.embedding.", "backbone.layers."),
    components=("llm",),
)
_OWN = tuple(dict.fromkeys(each.layout for each in OUR_FAMILIES.values() if each.layout != OFFICIAL))
LAYOUTS = (*_OWN, OFFICIAL, TRANSFORMERS, STATE_SPACES)
"""All that are told by their keys alone; those that add to the official one come before it."""


def detect(file: WeightFile, description: VLMConfig | MambaConfig | None = None) -> Layout:
    """Tell a file's layout by its keys.

    Args:
        file: the weight file.
        description: of the model, whose family's layout is looked for first.

    Raises:
        CheckpointError: the keys are of no known layout.
    """
    keys = [*file.tensors, *file.others]
    own = [family_named(description.family).layout] if isinstance(description, VLMConfig) else []
    for layout in (*own, *LAYOUTS):
        if any(key.startswith(layout.signature) for key in keys):
            return layout
    raise CheckpointError(f"{file.path}: the keys are of no known layout. {nearest_of_keys(keys, LAYOUTS)}")


def said_of_weights(path: Path) -> str:
    """What weights without a `config.json` are nearest to, as sentences.

    Raises:
        CheckpointError: the file is damaged.
    """
    file = unwrapped(open_weights(path))
    return nearest_of_keys([*file.tensors, *file.others], LAYOUTS)


_WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "module.")
"""What torch.compile, FSDP and DDP put into keys, wherever a module was wrapped."""
_LEADING = ("state_dict.", "model.", *_WRAPPERS)
"""What DDP and trainers put before every key of a file, or of one of its components."""
PARAMETER = re.compile(
    r"projector\.(projector|row$|col$|scan\.|mlp\.|bidirectional_mamba\.|infusion\.)|llm\.(backbone\.(embedding|layers|norm_f)|lm_head)\."
)
"""How the names of a model's parameters begin."""


def unwrapped(file: WeightFile) -> WeightFile:
    """A file without what wrappers of training put into its keys, when all that is left is of one layout.

    It is logged, and the file's format says so. What stands beside a `state_dict` becomes an extra. A file whose keys
    would not fit without them is given back as it is.
    """
    keys = {key: key for key in [*file.tensors, *file.others]}
    said = _strip_leading(keys, "", file)
    for component in dict.fromkeys(
        prefix.split(".")[0] for each in (OFFICIAL, *_OWN) for prefix, _ in each.prefixes
    ):
        said += _strip_leading(keys, f"{component}.", file)
    for wrapper in _WRAPPERS:
        if any(f".{wrapper}" in new for new in keys.values()):
            keys = {key: new.replace(f".{wrapper}", ".") for key, new in keys.items()}
            said.append(wrapper)
    if not said or not _fits(keys.values()) or len(set(keys.values())) < len(keys):
        return file
    without = ", ".join(said)
    logger.warning(
        "%s: its keys are read without %s, which a wrapper of training put there", file.path, without
    )
    return replace(
        file,
        format=f"{file.format}, keys without {without}",
        tensors={keys[key]: reference for key, reference in file.tensors.items()},
        others={keys[key]: kind for key, kind in file.others.items() if key in keys},
        extras=dict(file.extras) | {key: kind for key, kind in file.others.items() if key not in keys},
    )


def _strip_leading(keys: dict[str, str], under: str, file: WeightFile) -> list[str]:
    """Take what all keys of a component begin with out of them, in place; what that was, in words.

    What stands beside a `state_dict` and is no tensor leaves `keys`.
    """
    own = [key for key, new in keys.items() if new.startswith(under)]
    boxed = f"{under}state_dict."
    held = [key for key in own if key in file.tensors]
    if held and all(keys[key].startswith(boxed) for key in held):
        for key in [key for key in own if not keys[key].startswith(boxed)]:
            del keys[key]
            own.remove(key)
    found = []
    # Of no keys at all, every prefix would be one.
    while own and (
        prefix := next((p for p in _LEADING if all(keys[k].startswith(under + p) for k in own)), None)
    ):
        keys.update({key: under + keys[key].removeprefix(under + prefix) for key in own})
        found.append(f"{prefix} in {under.rstrip('.')}" if under else prefix)
    return found


def _fits(keys: Iterable[str]) -> bool:
    """Whether all keys are names of parameters in one layout."""
    names = [[layout.model_key(key) for key in keys] for layout in LAYOUTS]
    return any(all(name and PARAMETER.match(name) for name in each) for each in names)


def completed(file: WeightFile, layout: Layout) -> WeightFile:
    """A file with what a layout's files beside it hold, and without what is not read, which becomes an extra.

    Raises:
        CheckpointError: a file beside it is damaged or leads out of the folder.
    """
    tensors, others, formats = dict(file.tensors), dict(file.others), [file.format]
    for name in layout.beside:
        path = file.path.parent / name
        require_inside(path, trusted_folder(path.parent), error=CheckpointError, where=str(path.parent))
        if not path.is_file():
            continue
        more = open_weights(path)
        held = {layout.model_key(key) for key in more.tensors if layout.reads(key)}
        tensors = {key: ref for key, ref in tensors.items() if layout.model_key(key) not in held}
        tensors |= more.tensors
        others |= more.others
        formats.append(f"{name}: {more.format}")
    extras = dict(file.extras) | {key: "not read" for key in [*tensors, *others] if not layout.reads(key)}
    return replace(
        file,
        format="; ".join(formats),
        tensors={key: ref for key, ref in tensors.items() if layout.reads(key)},
        others={key: kind for key, kind in others.items() if layout.reads(key)},
        extras=extras,
    )


def match(
    file: WeightFile,
    layout: Layout,
    expected: Mapping[str, _Shape],
    *,
    own_head: bool = False,
    hint: str = "",
) -> dict[str, TensorRef]:
    """Pair a file's tensors with the parameters of a model.

    Args:
        file: the weight file.
        layout: how it names things.
        expected: model key → shape, for the components that the file should hold; HEAD may be among them.
        own_head: whether the head is none of the embedding, so that it must be there too.
        hint: what to say at the end of an error.

    Returns:
        Model key → tensor, for every expected key; HEAD only when the file holds a head of its own.

    Raises:
        KeyMismatchError: keys are missing, unknown, misshapen or of a type that weights do not have, named as the
            file names them.
    """
    found: dict[str, TensorRef] = {}
    unknown = [f"{key} ({kind}, not a tensor)" for key, kind in file.others.items()]
    misshapen = []
    for key, reference in file.tensors.items():
        name = layout.model_key(key)
        if name is None or name not in expected:
            unknown.append(key)
            continue
        found[name] = reference
        if reference.shape != tuple(expected[name]):
            misshapen.append(f"{key}: {_sizes(reference.shape)}, expected {_sizes(expected[name])}")
        elif reference.dtype not in FLOATS:
            misshapen.append(f"{key}: {not_floats(reference.dtype)}")
    missing = [layout.file_key(name) for name in expected if name not in found and (own_head or name != HEAD)]
    if missing or unknown or misshapen:
        raise KeyMismatchError(
            str(file.path),
            missing=missing,
            unknown=unknown,
            misshapen=misshapen,
            hint=_quantised(file) or hint,
        )
    return found


def odd_type(dtype: torch.dtype) -> str:
    """What numbers are that cannot be weights, in words."""
    name = str(dtype).removeprefix("torch.")
    if dtype.is_complex:
        return f"complex numbers ({name})"
    eight_bits = dtype.is_floating_point or name.startswith(("qint", "quint"))
    return f"quantised numbers ({name})" if eight_bits else f"integers ({name})"


def not_floats(dtype: torch.dtype) -> str:
    """What is said of a tensor that cannot be weights."""
    return f"{odd_type(dtype)}, expected bfloat16, float16, float32 or float64"


def require_floats(file: WeightFile) -> None:
    """Refuse a file of which a tensor is of a type that weights do not have; what counts, as batches, is integers.

    Raises:
        KeyMismatchError: it holds one; all are listed.
    """
    odd = [
        f"{key}: {not_floats(reference.dtype)}"
        for key, reference in file.tensors.items()
        if reference.dtype not in FLOATS
        and not (key.endswith(_COUNTERS) and odd_type(reference.dtype).startswith("integers"))
    ]
    if odd:
        raise KeyMismatchError(str(file.path), misshapen=odd, hint=_quantised(file))


def _quantised(file: WeightFile) -> str:
    """A sentence about weights that were quantised; empty when they were not."""
    marks = [key for key in file.tensors if key.endswith(_QUANTISED)]
    odd = {key: ref.dtype for key, ref in file.tensors.items() if ref.dtype not in FLOATS}
    marks += [key for key, dtype in odd.items() if odd_type(dtype).startswith("quantised")]
    if not marks:
        return ""
    return (
        f"The weights are quantised ({marks[0]} and {len(marks) - 1} more say so), which is not supported; pass the "
        "model in bfloat16, float16 or float32."
    )


def components(file: WeightFile, layout: Layout) -> dict[str, list[str]]:
    """Which components a file holds, each with its keys in the file."""
    held: dict[str, list[str]] = {}
    for key in file.tensors:
        name = layout.model_key(key)
        held.setdefault("unknown" if name is None else name.split(".", 1)[0], []).append(key)
    return held


def stored_parameters(references: Iterable[TensorRef]) -> int:
    """Elements in all; tensors that share their place in the file, as a tied head does, count once."""
    return sum({(ref.path, ref.offset, ref.shape): ref.numel for ref in references}.values())


def _sizes(shape: Iterable[int]) -> str:
    return "×".join(map(str, shape)) or "scalar"
