"""Files of a study: written whole or not at all, and never outside its folder.

Every file is written beside its final place and renamed over it, so a crash, a full disk or a second process
never leaves half a file under a name that is read. A study makes no links, so none in it is followed.
"""

import shutil
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from emma_viz.data.images import image_hash
from emma_viz.data.provenance import dump_json
from emma_viz.errors import InputError, StudyError
from emma_viz.files import tensors as tensor_files
from emma_viz.files.atomic import PART, write_file
from emma_viz.files.inside import require_inside
from emma_viz.files.json_door import open_regular
from emma_viz.files.tensors import open_tensors

_ENCODING = "utf-8"


def own(root: Path, *names: str, kind: Literal["file", "folder"] = "file") -> Path:
    """The path of a study's own file or folder, whether it is there or not.

    Args:
        root: the study's folder.
        names: made by the study, or held to the form of those it makes.
        kind: what it must be if it is there.

    Raises:
        StudyError: it is a link, lies in one, or is something else than `kind`.
    """
    path = root.joinpath(*names)
    require_inside(path, root, error=StudyError, kind=kind, links=False)
    return path


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


def write_study_tensors(
    path: Path, tensors: Mapping[str, Tensor], note: Mapping[str, str] | None = None
) -> None:
    """`emma_viz.files.tensors.write_tensors`; a StudyError where the file cannot be written."""
    with explained(path, "written"):
        tensor_files.write_tensors(path, tensors, note)


def read_tensor(path: Path, name: str) -> Tensor:
    """One tensor of a safetensors file whose header was read, memory-mapped: its bytes are read when they are used.

    The mapping is private: writing into the tensor changes neither the file nor what others read.

    Raises:
        StudyError: the file is missing or damaged, or has no such tensor.
    """
    with explained(path, "read"), open_tensors(path) as file:
        return file.get_tensor(name)


def write_png(path: Path, image: Image.Image, digest: str) -> None:
    """Write an RGB image losslessly and atomically; a file that holds it already is left as it is.

    Args:
        path: where to.
        image: the image.
        digest: its `image_hash`.

    Raises:
        StudyError: the file cannot be written.
    """
    with suppress(StudyError):
        read_png(path, digest, image.size)
        return
    # Level 1 is several times faster than the default and a few per cent larger.
    _write(path, lambda part: image.save(part, format="PNG", compress_level=1))


def read_png(path: Path, digest: str, size: tuple[int, int]) -> Image.Image:
    """Read what `write_png` wrote; the file is closed again.

    Args:
        path: the file.
        digest: the `image_hash` that it must have.
        size: width and height that it must have, pixels.

    Raises:
        StudyError: the file is missing, damaged, or holds another image.
    """
    width, height = size
    limit = 2**20 + height * (3 * width + 1) * 101 // 100
    with open_regular(path, error=StudyError) as file:
        if (length := file.seek(0, 2)) > limit:
            raise StudyError(
                f"{path}: expected at most {limit:,} bytes for {width}×{height} pixels, got {length:,}."
            )
        file.seek(0)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `size` decides
                image = Image.open(file, formats=["PNG"])
            if (image.mode, image.size) == ("RGB", size):
                image.load()
        # Damaged files make Pillow's decoders raise almost anything (OSError, SyntaxError, struct.error, …).
        except Exception as error:
            raise StudyError(f"{path} cannot be read: {error}. It was changed or damaged.") from error
    if (image.mode, image.size) != ("RGB", size):
        raise StudyError(
            f"{path}: expected {width}×{height} RGB pixels, got {image.width}×{image.height} {image.mode}. "
            "The file was changed after it was written; record the image again."
        )
    if image_hash(image) != digest:
        raise StudyError(
            f"{path}: its pixels do not have the hash that it is named by, so it is not the image that was recorded. "
            "The file was changed after it was written; record the image again."
        )
    image.info.clear()  # Nothing but pixels leaves with it.
    return image


def make_folder(path: Path) -> Path:
    """Create a folder and its parents, if it is not there.

    Raises:
        StudyError: it cannot be created.
    """
    with explained(path, "created"):
        path.mkdir(parents=True, exist_ok=True)
    return path


def children(folder: Path) -> Iterator[Path]:
    """What lies in a folder, sorted; nothing when there is none. Links are among it, and not followed.

    Raises:
        StudyError: it cannot be read.
    """
    with explained(folder, "read"), suppress(FileNotFoundError):
        yield from sorted(folder.iterdir())


def remove_folder(path: Path) -> None:
    """Remove a folder with all that is in it, as far as the system lets us; links in it are not followed."""
    if not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)


def sweep_parts(folder: Path) -> None:
    """Remove the halves of files that a killed process left in a folder; nobody may be writing to it."""
    for path in children(folder):
        if PART.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            remove_file(path)


def remove_file(path: Path) -> None:
    """Remove a file, as far as the system lets us; of a link the link alone."""
    with suppress(OSError):
        path.unlink()


@contextmanager
def explained(path: Path, what: str) -> Generator[None, None, None]:
    """Turn the errors of the file system, and of safetensors, into a StudyError that names the path."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise StudyError(f"{path} cannot be {what}: {error}.") from error


def _write(path: Path, write: Callable[[Path], object]) -> None:
    with explained(path, "written"):
        write_file(path, write)
