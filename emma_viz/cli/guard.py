"""How a command line ends: an error of emma_viz becomes one line and an exit code."""

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
        The command's exit code, 1 when emma_viz refused the task, 130 when interrupted.
    """
    try:
        return run() or 0
    except EmmaVizError as error:
        if verbose:
            raise
        print(f"{program}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
