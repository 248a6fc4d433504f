"""What an entry of a study is called, and what it keeps of its images' names."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emma_viz.errors import StudyError
from emma_viz.files.schema import shape
from emma_viz.study import Study

NAMES = "names"
"""Arrays of an entry whose description holds what its images are called."""


def entry_name(model: str | Path) -> str:
    """What the entry of a model is called: its bundled name or hub id, or the last part of its path."""
    return Path(model).name if Path(model).exists() else str(model)


def keep_image_names(study: Study, entry: str, names: Sequence[str]) -> None:
    """Keep what the images are called, if it is not kept yet."""
    if _kept(study, entry) == tuple(names):
        return
    study.save_arrays(entry, NAMES, {}, {"images": list(names)}, overwrite=True)


def image_names_of_entry(study: Study, entry: str) -> tuple[str, ...]:
    """What the image of each sample of an entry is called; nothing where it was not kept of all.

    Raises:
        StudyError: the names were changed or damaged.
    """
    names, count = _kept(study, entry), study.entry(entry).n_samples
    return names[:count] if len(names) >= count else ()


def _kept(study: Study, entry: str) -> tuple[str, ...]:
    """All names that are kept: of an entry that is not whole yet they are those of the whole one."""
    if NAMES not in study.entry(entry).arrays:
        return ()
    _, meta = study.load_arrays(entry, NAMES)
    where = f"{study.path}, {NAMES} of the entry {entry!r}"
    return shape(meta, _Names, where=where, error=StudyError).images


@dataclass(frozen=True, kw_only=True)
class _Names:
    """What is kept beside a trace."""

    images: tuple[str, ...]
