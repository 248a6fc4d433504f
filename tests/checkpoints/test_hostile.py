"""Checkpoints that were made to do harm: each is judged, none is believed, and nothing but our own errors comes out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.hostile.inputs.checkpoints import hostile_checkpoints

ROOM = 500
"""Megabytes that judging a file may take."""
JUDGE = """
import json, signal, sys
from emma_viz.checkpoints import inspect, load_language_model, load_model
from emma_viz.errors import EmmaVizError

encoder = sys.argv[1]

def tried(use):
    try:
        return use()
    except EmmaVizError as error:
        assert str(error).strip()
        return None

def resident(field):
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(lines[field].split()[0]) // 1024

for line in sys.stdin:
    name, path = json.loads(line)
    open("/proc/self/clear_refs", "w").write("5")  # The peak begins anew.
    before = resident("VmRSS")
    signal.alarm(120)  # A hang ends the process.
    try:
        found = tried(lambda: inspect(path))
        alone = path.endswith("lm")
        load = load_language_model if alone else lambda path: load_model(path, vision_source=encoder)
        model = tried(lambda: load(path))
    except Exception as error:
        print(json.dumps([name, f"{type(error).__name__}: {error}"[:500]]), flush=True)
        continue
    lacks = () if found is None else [m for m in found.missing if not m.startswith(("vision", "projector and"))]
    fine = found is not None and not found.problems and not lacks
    wrong = "inspect calls it fine, and it does not load" if fine and model is None else ""
    if (peak := resident("VmHWM") - before) > int(sys.argv[2]):
        wrong = f"{peak} MB"
    print(json.dumps([name, wrong]), flush=True)
"""


def judged(folder: Path, encoder: Path, kinds: list[tuple[str, Path]]) -> dict[str, str]:
    """What went wrong with each kind, in a process of its own; empty where nothing did."""
    lines = "".join(json.dumps([name, str(path)]) + "\n" for name, path in kinds)
    done = subprocess.run(
        [sys.executable, "-c", JUDGE, str(encoder), str(ROOM)],
        input=lines,
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    found = dict(json.loads(line) for line in done.stdout.splitlines())
    if len(found) < len(kinds):
        found[kinds[len(found)][0]] = f"ended the process ({done.returncode}): {done.stderr[-2000:]}"
    return found


def _assert_harmless(folder, encoder, kinds):
    victim = folder / "victim" / "model.safetensors"
    before = victim.read_bytes()
    wrong = {name: what for name, what in judged(folder, encoder, kinds).items() if what}
    assert not wrong, json.dumps(wrong, indent=1)
    assert not (folder / "executed").exists()
    assert victim.read_bytes() == before


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads resident memory from /proc")
def test_hostile_checkpoints_do_no_harm(tmp_path, encoder_file):
    # Some; all of them are a part of `python -m benchmarks.robustness`.
    folder = tmp_path / "hostile"
    folder.mkdir()
    kinds = list(hostile_checkpoints(folder, 13, share=0.1))
    assert len({name for name, _ in kinds}) == len(kinds) >= 40
    _assert_harmless(folder, encoder_file, kinds)
