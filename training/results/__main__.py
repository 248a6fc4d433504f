"""Measure a trained family and write its page of docs with its figure, every number of them.

    python -m training.results                          the bundle of the package, and the seeds kept in docs/measured
    python -m training.results DIR1 DIR2 FILE           bundles that differ in their seed: intervals over seeds too
    python -m training.results DIR --keep FILE          measure one bundle and keep its sums, to be named later as above
    python -m training.results --photos DIR             the same of the photo pair: docs/results-photo.md

A bundle is a folder that `python -m training.train pocket-pair` or `python -m training.photos pair` writes.
"""

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emma_viz.checkpoints import BUNDLED
from emma_viz.cli.guard import guarded
from emma_viz.cli.options import path
from emma_viz.errors import TrainingError
from emma_viz.files.atomic import write_file
from emma_viz.files.room import require_writable
from training.loop.provenance import commit
from training.photos.recipe import PHOTO_MEMBERS
from training.pocket.bundle_reading import Bundle, open_bundle
from training.pocket.recipes import MEMBERS, in_order
from training.results.comparable import require_alike_bundles, require_comparable, require_one_seed, together
from training.results.examination import Examined
from training.results.measured import Announced, DescribedBundle, Measured, announce_bundle, measure_bundle
from training.results.measured_files import read_measured, save_measured
from training.results.numbers import all_numbers
from training.results.page import results_page
from training.results.worlds import PHOTO_ANSWERS, PHOTO_PAGE, PHOTO_WORLD, Tabletop, World, photo_world

CHECKOUT = Path(__file__).parents[2]
_DOCUMENTS = CHECKOUT / "docs" if (CHECKOUT / "docs").is_dir() else None
_KEPT = CHECKOUT / "docs/measured"
"""What was measured of the seeds that are not shipped."""
_RUNS = Path("runs/results")
"""Has what was measured of each bundle, where no folder is named."""
_WORLD_OF = dict.fromkeys(MEMBERS, Tabletop.name) | dict.fromkeys(PHOTO_MEMBERS, PHOTO_WORLD)
"""Member → its world; what is kept of a bundle does not say it."""


def _world_name(photos: Path | None) -> str:
    return Tabletop.name if photos is None else PHOTO_WORLD


def measured_of(
    sources: Sequence[Path], *, answers: int | None, photos: Path | None, folder: Path
) -> tuple[World, list[Measured]]:
    """Measure bundles and read what was kept of others, in the order given.

    Whether they can be set side by side is looked at first, and what is measured of a bundle is written to a file
    before the next is begun: it can be named in the bundle's place.

    Args:
        sources: bundles, and files of what was kept.
        answers: held-out pictures that questions are asked about; as many as is usual in the world when None.
        photos: the folder of photographs, for members that were trained on them.
        folder: of the files that are written.

    Raises:
        TrainingError: they cannot be set side by side.
    """
    if len({each.resolve() for each in sources}) < len(sources):
        raise TrainingError(
            "A bundle is named twice: its seed would count twice. Give bundles that were trained with different seeds "
            "(--seed)."
        )
    kept = {each: read_measured(each) for each in sources if not each.is_dir()}
    name = _world_name(photos)
    for source, each in kept.items():
        if strange := [member for member in each.members if _WORLD_OF.get(member, name) != name]:
            mend = (
                "Name the photographs' folder (--photos DIR) and a bundle that was trained on them."
                if photos is None
                else "Leave --photos out, or this file."
            )
            raise TrainingError(
                f"{source} holds {', '.join(strange)}, of another world than {name}, whose page was asked for. {mend}"
            )
    bundles = {each: open_bundle(each.resolve(), world=name) for each in sources if each.is_dir()}
    world = world_of(list(bundles.values()), photos)
    answers = world.answers if answers is None else answers
    announced = {
        source: announce_bundle(bundle, world, answers=answers) for source, bundle in bundles.items()
    }
    for source, each in kept.items():
        for other, bundle in announced.items():
            if differ := each.shown.differences(bundle.shown):
                raise TrainingError(
                    f"{source} was not shown what {other} will be: {differ}. Ask for --scenes "
                    f"{each.shown.answers}, or name the bundles to measure."
                )
    described: dict[Path, DescribedBundle] = {**kept, **announced}
    require_alike_bundles([described[each] for each in sources])
    if kept:
        require_comparable([*kept.values()])
    for source in sources:
        print(f"{source}, {'kept' if source in kept else 'to be measured'}: {_seeds(described[source])}")
    found = [
        kept[each] if each in kept else _measured_into(folder, bundles[each], world, announced[each])
        for each in sources
    ]
    require_comparable(found)
    return world, found


def _seeds(described: DescribedBundle) -> str:
    """The members of a bundle with their seeds."""
    return ", ".join(f"{member} seed {origin['seed']}" for member, origin in described.origins.items())


def _measured_into(folder: Path, bundle: Bundle, world: World, announced: Announced) -> Measured:
    """Measure a bundle, and keep the sums in a file of its own."""
    found = measure_bundle(bundle, world, announced)
    slug = re.sub(r"[^\w.-]+", "-", announced.name)
    weights = hashlib.sha256(json.dumps(announced.fingerprints).encode()).hexdigest()[:8]
    path = folder / f"{world.page}-{slug}-{announced.shown.answers}-{weights}.npz"
    save_measured(found, path)
    print(f"wrote {path}: what was measured of {bundle.folder}, which can be named in its place")
    return found


def kept_of(world: str) -> list[Path]:
    """The files of docs/measured that hold members of a world, by name."""
    found = {path: read_measured(path).members for path in sorted(_KEPT.glob("*.npz"))}
    return [
        path
        for path, members in found.items()
        if any(_WORLD_OF.get(member, world) == world for member in members)
    ]


def world_of(bundles: Sequence[Bundle], photos: Path | None) -> World:
    """The world of bundles' members."""
    return Tabletop() if photos is None else photo_world(bundles, photos)


def by_member(found: Sequence[Measured]) -> dict[str, dict[int, Examined]]:
    """Member → seed → what it gave. Members are compared seed by seed: those of one seed saw the same data in the same
    order from the same start."""
    members: dict[str, dict[int, Examined]] = {}
    for bundle in found:
        for member, result in bundle.members.items():
            members.setdefault(member, {})[bundle.origins[member]["seed"]] = result
    return {name: members[name] for name in in_order(members)}


def _head(found: Sequence[Measured], command: str) -> dict[str, Any]:
    """How the numbers came about; no path of the machine."""
    shown = found[0].shown
    return {
        "command": command,
        "commit": commit(),
        "answers": shown.answers,
        "retention": shown.retention,
        "fit": shown.fit,
        "photos": list(shown.photos),
        "bundles": [{"name": each.name, "members": each.origins} for each in found],
    }


def _keep(bundle: Bundle, world: World, path: Path, *, answers: int) -> None:
    """Add what is measured of a bundle to a file, which may have other members of its seed already."""
    known = read_measured(path) if path.exists() else None
    announced = announce_bundle(bundle, world, answers=answers)
    require_one_seed(announced, known)
    alone = path.with_name(f"{path.stem}-{'-'.join(announced.origins)}.npz")
    if known is not None and alone.exists():
        raise TrainingError(
            f"{alone} is there already, with what was measured before; these members are kept under that name until "
            f"they are in {path.name}. Name it in the bundle's place, or move it."
        )
    print(f"{bundle.folder}, to be measured: {_seeds(announced)}")
    found = measure_bundle(bundle, world, announced)
    if known is not None:
        save_measured(found, alone)
        try:
            found = together(known, found)
        except TrainingError as error:
            raise TrainingError(f"{error} What was measured is in {alone}.") from error
        save_measured(found, path)
        alone.unlink()
    else:
        save_measured(found, path)
    print(f"wrote {path}: {', '.join(found.members)}")


PROGRAM = "python -m training.results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write; returns the process's exit code."""
    return guarded(lambda: _run(_parser().parse_args(arguments)), program=PROGRAM)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "bundles",
        nargs="*",
        type=path,
        metavar="BUNDLE",
        help="folders, or files of --keep (default: the package's own and docs/measured)",
    )
    parser.add_argument(
        "--scenes",
        type=int,
        help=f"held-out pictures that questions are asked about (default: {Tabletop.answers}; of photographs "
        f"{PHOTO_ANSWERS}, every other one a scene of several)",
    )
    parser.add_argument(
        "--photos",
        type=path,
        metavar="DIR",
        help="measure the members that were trained on photographs: Caltech-101's folder",
    )
    parser.add_argument("--json", type=path, help="also write all numbers to this file")
    parser.add_argument(
        "--keep",
        type=path,
        metavar="FILE",
        help="add what is measured of one bundle there, and write no page",
    )
    parser.add_argument(
        "--out",
        type=path,
        metavar="FOLDER",
        help=f"where the page goes (default: docs of the checkout, {_RUNS} without one); what is measured of each "
        f"bundle goes to FOLDER/sums first (default: {_RUNS}/sums)",
    )
    return parser


def _run(options: argparse.Namespace) -> None:
    """Measure what was asked for and write page, figure and JSON, or the file of one bundle."""
    from training.results.figure import draw_results

    if options.scenes is not None and options.scenes < 2:
        raise TrainingError(f"--scenes must be at least 2, got {options.scenes}: intervals are over images.")
    if options.keep is not None:
        if options.json is not None:
            raise TrainingError("--keep FILE writes no page and no --json. Leave one of them out.")
        require_writable(options.keep, parents=True, error=TrainingError)
        if len(options.bundles) != 1 or not options.bundles[0].is_dir():
            raise TrainingError("--keep FILE takes one bundle's folder; name it before --keep.")
        bundle = open_bundle(options.bundles[0].resolve(), world=_world_name(options.photos))
        world = world_of([bundle], options.photos)
        _keep(bundle, world, options.keep, answers=options.scenes or world.answers)
        return
    name = PHOTO_PAGE if options.photos is not None else Tabletop.page
    out, sums = options.out or _DOCUMENTS or _RUNS, (options.out or _RUNS) / "sums"
    page, image = out / f"{name}.md", out / f"images/{name}.png"
    for made in (page, image):
        require_writable(made, parents=True, error=TrainingError)
    require_writable(sums, folder=True, error=TrainingError)
    if options.json is not None:
        require_writable(options.json, parents=True, error=TrainingError)
    sources = options.bundles or [BUNDLED, *kept_of(_world_name(options.photos))]
    world, found = measured_of(sources, answers=options.scenes, photos=options.photos, folder=sums)
    command = " ".join([PROGRAM, *(each.name for each in options.bundles)])
    if options.photos is not None:
        command += " --photos DIR"
    if options.scenes not in (None, world.answers):
        command += f" --scenes {options.scenes}"
    numbers = {
        "head": _head(found, command),
        **all_numbers(by_member(found), world.compared, parts=world.parts),
    }
    image.parent.mkdir(parents=True, exist_ok=True)
    draw_results(numbers, image, pictures=world.pictures)
    write_file(page, lambda part: part.write_text(results_page(numbers, world), encoding="utf-8"))
    if options.json is not None:
        text = json.dumps(numbers, indent=1, ensure_ascii=False)
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_file(options.json, lambda part: part.write_text(text, encoding="utf-8"))
    print(f"wrote {page} and {image}")


if __name__ == "__main__":
    sys.exit(main())
