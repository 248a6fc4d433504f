"""What visitors bring: each visitor's files in a folder of their own, so many bytes, and nobody else's."""

import hashlib
import hmac
import os
import re
import secrets
import shutil
import stat
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from PIL import Image

from emma_viz.data import read_image
from emma_viz.errors import ImageError, InputError

_MAX_PIXELS = 40_000_000
"""The largest image that a visitor may bring; beyond it nothing is decoded."""
MAX_BYTES = 25 * 2**20
"""The largest file, 25 MB as the page and Gradio count them."""
QUOTA = 400 * 2**20
"""Bytes that one visitor's uploads may have."""
QUOTA_OF_ALL = 4 * 2**30
"""Bytes that all visitors' uploads together may have."""
KEPT_SECONDS = 4 * 3600
"""After which an upload goes."""

NOT_YOURS = "This image cannot be used: bring it again, or take an example."
"""For every path that is no upload of the visitor's own, whatever lies there: one sentence tells nothing."""


class Uploads:
    """The files that visitors brought, below one folder.

    A visitor is a browser: it holds a token that only this server can make. Where two pages of one browser are open,
    they are one visitor.

    Args:
        root: where Gradio puts files and serves them from. Uploads arrive there and move to a visitor's own folder;
            images that the server hands out (examples, those of links) lie in `images`.
        quota: bytes for one visitor.
        quota_of_all: bytes for all.
        kept: seconds.
    """

    def __init__(
        self,
        root: Path,
        *,
        quota: int = QUOTA,
        quota_of_all: int = QUOTA_OF_ALL,
        kept: float = KEPT_SECONDS,
    ):
        self.root = root.resolve()
        self.images, self._visitors = self.root / "images", self.root / "visitors"
        for folder in (self.images, self._visitors):
            folder.mkdir(parents=True, exist_ok=True)
        self._key = secrets.token_bytes(32)
        self._quota, self._quota_of_all, self._kept = quota, quota_of_all, kept
        self._lock, self._reserved = threading.Lock(), dict[Path, int]()

    def picture(self, digest: str, name: str, image: Image.Image, *, known: Callable[[], set[str]]) -> Path:
        """A PNG of an image that the server hands out; those of images that are not `known` any more go.

        Args:
            digest: the image's hash, 64 hexadecimal digits: it names a folder.
            name: what the image is called.
            known: the hashes of all images that are kept.

        Raises:
            InputError: the digest is none.
        """
        if not re.fullmatch("[0-9a-f]{64}", digest):
            raise InputError(
                f"expected an image's hash, 64 hexadecimal digits, got {digest!r:.80}; take the link again from a page."
            )
        folder = self.images / digest
        path = folder / f"{safe_name(name)}.png"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(f".{threading.get_ident()}")
            image.save(partial, format="PNG", compress_level=1)
            partial.replace(path)
            for other in self.images.iterdir():
                if other.name not in known():
                    shutil.rmtree(other, ignore_errors=True)
        return path

    def visitor(self) -> str:
        """A token for a new visitor."""
        name = secrets.token_hex(16)
        return f"{name}.{self._seal(name)}"

    def known(self, token: str) -> bool:
        """Whether this server made a token."""
        name, _, seal = token.partition(".")
        return name.isascii() and hmac.compare_digest(seal.encode(), self._seal(name).encode())

    def _seal(self, name: str) -> str:
        return hmac.new(self._key, name.encode(), hashlib.sha256).hexdigest()

    def folder(self, token: str) -> Path:
        """A visitor's own folder, which need not be there yet.

        Raises:
            InputError: this server did not make the token.
        """
        if not self.known(token):
            raise InputError("This page is older than the server; reload it.")
        return self._visitors / hashlib.sha256(token.encode()).hexdigest()

    @contextmanager
    def room(self, token: str, size: int) -> Generator[None, None, None]:
        """Hold room for an upload while it arrives.

        Raises:
            InputError: this server did not make the token, or the quota leaves no room for `size` bytes.
        """
        folder = self.folder(token)
        with self._lock:
            self._forget_old()
            mine = _size(folder) + self._reserved.get(folder, 0)
            if mine + size > self._quota:
                raise InputError(
                    f"Your images here have {mine / 2**20:.0f} MB, and a visitor may have {self._quota / 2**20:.0f} "
                    f"MB. Images go {self._kept / 3600:.0f} hours after they came; until then take one that you "
                    "brought before, or make this one smaller."
                )
            if _size(self._visitors) + sum(self._reserved.values()) + size > self._quota_of_all:
                raise InputError("All visitors' images together fill the server's room for them; try later.")
            self._reserved[folder] = self._reserved.get(folder, 0) + size
        try:
            yield
        finally:
            with self._lock:
                self._reserved[folder] -= size
                if not self._reserved[folder]:
                    del self._reserved[folder]

    def adopt(self, token: str, path: Path) -> Path:
        """Move a file that has arrived into its visitor's folder, under its own name.

        Raises:
            InputError: this server did not make the token.
            ImageError: it has not arrived here.
        """
        found = _regular(path)
        if found is None or found.parent.parent != self.root:
            raise ImageError(NOT_YOURS)
        folder = self.folder(token) / found.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        os.replace(found, folder / found.name)
        os.utime(folder / found.name)
        with suppress(OSError):
            found.parent.rmdir()
        return folder / found.name

    def find(self, token: str, path: object) -> Path:
        """The file that a visitor means.

        Raises:
            ImageError: it is neither an upload of this visitor nor an image that the server handed out. The message
                is the same whatever it is.
        """
        found = _regular(path)
        own = [self.folder(token)] if self.known(token) else []
        if found is None or not any(found.is_relative_to(folder) for folder in (*own, self.images)):
            raise ImageError(NOT_YOURS)
        return found

    def may_see(self, token: str, path: object) -> bool:
        """Whether a file may be sent to a visitor: it is theirs, or the page's own, such as a thumbnail."""
        found = _regular(path)
        if found is None or not found.is_relative_to(self.root):
            return False
        if found.is_relative_to(self._visitors):
            return self.known(token) and found.is_relative_to(self.folder(token))
        return found.parent != self.root  # where half of an upload may lie

    def _forget_old(self) -> None:
        """Remove what came longer ago than uploads are kept, and the folders that are left empty."""
        now = time.time()
        halves = [path for path in self.root.iterdir() if path.is_file()]
        for path in (
            *halves,
            *sorted(self._visitors.rglob("*"), reverse=True),
        ):  # what is in a folder before it
            with suppress(OSError):
                if now - path.lstat().st_mtime > self._kept:
                    path.rmdir() if path.is_dir() else path.unlink()

    def close(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.root, ignore_errors=True)


def _regular(path: object) -> Path | None:
    """A path with all links resolved, if a regular file is there and the text is a whole path."""
    if not isinstance(path, str | Path) or not str(path).startswith("/"):
        return None
    try:
        found = Path(path).resolve(strict=True)
        return found if stat.S_ISREG(found.stat().st_mode) else None
    except (OSError, ValueError, RuntimeError):
        return None


def _size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):
                total += Path(place, name).lstat().st_size
    return total


def read_upload(path: Path, *, convert: bool = False) -> tuple[Image.Image, str]:
    """An uploaded image, checked before it is decoded, and its title.

    Raises:
        ImageError: it is too large, or no image. The message names no path.
    """
    title = image_title(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ImageError(f"{title} has more than {MAX_BYTES / 2**20:.0f} MB; make it smaller.")
        return read_image(path, max_pixels=_MAX_PIXELS, convert_profile=convert), title
    except OSError as error:
        raise ImageError(f"{title} cannot be read; bring it again.") from error
    except ImageError as error:
        raise ImageError(str(error).replace(str(path), title)) from None


def image_title(path: Path) -> str:
    """What an uploaded file is called on the page: its name, without folders and short enough for a line."""
    name = path.stem
    return name if len(name) <= 40 else name[:39] + "…"


def safe_name(name: str) -> str:
    """A name of an image as that of a file."""
    return "".join(c if c.isalnum() or c in "-_ " else "-" for c in name).strip() or "image"
