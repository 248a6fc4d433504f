"""Losses of the first steps of the pair from its shipped start, which a change of the training code must not move.

    python -m tests.training.pocket.first_steps > tests/training/pocket/first_steps.json

The start is the true one: encoder, tokenizer and text stage of the bundle that ships, and the fresh projector and head
of seed 0. The scenes are the first SCENES of the training split in place of all, so that it takes less than a minute.
`first` are STEPS steps by the family's own recipe; `phases` are a few steps of every phase, at the recipe's rates.
"""

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from emma_viz.checkpoints import BUNDLED
from training.pocket.bundle import take_start
from training.pocket.joint import train_joint
from training.pocket.recipes import PAIR
from training.pocket.stages import ONE_THREAD, Work

ROOT = Path(__file__).resolve().parents[3]
STEPS, SCENES, A_PHASE = 50, 32, 6
NUMBERS = ("text", "pixels", "loss", "grad_norm")
"""What is kept of each step."""


class StoppedError(Exception):
    """Ends a run after its first checkpoint."""


def first_steps(folder: Path) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Run → member → name of a number → its value at each step; works in a folder of its own."""
    work = Work(folder, "pocket")
    vars(work)["recipe"] = replace(work.recipe, scenes=SCENES)
    take_start(work, BUNDLED)
    return {run: {member: _numbers(work, member, run) for member in PAIR} for run in ("first", "phases")}


def _numbers(work: Work, member: str, run: str) -> dict[str, list[float]]:
    recipe, steps = work.recipe.of_member(member), STEPS
    if run == "phases":
        steps = A_PHASE * len(recipe.phases)
        recipe = replace(recipe, phases=tuple(replace(phase, steps=A_PHASE) for phase in recipe.phases))
    recipe = replace(recipe, save_every=steps)
    task = work.start(member)
    place = work.folder / run / member
    given = {"data": {}, "ask": stop, "score_every": steps, "progress": False}
    with suppress(StoppedError):
        train_joint(work.batches(recipe, task.vlm.config), task, place, **given)
    lines = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    return {name: [line[name] for line in lines] for name in NUMBERS if name in lines[0]}


def stop(_: int):
    """In place of questions, after the first checkpoint."""
    raise StoppedError


def measured() -> dict[str, dict[str, dict[str, list[float]]]]:
    """`first_steps` in a process of one thread, as the family is trained."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.pocket.first_steps"],
        cwd=ROOT,
        env=os.environ | ONE_THREAD | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def main() -> None:
    """Print the numbers."""
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(first_steps(Path(folder)), indent=None).replace("]},", "]},\n"))


if __name__ == "__main__":
    main()
