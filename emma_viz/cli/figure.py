"""`emma-viz figure`: what each model's image tokens hold at each depth, for your images."""

import argparse
from pathlib import Path

from emma_viz.cli import options
from emma_viz.errors import InputError

HELP = "draw what each model's image tokens still hold at each depth, with its answer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this sub-command."""
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="photographs: any file that Pillow reads")
    parser.add_argument(
        "--from",
        dest="sidecar",
        type=Path,
        metavar="FILE",
        help="draw again from the .json beside an earlier figure: no model, no photo",
    )
    options.add_models(parser)
    options.add_prompt(parser)
    options.add_lens(parser)
    parser.add_argument("--site", help="the hook site to decode (default: that of the lens)")
    options.add_view(parser)


def run(args: argparse.Namespace) -> int:
    """Draw the figure and its sidecar, and say where they are."""
    from emma_viz import session
    from emma_viz.cli.progress import Bars

    if args.sidecar is not None:
        if args.images:
            raise InputError("expected either images or --from, got both; leave one out.")
        out = args.out or args.sidecar.with_name(f"{Path(args.sidecar.stem).stem}-redrawn.png")
        session.check_output(out)
        print(f"wrote {session.redraw(args.sidecar, out)}")
        return 0
    if not args.images:
        raise InputError("expected at least one image (or --from FIGURE.json), got none.")
    out = args.out or Path(f"{Path(args.images[0]).stem}-figure.png")
    session.check_output(out, inputs=args.images)
    with Bars() as bars:
        comparison = session.compare(
            args.images,
            args.models,
            lenses=args.lens,
            site=args.site,
            force_lens=args.force_lens,
            layers=options.view(args).layers,
            asking=options.asking(args),
            running=options.running(args),
            progress=bars,
        )
    for decoding in comparison.decodings:
        for name, answer in zip(comparison.image_names, decoding.answers, strict=True):
            print(f"{decoding.model.name} on {name}: {answer}")
    for path in session.save(comparison.spec(options.view(args)), out):
        print(f"wrote {path}")
    return 0
