"""Progress bars on standard error, one per thing that is being done."""

import sys

from tqdm import tqdm

from emma_viz.cli.terminal import Door, one_line

DELAY_SECONDS = 1.0
"""A bar appears once its task has run this long."""


class ProgressBars:
    """A callable `progress(done, total, what)` that draws one tqdm bar per `what`; a context manager."""

    def __init__(self):
        self._what: str | None = None
        self._bar: tqdm | None = None

    def __call__(self, done: int, total: int, what: str) -> None:
        """Show that `done` of `total` steps of `what` are behind us."""
        if self._bar is None or what != self._what:
            self._close()
            self._what = what
            # No bar where standard error is a file or a pipe; a door says of itself that it is no terminal.
            hidden = not sys.stderr.on_terminal if isinstance(sys.stderr, Door) else None
            self._bar = tqdm(
                total=total,
                desc=one_line(what),
                delay=DELAY_SECONDS,
                leave=False,
                dynamic_ncols=True,
                disable=hidden,
            )
        self._bar.update(done - self._bar.n)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None
