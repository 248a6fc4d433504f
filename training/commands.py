"""The commands on data of one's own: `joint --data …` and `lens`; parsing, and the calls."""

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from emma_viz.cli.commands.fit import add_recipe
from emma_viz.cli.commands.fit import lens_recipe_of as lens_recipe_of
from emma_viz.cli.options import path
from emma_viz.errors import TrainingError
from emma_viz.files.room import require_writable
from emma_viz.models.config import VLMConfig
from emma_viz.models.presets import PRESETS
from training.vision_language.objective import ABLATIONS
from training.vision_language.recipe import Recipe, training_recipe
from training.vision_language.start import FRESH

_SETTINGS = ("micro", "lr", "seed", "precision", "save_every", "gradient_checkpointing")
"""Options that replace a field of the recipe."""

_OF_PHASE = ("epochs", "steps", "batch")
"""Options that replace a field of its one phase."""

_OF_DATA = ("workers", "held_out", "broken_limit")
"""Options that replace a field of the data."""

OF_MEMBERS = ("command", "recipe", "work", "seed", "dry_run")
"""Options of `joint` that have a meaning for a family's member too; all others are of a run on --data."""


def add_joint(parser: argparse.ArgumentParser) -> None:
    """Options of `joint` on a data set. None where one was not given, so that `require_none_of_data` can tell."""
    data = parser.add_argument_group(
        "a data set of your own",
        "with --data, RECIPE may be any preset's name; without it a family's member is trained by the family's "
        "recipe, which takes --work, --seed and --dry-run alone",
    )
    data.add_argument("--data", type=path, metavar="JSON", help="LLaVA JSON or JSONL")
    data.add_argument("--images", type=path, metavar="FOLDER", help="folder that its images are relative to")
    data.add_argument("--llm", help=f'first language model: a path, a hub id, or "{FRESH}"')
    data.add_argument(
        "--init", help="run directory to take projector and language model from, in place of --llm"
    )
    data.add_argument(
        "--vision",
        action="append",
        help=f'encoders: a file, tower=source (may be repeated), or "{FRESH}"; default: their usual places',
    )
    data.add_argument("--tokenizer", type=path, help="a tokenizer.json; default: the language model's")
    data.add_argument(
        "--feature-cache", type=path, metavar="FOLDER", help="keep the encoders' features there"
    )
    data.add_argument("--workers", type=int, help="threads that prepare batches (default: 2)")
    losses = parser.add_argument_group("losses")
    losses.add_argument("--pixel-loss", choices=("paper", "released", "none"), help="default: the recipe's")
    losses.add_argument("--pixel-weight", type=float, help="its weight")
    listed = "; ".join(f"{name}: {text}" for name, text in ABLATIONS.items())
    losses.add_argument("--ablate", nargs="+", choices=tuple(ABLATIONS), help=listed)
    more = parser.add_argument_group("settings that replace the recipe's")
    more.add_argument("--epochs", type=int)
    more.add_argument("--steps", type=int, help="optimizer steps, in place of --epochs")
    more.add_argument("--batch", type=int, help="records of a step, over all processes and parts")
    more.add_argument("--micro", type=int, help="records that a process computes at once")
    more.add_argument("--lr", type=float)
    more.add_argument("--seed", type=int)
    more.add_argument("--precision", choices=("bf16", "fp32"))
    more.add_argument("--gradient-checkpointing", action=argparse.BooleanOptionalAction)
    more.add_argument("--save-every", type=int, help="steps between two checkpoints")
    more.add_argument("--held-out", type=int, help="images kept for measuring the trained decoder")
    more.add_argument("--broken-limit", type=int, help="records that may be skipped")
    parser.add_argument(
        "--dry-run", action="store_true", help="print parameters, memory, steps and tokens only"
    )
    parser.add_argument("--world-size", type=int, help="processes that --dry-run reckons with (default: 1)")


def add_lens_options(parser: argparse.ArgumentParser) -> None:
    """Options of `lens`."""
    parser.add_argument("--model", required=True, help="run directory, preset or hub id of the frozen model")
    parser.add_argument(
        "--data",
        type=path,
        required=True,
        help="a folder of images, a pattern, LLaVA JSON or JSONL, or tabletop: drawn scenes",
    )
    parser.add_argument(
        "--images",
        type=path,
        help="folder that the JSON's images are relative to (default: that of the JSON)",
    )
    parser.add_argument("--out", type=path, required=True, help="the lens file")
    add_recipe(parser)
    parser.add_argument(
        "--vision", action="append", help="encoders: a file, or tower=source (may be repeated)"
    )
    parser.add_argument("--llm", help="language model, for a run directory with a projector alone")
    parser.add_argument("--tokenizer", type=path)
    parser.add_argument("--device", default="cpu")


def require_none_of_data(options: argparse.Namespace) -> None:
    """Refuse options of `joint --data` beside a family's member without --data, whose recipe they would not change.

    Raises:
        TrainingError: names them.
    """
    given = [name for name, value in vars(options).items() if name not in OF_MEMBERS and value is not None]
    if not given:
        return
    data = "--data JSON and --images FOLDER"
    instead = f"give {data}" if options.recipe in PRESETS else f"choose a preset as --recipe and give {data}"
    raise TrainingError(
        f"Without --data, {options.recipe} is trained by its family's recipe, which takes --work, --seed and --dry-run "
        f"alone; got {', '.join('--' + name.replace('_', '-') for name in given)}, which would change nothing. Leave "
        f"that out, or {instead}."
    )


def run_joint(options: argparse.Namespace) -> None:
    """`joint` on a data set, or its dry run."""
    if options.world_size is not None and not options.dry_run:
        raise TrainingError(
            "--world-size is for --dry-run, which reckons with so many processes; leave it out, and start them with "
            "`accelerate launch --num_processes N …`."
        )
    recipe = recipe_from(options)
    folder = options.work or Path("runs") / options.recipe
    if options.dry_run:
        print(_dry_run(recipe, options, folder))
        return
    if options.data is None or options.images is None:
        raise TrainingError("joint needs --data JSON and --images FOLDER for this recipe.")
    for made in filter(None, (folder, options.feature_cache)):
        require_writable(made, folder=True, error=TrainingError)
    from training.vision_language.run import train_vision_language
    from training.vision_language.start import Start

    start = Start(
        llm=options.llm, init=options.init, vision=_vision(options.vision), tokenizer=options.tokenizer
    )
    data = _data(options)
    written = train_vision_language(recipe, start, data, folder)
    if os.environ.get("RANK", "0") == "0":
        print(f"wrote {written}")


def recipe_from(options: argparse.Namespace) -> Recipe:
    """The recipe of a preset with what the command line changes.

    Raises:
        TrainingError: there is no such preset, or options exclude each other.
    """
    if options.recipe not in PRESETS:
        raise TrainingError(
            f"--recipe {options.recipe} is no preset; on a data set of your own use one of {', '.join(PRESETS)}."
        )
    recipe = training_recipe(options.recipe)
    objective = recipe.objective
    if options.pixel_loss is not None:
        objective = replace(objective, pixels=options.pixel_loss)
    if options.pixel_weight is not None:
        objective = replace(objective, weight=options.pixel_weight)
    length = _given(options, _OF_PHASE)
    if "steps" in length:
        length = {"epochs": None, **length}
    return replace(
        recipe,
        objective=objective.ablated(options.ablate or ()),
        phases=(replace(recipe.phases[0], **length),),
        **_given(options, _SETTINGS),
    )


def _given(options: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _data(options: argparse.Namespace):
    from training.vision_language.run import Data

    return Data(
        records=options.data,
        images=options.images,
        feature_cache=options.feature_cache,
        **_given(options, _OF_DATA),
    )


def _dry_run(recipe: Recipe, options: argparse.Namespace, folder: Path) -> str:
    from training.vision_language.dry_run import report

    world = 1 if options.world_size is None else options.world_size
    if options.data is None:
        return report(recipe, world=world)
    if options.images is None:
        raise TrainingError("--data needs --images FOLDER.")
    from training.vision_language.run import read_table, rules_of, split
    from training.vision_language.start import tokenizer_alone

    config, tokenizer = tokenizer_alone(
        recipe, llm=options.llm, tokenizer=options.tokenizer, init=options.init
    )
    data = _data(options)
    records = read_table(data, rules_of(config, tokenizer), folder, progress=True)
    _, plan = split(recipe, data, records)
    return report(recipe, world=world, records=records, plan=plan)


def run_lens(options: argparse.Namespace) -> None:
    """`lens`."""
    from emma_viz.checkpoints import load_model
    from emma_viz.session.fitting import quality_table
    from training.lens import lens_images
    from training.loop.lens import fit_file, run_of

    sources: dict[str, Any] = {
        "device": options.device,
        "vision_source": _vision(options.vision),
        "llm_source": options.llm,
        "tokenizer_source": options.tokenizer,
    }
    recipe = lens_recipe_of(options, lambda: _described(options.model, sources).llm.n_layer)
    require_writable(options.out, parents=True, error=TrainingError)
    if recipe.kind == "tuned":
        require_writable(run_of(options.out), folder=True, error=TrainingError)
    config = _described(options.model, sources)
    shown = lens_images(recipe, config, options.data, options.images)
    lens = fit_file(load_model(options.model, **sources), recipe, shown, options.out)
    print(quality_table(lens.info))
    print(f"wrote {options.out}: {lens.info.describe()}")


def _described(source: str, sources: dict[str, Any]) -> VLMConfig:
    """What a model is made of."""
    from emma_viz.checkpoints import require_model

    config, _ = require_model(source, **sources)
    if config is None:
        raise TrainingError(
            f"{source} runs through transformers' own class; fit its lens with `emma-viz fit {source} --images FOLDER`."
        )
    return config


def _vision(given: list[str] | None) -> str | dict[str, str] | None:
    """A file, `fresh`, or tower=source pairs."""
    if not given:
        return None
    pairs = [each.partition("=") for each in given]
    if len(given) == 1 and not pairs[0][1]:
        return given[0]
    if not all(sign for _, sign, _ in pairs):
        raise TrainingError(
            f"--vision takes one file, or tower=source for each tower; got {' '.join(given)}."
        )
    return {tower: source for tower, _, source in pairs}
