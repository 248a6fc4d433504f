"""Commands on studies that are killed; imports and loads all once, and forks for every command.

    python -m tests.session.killed_studies < work.json

The work is a list of [command, folder, step]: {"name": "capture", "decode" or "benchmark", …options} on a study or run,
killed right before its step-th operation on that folder, or, where step is null, not at all. Prints "killed", "done" or
"failed" for each. The first of several commands is also given before all forks, on a copy of its folder, so that they
find its kernels loaded.
"""

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree", "os.chmod"}


def start(work: list[tuple[dict[str, Any], Path, int | None]]) -> list[str]:
    """Do the work in order; how each command ended."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.session.killed_studies"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        input=json.dumps([(command, str(folder), step) for command, folder, step in work]),
        capture_output=True,
        text=True,
    )
    ends = [line.removeprefix("ended ") for line in done.stdout.splitlines() if line.startswith("ended ")]
    assert done.returncode == 0, done.stderr
    assert len(ends) == len(work), done.stderr
    assert "failed" not in ends, done.stderr
    return ends


def arm(folder: str, step: int) -> None:
    """Let this process kill itself right before its step-th operation on a folder."""
    seen = 0

    def watch(event: str, arguments: tuple) -> None:
        nonlocal seen
        if event in EVENTS and any(
            folder in os.fspath(each) for each in arguments if isinstance(each, str | Path)
        ):
            seen += 1
            if seen > step:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def run_plain(folder: Path, *, models: list[str], records: str, images: str, vision: str) -> None:
    """A run of the plain benchmark."""
    from emma_viz.session import Asking, Running
    from emma_viz.session.benchmarks.run import run_benchmark

    run_benchmark(
        "plain", models, folder, records=[Path(records)], images=Path(images), batch_size=1,
        asking=Asking(max_new_tokens=1), running=Running(vision_source=vision),
    )  # fmt: skip


def run(command: dict[str, Any], folder: Path) -> None:
    """One command."""
    from emma_viz.session import Asking, Running, capture, decode_study

    options = dict(command)
    name = options.pop("name")
    if name == "decode":
        decode_study(folder, **options)
    elif name == "benchmark":
        run_plain(folder, **options)
    else:
        images, models, vision = (options.pop(each) for each in ("images", "models", "vision"))
        asking, running = Asking(max_new_tokens=2), Running(vision_source=vision)
        capture(images, models, folder, asking=asking, running=running, **options)


def warm(command: dict[str, Any], folder: Path) -> None:
    """Load all that a command needs, by giving it on a copy of its folder."""
    with tempfile.TemporaryDirectory() as other:
        copy = Path(other) / folder.name
        if folder.exists():
            shutil.copytree(folder, copy)
        run(command, copy)
    gc.collect()
    gc.freeze()


def main() -> None:
    """Fork for each command."""
    import torch

    import emma_viz.session  # noqa: F401 (imported before the forks)

    torch.set_num_threads(1)
    work = json.load(sys.stdin)
    if len(work) > 1:
        command, folder, _ = work[0]
        warm(command, Path(folder))
    for command, folder, step in work:
        child = os.fork()
        if not child:
            try:
                if step is not None:
                    arm(folder, step)
                run(command, Path(folder))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print(f"ended {'killed' if killed else 'done' if status == 0 else 'failed'}", flush=True)


if __name__ == "__main__":
    main()
