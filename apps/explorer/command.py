"""The command line of the explorer."""

import argparse
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from urllib.parse import urlsplit

from emma_viz.checkpoints import BUNDLED, bundled_names
from emma_viz.cli.guard import guarded
from emma_viz.cli.options import add_loading, add_serving, given, path, running
from emma_viz.errors import InputError
from emma_viz.files.named import named_path
from emma_viz.lens.headers import SUFFIX
from emma_viz.lens.kinds import kind_names
from emma_viz.session.options import DEFAULT_MODELS, Running

_OF_STUDIES = ("study", "models", "casebook", "host", "allow_host", "port", "open", "allow_frame", "share")
"""Options that --study honours, or refuses with a reason of their own; all others are about models."""


def parser() -> argparse.ArgumentParser:
    """The options of `emma-viz explore`."""
    found = argparse.ArgumentParser(
        prog="emma-viz explore",
        description="Open the explorer: two or more models, layer by layer, in the browser.",
    )
    _add_arguments(found)
    return found


def _add_arguments(found: argparse.ArgumentParser) -> None:
    found.add_argument(
        "--models",
        nargs="+",
        metavar="SOURCE",
        help="bundled names, run directories, hub ids or safetensors files; the first two are chosen at first "
        "(default: the bundled pair)",
    )
    found.add_argument("--study", type=path, metavar="DIR", help="show a decoded study, without any model")
    found.add_argument(
        "--lens",
        nargs="+",
        metavar="LENS",
        help="kinds of lens (ridge, native, tuned) or lens files to offer; the first is chosen at first (default: "
        "every kind that the models have)",
    )
    found.add_argument(
        "--fit-on",
        type=path,
        metavar="FOLDER",
        help="fit a ridge lens on these images for each of --models that has none, and keep it (see `emma-viz fit`)",
    )
    found.add_argument(
        "--casebook",
        default="",
        metavar="FILE|URL",
        help="let links name the images of this casebook, so that its cases open here",
    )
    add_loading(found)
    found.add_argument(
        "--attribution",
        choices=["gradient", "knockout"],
        default="gradient",
        help="a word's evidence: estimated in two passes, or measured in one pass a token (default: gradient)",
    )
    add_serving(found, first_port=7860)
    found.add_argument(
        "--allow-frame",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="an origin whose pages may show this one in a frame, such as https://example.org; may be given again",
    )
    found.add_argument(
        "--share", action="store_true", help="also open a public Gradio link (asks the internet)"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the explorer until interrupted.

    Returns:
        0, or 1 when it could not start.
    """
    return guarded(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    words = sys.argv[1:] if argv is None else argv
    args = parser().parse_args(words)
    if args.study:
        _require_of_studies(words)
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    return serve(args)


def _require_of_studies(words: Sequence[str]) -> None:
    """Refuse options of models beside --study.

    Raises:
        InputError: names them.
    """
    if ignored := [flag for name, flag in given(_add_arguments, words).items() if name not in _OF_STUDIES]:
        raise InputError(
            f"--study shows what was captured, without any model: expected no {', '.join(ignored)} beside it. Leave "
            f"{'it' if len(ignored) == 1 else 'them'} out, or name --models in place of --study."
        )


def serve(args: argparse.Namespace) -> int:
    """Build the page and serve it until the process is told to end."""
    from apps.explorer.page.app import build, gate_of, launch_options

    _require_names(args)
    with told_to_end() as end:
        before = {*threading.enumerate()}
        page, service = build(settings_of(args))
        gate = gate_of(page, service, hosts=[args.host], proxied=args.allow_host, frames=args.allow_frame)
        try:
            page.launch(
                server_name=args.host,
                server_port=args.port,
                share=args.share,
                inbrowser=args.open,
                prevent_thread_lock=True,
                quiet=True,
                app_kwargs={"lifespan": gate.before},
                **launch_options(),
            )
            print(f"explorer: {page.local_url} (Ctrl+C ends it)", flush=True)
            if page.share_url:
                gate.hosts.add(urlsplit(page.share_url).netloc)
                print(f"explorer: {page.share_url}, from anywhere", flush=True)
            end.get()
        except OSError as error:
            raise InputError(
                f"The page cannot be served at {args.host}, port {args.port}: {error}"
            ) from error
        finally:
            _close(page)
            service.close()
    if {*threading.enumerate()} - before:
        # The server's, or a model in the middle of a step: Python would abort, or wait for what they hold.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return 0


def _close(page: Any) -> None:
    """Stop serving at once: the open streams of every browser would be waited for, and each that is cut be told of."""
    from gradio.tunneling import CURRENT_TUNNELS

    if not page.is_running:  # its port was taken
        return
    for tunnel in CURRENT_TUNNELS:
        tunnel.kill()
    logging.disable()
    try:
        page.server.force_exit = True
        page.close()
    finally:
        logging.disable(logging.NOTSET)


@contextmanager
def told_to_end() -> Generator[SimpleQueue[int], None, None]:
    """What Ctrl+C, SIGTERM and a terminal that goes put something into, so that temporary files go then, too.

    A hang-up that the process was told to ignore (`nohup`) stays ignored. A queue of this kind may be filled while the
    same thread is in it, as a signal's handler is; an event's lock may not.
    """
    end: SimpleQueue[int] = SimpleQueue()
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    former = {getattr(signal, name): signal.getsignal(getattr(signal, name)) for name in names}
    for each, handler in former.items():
        if handler is not signal.SIG_IGN:
            signal.signal(each, lambda number, _: end.put(number))
    try:
        yield end
    finally:
        for each, handler in former.items():
            signal.signal(each, handler)


def _require_names(args: argparse.Namespace) -> None:
    """Refuse names that no browser sends.

    Raises:
        InputError: one of the options holds something else than a host or an origin.
    """
    from apps.explorer.gate import name_of

    for name in args.allow_host:
        if not name_of(name) or "/" in name:
            raise InputError(
                f"--allow-host: expected a host's name, such as explorer.example.org; got {name!r}."
            )
    for origin in args.allow_frame:
        if not re.fullmatch(r"https?://[\w.:\[\]-]+", origin, re.ASCII):
            raise InputError(
                f"--allow-frame: expected an origin, such as https://example.org; got {origin!r}."
            )


def settings_of(args: argparse.Namespace):
    """What a command line offers.

    Raises:
        InputError: there is no model, or options contradict each other.
    """
    from apps.explorer.offer import Settings

    if args.study and args.models:
        raise InputError("expected --study or --models, got both: a study is shown without any model.")
    if args.study and args.casebook:
        raise InputError("expected --study or --casebook, got both: a study shows its own images alone.")
    if args.study:
        return Settings(study=args.study)
    if not args.models and not {*DEFAULT_MODELS} <= {*bundled_names()}:
        raise InputError("expected --models or --study: no model ships with this installation.")
    sources = args.models or list(DEFAULT_MODELS)
    models = by_label(sources)
    if args.fit_on is not None:
        fit_missing(sources, args.fit_on, running(args))
    for name in bundled_names():
        models.setdefault(name, name)
    return Settings(
        models=models,
        chosen=tuple(models)[: min(2, len(sources))],
        lenses=lenses_of(args.lens, models),
        running=running(args),
        casebook=args.casebook,
        method=args.attribution,
    )


def fit_missing(sources: Sequence[str], images: Path, how: Running) -> None:
    """Fit a ridge lens for each model that has none, and keep it; all models and images are looked at first.

    Raises:
        EmmaVizError: a model cannot be loaded, or the images are too few.
    """
    from emma_viz.cli.progress import ProgressBars
    from emma_viz.session.fitting import fit_awaited, lenses_for
    from emma_viz.session.loading import require_loadable

    found = [require_loadable(source, how) for source in sources]
    lenses = lenses_for(["ridge"] * len(sources), sources, found, how, fit_on=images)
    with ProgressBars() as bars:
        fit_awaited(lenses, how, images, bars)


def by_label(sources: Sequence[str]) -> dict[str, str]:
    """A short label for each source, which is all that the page shows of it."""
    found: dict[str, str] = {}
    for source in sources:
        short = named_path(source).resolve().name if named_path(source).exists() else source
        label, number = short, 1
        while label in found:
            number += 1
            label = f"{short} ({number})"
        found[label] = source
    return found


def lenses_of(wanted: Sequence[str] | None, models: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The lenses to offer: those that were named, or ridge and every other kind that some model has.

    A kind that not every model has comes with ridge for the others, and its label says so.
    """
    if wanted:
        return {name if name in kind_names() else Path(name).name: (name,) for name in wanted}
    folders = [_folder(source) for source in models.values()]
    found: dict[str, tuple[str, ...]] = {"ridge": ("ridge",)}
    for kind in kind_names():
        having = [folder is not None and (folder / f"{kind}{SUFFIX}").is_file() for folder in folders]
        if all(having):
            found[kind] = (kind,)
        elif any(having) and kind != "ridge":
            found[f"{kind}, else ridge"] = (kind, "ridge")
    return found


def _folder(source: str) -> Path | None:
    """Where the lenses of a model lie, if that is on this machine."""
    return next((folder for folder in (named_path(source), BUNDLED / source) if folder.is_dir()), None)
