"""Progress bars are for people who look."""

import io
import sys

from emma_viz.cli.progress import ProgressBars


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bars_are_drawn_on_a_terminal_alone(monkeypatch):
    monkeypatch.setattr("emma_viz.cli.progress.DELAY_SECONDS", 0.0)
    written = {}
    for kind in (io.StringIO, Terminal):
        monkeypatch.setattr(sys, "stderr", kind())
        with ProgressBars() as bars:
            bars(0, 3, "loading")
            bars(3, 3, "loading")
        written[kind] = sys.stderr.getvalue()
    assert "loading" in written[Terminal]
    assert written[io.StringIO] == ""
