"""Measure the toolkit and its peers on the same work, in turns in one process, and write docs/benchmarks.md.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive python -m benchmarks.run                    # everything; an hour
    python -m benchmarks.run --rows layers prefix --json speed.json                       # some groups
    python -m benchmarks.run --from speed.json more.json --page docs/benchmarks.md        # only write the page
    python -m benchmarks.run --from speed.json --gpu gpu-check.json --page docs/benchmarks.md
    python -m benchmarks.run --from speed.json --full full.json --page docs/benchmarks.md # with 3B models' stages
    python -m benchmarks.run --rows halves --json avx2.json                               # on another machine
    python -m benchmarks.run --from speed.json --beside avx2.json --page docs/benchmarks.md

What is compared takes turns, and each round gives a ratio: a busy machine changes seconds, hardly ratios. Shown are the
median and the middle half of the rounds. A later file's group takes the place of an earlier one's; what was measured on
another machine (`--beside`) stands below as a table of its own. Without `--full` the page keeps its table of 3B models.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from benchmarks import full_size
from benchmarks.speed import compiled, layers, models, parts, processes, roofline, tools
from benchmarks.speed.machine import machine
from benchmarks.speed.rows import HEADING, Row, number
from emma_viz.cli.guard import guarded
from emma_viz.errors import InputError
from emma_viz.files.atomic import write_file

GROUPS: dict[str, Callable[[], Iterator[Row]]] = {
    "layers": layers.layers,
    "halves": layers.halves,
    "parts": parts.parts,
    "models": models.hidden_states,
    "recording": models.recording,
    "memory": processes.memory,
    "decoding": models.decoding,
    "generation": models.generation,
    "prefix": models.prefix,
    "length": lambda: chain(models.length(), processes.lengths()),
    "training": processes.training,
    "figure": processes.figure,
    "images": processes.images,
    "peers": layers.peers,
    "tools": tools.tools,
    "compiled": compiled.compiled,
}
"""Name → what measures its rows."""
TITLES = {
    "layers": "One layer, against its own matrix products, fp32",
    "halves": "One layer, against its own matrix products, bf16",
    "parts": "Where the time of a layer and of a token goes, in multiples of their products",
    "models": "All hidden states of a whole model",
    "recording": "Recording",
    "memory": "Memory of a recording",
    "decoding": "Decoding",
    "generation": "Generation",
    "prefix": "Many questions about one image",
    "length": "Cost against length",
    "training": "Training",
    "figure": "A figure from a new process",
    "images": "Cost against images",
    "peers": "Others' layers, against ours",
    "tools": "Recording by TransformerLens, against ours",
    "compiled": "The Triton kernels, compiled without a GPU",
}
THREADS = {"figure": processes.FIGURE_THREADS}
"""Threads of what is measured in processes that set their own; the others have those of `--threads`."""
Found = dict[str, dict[str, Any]]
"""Group → its rows, and the machine."""
_MARKS = "<!-- speed: written by python -m benchmarks.run -->", "<!-- end of speed -->"
_FULL_MARKS = "<!-- full size: written by python -m benchmarks.run --full -->", "<!-- end of full size -->"


def measured(groups: Sequence[str]) -> Found:
    """The rows of some groups, each with the machine that they were measured on."""
    found = {}
    for group in groups:
        print(f"{TITLES[group]}", flush=True)
        rows = []
        for row in GROUPS[group]():
            print(row.line(), flush=True)
            rows.append(row.record())
        found[group] = {"rows": rows, "machine": machine(THREADS.get(group))}
    return found


def page(found: Found, gpu: dict[str, Any] | None, beside: Sequence[Found] = ()) -> str:
    """The part of docs/benchmarks.md that is measured.

    Args:
        found: a table for each group.
        gpu: what scripts/gpu-check wrote.
        beside: what was measured on other machines.
    """
    parts = [_gpu_part(gpu, "compiled" in found)]
    for group, title in TITLES.items():
        tables = [_table(each[group]) for each in (found, *beside) if group in each]
        parts += [f"### {title}", *tables] if tables else []
    return "\n\n".join(parts)


def _table(measured: dict[str, Any]) -> str:
    rows = [Row(**{k: v for k, v in each.items() if k != "met"}) for each in measured["rows"]]
    table = "\n".join([HEADING, *(row.line() for row in rows)])
    return f"{table}\n\nMeasured on {measured['machine']}."


def _gpu_part(gpu: dict[str, Any] | None, has_compiled: bool) -> str:
    if gpu is None:
        targets = " and ".join(f"{target / 10}" for target in compiled.TARGETS)
        words = f" and compiled for compute capability {targets} (the last table)" if has_compiled else ""
        return (
            f"**Not run on a GPU.** None was at hand: the Triton kernels are tested under Triton's interpreter{words}, "
            "no more. `scripts/gpu-check` measures them where there is a card. Until then, this is an estimate, not a "
            f"measurement:\n\n{roofline.table()}"
        )
    rows = "\n".join(f"| {r['what']} | {r['said']} | {number(r['seconds'])} |" for r in gpu["rows"])
    return f"### On {gpu['device']}\n\n| what | found | seconds |\n|---|---|---|\n{rows}\n\nWith {gpu['versions']}."


def full_part(measured: dict[str, Any]) -> str:
    """The table of what `benchmarks.full_size` kept."""
    return f"{full_size.table(measured['rows'])}\n\nMeasured in {measured['machine']}."


def filled(path: Path, measured_parts: Mapping[tuple[str, str], str]) -> str:
    """A page with what was measured between its marks.

    Args:
        path: of the page.
        measured_parts: the lines around a part → its text.

    Raises:
        InputError: the page lacks a pair of marks.
    """
    whole = path.read_text()
    for (first, last), text in measured_parts.items():
        before, found, rest = whole.partition(first)
        if not found or last not in rest:
            raise InputError(f"{path} has no place for the tables: the lines {first} and {last}.")
        whole = f"{before}{first}\n\n{text}\n\n{last}{rest.partition(last)[2]}"
    return whole


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and write what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", choices=GROUPS, metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--from", nargs="+", type=Path, dest="files", help="rows that were measured before")
    parser.add_argument(
        "--beside",
        nargs="+",
        type=Path,
        default=[],
        help="rows of other machines, below the others' in --page",
    )
    parser.add_argument("--gpu", type=Path, help="what scripts/gpu-check wrote")
    parser.add_argument("--full", type=Path, help="what `python -m benchmarks.full_size --json` wrote")
    parser.add_argument("--json", type=Path, help="keep the rows in this file")
    parser.add_argument("--page", type=Path, help="put the tables into this page")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(argv)
    if args.page is None and (
        also := [f"--{each}" for each in ("gpu", "full", "beside") if getattr(args, each)]
    ):
        raise InputError(f"{', '.join(also)} is for the page: name it (--page docs/benchmarks.md).")
    given = {path: json.loads(path.read_text()) for path in (args.gpu, args.full, *args.beside) if path}
    found: Found = {}
    for path in args.files or []:
        found.update(json.loads(path.read_text()))
    if args.page:
        filled(args.page, dict.fromkeys([_MARKS, *([_FULL_MARKS] if args.full else [])], ""))
    if args.rows or not args.files:
        torch.set_num_threads(args.threads)
        os.environ["OMP_NUM_THREADS"] = str(args.threads)  # of the processes that are measured
        found.update(measured(args.rows or tuple(GROUPS)))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    if args.page:
        texts = {_MARKS: page(found, given.get(args.gpu), [given[path] for path in args.beside])}
        if args.full:
            texts[_FULL_MARKS] = full_part(given[args.full])
        whole = filled(args.page, texts)
        write_file(args.page, lambda at: at.write_text(whole))


if __name__ == "__main__":
    sys.exit(guarded(main, program="python -m benchmarks.run"))
