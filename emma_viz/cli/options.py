"""Options that several sub-commands share."""

import argparse
import ast
import dataclasses
import inspect
import io
import itertools
import os
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args, get_origin, get_type_hints

from emma_viz.errors import InputError
from emma_viz.files.named import is_web_address, named_path
from emma_viz.session.options import DEFAULT_LENSES, DEFAULT_MODELS, Asking, Running, View

LAYERS_HELP = (
    "the layers to show, zero-based, apart by spaces or commas; 'first', 'last', 'all' for every block, 'embedding' or "
    "-1 for what enters block 0 (default: five spread over the depth)"
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
    """Parse one layer: an integer, 'first', 'last', 'embedding' (-1) or 'all'."""
    if text in ("all", "first", "last"):
        return text
    if text == "embedding":
        return -1
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected a layer number, 'first', 'last', 'embedding' or 'all', got {text!r}"
        ) from None


class ReadLayers(argparse.Action):
    """Reads layers, apart by spaces or commas."""

    def __call__(self, parser, namespace, values, option_string=None):
        """Parse what was given, and warn of -1: who knows Python may mean the last block by it."""
        texts = [each for value in cast("list[str]", values) for each in value.split(",") if each]
        if "-1" in texts:
            print("emma-viz: warning: layer -1 is the embedding; the last block is 'last'", file=sys.stderr)
        try:
            found = [layer(each) for each in texts]
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentError(self, str(error)) from None
        if not found:
            raise argparse.ArgumentError(self, f"expected layers, got {' '.join(values)!r}")
        setattr(namespace, self.dest, found)


def shard(text: str) -> tuple[int, int]:
    """Parse I/N, the I-th of N parts, from 1."""
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    index, count = map(int, found.groups()) if found else (0, 0)
    if not 1 <= index <= count:
        raise argparse.ArgumentTypeError(f"expected I/N with I from 1 to N, such as 2/8, got {text!r}")
    return index, count


def launched(given: tuple[int, int] | None, running: Running) -> tuple[tuple[int, int], Running]:
    """The part that this process records, and where it runs: as asked, or as the launcher of several processes says.

    Raises:
        InputError: both say something, or what the launcher says is no number.
    """
    found = {name: os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    if any(value is not None and not re.fullmatch("[0-9]{1,6}", value) for value in found.values()):
        raise InputError(f"expected numbers in the environment of a launcher, got {found}.")
    rank, world, local = (None if value is None else int(value) for value in found.values())
    if rank is None or world is None or world < 2:
        return given or (1, 1), running
    if given is not None:
        raise InputError(f"expected either --shard or a launcher of several processes ({world}), got both.")
    if running.device == "cuda" and local is not None:
        running = replace(running, device=f"cuda:{local}")
    return (rank + 1, world), running


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


def given(add_arguments: Callable[[argparse.ArgumentParser], None], argv: Sequence[str]) -> dict[str, str]:
    """The options that a command line names, whether or not they have their defaults' values.

    Args:
        add_arguments: adds a sub-command's options to a parser.
        argv: the arguments after its name, which that parser takes.

    Returns:
        By the names that they are parsed to, the options as they are written.
    """
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    flags = {}
    for action in parser._actions:
        flags[action.dest] = (action.option_strings or [action.dest])[0]
        action.default = argparse.SUPPRESS
    with redirect_stderr(io.StringIO()):  # what is to be warned of was, when the command line was read
        return {name: flags[name] for name in vars(parser.parse_args(argv))}


def add_fields(group: argparse._ActionsContainer, owner: type, **changes: dict[str, Any]) -> None:
    """An option for each field that is named: its default is that of the field alone, its type and help too.

    Args:
        group: to add to.
        owner: a dataclass whose fields say in a text below them what they are.
        changes: by field, what `add_argument` is told otherwise; `flag` names the option where the field does not.
    """
    fields = {each.name: each for each in dataclasses.fields(cast(Any, owner))}
    hints, said = get_type_hints(owner), _described(owner)
    for name, change in changes.items():
        given: dict[str, Any] = {"dest": name, "help": said[name], **_typed(hints[name]), **change}
        default = fields[name].default
        flag = given.pop("flag", f"--{name.replace('_', '-')}")
        if "action" not in given:
            given["default"] = default
            given["help"] += "" if default is None else f" (default: {default})"
        group.add_argument(flag, **given)


def fields_of(args: argparse.Namespace, owner: type, *names: str) -> dict[str, Any]:
    """What was given for fields that `add_fields` added; all there are of them when none is named.

    Args:
        args: what was parsed.
        owner: the dataclass that the fields are of.
        names: of fields.
    """
    every = names or tuple(each.name for each in dataclasses.fields(cast(Any, owner)))
    return {name: getattr(args, name) for name in every if hasattr(args, name)}


def _described(owner: type) -> dict[str, str]:
    """Field → the text below it, without its full stop."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for field, text in itertools.pairwise(tree.body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
        ):
            said = ast.literal_eval(text.value)
            found[field.target.id] = " ".join(said.split()).removesuffix(".").replace("%", "%%")
    return found


def _typed(hint: Any) -> dict[str, Any]:
    """How a field's type is read from a command line."""
    kinds = (
        [each for each in get_args(hint) if each is not type(None)]
        if type(None) in get_args(hint)
        else [hint]
    )
    (kind,) = kinds[:1]
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind)}
    if kind is bool:
        return {"action": "store_true"}
    return {"type": kind} if kind in (int, float) else {}


def add_images(parser: argparse.ArgumentParser) -> None:
    """How images are read."""
    parser.add_argument(
        "--convert-profile",
        action="store_true",
        help="convert images with a colour profile to sRGB (default: ignore profiles, as the released code does)",
    )


def add_image_folder(parser: argparse.ArgumentParser) -> None:
    """Where the images of a list of records are."""
    parser.add_argument(
        "--image-folder",
        type=path,
        metavar="FOLDER",
        help="the folder that the images of a list are relative to (default: that of the list)",
    )


def add_models(parser: argparse.ArgumentParser, *, otherwise: str = "") -> None:
    """Which models run, and how.

    Args:
        parser: where the options are added.
        otherwise: which models run where none is named; "" for DEFAULT_MODELS, else it is for the command to find them.
    """
    group = parser.add_argument_group("models")
    group.add_argument(
        "--models",
        nargs="+",
        metavar="SOURCE",
        default=None if otherwise else list(DEFAULT_MODELS),
        help="bundled or preset names, run directories, hub ids or safetensors files (default: "
        f"{otherwise or '%(default)s'})",
    )
    add_loading(group)


def add_loading(parser: argparse._ActionsContainer) -> None:
    """How models are loaded: what `running` reads."""
    add_fields(
        parser,
        Running,
        device={"help": "where the models run, e.g. cuda"},
        dtype={
            "choices": ["float32", "bfloat16", "float16"],
            "help": "of the weights (default: as stored, but float16 becomes float32 on a CPU)",
        },
        backend={"choices": ["auto", "reference", "torch", "cpu", "cuda", "triton"]},
        vision_source={
            "flag": "--vision",
            "nargs": "+",
            "metavar": "PATH",
            "help": "local weights of the vision encoders: one PATH for all, or TOWER=PATH for each",
        },
        tokenizer_source={"flag": "--tokenizer", "metavar": "FILE"},
        llm_source={"flag": "--llm", "metavar": "SOURCE"},
        part={
            "choices": ["thumbnail"],
            "help": "of models that cut an image into tiles: draw the tokens of the whole image (default: the tiles')",
        },
    )


def add_prompt(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """What is asked, and how the answer is drawn.

    Args:
        parser: what the options are added to.
        several: whether the prompt can be given several times; it is None, then, when it is not given.
    """
    group = parser.add_argument_group("prompt")
    prompt = {}
    if several:
        default = Asking().prompt
        said = f"what is asked about each image; given several times, each is asked (default: {default})"
        prompt = {"action": "append", "help": said}
    number = {"metavar": "N"}
    add_fields(group, Asking, prompt=prompt, max_new_tokens=number, temperature={}, top_p={}, seed={})


def add_answering(parser: argparse.ArgumentParser) -> None:
    """How answers are drawn, where the questions are given."""
    group = parser.add_argument_group("answers")
    number = {"metavar": "N"}
    add_fields(group, Asking, max_new_tokens=number, temperature={}, top_p={}, seed={})


def add_lens(parser: argparse.ArgumentParser, *, fits: bool = True) -> None:
    """How states become pixels.

    Args:
        parser: what the options are added to.
        fits: whether a lens can be fitted where there is none.
    """
    group = parser.add_argument_group("lens")
    group.add_argument(
        "--lens",
        nargs="+",
        metavar="LENS",
        default=list(DEFAULT_LENSES),
        help="one for all models, or one each: a kind that ships with the model (ridge, tuned, native) or a lens "
        "file (default: %(default)s)",
    )
    if fits:
        group.add_argument(
            "--fit-on",
            type=path,
            metavar="FOLDER",
            help="fit a ridge lens on these images for each model that has none, and keep it (see `emma-viz fit`)",
        )
    group.add_argument(
        "--force-lens",
        action="store_true",
        help="use a lens that belongs to another model; every picture then says so",
    )


def add_view(parser: argparse.ArgumentParser) -> None:
    """What the picture shows."""
    group = parser.add_argument_group("picture")
    group.add_argument("--layers", nargs="+", action=ReadLayers, metavar="LAYER", help=LAYERS_HELP)
    add_fields(
        group,
        View,
        map_kind={
            "flag": "--map",
            "choices": ["distance", "magnitude", "error", "cosine"],
            "help": "per patch: distance to the median decoded patch, L2 magnitude, distance or cosine to the true "
            "patch (default: distance; magnitude with --style paper)",
        },
        scale={
            "metavar": "SCALE",
            "help": "shared (one colour scale for all), per_row, per_map, or MIN:MAX for a fixed one (default: shared)",
        },
        colormap={"help": "(default: viridis; jet with --style paper)"},
        style={"choices": ["default", "paper"]},
        difference={},
    )
    group.add_argument(
        "--out",
        nargs="+",
        type=path,
        metavar="FILE",
        help=".png, .svg, .pdf or .html files, each with the picture; .gif or .webp: its layers one after another",
    )
    group.add_argument(
        "--no-recipe",
        dest="recipe",
        action="store_false",
        help="leave out what draws the picture again (photographs, decoded images, maps): none inside, no sidecar",
    )


def running(args: argparse.Namespace) -> Running:
    """The `Running` options of the session."""
    given = fields_of(args, Running)
    given["vision_source"] = towers(args.vision_source)
    return Running(**given)


def asking(args: argparse.Namespace) -> Asking:
    """The `Asking` options of the session; prompts that may be several are asked by the session."""
    given = fields_of(args, Asking)
    if not isinstance(given.get("prompt"), str):
        given.pop("prompt", None)
    return Asking(**given)


def view(args: argparse.Namespace, out: Path | None = None) -> View:
    """The `View` options of the session; a film, as `out` may be, has every layer unless some are named."""
    from emma_viz.render.film import MOVING

    given = fields_of(args, View)
    every = (-1, "all") if out is not None and out.suffix.lower() in MOVING else None
    given["layers"] = every if args.layers is None else tuple(args.layers)
    return View(**given)


def add_serving(parser: argparse.ArgumentParser, *, first_port: int) -> None:
    """Options of a command that serves a page.

    Args:
        parser: the command's.
        first_port: the first that it tries.
    """
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine alone)"
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name under which the page is also served, such as that of a proxy; may be given again (default: this "
        "machine's own names and --host)",
    )
    parser.add_argument("--port", type=int, help=f"(default: the first free one from {first_port})")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
