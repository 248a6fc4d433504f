"""Files from the Hugging Face hub, with errors that say what to download when there is no network."""

import re
import shlex
import socket
import urllib.request
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from emma_viz.errors import CheckpointError

HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<folder>[\w.+/-]+))?")
"""`owner/name`, or `owner/name/folder`."""


_FILES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".json")
"""Endings of files: what ends so is no hub id."""


def is_hub_id(given: str, *, folders: bool = True) -> bool:
    """Whether a name that is no path here reads as `owner/name[/folder]`.

    A path that was meant as one begins with a dot, a slash or a tilde, or names a file.

    Args:
        given: the name.
        folders: whether a folder of a repository may be meant too.
    """
    meant = given.startswith((".", "~")) or given.endswith(_FILES)
    parts = HUB_ID.fullmatch(given)
    return parts is not None and not meant and (folders or parts["folder"] is None)


def fetch(
    repo: str,
    filename: str,
    *,
    revision: str | None = None,
    optional: bool = False,
    needed: Sequence[str] = (),
) -> Path | None:
    """Download a file, or find it in the local cache.

    Args:
        repo: `owner/name`.
        filename: path inside the repository.
        revision: branch, tag or commit; None means the main branch.
        optional: return None when the repository, or the cache when offline, has no such file. A hub that does not
            answer has not said so.
        needed: patterns of all files of the repository that will be asked for, which the advice names; none: it alone.

    Raises:
        CheckpointError: the file cannot be had.
    """
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError, HTTPError

    offline = not reachable()
    try:
        return Path(
            huggingface_hub.hf_hub_download(repo, filename, revision=revision, local_files_only=offline)
        )
    except (EntryNotFoundError, HFValidationError, HTTPError, OSError) as error:
        if not offline and _unanswered(error):
            # Of these errors the client looks into the cache after some alone, and never for what is not there.
            known = _in_cache(repo, filename, revision)
            if isinstance(known, str):
                return Path(known)
            if optional and known is huggingface_hub._CACHED_NO_EXIST:
                return None
            go_on = "To go on with what the cache holds, set HF_HUB_OFFLINE=1."
            raise CheckpointError(f"{_advice(repo, filename, revision, error, needed)} {go_on}") from error
        if optional and isinstance(error, EntryNotFoundError):
            return None
        if offline:
            raise CheckpointError(_absent(repo, [filename], revision, needed)) from error
        raise CheckpointError(_advice(repo, filename, revision, error, needed)) from error


def _unanswered(error: Exception) -> bool:
    """Whether a download failed without a word of the hub on the file: no connection, a proxy's refusal, a time-out."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalEntryNotFoundError

    said = isinstance(error, HfHubHTTPError)
    return isinstance(error, LocalEntryNotFoundError) or (isinstance(error, HTTPError) and not said)


def reachable() -> bool:
    """Whether the hub can be asked: its name is known here, or a proxy is set that knows it.

    Without a network huggingface_hub would try each file for half a minute.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    address = urlsplit(constants.ENDPOINT)
    if address.scheme in urllib.request.getproxies():
        return True
    try:
        return bool(socket.getaddrinfo(address.hostname, address.port or address.scheme))
    except OSError:
        return False


def cached(repo: str, filename: str, *, revision: str | None = None) -> Path | None:
    """A file in the local cache; None when it is not there."""
    found = _in_cache(repo, filename, revision)
    return Path(found) if isinstance(found, str) else None


def _in_cache(repo: str, filename: str, revision: str | None) -> object:
    """The path of a file in the local cache; `_CACHED_NO_EXIST` where the hub once said that there is no such file."""
    import huggingface_hub
    from huggingface_hub.constants import HF_HUB_CACHE

    return huggingface_hub.try_to_load_from_cache(repo, filename, cache_dir=HF_HUB_CACHE, revision=revision)


def fetch_first(
    repo: str, filenames: Iterable[str], *, revision: str | None = None, needed: Sequence[str] = ()
) -> Path:
    """The first of several files that the repository has; arguments are those of `fetch`.

    Raises:
        CheckpointError: it has none of them.
    """
    filenames = list(filenames)
    for filename in filenames:
        if path := fetch(repo, filename, revision=revision, optional=True, needed=needed or filenames):
            return path
    if not reachable():
        raise CheckpointError(_absent(repo, filenames, revision, needed))
    raise CheckpointError(
        f"None of {', '.join(filenames)} can be had from the hub repository {repo}, nor are they in the local "
        f"cache. {_download(repo, needed or filenames, revision)}"
    )


def commit_of(path: Path) -> str | None:
    """The commit that a file in the hub's cache belongs to, read from its path `…/snapshots/<commit>/…`."""
    parts = path.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts[:-1] else None


def _absent(repo: str, filenames: Sequence[str], revision: str | None, needed: Sequence[str]) -> str:
    return (
        f"{' or '.join(filenames)} of {repo} is not in the local cache, nor is there a folder {repo} here, and the hub "
        "cannot be reached. "
        f"{_download(repo, needed or filenames, revision)}"
    )


def _advice(repo: str, filename: str, revision: str | None, error: Exception, needed: Sequence[str]) -> str:
    first = str(error).strip().splitlines() or [type(error).__name__]
    return (
        f"Cannot get {filename} from the hub repository {repo}"
        f"{f' at {revision}' if revision else ''}: {first[0].rstrip('.')}. "
        f"{_download(repo, needed or [filename], revision)}"
    )


def _download(repo: str, files: Sequence[str], revision: str | None) -> str:
    """How to have files on a machine without network: one by its name, of several those that there are."""
    words = ["hf", "download", repo, *([] if len(files) > 1 or "*" in files[0] else files)]
    if len(words) == 3 and files[0] != "*":
        words += [word for each in files for word in ("--include", each)]
    words += ["--revision", revision] if revision else []
    return (
        f"On a machine with network, run: {shlex.join(words)}; then copy the cache folder here (HF_HOME), or pass the "
        "path of the downloaded files instead of the hub id."
    )
