"""Examine a checkpoint, or compare two: what image tokens hold, where it is lost, what answers depend on.

    python -m probes.run cobra-pocket --quick --out report
    python -m probes.run cobra-pocket emma-v1-pocket --quick --out report     every number with its paired difference
    python -m probes.run RUN_DIRECTORY --images photos/ --out report          any supported checkpoint, any images
    python -m probes.run state-spaces/mamba-130m --texts notes.txt --out report    a language model alone, on text
    python -m probes.run RUN_DIRECTORY --out report --jobs 2                  in two processes of this machine
    python -m probes.run RUN_DIRECTORY --out report --shard 1/4               one of four; then without --shard
    accelerate launch … -m emma_viz probe RUN_DIRECTORY --out report          the same by rank

Without --images: scenes of the tabletop world, which have labels, masks and twins. A run that was killed goes on when
the same command is given again.
"""

import argparse
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from emma_viz.cli import options
from emma_viz.cli.guard import guarded
from emma_viz.cli.progress import ProgressBars
from emma_viz.errors import InputError, StudyError
from emma_viz.models.config import VLMConfig
from emma_viz.session.loading import free, load, require_loadable
from emma_viz.session.options import Asking, Running
from probes.examination import Plan, Shard, able, examine, gathered, layers_of, require_one_grid
from probes.findings import differences, find
from probes.jobs import share_out
from probes.ledger import GROUPS, Ledger
from probes.pages import report
from probes.parity import Check, checks
from probes.protocol import Gathered, Probe, Result
from probes.subjects import Subjects, subjects_of
from probes.table import chosen, known
from probes.text.texts import report_on_texts

_MODULE = "python -m probes.run"
QUICK = 32
"""Images of --quick."""
COUNT = 256
"""Images otherwise, at most."""
_OF_TEXTS = (
    "models",
    "texts",
    "out",
    "quick",
    "count",
    "layers",
    "device",
    "dtype",
    "backend",
    "tokenizer_source",
)
"""Options that `--texts` honours: all others are about images."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the process's exit code."""
    program = sys.argv[0] if sys.argv[0].startswith("emma-viz ") else _MODULE
    given = sys.argv[1:] if arguments is None else list(arguments)
    return guarded(lambda: _run(probe_parser(program).parse_args(given), given), program=program)


def probe_parser(program: str) -> argparse.ArgumentParser:
    """The options of `emma-viz probe`, under the name that the program goes by."""
    parser = argparse.ArgumentParser(
        prog=program,
        description=(__doc__ or "").replace(_MODULE, program),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_arguments(parser)
    return parser


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models",
        nargs="+",
        metavar="CHECKPOINT",
        help="one, or two to compare: as --models of the other commands",
    )
    parser.add_argument(
        "--images",
        type=options.path,
        metavar="DIR|JSON",
        help="images, or records of them (default: tabletop scenes)",
    )
    parser.add_argument(
        "--texts",
        type=options.path,
        metavar="FILE",
        help="a text file: its paragraphs are read by the checkpoints' language models alone, without images",
    )
    parser.add_argument(
        "--out", type=options.path, required=True, metavar="DIR", help="where the report goes"
    )
    parser.add_argument(
        "--probes",
        metavar="A,B",
        help="some alone, or a file my_probe.py (default: " + ",".join(known()) + ")",
    )
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} images and fewer draws: minutes")
    parser.add_argument("--count", type=int, metavar="N", help=f"images at most (default: {COUNT})")
    parser.add_argument(
        "--budget",
        type=float,
        metavar="MINUTES",
        help="begin no further batch after so long; says what was seen",
    )
    parser.add_argument(
        "--shard",
        type=options.shard,
        metavar="I/N",
        help="see the I-th of N parts, from 1, and write no report; without it, what no part has seen is seen too",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="processes that share the images, each with its part of the cores (default: %(default)s)",
    )
    parser.add_argument(
        "--layers",
        nargs="+",
        action=options.ReadLayers,
        metavar="LAYER",
        help="layers to examine: numbers, first, last, all (default: all, or 16 of many)",
    )
    parser.add_argument("--prompt", default=Asking.prompt, help="asked about images without a question")
    parser.add_argument(
        "--save-seconds",
        type=float,
        default=Plan.save_seconds,
        help="how often what was seen is written (default: %(default)s)",
    )
    options.add_loading(parser.add_argument_group("models"))


def _run(args: argparse.Namespace, given: Sequence[str]) -> None:
    started = time.monotonic()
    if len(args.models) > 2:
        raise InputError(f"expected one checkpoint, or two to compare, got {len(args.models)}.")
    if args.budget is not None and not args.budget > 0:
        raise InputError(f"--budget is a number of minutes above 0, got {args.budget}.")
    part, running = options.launched(args.shard, options.running(args))
    shard = Shard(index=part[0], of=part[1])
    if not 1 <= args.jobs <= GROUPS or (args.jobs > 1 and shard.of > 1):
        raise InputError(
            f"--jobs is a number of processes from 1 to {GROUPS}, without --shard or a launcher of several; got "
            f"{args.jobs}."
        )
    if not 0 <= args.save_seconds < math.inf:
        raise InputError(f"--save-seconds is a number of seconds from 0 on, got {args.save_seconds}.")
    probes = chosen(args.probes.split(",") if args.probes else None)
    layers = None if args.layers is None else tuple(args.layers)
    report.require_report_room(args.out)
    usual = QUICK if args.quick else COUNT
    if args.texts is not None:
        if ignored := [
            flag for name, flag in options.given(_add_arguments, given).items() if name not in _OF_TEXTS
        ]:
            raise InputError(
                f"expected --texts without {', '.join(ignored)}, which only probes of images take."
            )
        _on_texts(args, layers, running, usual if args.count is None else args.count)
        return
    described = [require_loadable(source, running) for source in args.models]
    for _, found in described:
        layers_of(found.info.n_layer, layers)
    subjects = subjects_of(args.images, count=usual if args.count is None else args.count, prompt=args.prompt)
    kept, left_out = able(
        probes,
        subjects,
        models=len(args.models),
        mixers=all(
            {*found.info.mixer_layers} & {*layers_of(found.info.n_layer, layers)} for _, found in described
        ),
        apart=all(found.info.mixers_alone for _, found in described),
        ours=all(config is not None for config, _ in described),
        infused=all(isinstance(config, VLMConfig) and config.projector.infused for config, _ in described),
    )
    if not kept:
        raise InputError(
            f"expected a probe that can run on these images and models, but: {' '.join(left_out)}"
        )
    plan = Plan(
        subjects=subjects,
        probes=kept,
        folder=args.out,
        shard=shard,
        quick=args.quick,
        layers=layers,
        save_seconds=args.save_seconds,
        by_group=len(args.models) > 1,
    )
    if args.jobs > 1:
        total = len(plan.batches()) * len(kept) * len(args.models)
        with ProgressBars() as bars:
            share_out(given, args.jobs, seen=args.out / "seen", total=total, progress=bars)
    found, checked = _examined(args.models, plan, running, budget=args.budget, started=started)
    if shard.of > 1:
        print(f"{args.out}: shard {shard.index} of {shard.of} is seen; run without --shard for the report.")
        return
    written = report.write_report(
        _reported(found, checked, plan, subjects, left_out, (time.monotonic() - started) / 60), args.out
    )
    print(f"{written[0]}: {written[1].name}, {len(written) - 2} tables and figures beside it.")


def _on_texts(
    args: argparse.Namespace, layers: tuple[int | str, ...] | None, running: Running, count: int
) -> None:
    """Language models alone, on text."""
    with ProgressBars() as bars:
        written = report_on_texts(
            args.models, args.texts, args.out, count=count, layers=layers, running=running, progress=bars
        )
    print(f"{written[0]}: {written[1].name}, {len(written) - 2} tables and figures beside it.")


Found = dict[str, tuple[Ledger, Gathered]]


def _examined(
    models: Sequence[str], plan: Plan, running: Running, *, budget: float | None, started: float
) -> tuple[list[Found], list[tuple[Check, ...]]]:
    """Each model in turn; of two the first is freed before the second is loaded, but for probes that need both."""
    found, checked = [], []
    alone = tuple(probe for probe in plan.probes if not probe.needs().other)
    both = tuple(probe for probe in plan.probes if probe.needs().other)
    turns = len(models) * (bool(alone) + bool(both))

    def own(probes: tuple[Probe, ...], turn: int, *names: str) -> Plan:
        until = None if budget is None else started + 60 * budget * (turn + 1) / turns
        return replace(plan, probes=probes, folder=plan.folder / "seen" / "-".join(names), deadline=until)

    with ProgressBars() as bars:
        for index, source in enumerate(models):
            model = load(source, running, bars)
            require_one_grid(model, plan.subjects)
            if plan.shard.of == 1:
                checked.append(checks(model, plan.subjects.take(0)))
            folder = (str(index), model.info.fingerprint[:12])
            found.append(examine(model, own(alone, index, *folder), progress=bars) if alone else {})
            del model
            free(source)
        if both:
            pair = [load(source, running, bars) for source in models]
            for index, (model, other) in enumerate(zip(pair, reversed(pair), strict=True)):
                folder = (str(index), *(each.info.fingerprint[:12] for each in (model, other)))
                asked = replace(own(both, turns - len(models) + index, *folder), other=other)
                found[index] |= examine(model, asked, progress=bars)
    return found, checked


def _reported(
    found: list[Found],
    checked: list[tuple[Check, ...]],
    plan: Plan,
    subjects: Subjects,
    left_out: Sequence[str],
    minutes: float,
) -> report.Report:
    sections = tuple(_section(probe, [each[probe.name] for each in found], plan) for probe in plan.probes)
    seen = min((result.gathered.images for each in sections for result in each.results), default=0)
    notes = list(left_out)
    if seen < len(subjects):
        notes.append(
            f"The numbers are about {seen} of {len(subjects)} images, those that every model saw: time was up."
        )
    return report.Report(
        models=tuple(each[plan.probes[0].name][1].model for each in found),
        checks=tuple(checked),
        images=subjects.said,
        seen=seen,
        asked=len(subjects),
        sections=sections,
        notes=tuple(notes),
        minutes=minutes,
    )


def _section(probe: Probe, found: Sequence[tuple[Ledger, Gathered]], plan: Plan) -> report.Section:
    gathereds = _on_common_images(found, plan)
    measures = [probe.measures(each) for each in gathereds]
    results = tuple(
        Result(gathered=each, findings=find(some)) for each, some in zip(gathereds, measures, strict=True)
    )
    both = differences(*measures) if len(measures) == 2 else ()
    return report.Section(probe=probe, results=results, differences=both)


def _on_common_images(found: Sequence[tuple[Ledger, Gathered]], plan: Plan) -> list[Gathered]:
    """What was gathered of the groups of which every model has seen as much.

    Raises:
        StudyError: there are none.
    """
    counts = [ledger.done for ledger, _ in found]
    common = [group for group in range(GROUPS) if len({each.get(group, 0) for each in counts}) == 1]
    if not any(group in each for each in counts for group in common):
        raise StudyError(
            "expected images that both models saw, got none: time was up (--budget) before each had seen one group of "
            "them whole; give the same command again, which goes on from what was seen."
        )
    return [gathered(ledger.only(common), each.model, plan, each.layers) for ledger, each in found]


if __name__ == "__main__":
    sys.exit(main())
