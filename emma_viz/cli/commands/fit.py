"""`emma-viz fit`: a lens for a model that came without one."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emma_viz.cli import options, programs
from emma_viz.cli.terminal import one_line
from emma_viz.errors import InputError
from emma_viz.session.options import LensRecipe, Running

HELP = "fit a lens for a frozen model on your images, with its quality on others, and keep it where the model finds it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this sub-command."""
    parser.add_argument(
        "model", metavar="MODEL", help="a run directory, preset, bundled name, hub id or file"
    )
    parser.add_argument(
        "--images",
        type=options.path,
        required=True,
        metavar="FOLDER",
        help="a folder of images, a pattern, or a list (.json, .jsonl) of records that name them",
    )
    options.add_image_folder(parser)
    parser.add_argument(
        "--out",
        type=options.path,
        metavar="FILE",
        help="the lens file (default: in the model's folder, or, where that is not yours, in the cache)",
    )
    parser.add_argument(
        "--untrained",
        type=int,
        default=0,
        metavar="N",
        help="ridge: also fit it on N models with shuffled weights (at least 3), as a control; each takes as long "
        "again",
    )
    add_recipe(parser)
    options.add_loading(parser)


def add_recipe(parser: argparse._ActionsContainer) -> None:
    """What a lens is fitted on, and how: an option for each field of `LensRecipe`."""
    number = {"type": int, "metavar": "N"}
    options.add_fields(
        parser,
        LensRecipe,
        kind={},
        fit={"flag": "--fit-images", **number},
        held_out=number,
        site={},
        layers={"nargs": "+", "action": options.ReadLayers, "metavar": "LAYER"},
        batch_size=number,
        layers_per_pass=number,
        rank=number,
        decoder_layers=number,
        steps=number,
        layers_per_step=number,
        lr={"type": float},
        seed=number,
        broken_limit=number,
        half={},
    )


def lens_recipe_of(args: argparse.Namespace, depth: Callable[[], int]) -> LensRecipe:
    """The recipe that was asked for.

    Args:
        args: what was parsed.
        depth: gives the blocks of the model, where its last one may be meant.

    Raises:
        TrainingError: it contradicts itself.
    """
    from emma_viz.capture.sites import numbered_layers
    from emma_viz.shapes import EMBEDDING

    given: dict[str, Any] = options.fields_of(args, LensRecipe)
    layers = None
    if args.layers not in (None, ["all"]):
        blocks = depth() if any(isinstance(each, str) for each in args.layers) else 0
        layers = tuple(sorted(numbered_layers(args.layers, blocks, every=range(EMBEDDING, blocks))))
    given["layers"] = layers
    return LensRecipe(**given)


def run(args: argparse.Namespace) -> int:
    """Fit and print the quality per layer; a tuned lens is trained by the program, which can be interrupted.

    Raises:
        InputError: untrained models are asked for beside a tuned lens.
    """
    from emma_viz.cli.progress import ProgressBars
    from emma_viz.session import fitting
    from emma_viz.session.loading import require_loadable

    running = options.running(args)
    recipe = lens_recipe_of(args, lambda: require_loadable(args.model, running)[1].info.n_layer)
    if recipe.kind == "tuned" and args.untrained:
        raise InputError("--untrained is for ridge lenses; a tuned one would be trained anew for each.")
    if recipe.kind == "tuned":
        return programs.run_program(
            "train", ["lens", *_train(args, fitting.place_of(args.model, running, "tuned", args.out))]
        )
    with ProgressBars() as bars:
        lens, out = fitting.fit_for(
            args.model,
            recipe,
            args.images,
            out=args.out,
            images=args.image_folder,
            untrained=args.untrained,
            running=running,
            say=lambda text: print(one_line(text)),
            progress=bars,
        )
    print(fitting.quality_table(lens.info))
    for note in lens.info.notes:
        print(one_line(note))
    print(f"wrote {one_line(out)}: {one_line(lens.info.describe())}")
    return 0


def _train(args: argparse.Namespace, out: Path) -> list[str]:
    """The same for `emma-viz train lens`.

    Raises:
        InputError: an option was given that it does not have.
    """
    stored = Running()
    if (args.dtype, args.backend) != (stored.dtype, stored.backend):
        raise InputError(
            "A tuned lens is trained on the model as it is stored; leave --dtype and --backend out."
        )
    words = ["--model", args.model, "--data", str(args.images), "--out", str(out), "--device", args.device]
    words += ["--images", str(args.image_folder)] if args.image_folder else []
    for given in args.vision_source or ():
        words += ["--vision", given]
    words += ["--tokenizer", args.tokenizer_source] if args.tokenizer_source else []
    words += ["--llm", args.llm_source] if args.llm_source else []
    usual = LensRecipe()
    for name, value in options.fields_of(args, LensRecipe).items():
        flag = "--fit-images" if name == "fit" else f"--{name.replace('_', '-')}"
        if value == getattr(usual, name):
            continue
        words += [flag] if value is True else [flag, *map(str, value if isinstance(value, list) else [value])]
    return words
