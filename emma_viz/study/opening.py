"""Where a study begins: opening and making its folder, and removing one that nothing came into."""

import os
import zipfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from emma_viz.errors import StudyError
from emma_viz.files.room import require_writable
from emma_viz.study.entries import now
from emma_viz.study.files import children, explained, make_folder, own, remove_file, remove_folder, write_json
from emma_viz.study.folders import LOCKS, WRITER, lock
from emma_viz.study.study import Study
from emma_viz.study.study_file import STUDY, STUDY_FORMAT, STUDY_VERSION
from emma_viz.study.trace_files import IMAGES


def open_study(path: str | Path, *, create: bool = False) -> Study:
    """Open a study folder.

    Args:
        path: the folder.
        create: make an empty study if there is none yet.

    Raises:
        StudyError: there is none, it is of another schema version, or the folder holds something else.
    """
    path = Path(path)
    if create and not (path / STUDY).exists():
        _create(path)
    if not (path / STUDY).is_file():
        if path.is_file() and zipfile.is_zipfile(path):
            raise StudyError(
                f"{path} is a zip file, and a study a folder; unpack it, and open the folder in it."
            )
        raise StudyError(
            f"{path} is no study: it has no {STUDY}. Make one with emma-viz capture, or in Python with "
            "open_study(path, create=True)."
        )
    return Study(path)


def require_place(path: str | Path) -> None:
    """Check that `open_study(path, create=True)` will find or make a study there, without making anything.

    Raises:
        StudyError: the folder holds something else, or it cannot be made or written.
    """
    path = Path(path)
    if os.path.lexists(path / STUDY):
        Study(path)
        require_writable(path, folder=True, error=StudyError)
        return
    require_writable(path, folder=True, error=StudyError)
    if path.exists():
        _require_empty(path)


def _require_empty(path: Path) -> None:
    with explained(path, "read"):
        others = sorted(file.name for file in path.iterdir() if not file.name.startswith("."))
    if others and STUDY not in others:
        raise StudyError(
            f"{path} is not empty and no study (it holds {', '.join(others[:3])}); give a new or an empty folder."
        )


def _create(path: Path) -> None:
    if path.exists():
        _require_empty(path)
    with made_or_removed(path):
        make_folder(path)
        with lock(path, "study", f"the folder {path}"):
            _require_empty(path)
            if not (path / STUDY).exists():
                write_json(
                    own(path, STUDY), {"format": STUDY_FORMAT, "version": STUDY_VERSION, "created": now()}
                )


@contextmanager
def made_or_removed(path: Path) -> Generator[None, None, None]:
    """Remove a study, and the folders above it, that the block made and left without an entry when it failed."""
    above = [place for place in (path, *path.parents) if not place.exists()]
    was, had_locks = (path / STUDY).exists(), (path / LOCKS).exists()
    try:
        yield
    except BaseException:
        if not was:
            if (path / STUDY).exists():
                _remove_if_empty(path)
            elif not had_locks:
                remove_folder(path / LOCKS)
            for place in above:
                with suppress(OSError):
                    place.rmdir()
        raise


def _remove_if_empty(path: Path) -> None:
    """Remove what a study without entries consists of, unless somebody is writing an entry: whoever begins to takes the
    study's own lock for that."""
    with suppress(StudyError, OSError), lock(path, "study", f"the folder {path}"):
        for file in children(own(path, LOCKS, kind="folder")):
            if file.name.endswith(WRITER):
                with lock(path, file.name, "an entry", 0.0):
                    pass  # held by nobody, or it would have raised
        Study(path).sweep()
        entries = own(path, "entries", kind="folder")
        if entries.exists():
            entries.rmdir()  # refused as long as there is an entry
        for image in children(own(path, IMAGES, kind="folder")):
            remove_file(image)
        for folder in (IMAGES, LOCKS):
            remove_folder(path / folder)
        remove_file(path / STUDY)
