"""Files of a study: written whole or not at all, and locked while they change.

Every file is written beside its final place and renamed over it, so a crash, a full disk or a second process
never leaves half a file under a name that is read.
"""

import json
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from emma_viz.data.provenance import dump_json
from emma_viz.errors import InputError, StudyError
from emma_viz.files.atomic import write_file

LOCK_SECONDS = 30.0
"""How long a writer waits for another one before it gives up."""

_ENCODING = "utf-8"


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object atomically.

    Raises:
        StudyError: the value has no JSON form, or the file cannot be written.
    """
    try:
        # Lone surrogates, which a command line can hold, have no UTF-8 form.
        data = dump_json(value).encode(_ENCODING, errors="surrogatepass")
    except InputError as error:
        raise StudyError(f"{path.name} cannot be written: {error}") from error
    _write(path, lambda part: part.write_bytes(data))


def read_json(path: Path) -> dict[str, Any]:
    """Read what `write_json` wrote.

    Raises:
        StudyError: the file is missing, unreadable or no JSON object.
    """
    with explained(path, "read"):
        data = path.read_bytes()
    try:
        value = json.loads(data.decode(_ENCODING, errors="surrogatepass"))
    except ValueError as error:
        raise StudyError(
            f"{path} is no JSON file: {error}. It was changed or damaged after it was written."
        ) from error
    if not isinstance(value, dict):
        raise StudyError(f"{path} should hold a JSON object, and holds a {type(value).__name__}.")
    return value


def write_tensors(path: Path, tensors: Mapping[str, Tensor], note: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file atomically.

    Args:
        path: where to.
        tensors: any dtypes and layouts; they are written as contiguous tensors on the CPU.
        note: text that goes into the file's own header.

    Raises:
        StudyError: the file cannot be written.
    """
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    _write(path, lambda part: save_file(ready, part, metadata=dict(note) if note else None))


def read_tensor(path: Path, name: str) -> Tensor:
    """One tensor of a safetensors file, memory-mapped: its bytes are read when they are used.

    The mapping is private: writing into the tensor changes neither the file nor what others read.

    Raises:
        StudyError: the file is missing or damaged, or has no such tensor.
    """
    with explained(path, "read"), safe_open(path, framework="pt") as file:
        return file.get_tensor(name)


def read_note(path: Path) -> dict[str, str]:
    """The text in the header of a safetensors file.

    Raises:
        StudyError: the file is missing or damaged.
    """
    with explained(path, "read"), safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def write_png(path: Path, image: Image.Image) -> None:
    """Write an RGB image losslessly and atomically; an existing file is left as it is.

    Raises:
        StudyError: the file cannot be written.
    """
    if not path.exists():
        # Level 1 is several times faster than the default and a few per cent larger.
        _write(path, lambda part: image.save(part, format="PNG", compress_level=1))


def read_png(path: Path) -> Image.Image:
    """Read what `write_png` wrote; the file is closed again.

    Raises:
        StudyError: the file is missing or damaged.
    """
    with explained(path, "read"), Image.open(path) as image:
        return Image.fromarray(np.asarray(image))


def make_folder(path: Path) -> Path:
    """Create a folder and its parents, if it is not there.

    Raises:
        StudyError: it cannot be created.
    """
    with explained(path, "created"):
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def explained(path: Path, what: str) -> Generator[None, None, None]:
    """Turn the errors of the file system, and of safetensors, into a StudyError that names the path."""
    try:
        yield
    except (OSError, SafetensorError, SyntaxError) as error:  # Pillow raises SyntaxError on a damaged PNG.
        raise StudyError(f"{path} cannot be {what}: {error}.") from error


@contextmanager
def locked(path: Path, what: str, *, seconds: float | None = None) -> Generator[None, None, None]:
    """Hold a lock that one process (and one thread) at a time can have.

    The system frees the lock when its process ends, however it ends, so there are no stale locks.

    Args:
        path: the lock file; it stays there.
        what: what is locked, for the message.
        seconds: how long to wait for another holder; `LOCK_SECONDS` when not given.

    Raises:
        StudyError: another process holds the lock, or the lock file cannot be written.
    """
    with explained(path, "locked"):
        file = path.open("a+b")
    with file:
        deadline = time.monotonic() + (LOCK_SECONDS if seconds is None else seconds)
        while not _try_lock(file):
            if time.monotonic() >= deadline:
                raise StudyError(
                    f"Another process is writing to {what} (lock file {path}). Wait until it is done, or "
                    "write to another one."
                )
            time.sleep(0.02)
        try:
            yield
        finally:
            _unlock(file)


def _write(path: Path, write: Callable[[Path], object]) -> None:
    with explained(path, "written"):
        write_file(path, write)


if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: BinaryIO) -> bool:
        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(file: BinaryIO) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(file: BinaryIO) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)
