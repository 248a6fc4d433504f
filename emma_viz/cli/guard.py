"""How a command line ends: an error of emma_viz becomes one line and an exit code."""

import errno
import sys
from collections.abc import Callable

from emma_viz.errors import EmmaVizError


def guarded(run: Callable[[], int | None], *, program: str = "emma-viz", verbose: bool = False) -> int:
    """Run a command.

    Args:
        run: returns the exit code; None is 0.
        program: what the line begins with.
        verbose: let errors through, for their traceback.

    Returns:
        The command's exit code, 1 when emma_viz refused the task or the disk is full, 130 when interrupted.
    """
    try:
        return run() or 0
    except EmmaVizError as error:
        if verbose:
            raise
        print(f"{program}: error: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        if verbose or not _disk_is_full(error):
            raise
        print(
            f"{program}: error: the disk is full ({error}). Files are written whole or not at all: make room and run "
            "the command again.",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130


def _disk_is_full(error: Exception) -> bool:
    """Whether a file could not be written for lack of space; safetensors has its own error, with the system's words."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(
        error
    )
