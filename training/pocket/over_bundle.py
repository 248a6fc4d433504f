"""The command of what writes into the lens files of a bundle: `python -m MODULE BUNDLE`."""

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from emma_viz.cli.guard import guarded


def run_over_bundle(
    write: Callable[[Path], Iterable[Path]],
    arguments: Sequence[str] | None,
    *,
    module: str,
    about: str | None,
) -> int:
    """Write, and print which files were written.

    Args:
        write: the bundle's folder → the files.
        arguments: of the command line; the process's when None.
        module: the command's name.
        about: what it does.

    Returns:
        The process's exit code.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path, help="folder with a folder a model")

    def run() -> None:
        for path in write(parser.parse_args(arguments).bundle):
            print(path)

    return guarded(run, program=f"python -m {module}")
