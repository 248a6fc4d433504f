"""`study.json`, the file that makes a folder a study: its form, its version, and what is planned to be there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from emma_viz.errors import StudyError
from emma_viz.files.json_door import read_json
from emma_viz.files.schema import Count, shape
from emma_viz.files.versions import require_version
from emma_viz.study.files import own

STUDY = "study.json"
STUDY_FORMAT = "emma-viz study"
STUDY_VERSION = 1
"""Schema version of the folder; raised whenever an older reader could not read the new form."""


@dataclass(frozen=True, kw_only=True)
class StudyFile:
    """What `study.json` holds."""

    format: str
    version: int
    created: str = ""
    planned: Mapping[str, Count] = field(default_factory=dict)
    """Entries that are to be there, and how many samples each is to hold."""


def require_study(root: Path) -> None:
    """Refuse a folder that is no study, or one that a newer emma_viz wrote.

    Raises:
        StudyError: it is one.
    """
    value = read_json(own(root, STUDY), error=StudyError)
    if value.get("format") != STUDY_FORMAT:
        raise StudyError(
            f"{root / STUDY} does not say that this is a study ({STUDY_FORMAT!r}); open another folder."
        )
    require_version(value, "version", STUDY_VERSION, where=str(root), error=StudyError)


def read_study_file(root: Path) -> StudyFile:
    """What `study.json` of a study says.

    Raises:
        StudyError: it is missing or damaged.
    """
    path = own(root, STUDY)
    return shape(read_json(path, error=StudyError), StudyFile, where=str(path), error=StudyError, spare=True)
