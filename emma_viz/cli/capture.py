"""`emma-viz capture`: run the models once and keep what their image tokens held."""

import argparse

from emma_viz.cli import options
from emma_viz.cli.terminal import one_line

HELP = "run the models on images and keep what their image tokens held in a study; goes on where it was interrupted"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this sub-command."""
    parser.add_argument(
        "images",
        type=options.image,
        nargs="+",
        metavar="IMAGE",
        help="photographs: any file that Pillow reads",
    )
    parser.add_argument(
        "--out", type=options.path, required=True, metavar="STUDY", help="the study folder, made or added to"
    )
    parser.add_argument(
        "--sites", nargs="+", default=["resid_post"], metavar="SITE", help="hook sites (default: resid_post)"
    )
    parser.add_argument(
        "--layers",
        nargs="+",
        type=options.layer,
        metavar="LAYER",
        default=["all"],
        help="layers to keep (default: all)",
    )
    parser.add_argument(
        "--states-dtype",
        choices=["float32", "bfloat16", "float16"],
        default="float32",
        help="of what is kept (default: float32)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace entries that were recorded with other options"
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=8,
        metavar="N",
        help="images that go through a model, and are held in memory, at a time (default: %(default)s)",
    )
    options.add_images(parser)
    options.add_models(parser)
    options.add_prompt(parser)


def run(args: argparse.Namespace) -> int:
    """Record every model on every image, one entry a model."""
    from emma_viz import session
    from emma_viz.cli.progress import Bars

    with Bars() as bars:
        entries = session.capture(
            args.images,
            args.models,
            args.out,
            sites=args.sites,
            layers="all" if "all" in args.layers else args.layers,
            states_dtype=args.states_dtype,
            overwrite=args.overwrite,
            batch_size=args.batch_size,
            asking=options.asking(args),
            running=options.running(args),
            convert_profile=args.convert_profile,
            progress=bars,
        )
    for entry in entries:
        print(f"{one_line(args.out)}: {one_line(entry)}")
    return 0
