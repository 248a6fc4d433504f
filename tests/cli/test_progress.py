"""Progress bars are for people who look."""

import io
import os
import subprocess
import sys

import pytest

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


def test_a_log_has_a_line_now_and_then(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("emma_viz.cli.progress.time.monotonic", lambda: now[0])
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with ProgressBars() as bars:
        for done in range(200):
            bars(done, 500, "ask\x1b[2J")
            now[0] += 1.0
        for number in range(50):  # each quicker than a line is due
            bars(1, 2, f"decode {number}")
            now[0] += 1.0
    assert sys.stderr.getvalue().splitlines() == [
        r"ask\x1b[2J: 60 of 500",
        r"ask\x1b[2J: 120 of 500",
        r"ask\x1b[2J: 180 of 500",
        "decode 40: 1 of 2",
    ]


@pytest.mark.parametrize("columns", [80, 100])
def test_a_command_draws_bars_as_wide_as_the_terminal(columns, tmp_path):
    body = (
        "bars(1, 2, 'loading a\\x1b[2J\\nb')",
        "bars(1, 2, 'asking ' + 'x' * 200)",
    )
    first, *later = drawn(body, columns, tmp_path).split("\r")
    assert first == ""
    bars = [each for each in later if each.strip()]
    assert {len(each) for each in bars} == {columns - 1}
    assert any(each.startswith(r"loading a\x1b[2J\nb:   0%|") for each in bars)
    assert any(each.startswith("asking xxx") for each in bars)


def test_what_is_said_while_a_bar_stands_has_a_line_of_its_own(tmp_path):
    body = (
        "bars(1, 2, 'loading')",
        "print('of the one')",
        "bars(1, 2, 'asking')",
        "print('of two', file=sys.stderr)",
    )
    lines = [seen(line) for line in drawn(body, 80, tmp_path).split("\n")]
    assert [line.rstrip() for line in lines] == ["of the one", "of two", ""]


def seen(line: str) -> str:
    """What a terminal shows of a line in which the cursor goes back to its beginning."""
    cells: list[str] = []
    for part in line.split("\r"):
        cells[: len(part)] = part
    return "".join(cells)


def drawn(body: tuple[str, ...], columns: int, folder) -> str:
    """What stands in a terminal of that width after a program with such lines, in which `bars` are progress bars."""
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    lines = "".join(f"        {line}\n" for line in body)
    program = (
        "import sys\nfrom emma_viz.cli import progress\nfrom emma_viz.cli.guard import guarded\n"
        f"progress.DELAY_SECONDS = 0.0\ndef run():\n    with progress.ProgressBars() as bars:\n{lines}guarded(run)\n"
    )
    outer, inner = pty.openpty()
    termios.tcsetwinsize(inner, (24, columns))
    started = subprocess.Popen([sys.executable, "-c", program], cwd=folder, stdout=inner, stderr=inner)
    os.close(inner)
    found = b""
    try:
        while part := os.read(outer, 65536):
            found += part
    except OSError:  # how Linux says that nobody writes any more
        pass
    os.close(outer)
    assert started.wait() == 0
    return found.decode()
