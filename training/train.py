"""Train the pocket family, a model on your own data, or a lens for a frozen model.

    python -m training.train pocket-pair                      everything, from nothing to runs/pocket/bundle
    python -m training.train pocket-family                    the same with EMMA-V2, the ablation -MFF, and LLaVA
    python -m training.train pocket-pair --seed 1             a second seed, from the same encoder and text stage
    python -m training.train pocket-pair --seed 1 --start BUNDLE    the same, both taken from a bundle
    python -m training.train encoder --recipe pocket          the vision encoder alone
    python -m training.train text --recipe pocket             the language model, on text alone
    python -m training.train joint --recipe cobra-pocket      one member, with the stages that it needs
    python -m training.train joint --recipe tiny              the same in under a minute, to try it out

    python -m training.train joint --recipe emma-v1-3b --data llava.json --images FOLDER --llm mamba-2.8b-zephyr
    python -m training.train joint --recipe emma-v1-3b --dry-run --world-size 8     what that would need
    accelerate launch … -m emma_viz train joint …             the same on many devices: docs/training-at-scale.md
    python -m training.train lens --model RUN_DIRECTORY --data FOLDER_OR_JSON --out FILE

Results are kept in the work folder: a run that was stopped goes on where its last checkpoint was.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from emma_viz.cli.guard import guarded
from emma_viz.cli.options import path
from emma_viz.errors import TrainingError
from emma_viz.files.room import require_writable
from emma_viz.models.presets import PRESETS
from training.commands import add_joint, add_lens_options, require_none_of_data, run_joint, run_lens
from training.loop.journal import require_board
from training.pocket.recipes import FAMILIES, MEMBERS, PAIR, family_of
from training.pocket.stages import Work, run_name, train_members

MODULE = "python -m training.train"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the process's exit code."""
    # As `emma-viz train`, or from the module, which an installed package does not have at the top.
    program = sys.argv[0] if sys.argv[0].startswith("emma-viz ") else MODULE
    return guarded(lambda: _run(training_parser(program).parse_args(arguments)), program=program)


def training_parser(program: str) -> argparse.ArgumentParser:
    """The options of `emma-viz train`, under the name that the program goes by."""
    parser = argparse.ArgumentParser(
        prog=program,
        description=(__doc__ or "").replace(MODULE, program),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    recipes = tuple(dict.fromkeys((*MEMBERS, *PRESETS)))
    for name, choices, default in (
        ("encoder", tuple(FAMILIES), "pocket"),
        ("text", tuple(FAMILIES), "pocket"),
        ("joint", recipes, None),
    ):
        command = commands.add_parser(name, help=f"the {name} stage")
        command.add_argument("--recipe", choices=choices, default=default, required=default is None)
        command.add_argument("--work", type=path, help="work folder (default: runs/<recipe>)")
        if name == "joint":
            add_joint(command)
        if name == "text":
            command.add_argument("--llm", help="one of the family's language models (default: the first)")
    add_lens_options(
        commands.add_parser("lens", help="fit a lens for a frozen model, with its held-out quality")
    )
    members = tuple(FAMILIES["pocket"]().members)
    for name, known in (("pocket-pair", PAIR), ("pocket-family", members)):
        what = ", ".join(known)
        family = commands.add_parser(name, help=f"{what}: all stages, lenses and the bundle")
        family.add_argument("--work", type=path, help="work folder (default: runs/pocket)")
        family.add_argument(
            "--bundle",
            type=path,
            metavar="FOLDER",
            help="where the models go (default: bundle in the work folder); the package's own folder, named here, is "
            "replaced",
        )
        family.add_argument("--seed", type=int, default=0, help="of the joint stage (default: 0)")
        family.add_argument(
            "--start", type=path, metavar="BUNDLE", help="take tokenizer, encoder and text stage from there"
        )
        if name == "pocket-family":
            family.add_argument(
                "--members", nargs="+", choices=known, default=known, help="some alone (default: all)"
            )
    return parser


def _run(options: argparse.Namespace) -> None:
    if not getattr(options, "dry_run", False):
        require_board()
    if options.command == "lens":
        run_lens(options)
    elif options.command == "joint" and (options.data is not None or options.recipe not in MEMBERS):
        run_joint(options)
    elif options.command == "joint":
        require_none_of_data(options)
        work = Work(options.work or Path("runs") / options.recipe, family_of(options.recipe))
        if options.dry_run:
            from training.pocket.dry_run import member_report

            print(member_report(work.recipe, options.recipe))
        else:
            require_writable(work.folder, folder=True, error=TrainingError)
            work.joint(options.recipe, seed=options.seed or 0)
    elif options.command in ("encoder", "text"):
        work = Work(options.work or Path("runs") / options.recipe, options.recipe)
        require_writable(work.folder, folder=True, error=TrainingError)
        if options.command == "encoder":
            work.pretrain_encoder()
        else:
            work.language_model(options.llm or work.config.llm_backbone_id)
    else:
        from training.pocket.bundle import bundle_family, require_bundle_place, require_same_start, take_start

        work = Work(options.work or Path("runs/pocket"), "pocket")
        members = PAIR if options.command == "pocket-pair" else tuple(options.members)
        bundle = options.bundle or work.folder / run_name("bundle", options.seed)
        require_bundle_place(bundle, seed=options.seed)
        for made in (work.folder, bundle):
            require_writable(made, folder=True, error=TrainingError)
        command = f"{MODULE} {options.command}"
        if set(members) != set(PAIR if options.command == "pocket-pair" else work.recipe.members):
            command += f" --members {' '.join(members)}"
        if options.seed:
            command += f" --seed {options.seed}"
        if options.start is not None:
            take_start(work, options.start)
            command += " --start BUNDLE"
        if work.has_encoder:
            _ = work.tokenizer
            require_same_start(work, members, bundle)
        print(f"{options.command}: {', '.join(members)}, seed {options.seed}; their bundle goes to {bundle}")
        train_members(work, members, seed=options.seed)
        written = bundle_family(work, members, bundle, command=command, seed=options.seed)
        print(f"wrote {written}: {', '.join(members)}")


if __name__ == "__main__":
    sys.exit(main())
