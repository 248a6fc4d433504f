"""Crashes, kills and neighbours: a study stays readable, with all that was complete."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import emma_viz
from emma_viz.errors import StudyError
from emma_viz.files import locks
from emma_viz.study import open_study

ROOT = Path(emma_viz.__file__).parents[1]

KILLED = """
import os, sys
from emma_viz.study import open_study
study, source, step = open_study(sys.argv[1]), open_study(sys.argv[2]), int(sys.argv[3])
replace, done = os.replace, []
def replace_or_die(part, path):
    done.append(path)
    if len(done) > step:
        os._exit(9)
    replace(part, path)
os.replace = replace_or_die
study.add_trace(source.trace("two"), "new")
"""

NEIGHBOUR = """
import sys
import numpy as np
from emma_viz.study import open_study
study, source, me = open_study(sys.argv[1], create=True), open_study(sys.argv[2]), sys.argv[3]
for number in range(4):
    study.add_trace(source.trace("one"))
    study.add_trace(source.trace("two"), f"{me}-{number}")
    study.save_arrays("shared", f"{me}-{number}", {"a": np.full(5, number)}, {"by": me})
"""


@pytest.fixture
def source(tmp_path, make_trace):
    """A study with two traces to copy from."""
    study = open_study(tmp_path / "source", create=True)
    study.add_trace(make_trace(seed=1), "one")
    study.add_trace(make_trace(seed=2, batch=2), "two")
    return study


@pytest.fixture
def study(tmp_path, make_trace):
    """A study with one complete entry and its maps."""
    study = open_study(tmp_path / "study", create=True)
    study.add_trace(make_trace(seed=1), "old")
    study.save_arrays("old", "maps", {"a": np.arange(3)}, {"kind": "distance"})
    return study


class Crash(BaseException):
    """Not an Exception, as KeyboardInterrupt is not."""


def crash_at(monkeypatch, step, *, after=False):
    """Let `step` files be finished, then crash before, or just after, the next one is."""
    replace, done = os.replace, []

    def replace_or_crash(part, path):
        done.append(path)
        if after or len(done) <= step:
            replace(part, path)
        if len(done) > step:
            raise Crash

    monkeypatch.setattr(os, "replace", replace_or_crash)


def listing(study):
    """All that is there but images and locks, which do no harm when nothing refers to them."""
    hidden = study.path / ".locks"
    return sorted(
        path
        for path in study.path.rglob("*")
        if path.suffix != ".png" and hidden not in (path, *path.parents)
    )


WRITES = {
    "a new trace": lambda study, make_trace: study.add_trace(make_trace(seed=2, batch=2), "new"),
    "a new trace with a made name": lambda study, make_trace: study.add_trace(make_trace(seed=2)),
    "a trace in place of another": lambda study, make_trace: study.add_trace(make_trace(seed=2), "old", overwrite=True),
    "arrays": lambda study, make_trace: study.save_arrays("old", "more", {"a": np.zeros(9)}, {}),
    "arrays in place of others": lambda study, make_trace: study.save_arrays(
        "old", "maps", {"a": np.zeros(9)}, {}, overwrite=True
    ),
}  # fmt: skip


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_crash_at_any_moment_leaves_what_was_there(study, make_trace, assert_same, monkeypatch, write):
    before = listing(study)
    for step in range(20):
        with monkeypatch.context() as patch:
            crash_at(patch, step)
            try:
                write(study, make_trace)
            except Crash:
                pass
            else:
                break
        again = open_study(study.path)
        assert list(again.entries) == ["old"]
        assert_same(again.trace("old"), make_trace(seed=1))
        arrays, meta = again.load_arrays("old", "maps")
        assert (arrays["a"].tolist(), meta) == ([0, 1, 2], {"kind": "distance"})
        assert list(again.entries["old"].arrays) == ["maps"]
        after = listing(study)
        assert after == before, "an interrupted write left files behind"
    else:
        pytest.fail("the write never came through")
    assert step >= 2, "the write was not interrupted at each of its files"


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_crash_just_after_a_file_was_finished_leaves_the_old_or_the_new(
    study, make_trace, assert_same, monkeypatch, write
):
    seen = set()
    for step in range(20):
        with monkeypatch.context() as patch:
            crash_at(patch, step, after=True)
            try:
                write(study, make_trace)
            except Crash:
                pass
            else:
                break
        again = open_study(study.path)
        for name, entry in again.entries.items():
            trace = again.trace(name)
            assert_same(trace, make_trace(seed=int(trace.prompts[0].split()[1]), batch=len(trace)))
            arrays = {key: again.load_arrays(name, key)[0]["a"].tolist() for key in entry.arrays}
            assert all(value in ([0, 1, 2], [0.0] * 9) for value in arrays.values())
            seen.add((name, trace.prompts, str(arrays)))
        if len(seen) > 1:
            break
    # The write is there although it was interrupted: the last file had been finished.
    assert len(seen) > 1


def test_a_crash_while_a_stream_grows_leaves_the_batches_before(study, make_trace, assert_same, monkeypatch):
    batches = [make_trace(seed=seed, batch=2) for seed in range(3)]
    with study.writer("data") as writer:
        writer.append_batch(batches[0])
    for step in range(4):
        with monkeypatch.context() as patch:
            crash_at(patch, step)
            with pytest.raises(Crash), study.writer("data", resume=True) as writer:
                writer.append_batch(make_trace(seed=9 + step, batch=3))
        assert_same(open_study(study.path).trace("data"), batches[0])
    with study.writer("data", resume=True) as writer:
        for batch in batches[1:]:
            writer.append_batch(batch)
    for mine, theirs in zip(study.traces("data"), batches, strict=True):
        assert_same(mine, theirs)


def run(script, *arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def test_a_killed_process_leaves_the_study_readable_and_writable(study, source, make_trace, assert_same):
    process = run(KILLED, study.path, source.path, 3)
    assert process.communicate()[1] == ""
    assert process.returncode == 9
    again = open_study(study.path)
    assert list(again.entries) == ["old"]
    assert_same(again.trace("old"), make_trace(seed=1))
    again.add_trace(make_trace(seed=2, batch=2), "new")
    assert_same(again.trace("new"), make_trace(seed=2, batch=2))


def test_processes_that_add_to_one_study_do_not_disturb_each_other(tmp_path, source, make_trace, assert_same):
    study = open_study(tmp_path / "study", create=True)
    study.add_entry("shared")
    processes = [run(NEIGHBOUR, study.path, source.path, me) for me in ("left", "right")]
    for process in processes:
        assert process.communicate()[1] == ""
        assert process.returncode == 0
    entries = study.entries
    assert len(entries) == 1 + 2 * 8
    assert len(entries["shared"].arrays) == 8
    for name, entry in entries.items():
        if entry.kind == "trace":
            seed, batch = (2, 2) if name.startswith(("left", "right")) else (1, 1)
            assert_same(study.trace(name), make_trace(seed=seed, batch=batch))
    for me in ("left", "right"):
        for number in range(4):
            arrays, meta = study.load_arrays("shared", f"{me}-{number}")
            assert (arrays["a"].tolist(), meta) == ([number] * 5, {"by": me})


def test_threads_that_take_names_get_different_ones(study, make_trace):
    trace, names = make_trace(), []
    threads = [threading.Thread(target=lambda: names.append(study.add_trace(trace))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(names)) == 8
    assert set(names) < set(study.entries)


def test_a_lock_that_is_held_too_long_is_a_clear_error(study, make_trace, monkeypatch):
    monkeypatch.setattr(locks, "LOCK_SECONDS", 0.05)
    with locks.locked(study.path / ".locks" / "old.entry", "the entry", error=StudyError):
        with pytest.raises(StudyError, match="Another process is writing to the entry 'old'"):
            study.save_arrays("old", "more", {"a": np.zeros(2)}, {})
        study.add_trace(make_trace(), "new")
    assert list(study.entries["old"].arrays) == ["maps"]
    study.save_arrays("old", "more", {"a": np.zeros(2)}, {})
