"""What the ward sees: each fault, planted; and a short seeded part of the benchmark itself."""

import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from benchmarks.hostile.campaign import MADE, MUTANTS, commit
from benchmarks.hostile.ward import Outcome
from benchmarks.robustness import main

ROOT = Path(__file__).resolve().parents[2]

PLANTED = """
import os, socket, subprocess, sys, time
from pathlib import Path
from benchmarks.hostile import ward as limits
from benchmarks.hostile.ward import Trial, Ward
from emma_viz.errors import InputError

limits.SECONDS, limits.PATIENCE, limits.MEGABYTES = 1, 5, 100
root = Path(sys.argv[1])
ward = Ward(root / "ward", jobs=1)
other = root / "ward" / "somebody-else"

def refuse(text):
    raise InputError(text)

class Raw(InputError):
    def __str__(self):
        return "file.png is \\x1b[31mno image."

def raw():
    raise Raw("")

def runs_code():
    subprocess.run(["true"])

def works():
    while True:
        pass

checks = {
    "accepted": lambda: None,
    "refused": lambda: refuse("file.png is no image."),
    "executed": runs_code,
    "connected": lambda: socket.create_connection(("127.0.0.1", 9), timeout=1),
    "read elsewhere": lambda: (other / "private.png").read_bytes(),
    "written elsewhere": lambda: (other / "new").write_text("x"),
    "removed elsewhere": lambda: (other / "thesis" / "chapter.txt").unlink(),
    "by a link": lambda: (Path("link").symlink_to(other / "private.png"), Path("link").read_bytes()),
    "traceback": lambda: {}["x"],
    "killed": lambda: os.kill(os.getpid(), 11),
    "works for ever": works,
    "waits for ever": lambda: time.sleep(1000),
    "large": lambda: len(b"x" * (200 << 20)),
    "names no file": lambda: refuse("this is no image."),
    "without a word": lambda: 1,
    "raw signs": lambda: raw(),
    "complaint": lambda: "inspect calls it fine",
}
trials = [Trial(name="sound", kind="k", folder=root / "ward" / "sound", check=lambda: None, sound=True)]
for name, check in checks.items():
    trials.append(Trial(name=name, kind="k", folder=root / "ward" / name, check=check, names=("file.png",)))
for outcome in ward.run(trials):
    print(outcome.name, outcome.ended, *sorted(outcome.faults), sep="|")
"""

EXPECTED = {
    "sound": "accepted",
    "accepted": "accepted",
    "refused": "refused",
    "executed": "fault|executed",
    "connected": "fault|executed|traceback",
    "read elsewhere": "fault|outside",
    "written elsewhere": "fault|outside",
    "removed elsewhere": "fault|outside",
    "by a link": "fault|outside",
    "traceback": "fault|traceback",
    "killed": "fault|traceback",
    "works for ever": "fault|hang",
    "waits for ever": "fault|hang",
    "large": "fault|memory",
    "names no file": "fault|unclear",
    "without a word": "fault|unclear",
    "raw signs": "fault|unclear",
    "complaint": "fault|unclear",
}


@pytest.mark.slow
def test_the_ward_sees_every_fault(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PLANTED, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    seen = dict(line.split("|", 1) for line in done.stdout.splitlines())
    assert seen == EXPECTED, done.stderr


def test_end_states_differ_in_times_and_chance_names_alone(tmp_path):
    from benchmarks.hostile.ends import differences, end_state

    for number in (1, 2):
        folder = tmp_path / str(number) / "entries" / f"data-{number:08x}"
        folder.mkdir(parents=True)
        (folder / "entry.json").write_text(
            json.dumps({"created": number, "data": f"data-{number:08x}", "layers": 3})
        )
    first, second = end_state(tmp_path / "1"), end_state(tmp_path / "2")
    assert not differences(first, second)
    (tmp_path / "2" / "entries" / ".fig.png.0123456789ab.part").write_text("half")
    (tmp_path / "2" / "entries" / "data-00000002" / "entry.json").write_text(
        json.dumps({"created": 2, "layers": 4})
    )
    lines = differences(first, end_state(tmp_path / "2"))
    assert lines == ["different entries/data-*/entry.json", "left over entries/.fig.png.0123456789ab.part"]


SHARE = """
import argparse, json, sys
from benchmarks.hostile import campaign

common = {"seed": 7, "jobs": 2, "only": None}
parts = {  # of the kills, not those of training, which takes longer
    "made": {"share": 0.02}, "mutants": {"share": 0.02}, "kills": {"share": 0.1, "only": "e/"},
}
with campaign.made_samples() as (samples, root):
    for part, options in parts.items():
        for outcome in campaign.PARTS[part](samples, root, argparse.Namespace(**common | options)):
            print(json.dumps([part, outcome.kind, outcome.ended, outcome.name, outcome.faults]), flush=True)
"""


@pytest.fixture(scope="module")
def outcomes():
    """[part, kind, how it ended, name, faults] of a part of the benchmark, all from one process and its samples."""
    done = subprocess.run([sys.executable, "-c", SHARE], cwd=ROOT, capture_output=True, text=True)
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert done.returncode == 0, done.stderr
    return found


@pytest.mark.slow
def test_a_part_of_every_kind_goes_well(outcomes):
    assert not [outcome for outcome in outcomes if outcome[-1]]
    assert {kind for part, kind, *_ in outcomes if part == "mutants"} == set(MUTANTS)
    assert {kind for part, kind, *_ in outcomes if part == "made"} == {f"made {name}" for name in MADE}
    assert sum(part != "kills" for part, *_ in outcomes) > 100
    ended = [ended for part, _, ended, *_ in outcomes if part != "kills"]
    assert ended.count("refused") > 30
    assert ended.count("accepted") > 20


@pytest.mark.slow
def test_commands_that_are_killed_end_as_if_they_were_not(outcomes):
    kinds = [kind for part, kind, *_ in outcomes if part == "kills"]
    assert set(kinds) == {f"kills: {name}" for name in ("capture", "decode", "compare", "figure")}
    assert len(kinds) >= 4


@pytest.fixture
def two_parts(monkeypatch):
    """A campaign of two parts, and the names of those that are tried."""
    tried = []

    def part(name, faults):
        def trials(*_):
            tried.append(name)
            yield Outcome(
                name=f"{name}/0 \x1b", kind=name, ended="fault" if faults else "refused", faults=faults
            )

        return trials

    parts = {"made": part("made", {}), "kills": part("kills", {"hang": "5.1 s"})}
    monkeypatch.setattr("benchmarks.hostile.campaign.PARTS", parts)
    monkeypatch.setattr("benchmarks.hostile.campaign.made_samples", lambda: nullcontext((None, None)))
    return tried


def test_parts_are_kept_and_joined_on_the_page(two_parts, tmp_path, capsys):
    page, keep = tmp_path / "page.md", ["--keep", str(tmp_path / "kept"), "--share", "0.5"]
    page.write_text("before\n<!-- counts: written by the script -->\nold\n<!-- end of counts -->\nafter\n")
    assert main(["--part", "made", *keep]) == 0
    assert main(["--part", "made", "kills", *keep, "--write", str(page)]) == 1
    assert two_parts == ["made", "kills"]
    assert main(["--part", "made", "kills", *keep]) == 1
    assert two_parts == ["made", "kills"]
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| made | 1 | 0 | 1 | 0 | 0 | 0 | 0 | 0 | 0 | 0 |" in text
    assert "| kills | 1 | 0 | 0 | 0 | 0 | 0 | 1 | 0 | 0 | 0 |" in text
    assert "| in all | 2 |" in text
    for name in ("made", "kills"):
        assert f"- *{name}*: commit {commit()}, seed 0, 0.5 of a whole run, 0 minutes" in text
    capsys.readouterr()
    for wrong in (["--seed", "1"], ["--share", "1"], ["--only", "x"], ["--minutes", "1"]):
        assert main(["--part", "made", *keep, *wrong]) == 1
        assert "error: " in capsys.readouterr().err
    assert two_parts == ["made", "kills"]
