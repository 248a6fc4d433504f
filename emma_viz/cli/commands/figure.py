"""`emma-viz figure`: what each model's image tokens hold at each depth, for your images."""

import argparse
import sys
from pathlib import Path

from emma_viz.cli import options
from emma_viz.cli.terminal import indented, one_line
from emma_viz.errors import InputError

HELP = "draw what each model's image tokens still hold at each depth, with its answer"


_REDRAWN = ("images", "source", "any_size", "out", "recipe")
"""What `--from` honours: everything else that a figure shows is in its recipe."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this sub-command."""
    parser.add_argument(
        "images",
        type=options.image,
        nargs="*",
        metavar="IMAGE",
        help="photographs: any file that Pillow reads, but for EPS and WMF, which are drawings",
    )
    parser.add_argument(
        "--from",
        dest="source",
        type=options.path,
        metavar="FILE",
        help="draw an earlier figure again, from itself or from the .json beside it: no model, no photo",
    )
    parser.add_argument(
        "--any-size",
        action="store_true",
        help="with --from: read a recipe of any size; for files of your own",
    )
    options.add_images(parser)
    options.add_models(parser)
    options.add_prompt(parser, several=True)
    options.add_lens(parser)
    parser.add_argument("--site", help="the hook site to decode (default: that of the lens)")
    options.add_view(parser)


def run(args: argparse.Namespace) -> int:
    """Draw the figure and its sidecar, and say where they are.

    Raises:
        InputError: no image is named, nor a figure to draw again.
    """
    if args.source is not None:
        return _redraw(args)
    if args.any_size:
        raise InputError("expected --any-size with --from alone: it is about the recipe that is read.")
    if not args.images:
        raise InputError("expected at least one image (or --from FIGURE), got none.")
    from emma_viz import session  # what loads PyTorch comes after what can be refused without it
    from emma_viz.cli.progress import ProgressBars
    from emma_viz.render.film import MOVING
    from emma_viz.session.row_names import row_names

    outs = args.out or [Path(f"{Path(args.images[0]).stem}-figure.png")]
    views = [options.view(args, out) for out in outs]
    for out in outs:
        session.check_output(out, inputs=args.images, images=len(args.images), recipe=args.recipe)
    with ProgressBars() as bars:
        comparison = session.compare(
            args.images,
            args.models,
            lenses=args.lens,
            site=args.site,
            force_lens=args.force_lens,
            fit_on=args.fit_on,
            views=views,
            film=any(out.suffix.lower() in MOVING for out in outs),
            prompts=args.prompt or (),
            asking=options.asking(args),
            running=options.running(args),
            convert_profile=args.convert_profile,
            progress=bars,
        )
    for called, decoding in zip(row_names(comparison.decodings), comparison.decodings, strict=True):
        for name, prompt, answer in zip(
            comparison.image_names, decoding.prompts, decoding.answers, strict=True
        ):
            asked = f", {one_line(prompt)!r}" if len(args.prompt or ()) > 1 else ""
            print(f"{one_line(called)} on {one_line(name)}{asked}: {indented(answer)}")
    for out, view in zip(outs, views, strict=True):
        spec = comparison.spec(view)
        for path in session.write_picture(spec, out, recipe=args.recipe):
            print(f"wrote {one_line(path)}")
    return 0


def _redraw(args: argparse.Namespace) -> int:
    if args.images:
        raise InputError("expected either images or --from, got both; leave one out.")
    from emma_viz import session
    from emma_viz.render.recipe import ANY, LARGEST

    given = options.given(add_arguments, args.argv)
    if ignored := [flag for name, flag in given.items() if name not in _REDRAWN]:
        raise InputError(
            f"--from draws a figure as it was made: expected no {', '.join(ignored)} beside it. Leave "
            f"{'it' if len(ignored) == 1 else 'them'} out, or draw the images again."
        )
    drawn = args.source.name.removesuffix(".json")
    outs = args.out or [args.source.with_name(f"{Path(drawn).stem}-redrawn.png")]
    for out in outs:
        session.check_output(out, recipe=args.recipe)
    limit = ANY if args.any_size else LARGEST
    if said := session.mispaired(args.source, limit=limit):
        print(f"emma-viz: warning: {said}", file=sys.stderr)
    for out in outs:
        written = session.redraw(args.source, out, recipe=args.recipe, limit=limit)
        print(f"wrote {one_line(written)}")
    return 0
