"""Options that several sub-commands share."""

import argparse
from pathlib import Path

from emma_viz.errors import InputError
from emma_viz.files.named import is_web_address, named_path

LAYERS_HELP = (
    "the layers to show, zero-based; -1 or 'embedding' for what enters block 0, 'all' for every block "
    "(default: five spread over the depth)"
)


def path(text: str) -> Path:
    """Parse a path, a `file:` address, or `~`."""
    try:
        return named_path(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def image(text: str) -> Path | str:
    """Parse the path of an image; a web address stays one, and is refused as that."""
    return text if is_web_address(text) else path(text)


def layer(text: str) -> int | str:
    """Parse one layer: an integer, 'embedding' (-1) or 'all'."""
    if text == "all":
        return text
    if text == "embedding":
        return -1
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected a layer number, 'embedding' or 'all', got {text!r}"
        ) from None


def towers(texts: list[str] | None) -> str | dict[str, str] | None:
    """Parse --vision: one file for all encoders, or TOWER=PATH for each.

    Raises:
        InputError: the two forms are mixed.
    """
    if not texts:
        return None
    if len(texts) == 1 and "=" not in texts[0]:
        return texts[0]
    pairs = [text.partition("=") for text in texts]
    if not all(name and path for name, _, path in pairs):
        raise InputError(f"expected --vision FILE, or --vision TOWER=PATH …, got {' '.join(texts)}.")
    return {name: path for name, _, path in pairs}


def add_images(parser: argparse.ArgumentParser) -> None:
    """How images are read."""
    parser.add_argument(
        "--convert-profile",
        action="store_true",
        help="convert images with a colour profile to sRGB (default: ignore profiles, as the released code does)",
    )


def add_models(parser: argparse.ArgumentParser) -> None:
    """Which models run, and how."""
    group = parser.add_argument_group("models")
    group.add_argument(
        "--models",
        nargs="+",
        metavar="SOURCE",
        default=["cobra-pocket", "emma-v1-pocket"],
        help="bundled or preset names, run directories, hub ids or safetensors files (default: %(default)s)",
    )
    add_loading(group)


def add_loading(parser: argparse._ActionsContainer) -> None:
    """How models are loaded: what `running` reads."""
    parser.add_argument("--device", default="cpu", help="where the models run, e.g. cuda (default: cpu)")
    parser.add_argument(
        "--dtype",
        choices=["float32", "bfloat16", "float16"],
        help="of the weights (default: as stored on a GPU, float32 on a CPU)",
    )
    parser.add_argument(
        "--backend",
        choices=["auto", "reference", "torch", "cpu", "cuda"],
        default="auto",
        help="kernels of the state-space layers (default: auto)",
    )
    parser.add_argument(
        "--vision",
        nargs="+",
        metavar="PATH",
        help="local weights of the vision encoders: one PATH for all, or TOWER=PATH for each",
    )
    parser.add_argument("--tokenizer", metavar="FILE", help="a tokenizer.json, for checkpoints that lack one")


def add_prompt(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """What is asked, and how the answer is drawn.

    Args:
        several: whether the prompt can be given several times; it is None, then, when it is not given.
    """
    group = parser.add_argument_group("prompt")
    default = "Describe the image in detail."
    if several:
        group.add_argument(
            "--prompt",
            action="append",
            help=f"what is asked about each image; given several times, each is asked (default: {default})",
        )
    else:
        group.add_argument("--prompt", default=default, help="(default: %(default)s)")
    group.add_argument("--max-new-tokens", type=int, default=64, metavar="N", help="(default: %(default)s)")
    group.add_argument("--temperature", type=float, default=0.0, help="0 is greedy (default: %(default)s)")
    group.add_argument("--top-p", type=float, default=1.0, help="(default: %(default)s)")
    group.add_argument("--seed", type=int, default=0, help="of the sampling (default: %(default)s)")


def add_lens(parser: argparse.ArgumentParser) -> None:
    """How states become pixels."""
    group = parser.add_argument_group("lens")
    group.add_argument(
        "--lens",
        nargs="+",
        metavar="LENS",
        default=["ridge"],
        help="one for all models, or one each: a kind that ships with the model (ridge, tuned, native) or a lens "
        "file (default: ridge)",
    )
    group.add_argument(
        "--force-lens",
        action="store_true",
        help="use a lens that belongs to another model; every picture then says so",
    )


def add_view(parser: argparse.ArgumentParser) -> None:
    """What the picture shows."""
    group = parser.add_argument_group("picture")
    group.add_argument("--layers", nargs="+", type=layer, metavar="LAYER", help=LAYERS_HELP)
    group.add_argument(
        "--map",
        choices=["distance", "magnitude", "error", "cosine"],
        help="per patch: distance to the median decoded patch, L2 magnitude, distance or cosine to the true patch "
        "(default: distance; magnitude with --style paper)",
    )
    group.add_argument(
        "--scale",
        default="shared",
        metavar="SCALE",
        help="shared (one colour scale for all), per_row, per_map, or MIN:MAX for a fixed one (default: shared)",
    )
    group.add_argument("--colormap", help="(default: viridis; jet with --style paper)")
    group.add_argument(
        "--style", choices=["default", "paper"], default="default", help="(default: %(default)s)"
    )
    group.add_argument(
        "--difference", action="store_true", help="also show the difference of two models' maps"
    )
    group.add_argument("--out", type=path, metavar="FILE", help="a .png, .svg, .pdf or .html file")
    group.add_argument(
        "--no-recipe",
        dest="recipe",
        action="store_false",
        help="leave out what draws the picture again (photographs, decoded images, maps): none inside, no sidecar",
    )


def running(args: argparse.Namespace):
    """The `Running` options of the session."""
    from emma_viz.session import Running

    return Running(
        device=args.device,
        dtype=args.dtype,
        backend=args.backend,
        vision_source=towers(args.vision),
        tokenizer_source=args.tokenizer,
    )


def asking(args: argparse.Namespace):
    """The `Asking` options of the session."""
    from emma_viz.session import Asking

    prompts = {} if args.prompt is None or isinstance(args.prompt, list) else {"prompt": args.prompt}
    return Asking(
        **prompts,
        max_new_tokens=args.max_new_tokens,
        temperature=args.temperature,
        top_p=args.top_p,
        seed=args.seed,
    )


def view(args: argparse.Namespace):
    """The `View` options of the session."""
    from emma_viz.session import View

    return View(
        layers=None if args.layers is None else tuple(args.layers),
        map_kind=args.map,
        scale=args.scale,
        colormap=args.colormap,
        style=args.style,
        difference=args.difference,
    )
