"""What the programs print, on any terminal and into any pipe: in processes of their own, as a user starts them."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
HOSTILE = "a\x1b[2J\x9b31m\rb\u202ec\udce9d\u2028e\x00f"
HARMLESS = r"a\x1b[2J\x9b31m\x0db\u202ec\xe9d\u2028e\x00f"
PROGRAMS = {
    "emma-viz": ["-m", "emma_viz"],
    "explore": ["-m", "emma_viz", "explore"],
    "train": ["-m", "training.train"],
    "results": ["-m", "training.results"],
    "kernels": ["-m", "benchmarks.kernels"],
    "measured training": ["-m", "benchmarks.training"],
    "measured explorer": ["-m", "benchmarks.explorer"],
    "screenshots": ["-m", "docs.screenshots"],
}


def started(*argv: str | bytes, cwd: Path, stdout=subprocess.PIPE, **environment: str):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        [sys.executable, *argv], cwd=cwd, env=environment, stdout=stdout, stderr=subprocess.PIPE
    )


def through_the_guard(body: str) -> list[str]:
    """A program that ends as ours do, with some lines of code in it."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return [
        "-c",
        f"import sys\nfrom emma_viz.cli.guard import guarded\ndef run():\n{lines}sys.exit(guarded(run))\n",
    ]


def closed_pipe() -> int:
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def test_what_is_said_on_a_standard_error_that_is_not_there_goes_nowhere(tmp_path):
    body = (
        "from emma_viz.cli import progress\nprogress.LINE_SECONDS = 0.0\nassert sys.stderr is not None\n"
        "with progress.ProgressBars() as bars: bars(1, 2, 'a thing')\n"
        "print('a warning', file=sys.stderr)\nprint('done')"
    )
    words = shlex.join([sys.executable, *through_the_guard(body)])
    ended = subprocess.run(
        ["sh", "-c", f"exec {words} 2>&-"], cwd=tmp_path, stdout=subprocess.PIPE, check=False, text=True
    )
    assert (ended.returncode, ended.stdout) == (0, "done\n")


@pytest.mark.parametrize(
    "body",
    [
        f"print({HOSTILE!r})",
        f"sys.stdout.writelines([{HOSTILE!r}, '\\n'])",
        f"print({HOSTILE!r}, file=sys.stderr)",
        f"from emma_viz.errors import InputError\nraise InputError({HOSTILE!r})",
        f"raise ValueError({HOSTILE!r})",
        f"import warnings\nwarnings.warn({HOSTILE!r})",
        f"import logging\nlogging.getLogger('x').warning({HOSTILE!r})",
        f"import argparse\nargparse.ArgumentParser().parse_args([{HOSTILE!r}])",
        f"import tqdm\nfor _ in tqdm.tqdm(range(2), desc={HOSTILE!r}, mininterval=0): pass",
        f"open({HOSTILE.replace(chr(0), '')!r})",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_nothing_of_a_file_commands_the_terminal(body, encoding, tmp_path):
    ended = started(*through_the_guard(body), cwd=tmp_path, PYTHONIOENCODING=encoding)
    said = (ended.stdout + ended.stderr).decode(encoding)
    unescaped = said.replace("\\\\", "\\")  # a repr has escaped it already
    assert HARMLESS.replace(r"\x00", "") in unescaped.replace(r"\x00", "").replace(
        r"\udce9", r"\xe9"
    ).replace(r"\r", r"\x0d")
    raw = set(said) - {"\n", "\t"}
    if "tqdm" in body:
        raw -= {"\r"}
    assert all(char.isprintable() for char in raw), ascii(said)


def test_a_bar_is_redrawn_in_its_place_and_overwrites_nothing_else(tmp_path):
    body = "print('kept', end='', file=sys.stderr)\nprint('\\rgone', file=sys.stderr)\n"
    body += "from tqdm import tqdm\nlist(tqdm(range(3), mininterval=0, miniters=1))"
    said = started(*through_the_guard(body), cwd=tmp_path).stderr.decode()
    assert said.startswith(r"kept\x0dgone" + "\n\r")
    assert said.count("\r") >= 4
    assert re.search(r"\] *\n$", said), "tqdm pads a line that is shorter than the one before"


def test_a_line_of_an_error_cannot_pass_for_another_error(tmp_path):
    body = "from emma_viz.errors import InputError\nraise InputError('no file a\\nemma-viz: error: b\\n   indented')"
    said = started(*through_the_guard(body), cwd=tmp_path).stderr.decode()
    assert said == "emma-viz: error: no file a\n  emma-viz: error: b\n   indented\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_has_help_in_ascii(name, tmp_path):
    ended = started(*PROGRAMS[name], "--help", cwd=tmp_path, **ASCII)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.decode("ascii").startswith("usage: ")
    assert not ended.stderr


@pytest.mark.slow
def test_a_table_with_signs_beyond_ascii_is_printed_in_ascii(pair, tmp_path):
    ended = started("-m", "emma_viz", "inspect", str(pair.emma), cwd=tmp_path, **ASCII)
    assert ended.returncode == 0, ended.stderr
    assert rb"R\xb2" in ended.stdout


@pytest.mark.slow
@pytest.mark.parametrize("argv", [["models"], ["--help"], ["--version"], ["train", "--help"]])
def test_a_closed_pipe_ends_quietly(argv, tmp_path):
    ended = started("-m", "emma_viz", *argv, cwd=tmp_path, stdout=closed_pipe())
    assert (ended.returncode, ended.stderr) == (141, b"")


@pytest.mark.slow
def test_what_was_asked_for_is_done_although_nobody_reads_what_is_said(pair, photos, tmp_path):
    argv = ["figure", str(photos[0]), "--models", str(pair.emma), "--vision", str(pair.vision)]
    argv += ["--max-new-tokens", "2", "--layers", "0", "--out", "fig.png"]
    ended = started("-m", "emma_viz", *argv, cwd=tmp_path, stdout=closed_pipe())
    assert ended.returncode == 141
    assert b"rror" not in ended.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"fig.png", "fig.png.json"}


@pytest.mark.slow
def test_a_failure_is_told_although_standard_output_is_closed(tmp_path):
    ended = started("-m", "emma_viz", "inspect", "none", cwd=tmp_path, stdout=closed_pipe())
    assert ended.returncode == 1
    assert ended.stderr.startswith(b"emma-viz: error: There is no model")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_standard_output_on_a_full_disk_is_one_sentence(tmp_path):
    with open("/dev/full", "wb") as full:
        ended = started("-m", "emma_viz", "models", cwd=tmp_path, stdout=full)
    assert ended.returncode == 1
    assert ended.stderr.startswith(b"emma-viz: error: standard output could not be written")
    assert ended.stderr.count(b"\n") == 1
