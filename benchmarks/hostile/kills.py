"""Commands that are killed, and run again: what they leave then is what an undisturbed run leaves.

Half of the kills come at a moment drawn over the run's length, half right before one of its changes of the file system
(a file opened for writing, given its name, removed; a folder made), which is where half-done work could show.
"""

import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.hostile.ends import differences, end_state
from benchmarks.hostile.inputs.samples import Samples, copied
from benchmarks.hostile.ward import Outcome, stop
from emma_viz.cli.main import main

PATIENCE = 600.0
"""Seconds on the clock after which a command counts as hanging."""
_CHANGES = frozenset(
    {
        "os.rename",
        "os.remove",
        "os.mkdir",
        "os.rmdir",
        "os.link",
        "os.symlink",
        "os.truncate",
        "shutil.rmtree",
    }
)


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command and where it starts from."""

    name: str
    arguments: list[str]
    prepare: Callable[[Path], object]
    """Puts what it needs into a new folder, in which it then runs."""
    kills: int
    """In a whole run."""
    trains: bool = False
    """Whether it trains, which needs kernels that nothing before it has compiled."""


@dataclass(frozen=True)
class Undisturbed:
    """A run that nobody killed."""

    state: dict[str, str]
    seconds: float
    changes: int
    """Of the file system."""


Steps = Generator[tuple[int, float], int, Outcome | Undisturbed]
"""Yields a process and the seconds after which it is killed, and is sent how it ended."""


def commands(samples: Samples) -> tuple[Command, ...]:
    """Every command that writes, small."""

    def photo(folder: Path) -> None:
        copied(samples.photo, folder / "photo.png")

    def study(folder: Path, *, decoded: bool) -> None:
        copied(samples.study, folder / "study")
        if not decoded:
            shutil.rmtree(folder / "study")
            copied(samples.captured, folder / "study")

    models = samples.model_options
    joint = ["train", "joint", "--recipe", "tiny-emma-v1", *samples.data_options, "--work", "work"]
    return (
        Command(
            name="capture",
            arguments=["capture", "photo.png", "--out", "study", *models],
            prepare=photo,
            kills=12,
        ),
        Command(
            name="decode", arguments=["decode", "study"], prepare=lambda f: study(f, decoded=False), kills=8
        ),
        Command(
            name="compare",
            arguments=["compare", "study", "--out", "report.html"],
            prepare=lambda f: study(f, decoded=True),
            kills=6,
        ),
        Command(
            name="figure",
            arguments=["figure", "photo.png", *models, "--out", "figure.png"],
            prepare=photo,
            kills=8,
        ),
        Command(
            name="figure, PDF",
            arguments=["figure", "--from", str(samples.folder / "figure.html.json"), "--out", "figure.pdf"],
            prepare=photo,
            kills=4,
        ),
        Command(
            name="joint training",
            arguments=[*joint, "--batch", "4", "--held-out", "1", "--steps", "6", "--save-every", "2"],
            prepare=lambda folder: None,
            kills=16,
            trains=True,
        ),
        Command(
            name="a family's stages",
            arguments=["train", "joint", "--recipe", "tiny", "--work", "work"],
            prepare=lambda folder: None,
            kills=6,
            trains=True,
        ),
    )


def outcomes(
    chosen: Iterable[Command], root: Path, *, seed: int, share: float, jobs: int, only: str = ""
) -> Iterator[Outcome]:
    """Run each command undisturbed, then killed and run again, as often as it says.

    Raises:
        RuntimeError: an undisturbed run failed.
    """
    for command in chosen:
        names = [f"{command.name}/{number}" for number in range(max(1, round(share * command.kills)))]
        names = [name for name in names if only in name]
        if names:
            if command.trains:
                # Kernels that a process compiles, and those that it finds compiled, may differ in the last bits.
                list(_side_by_side([_undisturbed(command, root / command.name / "first")], 1))
            (undisturbed,) = _side_by_side([_undisturbed(command, root / command.name / "undisturbed")], 1)
            assert isinstance(undisturbed, Undisturbed)
            chains = (
                _killed(command, root / name, undisturbed, random.Random(f"{seed}:{name}"), name)
                for name in names
            )
            for outcome in _side_by_side(chains, jobs):
                assert isinstance(outcome, Outcome)
                yield outcome
        shutil.rmtree(root / command.name, ignore_errors=True)


def _undisturbed(command: Command, folder: Path) -> Steps:
    command.prepare(_new(folder))
    began = time.monotonic()
    ended = yield _start(command, folder, None), PATIENCE
    said = _log(folder).read_text(errors="backslashreplace")
    if ended != 0:
        raise RuntimeError(f"{command.name} should end well: {said[-2000:]}")
    changes = int(said.rpartition("changes of the file system: ")[2])
    return Undisturbed(end_state(folder), time.monotonic() - began, changes)


def _killed(command: Command, folder: Path, undisturbed: Undisturbed, rng: random.Random, name: str) -> Steps:
    """Kill, run again, compare."""
    command.prepare(_new(folder))
    at_change = rng.random() < 0.5
    while True:
        change = rng.randint(1, undisturbed.changes) if at_change else None
        after = PATIENCE if at_change else undisturbed.seconds * rng.random()
        where = f"before change {change} of {undisturbed.changes}" if at_change else f"after {after:.1f} s"
        ended = yield _start(command, folder, change), after
        if ended == -signal.SIGKILL:
            break
        # It was quicker this time: from the beginning, and earlier.
        command.prepare(_new(folder))
        rng = random.Random(rng.random())
    ended = yield _start(command, folder, None), PATIENCE
    said = _log(folder).read_text(errors="backslashreplace")
    faults = {}
    if ended == -signal.SIGKILL:
        faults["hang"] = f"not done after {PATIENCE:.0f} s"
    elif "Traceback (most recent call last)" in said:
        faults["traceback"] = said[-600:]
    elif ended:
        faults["end state"] = f"the same command ends with {ended}: {said.strip()[-400:]}"
    elif lines := differences(undisturbed.state, end_state(folder)):
        faults["end state"] = "; ".join(lines[:8])
    _log(folder).unlink()
    if not faults:
        shutil.rmtree(folder)
    return Outcome(
        name=f"{name} killed {where}",
        kind=f"kills: {command.name}",
        ended="fault" if faults else "accepted",
        faults=faults,
    )


def _new(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _log(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.log")


def _start(command: Command, folder: Path, dies_at: int | None) -> int:
    """Fork a process that runs the command, and kills itself before a change of the file system."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    code, changes = 1, 0
    try:
        os.setsid()
        log = os.open(_log(folder), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(folder)

        def hook(event: str, args: tuple) -> None:
            nonlocal changes
            opens = event == "open" and not isinstance(args[0], int)
            if event in _CHANGES or (opens and (args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
                path = os.path.abspath(os.fsdecode(args[0]))
                if path.startswith(str(folder)):
                    changes += 1
                    if changes == dies_at:
                        os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        code = main(command.arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        print(f"changes of the file system: {changes}", flush=True)
        sys.stderr.flush()
        os._exit(code)


def _side_by_side(chains: Iterable[Steps], jobs: int) -> Iterator[Outcome | Undisturbed]:
    """Go through several chains of processes at once."""
    waiting, running = iter(chains), []
    while True:
        while len(running) < jobs and (chain := next(waiting, None)) is not None:
            child, after = next(chain)
            running.append((chain, child, time.monotonic() + after))
        if not running:
            return
        for each in list(running):
            chain, child, end = each
            done, status = os.waitpid(child, os.WNOHANG)
            if not done:
                if time.monotonic() > end:
                    stop(child)
                continue
            running.remove(each)
            try:
                child, after = chain.send(os.waitstatus_to_exitcode(status))
                running.append((chain, child, time.monotonic() + after))
            except StopIteration as end_of_chain:
                yield end_of_chain.value
        time.sleep(0.005)
