"""Ask photo members what held-out photographs show, and say of each whether the answer is right.

    python -m training.results.held_out --photos DIR                      the members that ship, twenty photographs
    python -m training.results.held_out BUNDLE --photos DIR --count 50 --keep FOLDER      others, and the photographs

The photographs are the first of the results page, in its order. The table of docs/training.md comes from here; --keep
writes each as it was shown, so that `emma-viz figure` draws it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from emma_viz.checkpoints import BUNDLED, LoadedModel
from emma_viz.cli.guard import guarded
from emma_viz.cli.options import path
from emma_viz.data.photos import draw_photos
from emma_viz.data.photos.questions import WHAT
from emma_viz.errors import TrainingError
from emma_viz.files.room import require_writable
from emma_viz.records.questions import Question
from emma_viz.session.options import Asking
from emma_viz.session.road import ask
from training.pocket.bundle_reading import Bundle, open_bundle
from training.results.cells import quoted, results_table
from training.results.worlds import PHOTO_WORLD, PhotoPair, photo_world

_PROGRAM = "python -m training.results.held_out"
HOW_MANY = 20
"""Photographs, where no number is given."""


def _answers(model: LoadedModel, questions: Sequence[Question]) -> list[str]:
    """What a model says, alone."""
    asked = ask(model, questions, asking=Asking(), sites=("resid_post",), layers="first")
    return [answer for trace, _ in asked for answer in trace.answers]


def held_out_answers(bundle: Bundle, world: PhotoPair, count: int, keep: Path | None = None) -> str:
    """A Markdown table, a row a photograph: its file, and what each member answers; the last row counts right ones.

    An answer is right when it names the photograph's category and no other.

    Args:
        bundle: of the members.
        world: with the photographs.
        count: how many photographs.
        keep: where they are written as they were shown, or None.

    Raises:
        TrainingError: there are not so many held-out photographs.
    """
    photos = world.library.split("test")
    if count > len(photos):
        raise TrainingError(f"{world.folder} has {len(photos)} held-out photographs; got --count {count}.")
    singles = [number * len(world.parts) for number in range(count)]
    plans = [world.plan("test", number) for number in singles]
    names = [photos[plan.things[0].photo].path.relative_to(world.folder) for plan in plans]
    shown = [Image.fromarray(draw_photos(plan, photos).image) for plan in plans]
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        for name, image in zip(names, shown, strict=True):
            image.save(keep / f"{name.parent}-{name.stem}.png")
    questions = [Question(image=image, prompt=WHAT) for image in shown]
    said = {member: _answers(bundle.load(member), questions) for member in bundle.members}
    right = {
        member: [
            world.named(answer) == world.present(number)
            for answer, number in zip(answers, singles, strict=True)
        ]
        for member, answers in said.items()
    }
    rows = [
        [
            name.as_posix(),
            *(f"{quoted(said[m][at])}{'' if right[m][at] else ' (wrong)'}" for m in bundle.members),
        ]
        for at, name in enumerate(names)
    ]
    rows.append(["right", *(f"{sum(right[member])} of {count}" for member in bundle.members)])
    return results_table(["shown", *bundle.members], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask and print; returns the process's exit code."""
    return guarded(lambda: _run(_parser().parse_args(arguments)), program=_PROGRAM)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", nargs="?", type=path, default=BUNDLED, help="(default: the package's own)")
    parser.add_argument("--photos", type=path, required=True, metavar="DIR", help="Caltech-101's folders")
    parser.add_argument("--count", type=int, default=HOW_MANY, help=f"photographs (default: {HOW_MANY})")
    parser.add_argument(
        "--keep", type=path, metavar="FOLDER", help="write the photographs as they were shown"
    )
    return parser


def _run(options: argparse.Namespace) -> None:
    if options.count < 1:
        raise TrainingError(f"--count must be at least 1, got {options.count}.")
    if options.keep is not None:
        require_writable(options.keep, folder=True, error=TrainingError)
    bundle = open_bundle(options.bundle.resolve(), world=PHOTO_WORLD)
    world = photo_world([bundle], options.photos)
    print(held_out_answers(bundle, world, options.count, options.keep))


if __name__ == "__main__":
    sys.exit(main())
