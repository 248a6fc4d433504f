"""Measure a trained family and write docs/results.md with its figure, every number of them.

    python -m training.results                          the bundle of the package, and the seeds kept in docs/measured
    python -m training.results DIR1 DIR2 FILE           bundles that differ in their seed: intervals over seeds too
    python -m training.results DIR --keep FILE          measure one bundle and keep its sums, to be named later as above

A bundle is a folder that `python -m training.train pocket-pair --bundle DIR` writes.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emma_viz.atomic import write_file
from emma_viz.checkpoints import BUNDLED
from emma_viz.cli.guard import guarded
from emma_viz.errors import TrainingError
from training.examination import Examined
from training.measured import (
    Bundle,
    Measured,
    measure,
    open_bundle,
    read_measured,
    require_room,
    save_measured,
    together,
)
from training.results_numbers import all_numbers
from training.results_page import IMAGE, page
from training.stages import commit

DOCUMENTS = Path(__file__).parent.parent / "docs"
KEPT = DOCUMENTS / "measured"
"""What was measured of the seeds that are not shipped."""
ANSWERS = 500
"""Held-out scenes that questions are asked about."""


def measured_of(sources: Sequence[Path], *, answers: int) -> list[Measured]:
    """Measure bundles and read what was kept of others, in the order given.

    Raises:
        TrainingError: they were not shown the same, or a model is in two of them.
    """
    found = [
        measure(open_bundle(each.resolve()), answers=answers) if each.is_dir() else read_measured(each)
        for each in sources
    ]
    for source, each in zip(sources, found, strict=True):
        if each.shown != found[0].shown:
            raise TrainingError(
                f"{source} was measured on {each.shown}, and {sources[0]} on {found[0].shown}: they cannot be set side "
                "by side. Measure both with the same --scenes and checkout."
            )
    known: set[str] = set()
    for source, each in zip(sources, found, strict=True):
        for member, result in each.members.items():
            if result.fingerprint in known:
                raise TrainingError(
                    f"{member} of {source} is the same model as in another bundle: the same seed would count twice. "
                    "Give bundles that were trained with different seeds (--seed)."
                )
        known |= {result.fingerprint for result in each.members.values()}
    return found


def by_member(found: Sequence[Measured]) -> dict[str, dict[str, Examined]]:
    """Member → bundle → what it gave."""
    members: dict[str, dict[str, Examined]] = {}
    for number, bundle in enumerate(found):
        for member, result in bundle.members.items():
            members.setdefault(member, {})[f"{number} {bundle.name}"] = result
    return members


def head(found: Sequence[Measured], command: str) -> dict[str, Any]:
    """How the numbers came about; no path of the machine."""
    shown = found[0].shown
    return {
        "command": command,
        "commit": commit(),
        "answers": shown.answers,
        "retention": shown.retention,
        "fit": shown.fit,
        "photos": list(shown.photos),
        "bundles": [
            {"name": each.name, "measured_at": each.commit, "members": each.origins} for each in found
        ],
    }


def keep(bundle: Bundle, path: Path, *, answers: int) -> None:
    """Add what is measured of a bundle to a file, which may have other members of its seed already."""
    known = read_measured(path) if path.exists() else None
    if known is not None:
        require_room(known, bundle)
    found = measure(bundle, answers=answers)
    found = found if known is None else together(known, found)
    save_measured(found, path)
    print(f"wrote {path}: {', '.join(found.members)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write; returns the process's exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.results",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "bundles",
        nargs="*",
        type=Path,
        metavar="BUNDLE",
        help="folders, or files of --keep (default: the package's own and docs/measured)",
    )
    parser.add_argument("--scenes", type=int, default=ANSWERS, help=f"held-out scenes (default: {ANSWERS})")
    parser.add_argument("--json", type=Path, help="also write all numbers to this file")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FILE",
        help="add what is measured of one bundle there, and write no page",
    )
    parser.add_argument(
        "--out", type=Path, default=DOCUMENTS, metavar="FOLDER", help="where results.md goes (default: docs)"
    )
    options = parser.parse_args(arguments)
    return guarded(lambda: run(options), program=parser.prog)


def run(options: argparse.Namespace) -> None:
    """Measure what was asked for and write page, figure and JSON, or the file of one bundle."""
    from training.results_figure import draw

    if options.scenes < 2:
        raise TrainingError(f"--scenes must be at least 2, got {options.scenes}: intervals are over scenes.")
    if options.keep is not None:
        if len(options.bundles) != 1 or not options.bundles[0].is_dir():
            raise TrainingError("--keep FILE takes one bundle's folder; name it before --keep.")
        keep(open_bundle(options.bundles[0].resolve()), options.keep, answers=options.scenes)
        return
    sources = options.bundles or [BUNDLED, *sorted(KEPT.glob("*.npz"))]
    found = measured_of(sources, answers=options.scenes)
    command = " ".join(["python -m training.results", *(each.name for each in options.bundles)])
    if options.scenes != ANSWERS:
        command += f" --scenes {options.scenes}"
    numbers = {"head": head(found, command), **all_numbers(by_member(found))}
    (options.out / IMAGE).parent.mkdir(parents=True, exist_ok=True)
    draw(numbers, options.out / IMAGE)
    write_file(options.out / "results.md", lambda part: part.write_text(page(numbers), encoding="utf-8"))
    if options.json is not None:
        text = json.dumps(numbers, indent=1, ensure_ascii=False)
        write_file(options.json, lambda part: part.write_text(text, encoding="utf-8"))
    print(f"wrote {options.out / 'results.md'} and {options.out / IMAGE}")


if __name__ == "__main__":
    sys.exit(main())
