"""Progress on standard error, a bar or now and then a line for each thing that is being done."""

import sys
import time

from tqdm import tqdm

from emma_viz.cli.terminal import Door, one_line

DELAY_SECONDS = 1.0
"""A bar appears once its task has run this long."""
LINE_SECONDS = 60.0
"""Where standard error is a file or a pipe, as under a scheduler, a line is written this often."""


class ProgressBars:
    """A callable `progress(done, total, what)` that draws one tqdm bar per `what`, or writes lines.

    It is a context manager.
    """

    def __init__(self):
        self._what: str | None = None
        self._bar: tqdm | None = None
        self._said = time.monotonic()

    def __call__(self, done: int, total: int, what: str) -> None:
        """Show that `done` of `total` steps of `what` are behind us."""
        if self._bar is None or what != self._what:
            self._close()
            self._what = what
            # No bar where standard error is a file or a pipe; a door says of itself that it is no terminal.
            stream = sys.stderr
            hidden = not (stream.on_terminal if isinstance(stream, Door) else stream.isatty())
            self._bar = tqdm(
                total=total,
                desc=one_line(what),
                delay=DELAY_SECONDS,
                leave=False,
                dynamic_ncols=True,
                disable=hidden,
            )
        self._bar.update(done - self._bar.n)
        if self._bar.disable and time.monotonic() - self._said >= LINE_SECONDS:
            self._said = time.monotonic()
            print(f"{one_line(what)}: {done} of {total}", file=sys.stderr, flush=True)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None
