"""What the ward sees: each fault, planted; and a short seeded part of the benchmark itself."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PLANTED = """
import os, socket, subprocess, sys, time
from pathlib import Path
from benchmarks.hostile import ward as limits
from benchmarks.hostile.ward import Trial, Ward
from emma_viz.errors import InputError

limits.SECONDS, limits.PATIENCE = 1, 5
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
    "large": lambda: len(b"x" * (700 << 20)),
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


MUTANTS = """
import sys
from pathlib import Path
from benchmarks.hostile import kinds, samples
from benchmarks.hostile.mutations import mutate_bytes
from benchmarks.hostile.ward import Ward

root = Path(sys.argv[1])
(root / "images").mkdir()
samples.write_images(root / "images")
trees = tuple(sorted((root / "images").iterdir()))
kind = kinds.Kind(name="images", trees=trees, check=kinds.see_image, mutate=mutate_bytes)
ward = Ward(root / "ward")
for outcome in ward.run(kinds.trials(kind, ward.root / "trials", count=60, seed=7)):
    print(outcome.ended, outcome.name, outcome.faults, sep="|")
"""


def test_mutated_images_are_read_or_refused(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", MUTANTS, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    assert not [line for line in lines if line.startswith("fault")], done.stderr
    ended = [line.split("|", 1)[0] for line in lines]
    assert ended.count("refused") >= 20, done.stderr
    assert ended.count("accepted") >= 30


def run_benchmark(*options: str) -> tuple[int, list[dict], str]:
    found = Path(options[-1])
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.robustness", *options[:-1], "--json", str(found)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return done.returncode, json.loads(found.read_text()) if found.exists() else [], done.stdout + done.stderr


@pytest.mark.slow
def test_a_part_of_every_kind_goes_well(tmp_path):
    options = ("--part", "made", "mutants", "--share", "0.03", "--seed", "7")
    code, outcomes, said = run_benchmark(*options, str(tmp_path / "outcomes.json"))
    assert code == 0, said
    assert len(outcomes) > 100


@pytest.mark.slow
def test_commands_that_are_killed_end_as_if_they_were_not(tmp_path):
    options = (
        "--part",
        "kills",
        "--share",
        "0.2",
        "--seed",
        "7",
        "--only",
        "e/",
    )  # not of training, which takes longer
    code, outcomes, said = run_benchmark(*options, str(tmp_path / "outcomes.json"))
    assert code == 0, said
    assert {outcome["kind"] for outcome in outcomes} >= {"kills: capture", "kills: decode", "kills: figure"}
