"""Weight files as dictionaries of `TensorRef`: only headers are read here, and nothing in a file is executed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from emma_viz.checkpoints.readers.allowance import LONGEST_KEY, SHARDS, Allowance, require_names
from emma_viz.checkpoints.readers.allowed import QUANTISED
from emma_viz.checkpoints.readers.archive import read_archive
from emma_viz.checkpoints.readers.pickles import Opaque, PickledTensor
from emma_viz.checkpoints.readers.safetensors_file import read_references
from emma_viz.checkpoints.readers.tensors import TensorRef
from emma_viz.errors import CheckpointError, UnsafePickleError
from emma_viz.files.inside import inside, require_bare
from emma_viz.files.json_door import Budget, read_json
from emma_viz.files.schema import shape

ZIP_MAGIC = b"PK\x03\x04"
LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
DEPTH = 8
"""Dictionaries nested deeper than this are not looked into for tensors."""
EXTRAS = 1000
"""Entries beside the model part that are named."""
INDEX_SUFFIX = ".index.json"
INDEX = Budget(size=16 * 2**20, depth=4, nodes=100_000)


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
        CheckpointError: the file is missing, truncated, of the old non-zip format, no weight file at all, or takes
            more to read than any model's (see `allowance`).
    """
    allowance = Allowance()
    if path.name.endswith(INDEX_SUFFIX):
        return _open_shards(path, allowance)
    return _open_one(path, allowance)


def _open_one(path: Path, allowance: Allowance) -> WeightFile:
    head = _head(path)
    if head.startswith(ZIP_MAGIC):
        return _open_archive(path, allowance)
    if head.startswith(LEGACY_MAGIC):
        raise CheckpointError(
            f"{path} is in the format that torch wrote before 1.6, which cannot be read without executing it. "
            "Convert it once, with torch's own restricted loader: python -c \"import torch; torch.save(torch.load("
            f"'{path.name}', map_location='cpu', weights_only=True), 'converted.pt')\""
        )
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path} is only a git-lfs pointer. Fetch the file itself: git lfs pull.")
    if len(head) > 9 and head[8:9] == b"{":
        tensors, metadata = read_references(path, allowance)
        return WeightFile(path=path, format="safetensors", tensors=tensors, metadata=metadata)
    raise CheckpointError(
        f"{path} is no weight file: expected a PyTorch zip archive or safetensors, but it begins with {head[:8]!r}."
    )


def _head(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise CheckpointError(
                f"There is no file {path}. Pass a run directory, a weight file or a hub id."
            )
        with path.open("rb") as file:
            return file.read(64)
    except OSError as failure:
        raise CheckpointError(f"{path} cannot be read: {failure.strerror or failure}.") from failure


def _open_archive(path: Path, allowance: Allowance) -> WeightFile:
    archive = read_archive(path, allowance)
    root = archive.root
    if not isinstance(root, dict):
        raise CheckpointError(f"{path} holds a {_kind(root)}, not a dictionary of weights.")
    model, extras = root, {}
    if isinstance(root.get("model"), dict):
        model = root["model"]
        extras = {
            str(key)[:LONGEST_KEY]: _kind(value)
            for key, value in list(root.items())[:EXTRAS]
            if key != "model"
        }
    pickled: dict[str, PickledTensor] = {}
    others: dict[str, str] = {}
    for key, leaf in _leaves(model, path, allowance):
        if key in pickled or key in others:
            raise CheckpointError(f"{path}: two entries flatten to the same key {key!r}.")
        if isinstance(leaf, PickledTensor):
            pickled[key] = leaf
        else:
            others[key] = _kind(leaf)
        require_names(len(pickled) + len(others), key, str(path))
    return WeightFile(
        path=path,
        format="PyTorch zip archive",
        tensors=archive.locate_all(pickled),
        others=others,
        extras=extras,
    )


def _leaves(model: dict, path: Path, allowance: Allowance) -> Iterator[tuple[str, object]]:
    """The leaves of nested dictionaries under dotted keys.

    A dictionary that stands in many places is walked in each of them, and each time paid for.

    Raises:
        UnsafePickleError: one of them is an object that only running code could make.
    """
    pending: list[tuple[str, object, int]] = [("", model, 0)]
    seen: set[int] = set()
    while pending:
        key, value, depth = pending.pop()
        if isinstance(value, dict) and (value or not depth) and depth < DEPTH:
            allowance.spend_steps(len(value), str(path))
            if odd := [k for k in value if not isinstance(k, str)]:
                raise CheckpointError(f"{path}: a key of the model part is a {_kind(odd[0])}, not text.")
            prefix = f"{key}." if depth else ""
            require_names(0, prefix, str(path))
            pending += [(prefix + k, v, depth + 1) for k, v in reversed(value.items())]
            continue
        _refuse_objects(value, key, path, seen)
        yield key, value


def _refuse_objects(value: object, key: str, path: Path, seen: set[int]) -> None:
    """Look through lists and tuples too: an object there is as good as one at the top.

    Args:
        value: what to look through.
        key: its name, for messages.
        path: the file, for messages.
        seen: what was looked through before; added to.
    """
    pending = [value]
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
            kind = _kind(item)
            quantised = " It belongs to a quantised model." if kind.startswith(QUANTISED) else ""
            raise UnsafePickleError(
                f"{path}: refused, nothing was run. {key} in the model part is a {kind}; only tensors, dictionaries, "
                f"lists, numbers and text may stand there.{quantised} Save the model's state_dict instead."
            )


def _kind(value: object) -> str:
    if isinstance(value, Opaque):
        return value.maker
    return "tensor" if isinstance(value, PickledTensor) else type(value).__name__


def _open_shards(index: Path, allowance: Allowance) -> WeightFile:
    weight_map = read_index(index)
    names = sorted(set(weight_map.values()))
    folder = trusted_folder(index.parent)
    paths = {
        name: inside(index.parent, name, error=CheckpointError, where=str(index), within=folder)
        for name in names
    }
    if missing := [name for name, path in paths.items() if not path.is_file()]:
        raise CheckpointError(
            f"{index} names shards that are not there: {', '.join(missing[:10])}. Fetch them too."
        )
    shards = {name: _open_one(path, allowance) for name, path in paths.items()}
    tensors = {key: ref for shard in shards.values() for key, ref in shard.tensors.items()}
    others = {key: kind for shard in shards.values() for key, kind in shard.others.items()}
    require_names(len(tensors) + len(others), "", str(index))
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


@dataclass(frozen=True, kw_only=True)
class _Index:
    """An index of shards, as transformers writes it."""

    weight_map: dict[str, str]


def read_index(index: Path) -> dict[str, str]:
    """Which shard each tensor is in: key → bare name of a file beside the index.

    Raises:
        CheckpointError: it is no index, or names too many shards, one that is an index, or one outside its folder.
    """
    values = read_json(index, error=CheckpointError, budget=INDEX)
    found = shape(values, _Index, where=str(index), error=CheckpointError, spare=True).weight_map
    require_names(len(found), max(found, key=len, default=""), str(index))
    names = set(found.values())
    if not 1 <= len(names) <= SHARDS:
        raise CheckpointError(f"{index} names {len(names)} shards; expected 1 to {SHARDS}.")
    for name in names:
        require_bare(name, where=str(index), error=CheckpointError)
        if name.endswith(INDEX_SUFFIX):
            raise CheckpointError(
                f"{index} names {name!r} as a shard, which is an index and holds no weights."
            )
    return found


def trusted_folder(folder: Path) -> Path:
    """Where the links in a folder of a model may lead: in the hub's cache, whose files are links, the repository's."""
    for parent in (folder, *folder.parents):
        if parent.parent.name == "snapshots" and parent.parent.parent.name.startswith("models--"):
            return parent.parent.parent
    return folder
