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
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import matplotlib
import numpy as np
import torch

from benchmarks.hostile import kills, kinds
from benchmarks.hostile.attack import attack
from benchmarks.hostile.checkpoints import hostile_checkpoints
from benchmarks.hostile.images import hostile_images
from benchmarks.hostile.lenses import hostile_lenses
from benchmarks.hostile.pictures import hostile_pictures
from benchmarks.hostile.records import hostile_records
from benchmarks.hostile.samples import ENCODER, Samples, make_samples
from benchmarks.hostile.studies import hostile_studies
from benchmarks.hostile.ward import FAULTS, Outcome, Trial, Ward
from emma_viz.files.atomic import write_file

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
SHOWN = 60
"""Faults that are printed."""


def run(options: argparse.Namespace) -> int:
    """Run the chosen parts; 1 when anything went wrong."""
    began = time.monotonic()
    torch.set_num_threads(1)
    _warm()
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="robustness-") as name:
        root = Path(name).resolve()
        (root / "tmp").mkdir()
        tempfile.tempdir = str(root / "tmp")
        samples = make_samples(root / "samples")
        end = None if options.minutes is None else began + 60 * options.minutes
        for part in options.part:
            print(f"{part} …", flush=True)
            found = _until(end, PARTS[part](samples, root, options))
            for outcome in found:
                outcomes.append(outcome)
                if outcome.faults:
                    print(f"  FAULT {outcome.name}: {outcome.faults}", flush=True)
                elif options.only:
                    print(f"  {outcome.ended} {outcome.name}: {outcome.said}", flush=True)
        tempfile.tempdir = None
    text = table(outcomes)
    print(text)
    whole = "a whole run" if options.share == 1 else f"{options.share:g} of a whole run"
    parts = "" if set(options.part) == set(PARTS) else f" ({', '.join(options.part)})"
    minutes = (time.monotonic() - began) / 60
    tried = f"{whole}{parts}, seed {options.seed}, commit {commit()}, {minutes:.1f} minutes, {machine()}"
    print(tried)
    if options.json:
        said = json.dumps([asdict(each) for each in outcomes], indent=1)
        write_file(Path(options.json), lambda path: path.write_text(said))
    if options.write:
        _write(Path(options.write), f"{text}\n\nTried: {tried}.")
    return int(any(outcome.faults for outcome in outcomes))


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
        inputs = make(folder, options.seed)
        if options.share < 1:
            inputs = itertools.islice(inputs, 0, None, round(1 / options.share))
        tried = kinds.made(replace(known[kind], name=f"made {name}"), name, ward.root / "trials", inputs)
        yield from ward.run(_chosen(tried, options))


def _studies(folder: Path, seed: int) -> Iterator[tuple[str, Path]]:
    """A tenth of all kinds: there are thousands."""
    return hostile_studies(folder, seed, share=0.1)


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


MADE: dict[str, tuple[str, Callable[[Path, int], Iterator[tuple[str, Path]]]]] = {
    "checkpoints": ("configs", hostile_checkpoints),
    "images": ("images", hostile_images),
    "lenses": ("lenses", hostile_lenses),
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
