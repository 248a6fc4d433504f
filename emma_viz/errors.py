"""Every error that emma_viz raises on purpose.

EmmaVizError
├── InputError               a value from the user does not fit (an image, a prompt, an option)
│   ├── ImageError           a file that cannot be used as an image
│   └── RecordError          a data-set record that cannot be used
├── CheckpointError          a checkpoint that cannot be read
│   ├── KeyMismatchError     missing, unknown or misshapen keys, listed
│   └── UnsafePickleError    a pickle that would run code
├── CaptureError             a hook that did not do what was asked
│   └── SiteError            a hook site or layer that does not exist
├── LensError                a lens that cannot be fitted, read or used
│   ├── MissingLensError     no lens of that kind for these weights
│   └── LensMismatchError    a lens that belongs to another model, site or layer
├── StudyError               a study folder that cannot be read or written
├── CasebookError            a casebook that cannot be opened, read or written
│   └── CaseConflictError    somebody else changed the case in the meantime
├── BackendError             a kernel backend that cannot run here
├── TrainingError            a training run that cannot go on
└── MissingDependencyError   an optional package is not installed

Each message says what was expected, what came, and how to mend it.
"""

import re

_LONGEST = 8000
"""Characters of a message; one that quotes what it found in a stranger's file could be as long as the file."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""All control characters but tabs and ends of lines."""


class EmmaVizError(Exception):
    """The root of all errors that emma_viz raises on purpose.

    A message may quote what was found in a stranger's file: control characters are written out, as a terminal would
    obey them, and a message that is too long loses its middle.
    """

    def __init__(self, *args: object):
        super().__init__(*(_tame(each) if isinstance(each, str) else each for each in args))


def _tame(text: str) -> str:
    text = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
    if len(text) <= _LONGEST:
        return text
    begin, end = _LONGEST * 3 // 4, _LONGEST // 8
    return f"{text[:begin]} … {len(text) - begin - end:,} characters left out … {text[-end:]}"


class InputError(EmmaVizError, ValueError):
    """A value from the user does not fit."""


class ImageError(InputError):
    """A file or array cannot be used as an image."""


class RecordError(InputError):
    """A record of a data set cannot be used."""


class CheckpointError(EmmaVizError):
    """A checkpoint cannot be read."""


class KeyMismatchError(CheckpointError):
    """A checkpoint's keys or shapes are not those of the architecture. `where` begins the message, `hint` ends it.

    Attributes:
        missing: keys the architecture needs and the file lacks.
        unknown: keys the file has and the architecture lacks.
        misshapen: one sentence per key whose shape or type differs.
    """

    def __init__(self, where: str, missing=(), unknown=(), misshapen=(), hint: str = ""):
        self.missing, self.unknown, self.misshapen = tuple(missing), tuple(unknown), tuple(misshapen)
        lines = [f"{where}: the checkpoint does not fit the architecture."]
        for title, keys in (
            ("missing", self.missing),
            ("unknown", self.unknown),
            ("wrong shape or type", self.misshapen),
        ):
            if keys:
                shown = "\n".join(f"    {key}" for key in keys[:20])
                rest = f"\n    … and {len(keys) - 20} more" if len(keys) > 20 else ""
                lines.append(f"  {title} ({len(keys)}):\n{shown}{rest}")
        if hint:
            lines.append(f"  {hint}")
        super().__init__("\n".join(lines))


class UnsafePickleError(CheckpointError):
    """A pickle would run code when loaded; it was not loaded."""


class CaptureError(EmmaVizError):
    """A hook did not do what was asked of it."""


class SiteError(CaptureError, InputError):
    """A hook site or layer does not exist."""


class LensError(EmmaVizError):
    """A lens cannot be fitted, read or used."""


class MissingLensError(LensError):
    """There is no lens of that kind for these weights."""


class LensMismatchError(LensError):
    """A lens belongs to another model, site or layer."""


class StudyError(EmmaVizError):
    """A study folder cannot be read or written."""


class CasebookError(EmmaVizError):
    """A casebook cannot be opened, read or written."""


class CaseConflictError(CasebookError):
    """Somebody else changed the case in the meantime; nothing was written."""


class BackendError(EmmaVizError):
    """A kernel backend cannot run here."""


class TrainingError(EmmaVizError):
    """A training run cannot go on."""


class MissingDependencyError(EmmaVizError, ImportError):
    """An optional package is not installed.

    Args:
        package: the package that could not be imported.
        purpose: what it is needed for, as the end of "needed to …".
        install: the exact command that installs it.
    """

    def __init__(self, package: str, purpose: str, install: str):
        super().__init__(f"{package} is not installed; it is needed to {purpose}. Install it with: {install}")
