"""How a command line ends: what emma_viz or the system refuses becomes one line and an exit code."""

import errno
import os
import re
import sys
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar

from emma_viz.cli.terminal import Door, doors, indented
from emma_viz.cli.wording import in_options
from emma_viz.errors import EmmaVizError

CLOSED_PIPE = 141
"""The exit code when nobody reads what a program says any more: 128 + SIGPIPE, as a shell reports it."""

_REFUSALS = {
    errno.EACCES: "change its rights or name another place",
    errno.EPERM: "change its rights or name another place",
    errno.EROFS: "name a place that can be written to",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.ELOOP: "its links lead in a circle; name the file itself",
    errno.ENOTDIR: "a part of this path is a file, not a folder",
    errno.EISDIR: "this is a folder; name a file",
    errno.ENOENT: "check the path",
    errno.EIO: "the disk or the network folder fails; copy the file elsewhere",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close other programs",
    errno.EBUSY: "something else uses it",
    errno.ETXTBSY: "something else uses it",
    errno.ESTALE: "the network folder has changed; run the command again",
    errno.EFBIG: "name a place whose file system holds larger files",
}
"""What the system refuses whatever the program does, and how to mend it."""


_VERBOSE = ContextVar("verbose", default=False)
"""Whether the command that runs shows every error's traceback."""


def guarded(run: Callable[[], int | None], *, program: str = "emma-viz", verbose: bool | None = None) -> int:
    """Run a command; all that it prints goes through `terminal.Door`. May be nested.

    Args:
        run: returns the exit code; None is 0.
        program: what the line begins with.
        verbose: show every error's traceback; None: as the command that this one runs in.

    Returns:
        The command's exit code, 1 when emma_viz or the system refused the task (one line says why) or there is a fault
        in emma_viz (the traceback does), 130 when interrupted, 141 when all went well and standard output was closed.

    Raises:
        SystemExit: argparse ends the program.
    """
    verbose = _VERBOSE.get() if verbose is None else verbose
    with doors() as out, _within(verbose):
        try:
            code = run() or 0
        except SystemExit as ended:
            if not ended.code and (code := _unread(out, program)):
                raise SystemExit(code) from None
            raise
        except KeyboardInterrupt:
            print(f"{program}: interrupted", file=sys.stderr)
            return 130
        except Exception as error:
            said = None if verbose else _sentence(error)
            if said is None:
                traceback.print_exc()
            else:
                print(f"{program}: error: {indented(said)}", file=sys.stderr)
            return 1
        return code or _unread(out, program)


@contextmanager
def _within(verbose: bool) -> Generator[None, None, None]:
    """Let commands that run inside this one know whether tracebacks are shown."""
    before = _VERBOSE.set(verbose)
    try:
        yield
    finally:
        _VERBOSE.reset(before)


def _unread(out: Door | None, program: str) -> int:
    """The exit code of a command that went well, by whether what it said could be written."""
    if out is None:
        return 0
    out.flush()
    if out.failure is None:
        return 0
    if isinstance(out.failure, BrokenPipeError):
        return CLOSED_PIPE
    print(f"{program}: error: standard output could not be written: {out.failure.strerror}", file=sys.stderr)
    return 1


def _sentence(error: Exception) -> str | None:
    """What to tell instead of a traceback; None for a fault of ours, which needs it."""
    if isinstance(error, EmmaVizError):
        return in_options(str(error))
    number = error.errno if isinstance(error, OSError) else _number_of_a_library(error)
    if number in (errno.ENOSPC, errno.EDQUOT):
        room = "Files are written whole or not at all: make room and run the command again."
        return f"the disk is full ({error}). {room}"
    files = [error.filename, error.filename2] if isinstance(error, OSError) else []
    named = " → ".join(os.fsdecode(file) for file in files if isinstance(file, str | bytes))
    if number is None or not (named or number in _REFUSALS):
        return None
    what = f"{named}: {os.strerror(number)}" if named else str(error)
    return f"{what}; {_REFUSALS[number]}." if number in _REFUSALS else f"{what}."


def _number_of_a_library(error: Exception) -> int | None:
    """The system's error number in the words of safetensors and tokenizers, which raise no OSError."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None
