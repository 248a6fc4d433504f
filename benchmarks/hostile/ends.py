"""What a command left, as one digest a file: bytes, less the times and the chance names that two runs may not share."""

import hashlib
import json
import re
import struct
from pathlib import Path
from typing import Any

import torch

TIMES = frozenset({"created", "seconds", "minutes", "tokens/s", "waited"})
"""Keys of JSON whose values are times; nothing else in a file may differ."""
_CHANCE = (
    (re.compile(r"data-[0-9a-f]{8}"), "data-*"),
    (re.compile(r"\.[0-9a-f]{8}\.safetensors"), ".*.safetensors"),
    (re.compile(r"events\.out\.tfevents\.[^/]*"), "events"),
)
"""Names in which a study has chance digits and TensorBoard the time, the machine and the process."""


def end_state(folder: Path) -> dict[str, str]:
    """Every file below a folder, by its name less chance digits, and the digest of its content less times."""
    found: dict[str, str] = {}
    events: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        name = _plain(str(path.relative_to(folder)))
        if name.endswith("/events"):
            events.setdefault(name, []).append(path)
        elif path.is_symlink() or not path.is_file():
            found[name] = "folder" if path.is_dir() else "something else"
        elif name in found:
            found[f"{name} again ({path.name})"] = "a second file where there should be one"
        else:
            found[name] = _digest(_content(path))
    return found | {name: _digest(_scalars(paths)) for name, paths in events.items()}


def differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """What is missing, left over or different, one line a file."""
    lines = [f"missing {name}" for name in expected.keys() - found.keys()]
    lines += [f"left over {name}" for name in found.keys() - expected.keys()]
    lines += [f"different {name}" for name in expected.keys() & found.keys() if expected[name] != found[name]]
    return sorted(lines)


def _plain(text: str) -> str:
    for pattern, instead in _CHANCE:
        text = pattern.sub(instead, text)
    return text


def _content(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".json":
        return _without_times(json.loads(data))
    if path.suffix == ".jsonl":
        return b"\n".join(_without_times(json.loads(line)) for line in data.splitlines())
    if path.suffix in (".safetensors", ".lens"):
        (size,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + size])
        notes = {key: _maybe_json(value) for key, value in header.get("__metadata__", {}).items()}
        return _without_times({**header, "__metadata__": notes}) + data[8 + size :]
    if path.suffix == ".pt":
        return _packed(torch.load(path, weights_only=True))
    return data


def _maybe_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _without_times(value: Any) -> bytes:
    return _plain(json.dumps(_drop_times(value))).encode()


def _drop_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _drop_times(item) for key, item in value.items() if key not in TIMES}
    return [_drop_times(item) for item in value] if isinstance(value, list) else value


def _packed(value: Any) -> bytes:
    """A checkpoint's values, less times."""
    if isinstance(value, dict):
        return b"".join(f"{key}:".encode() + _packed(value[key]) for key in value if key not in TIMES)
    if isinstance(value, list | tuple):
        return b"[" + b",".join(map(_packed, value)) + b"]"
    if isinstance(value, torch.Tensor):
        return (
            f"{value.dtype}{tuple(value.shape)}".encode()
            + value.reshape(-1).view(torch.uint8).numpy().tobytes()
        )
    return repr(value).encode()


def _scalars(paths: list[Path]) -> bytes:
    """What TensorBoard shows of a run's event files: the last value of each step, less times."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    shown: dict[tuple[str, int], str] = {}
    for path in sorted(paths, key=lambda path: int(path.name.rpartition(".")[2])):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                shown[value.tag, event.step] = str(value.tensor.float_val or value.simple_value)
    kept = {key: value for key, value in shown.items() if key[0] not in TIMES}
    return repr(sorted(kept.items())).encode()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
