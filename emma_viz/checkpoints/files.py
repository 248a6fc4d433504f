"""Weight files as dictionaries of `TensorRef`: only headers are read here, and nothing in a file is executed."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from emma_viz.checkpoints.archive import read_archive
from emma_viz.checkpoints.pickles import Opaque, PickledTensor
from emma_viz.checkpoints.safetensors_file import read_header
from emma_viz.checkpoints.tensors import TensorRef
from emma_viz.errors import CheckpointError, UnsafePickleError

ZIP_MAGIC = b"PK\x03\x04"
LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
DEPTH = 8
"""Dictionaries nested deeper than this are not looked into for tensors."""
INDEX_SUFFIX = ".index.json"


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """What a weight file, or a set of shards, holds."""

    path: Path
    """The file, or the index of the shards."""
    format: str
    """For people: `PyTorch zip archive`, `safetensors`, or either of them in shards."""
    tensors: Mapping[str, TensorRef]
    """The tensors of the model part, nested dictionaries flattened with dots."""
    others: Mapping[str, str] = field(default_factory=dict)
    """What stands in the model part but is no tensor: flattened key → kind."""
    extras: Mapping[str, str] = field(default_factory=dict)
    """What stands beside the model part, e.g. `optimizer` → `torch.optim.adamw.AdamW`; it was not built."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The text metadata of a safetensors file."""

    @property
    def stored_bytes(self) -> int:
        """Bytes of all tensors as they lie on disk; tensors that share their storage count once."""
        return sum({(ref.path, ref.offset): ref.span for ref in self.tensors.values()}.values())


def open_weights(path: Path) -> WeightFile:
    """Read the headers of a weight file: `.pt` / `.bin` zip archive, safetensors, or an index of shards.

    The kind is told from the first bytes, not from the name.

    Raises:
        UnsafePickleError: loading the file's pickle would run code.
        CheckpointError: the file is missing, truncated, of the old non-zip format, or no weight file at all.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no file {path}. Pass a run directory, a weight file or a hub id.")
    if path.name.endswith(INDEX_SUFFIX):
        return _open_shards(path)
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(ZIP_MAGIC):
        return _open_archive(path)
    if head.startswith(LEGACY_MAGIC):
        raise CheckpointError(
            f"{path} is in the format that torch wrote before 1.6, which cannot be read without executing it. "
            "Convert it once, with torch's own restricted loader: python -c \"import torch; torch.save(torch.load("
            f"'{path.name}', map_location='cpu', weights_only=True), 'converted.pt')\""
        )
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path} is only a git-lfs pointer. Fetch the file itself: git lfs pull.")
    if len(head) > 9 and head[8:9] == b"{":
        tensors, metadata = read_header(path)
        return WeightFile(path=path, format="safetensors", tensors=tensors, metadata=metadata)
    raise CheckpointError(
        f"{path} is no weight file: expected a PyTorch zip archive or safetensors, but it begins with {head[:8]!r}."
    )


def _open_archive(path: Path) -> WeightFile:
    archive = read_archive(path)
    root = archive.root
    if not isinstance(root, dict):
        raise CheckpointError(f"{path} holds a {_kind(root)}, not a dictionary of weights.")
    model, extras = root, {}
    if isinstance(root.get("model"), dict):
        model = root["model"]
        extras = {str(key): _kind(value) for key, value in root.items() if key != "model"}
    tensors: dict[str, TensorRef] = {}
    others: dict[str, str] = {}
    for key, leaf in _leaves(model, path):
        if key in tensors or key in others:
            raise CheckpointError(f"{path}: two entries flatten to the same key {key!r}.")
        if isinstance(leaf, PickledTensor):
            tensors[key] = archive.locate(leaf, key)
        else:
            others[key] = _kind(leaf)
    return WeightFile(path=path, format="PyTorch zip archive", tensors=tensors, others=others, extras=extras)


def _leaves(model: dict, path: Path) -> Iterator[tuple[str, object]]:
    """The leaves of nested dictionaries under dotted keys.

    Raises:
        UnsafePickleError: one of them is an object that only running code could make.
    """
    pending: list[tuple[str, object, int]] = [("", model, 0)]
    while pending:
        key, value, depth = pending.pop()
        if isinstance(value, dict) and (value or not depth) and depth < DEPTH:
            if odd := [k for k in value if not isinstance(k, str)]:
                raise CheckpointError(f"{path}: a key of the model part is a {_kind(odd[0])}, not text.")
            prefix = f"{key}." if depth else ""
            pending += [(prefix + k, v, depth + 1) for k, v in reversed(value.items())]
            continue
        _refuse_objects(value, key, path)
        yield key, value


def _refuse_objects(value: object, key: str, path: Path) -> None:
    """Look through lists and tuples too: an object there is as good as one at the top."""
    pending, seen = [value], set()
    while pending:
        item = pending.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, list | tuple):
            pending += item
        elif isinstance(item, dict):
            pending += [*item.keys(), *item.values()]
        elif not (item is None or isinstance(item, PickledTensor | str | bytes | int | float)):
            raise UnsafePickleError(
                f"{path}: refused, nothing was run. {key} in the model part is a {_kind(item)}; only tensors, "
                "dictionaries, lists, numbers and text may stand there. Save the model's state_dict instead."
            )


def _kind(value: object) -> str:
    if isinstance(value, Opaque):
        return value.maker
    return "tensor" if isinstance(value, PickledTensor) else type(value).__name__


def _open_shards(index: Path) -> WeightFile:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(weight_map.values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{index} is no shard index: it needs a `weight_map` of key → file name."
        ) from error
    if odd := [name for name in names if not isinstance(name, str) or Path(name).name != name]:
        raise CheckpointError(f"{index} names shards outside its own folder: {odd[:3]}.")
    if missing := [name for name in names if not (index.parent / name).is_file()]:
        raise CheckpointError(
            f"{index} names shards that are not there: {', '.join(missing)}. Fetch them too."
        )
    shards = {name: open_weights(index.parent / name) for name in names}
    tensors = {key: ref for shard in shards.values() for key, ref in shard.tensors.items()}
    others = {key: kind for shard in shards.values() for key, kind in shard.others.items()}
    if absent := sorted(key for key, name in weight_map.items() if key not in shards[name].tensors):
        raise CheckpointError(f"{index} names tensors that its shards do not hold: {', '.join(absent[:10])}.")
    first = next(iter(shards.values()))
    return WeightFile(
        path=index,
        format=f"{first.format}, {len(shards)} shards",
        tensors=tensors,
        others=others,
        metadata=first.metadata,
    )
