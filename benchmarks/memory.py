"""The most memory that a process has held."""

import resource
import sys
from pathlib import Path

_FORGET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def forget_peak() -> None:
    """Let the peak begin anew, where the system can (Linux)."""
    if _FORGET.exists():
        _FORGET.write_text("5")


def peak() -> float:
    """The peak of this process since it began, or since it was forgotten; MB of 2**20 bytes.

    On Linux it is not what `getrusage` says: there a new program inherits the peak of the process that started it.
    """
    if not _STATUS.exists():
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return held / (2**20 if sys.platform == "darwin" else 2**10)
    lines = _STATUS.read_text().splitlines()
    return next(int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmHWM"))
