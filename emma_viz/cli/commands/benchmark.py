"""`emma-viz benchmark`: ask models the questions of a benchmark, and score the answers with intervals."""

import argparse
from pathlib import Path

from emma_viz.cli import options
from emma_viz.cli.terminal import one_line, printable
from emma_viz.session.options import Keeping

HELP = "ask models a benchmark's questions and score the answers, with intervals; goes on where it was interrupted"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The name, and the rest, which another parser reads once the benchmarks are known: to know them takes seconds."""
    parser.add_argument(
        "name",
        metavar="NAME",
        help="pope, hallusionbench, amber, chair, mme, plain, tabletop (drawn, nothing to download), or one of an "
        "installed package; or no benchmark: import (answers that were given elsewhere), latency or components (time "
        "and size of models); `emma-viz benchmark NAME --help` shows its options",
    )
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="…", help="its options")


def run(args: argparse.Namespace) -> int:
    """Read the rest of the command line, and do it."""
    parser = argparse.ArgumentParser(prog=f"emma-viz benchmark {args.name}")
    add, act = COMMANDS_BESIDE.get(args.name, (_add_run, _run))
    add(parser, args.name)
    return act(parser.parse_args(args.rest, argparse.Namespace(benchmark=args.name)))


def _add_run(parser: argparse.ArgumentParser, name: str) -> None:
    from emma_viz.records.benchmarks import benchmark

    parser.description = f"{benchmark(name).title}. Files: {benchmark(name).source}."
    parser.add_argument(
        "--records",
        type=options.path,
        nargs="+",
        metavar="PATH",
        default=[],
        help="the benchmark's files, or folders of them (tabletop needs none)",
    )
    parser.add_argument(
        "--images", type=options.path, metavar="FOLDER", help="the folder of the benchmark's images"
    )
    parser.add_argument(
        "--out",
        type=options.path,
        metavar="RUN",
        default=Path(f"benchmark-{name}"),
        help="the run's folder, made or gone on with (default: %(default)s)",
    )
    _add_scorers(parser)
    parser.add_argument(
        "--form",
        default="plain",
        help="what is asked for a question: plain, cobra, lmms-eval, vlmevalkit, or a text with {question} in it "
        "(default: plain)",
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="ask the first N questions of each split alone"
    )
    parser.add_argument(
        "--shard",
        type=options.shard,
        metavar="I/N",
        help="answer the I-th of N parts; whoever ends last writes the tables. `accelerate launch --num_processes N -m "
        "emma_viz benchmark …` does so by itself, each process on its own GPU with --device cuda",
    )
    options.add_fields(
        parser,
        Keeping,
        overwrite={
            "help": "begin again where another run is; not with --shard or a launcher of several processes"
        },
        batch_size={"metavar": "N", "help": "questions that go through a model at a time"},
        broken_limit={"metavar": "N", "help": "rows that may be left out because they cannot be used"},
    )
    options.add_images(parser)
    options.add_models(parser)
    options.add_answering(parser)


def _add_scorers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--scorers",
        nargs="+",
        metavar="SCORER",
        default=[],
        help="how answers are read, by name; the first decides what is right (default: the benchmark's own; see "
        "docs/benchmarks.md)",
    )


def _run(args: argparse.Namespace) -> int:
    from emma_viz.cli.progress import ProgressBars
    from emma_viz.session.benchmarks.run import run_benchmark

    shard, running = options.launched(args.shard, options.running(args))
    with ProgressBars() as bars:
        done = run_benchmark(
            args.benchmark,
            args.models,
            args.out,
            records=args.records,
            images=args.images,
            scorers=args.scorers,
            form=args.form,
            limit=args.limit,
            shard=shard,
            **options.fields_of(args, Keeping, "overwrite", "batch_size", "broken_limit"),
            asking=options.asking(args),
            running=running,
            convert_profile=args.convert_profile,
            say=lambda text: print(one_line(text)),
            progress=bars,
        )
    if done is not None:
        _show(done)
    return 0


def _show(done) -> None:
    """Print the tables, and where they were written."""
    from emma_viz.session.benchmarks.results import briefly
    from emma_viz.session.benchmarks.tables import aligned

    for table in briefly(done.tables):
        print(f"\n{printable(table.title)}\n{printable(aligned(table))}")
    print()
    for note in done.run.about.notes:
        print(one_line(note))
    for path in done.files:
        print(f"wrote {one_line(path)}")


def _add_import(parser: argparse.ArgumentParser, name: str) -> None:
    parser.description = (
        "Make a run's folder, with tables, of answers that were given elsewhere: lmms-eval's --log_samples of all its "
        "generations, VLMEvalKit's tables, a benchmark's own files with answers in them, or files of answers alone."
    )
    parser.add_argument(
        "logs", type=options.path, nargs="+", metavar="LOG", help="files; those of one model are joined"
    )
    parser.add_argument(
        "--out", type=options.path, required=True, metavar="RUN", help="the run's folder, made"
    )
    parser.add_argument(
        "--kind",
        choices=["lmms-eval", "vlmevalkit", "records", "answers"],
        help="whose logs they are: records are a benchmark's files with answers in them, answers are files of answers "
        "alone (default: tables are VLMEvalKit's, as .xlsx, .tsv, .csv or .json; other JSON is lmms-eval's)",
    )
    parser.add_argument(
        "--names",
        nargs="+",
        metavar="MODEL",
        default=[],
        help="the models' names, one for all logs or one each (default: from the files' names or folders)",
    )
    parser.add_argument(
        "--task", default="", help="the task, data set or split (default: from the name of the file)"
    )
    parser.add_argument(
        "--benchmark", dest="known", metavar="NAME", default="", help="which benchmark of ours it is"
    )
    parser.add_argument(
        "--records",
        type=options.path,
        nargs="+",
        metavar="PATH",
        default=[],
        help="the benchmark's own files: logs name no image, and rows are joined to these",
    )
    parser.add_argument(
        "--questions",
        type=options.path,
        metavar="FILE",
        help="of answers: the file of questions without labels that their ids are of, as LLaVA's for POPE",
    )
    parser.add_argument("--images", type=options.path, metavar="FOLDER", help="the folder of the images")
    parser.add_argument("--overwrite", action="store_true", help="replace another import")
    _add_scorers(parser)


def _import(args: argparse.Namespace) -> int:
    from emma_viz.session.benchmarks.importing import import_run

    done = import_run(
        args.logs,
        args.out,
        kind=args.kind,
        names=args.names,
        task=args.task,
        benchmark_name=args.known,
        records=args.records,
        questions=args.questions,
        images=args.images,
        scorers=args.scorers,
        overwrite=args.overwrite,
        say=lambda text: print(one_line(text)),
    )
    _show(done)
    return 0


def _add_timing(parser: argparse.ArgumentParser, name: str) -> None:
    parser.description = (
        "Time an answer of 256 forced tokens, again and again (the EMMA paper's Table 3)."
        if name == "latency"
        else "Parameters, time and memory of each component (the EMMA paper's Table 7)."
    )
    parser.add_argument("--image", type=options.path, metavar="FILE", help="what is shown (default: a scene)")
    parser.add_argument(
        "--repeats", type=int, metavar="N", help="how often it is timed (default: 200; components: 20)"
    )
    if name == "latency":
        parser.add_argument("--tokens", type=int, metavar="N", help="of each answer (default: 256)")
    parser.add_argument("--out", type=options.path, metavar="FOLDER", help="write the table there, too")
    options.add_models(parser)


def _time(args: argparse.Namespace) -> int:
    from emma_viz.cli.progress import ProgressBars
    from emma_viz.files.room import require_writable
    from emma_viz.session.benchmarks.components import component_costs
    from emma_viz.session.benchmarks.results import write_tables
    from emma_viz.session.benchmarks.tables import aligned
    from emma_viz.session.benchmarks.timing import latency

    if args.out is not None:
        require_writable(args.out, folder=True)
    given = {"repeats": args.repeats, "tokens": getattr(args, "tokens", None)}
    chosen = {name: value for name, value in given.items() if value is not None}
    measure = latency if args.benchmark == "latency" else component_costs
    with ProgressBars() as bars:
        table = measure(args.models, image=args.image, running=options.running(args), progress=bars, **chosen)
    print(f"{printable(table.title)}\n{printable(aligned(table))}")
    if args.out is not None:
        for path in write_tables(args.out, [table], table.title):
            print(f"wrote {one_line(path)}")
    return 0


COMMANDS_BESIDE = {
    "import": (_add_import, _import),
    "latency": (_add_timing, _time),
    "components": (_add_timing, _time),
}
"""Names that are no benchmark's → what adds their options, and what they do."""
