"""The parts of the benchmark, one after the other, and what is said about them."""

import argparse
import itertools
import json
import os
import platform
import re
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import matplotlib
import numpy as np
import torch

from benchmarks.hostile import kills, kinds
from benchmarks.hostile.attack import attack
from benchmarks.hostile.inputs.checkpoints import hostile_checkpoints
from benchmarks.hostile.inputs.images import hostile_images
from benchmarks.hostile.inputs.lenses import hostile_lenses
from benchmarks.hostile.inputs.pictures import hostile_pictures
from benchmarks.hostile.inputs.records import hostile_records
from benchmarks.hostile.inputs.samples import ENCODER, Samples, make_samples
from benchmarks.hostile.inputs.studies import hostile_studies
from benchmarks.hostile.ward import FAULTS, Outcome, Trial, Ward
from emma_viz.errors import InputError
from emma_viz.files.atomic import write_file
from emma_viz.files.json_door import TABLE, read_json
from emma_viz.files.schema import shape

ROOT = Path(__file__).resolve().parents[2]
MUTANTS = {
    "images": 500,
    "sidecars": 300,
    "studies": 320,
    "lenses": 300,
    "records": 300,
    "configs": 240,
    "language models": 140,
    "tokenizers": 60,
    "weights": 60,
}
"""Mutated inputs of each kind in a whole run."""
Make = Callable[[Path, int, float], Iterator[tuple[str, Path]]]
"""Writes a share of hostile inputs into a folder, by a seed."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """What was found in one part, and when, where and of which state of the repository."""

    name: str
    seed: int
    share: float
    commit: str
    machine: str
    minutes: float
    outcomes: tuple[Outcome, ...]

    def line(self) -> str:
        """One item of a list in Markdown."""
        said = "" if self.share == 1 else f", {self.share:g} of a whole run"
        when = f"{self.minutes:.0f} minutes, {self.machine}"
        return f"- *{self.name}*: commit {self.commit}, seed {self.seed}{said}, {when}"


def run(options: argparse.Namespace) -> int:
    """Run the chosen parts; 1 when anything went wrong.

    Raises:
        InputError: outcomes are to be kept and are not those of whole parts, or those that are there are of others.
    """
    if options.keep and (options.only or options.minutes):
        raise InputError("--keep is for whole parts; leave --only and --minutes out.")
    began = time.monotonic()
    end = None if options.minutes is None else began + 60 * options.minutes
    keep = Path(options.keep) if options.keep else None
    found = {name: kept for name in options.part if keep and (kept := _kept(keep, name, options))}
    if lacking := [name for name in options.part if name not in found]:
        with made_samples() as (samples, root):
            for name in lacking:
                found[name] = _tried(name, samples, root, options, end)
                if keep:
                    _keep(found[name], keep)
    parts = [found[name] for name in options.part]
    text = table(outcome for part in parts for outcome in part.outcomes)
    tried = "\n".join(part.line() for part in parts)
    print(text, tried, sep="\n")
    if options.write:
        _write(Path(options.write), f"{text}\n\nTried:\n\n{tried}")
    return int(any(outcome.faults for part in parts for outcome in part.outcomes))


@contextmanager
def made_samples() -> Generator[tuple[Samples, Path]]:
    """Sound samples, and the folder of this run in which they are."""
    torch.set_num_threads(1)
    _warm()
    with tempfile.TemporaryDirectory(prefix="robustness-") as name:
        root = Path(name).resolve()
        (root / "tmp").mkdir()
        tempfile.tempdir = str(root / "tmp")
        try:
            yield make_samples(root / "samples"), root
        finally:
            tempfile.tempdir = None


def _tried(name: str, samples: Samples, root: Path, options: argparse.Namespace, end: float | None) -> Part:
    print(f"{name} …", flush=True)
    began, outcomes = time.monotonic(), []
    for outcome in _until(end, PARTS[name](samples, root, options)):
        outcomes.append(outcome)
        if outcome.faults:
            print(f"  FAULT {outcome.name}: {outcome.faults}", flush=True)
        elif options.only:
            print(f"  {outcome.ended} {outcome.name}: {outcome.said}", flush=True)
    return Part(
        name=name, seed=options.seed, share=options.share, commit=commit(), machine=machine(),
        minutes=(time.monotonic() - began) / 60, outcomes=tuple(outcomes),
    )  # fmt: skip


def _kept(folder: Path, name: str, options: argparse.Namespace) -> Part | None:
    """What an earlier run kept of a part; None where it must be tried."""
    path = folder / f"{name}.json"
    if not path.exists():
        return None
    value = read_json(path, error=InputError, budget=TABLE)
    part = shape(value, Part, where=str(path), error=InputError)
    if (part.seed, part.share) != (options.seed, options.share):
        raise InputError(
            f"{path} is of --seed {part.seed} --share {part.share:g}; ask for those, or name another folder to keep in."
        )
    print(f"{name}: from {path}", flush=True)
    return part


def _keep(part: Part, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    said = json.dumps(asdict(part), indent=1)
    write_file(folder / f"{part.name}.json", lambda path: path.write_text(said))


def _ward(samples: Samples, root: Path, options: argparse.Namespace, name: str) -> Ward:
    folder = root / name
    folder.mkdir()
    caches = (root / "tmp", Path(matplotlib.get_cachedir()), ROOT / "emma_viz" / "kernels" / "__pycache__")
    return Ward(folder, shared=(samples.folder, ROOT), caches=caches, jobs=options.jobs)


def mutants(samples: Samples, root: Path, options: argparse.Namespace) -> Iterator[Outcome]:
    """Sound inputs of every kind, mutated."""
    ward = _ward(samples, root, options, "mutants")
    for kind in kinds.kinds(samples):
        if kind.name not in MUTANTS:
            continue
        count = max(1, round(options.share * MUTANTS[kind.name]))
        first = 0
        if wanted := re.match(r"(.+)/(\d*)", options.only or ""):
            if wanted[1] != kind.name:
                continue
            first, count = (int(wanted[2]), 1) if wanted[2] else (0, count)
        yield from ward.run(
            kinds.trials(kind, ward.root / "trials", count=count, first=first, seed=options.seed)
        )


def made(samples: Samples, root: Path, options: argparse.Namespace) -> Iterator[Outcome]:
    """Inputs of every kind that were made to do harm, one by one."""
    ward = _ward(samples, root, options, "made")
    known = {kind.name: kind for kind in kinds.kinds(samples)}
    for name, (kind, make) in MADE.items():
        if "/" in (options.only or "") and not options.only.startswith(f"{name}/"):
            continue
        (folder := ward.root / "inputs" / name).mkdir(parents=True)
        inputs = make(folder, options.seed, options.share)
        tried = kinds.made(replace(known[kind], name=f"made {name}"), name, ward.root / "trials", inputs)
        yield from ward.run(_chosen(tried, options))


def _some(make: Callable[[Path, int], Iterator[tuple[str, Path]]]) -> Make:
    """A share of inputs, of which all are made."""
    return lambda folder, seed, share: itertools.islice(make(folder, seed), 0, None, round(1 / share))


def killed(samples: Samples, root: Path, options: argparse.Namespace) -> Iterator[Outcome]:
    """Commands that are killed and run again."""
    chosen = kills.commands(samples)
    settings = {
        "seed": options.seed,
        "share": options.share,
        "jobs": options.jobs,
        "only": options.only or "",
    }
    yield from kills.outcomes(chosen, root / "kills", **settings)


def forged(samples: Samples, root: Path, options: argparse.Namespace) -> Iterator[Outcome]:
    """Forged requests to an explorer of the sample models."""
    models = [str(samples.models / name) for name in ("cobra", "emma")]
    every = slice(None, None, max(1, round(1 / options.share)))
    counts = attack("--models", *models, "--vision", str(samples.models / ENCODER), kinds=every)
    wrong = {
        "executed": ["a planted program ran"] * counts.executed,
        "outside": [*counts.given_away, *counts.oracles, *counts.touched],
        "traceback": [*counts.failed, *["a traceback in the server's log"] * counts.tracebacks],
        "hang": counts.hangs,
    }
    found = [
        Outcome(name=f"requests/{what}", kind="requests", ended="fault", faults={fault: what})
        for fault, several in wrong.items()
        for what in several
    ]
    sound = max(0, counts.tried - len(found))
    yield from (*found, *[Outcome(name="requests", kind="requests", ended="refused")] * sound)


def _studies(folder: Path, seed: int, share: float) -> Iterator[tuple[str, Path]]:
    """At most a tenth of all kinds: there are thousands."""
    return hostile_studies(folder, seed, 0.1 * share)


MADE: dict[str, tuple[str, Make]] = {
    "checkpoints": ("configs", hostile_checkpoints),
    "images": ("images", _some(hostile_images)),
    "lenses": ("lenses", _some(hostile_lenses)),
    "pictures": ("sidecars", hostile_pictures),
    "records": ("records", hostile_records),
    "studies": ("read studies", _studies),
}
"""Name → the kind whose check is done, and what makes the inputs."""
PARTS = {"made": made, "mutants": mutants, "kills": killed, "requests": forged}
"""Part → its trials."""


def table(outcomes: Iterable[Outcome]) -> str:
    """Counts, as a table in Markdown."""
    by_kind: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_kind.setdefault(outcome.kind, []).append(outcome)
    head = ("what", "tried", "accepted", "refused", *FAULTS)
    rows = [_row(kind, found) for kind, found in by_kind.items()]
    rows.append(_row("in all", [each for found in by_kind.values() for each in found]))
    lines = [head, tuple("-" * len(word) for word in head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _row(kind: str, outcomes: list[Outcome]) -> tuple:
    ended = Counter(each.ended for each in outcomes)
    faults = Counter(fault for each in outcomes for fault in each.faults)
    return (kind, len(outcomes), ended["accepted"], ended["refused"], *(faults[fault] for fault in FAULTS))


def _chosen(trials: Iterable[Trial], options: argparse.Namespace) -> Iterator[Trial]:
    return (each for each in trials if each.sound or not options.only or options.only in each.name)


def _until(end: float | None, outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
    return itertools.takewhile(lambda _: end is None or time.monotonic() < end, outcomes)


def commit() -> str:
    """What was tried."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
    )
    return told.stdout.strip() or "unknown"


def machine() -> str:
    """When, where and with what it was tried."""
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}"
    return f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores ({platform.machine()}), {versions}"


def _warm() -> None:
    """Import all that trials import, before they are forked."""
    import accelerate  # noqa: F401
    import matplotlib.backends.backend_agg
    import matplotlib.backends.backend_svg  # noqa: F401

    import training.train
    import training.vision_language.dry_run
    import training.vision_language.run  # noqa: F401


def _write(page: Path, text: str) -> None:
    """Put the counts between the page's marks."""
    first, last = "<!-- counts: written by the script -->", "<!-- end of counts -->"
    before, _, rest = page.read_text().partition(first)
    whole = f"{before}{first}\n\n{text}\n\n{last}{rest.partition(last)[2]}"
    write_file(page, lambda path: path.write_text(whole))
