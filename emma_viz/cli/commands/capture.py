"""`emma-viz capture`: run the models once and keep what their image tokens held."""

import argparse

from emma_viz.cli import options
from emma_viz.cli.terminal import one_line
from emma_viz.errors import InputError
from emma_viz.session.options import Keeping

_OF_MAPS = ("lens", "fit_on", "force_lens")
"""Options that only a capture of maps looks at."""
HELP = "run the models on images and keep what their image tokens held in a study; goes on where it was interrupted"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this sub-command."""
    parser.add_argument(
        "images",
        type=options.image,
        nargs="+",
        metavar="IMAGE",
        help="photographs, folders of them, patterns ('photos/*.jpg'), or lists: a .json or .jsonl of records "
        "{image, question} or in LLaVA's form",
    )
    options.add_image_folder(parser)
    parser.add_argument(
        "--out", type=options.path, required=True, metavar="STUDY", help="the study folder, made or added to"
    )
    parser.add_argument(
        "--sites",
        nargs="+",
        metavar="SITE",
        help="hook sites (default: resid_post; for maps those of the lens)",
    )
    parser.add_argument(
        "--layers",
        nargs="+",
        action=options.ReadLayers,
        metavar="LAYER",
        default=["all"],
        help="layers to keep, or for maps to decode: numbers, first, last, all, embedding (default: all)",
    )
    parser.add_argument(
        "--shard",
        type=options.shard,
        metavar="I/N",
        help="record the I-th of N parts; the study opens all as one. `accelerate launch --num_processes N -m emma_viz "
        "capture …` does so by itself, each process on its own GPU with --device cuda",
    )
    number = {"metavar": "N"}
    options.add_fields(
        parser, Keeping, store={}, states_dtype={}, overwrite={}, batch_size=number, broken_limit=number
    )
    options.add_images(parser)
    options.add_models(parser)
    options.add_prompt(parser, several=True)
    options.add_lens(parser)


def run(args: argparse.Namespace) -> int:
    """Record every model on every image, one entry a model.

    Raises:
        InputError: an option of lenses is named, and no maps are kept.
    """
    named = options.given(add_arguments, args.argv)
    if args.store != "maps" and (unused := [flag for name, flag in named.items() if name in _OF_MAPS]):
        raise InputError(
            f"expected {', '.join(unused)} with --store maps alone, got --store {args.store}, which no lens decodes; "
            f"leave {'it' if len(unused) == 1 else 'them'} out."
        )
    from emma_viz import session
    from emma_viz.cli.memory import give_back_what_is_freed
    from emma_viz.cli.progress import ProgressBars

    give_back_what_is_freed()
    shard, running = options.launched(args.shard, options.running(args))
    with ProgressBars() as bars:
        entries = session.capture(
            args.images,
            args.models,
            args.out,
            prompts=args.prompt or (),
            image_folder=args.image_folder,
            lenses=args.lens,
            force_lens=args.force_lens,
            fit_on=args.fit_on,
            sites=args.sites,
            layers=args.layers,
            **options.fields_of(args, Keeping),
            asking=options.asking(args),
            running=running,
            shard=shard,
            convert_profile=args.convert_profile,
            say=lambda text: print(one_line(text)),
            progress=bars,
        )
    for entry in entries:
        print(f"{one_line(args.out)}: {one_line(entry)}")
    return 0
