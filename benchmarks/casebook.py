"""How long a casebook of 10 000 cases takes to open, filter and search: python -m benchmarks.casebook [--cases N]

The cases are generated: two models, four benchmarks, answers with probabilities, evidence at four layers of each, and
an image for every twentieth. Prints medians and the slowest of each, in milliseconds, and how many cases pass.
"""

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from emma_viz.cases.case import KNOCK_OUT, PRESENCE, CaseAnswer, CaseRecord, MeasuredEvidence, Said
from emma_viz.cases.casebook import Casebook
from emma_viz.cases.filters import AnswerFilter, CaseFilter, EvidenceFilter
from emma_viz.cases.pictures import case_picture

_MODELS = ("cobra-3b", "emma-3b")
_OBJECTS = ("cup", "dog", "chair", "person", "car", "book", "clock", "bottle")
_BENCHMARKS = ("pope", "amber", "mme", "hallusionbench")
_PAGE = 24


def generated(index: int, random: np.random.Generator, image: str) -> CaseRecord:
    """One case."""
    thing = str(random.choice(_OBJECTS))
    truth = "yes" if random.random() < 0.5 else "no"
    answers, evidence = [], []
    for model in _MODELS:
        p_yes = float(random.random())
        said: Said = "yes" if p_yes >= 0.5 else "no"
        answers.append(
            CaseAnswer(
                model=model,
                text=f"{said.title()}, there is {'a' if said == 'yes' else 'no'} {thing} in the image.",
                said=said,
                right=said == truth,
                scorer="pope",
                p_yes=p_yes,
                p_no=1 - p_yes,
            )
        )
        for layer in (0, 16, 32, 63):
            evidence.append(
                MeasuredEvidence(
                    name=PRESENCE, model=model, layer=layer, value=float(random.random()), control=0.7
                )
            )
        evidence.append(
            MeasuredEvidence(
                name=KNOCK_OUT, model=model, layer=-1, value=float(abs(random.normal())), control=1.0
            )
        )
    return CaseRecord(
        image=image,
        image_name=f"COCO_val2014_{index:012d}.jpg",
        prompt=f"Is there a {thing} in image {index}?",
        truth=truth,
        object=thing,
        benchmark=_BENCHMARKS[index % len(_BENCHMARKS)],
        split=("random", "popular", "adversarial")[index % 3],
        row=str(index),
        category=f"category {index % 20}",
        answers=tuple(answers),
        evidence=tuple(evidence),
    )


def timed(what: Callable[[], int], repeats: int) -> tuple[float, float, int]:
    """(median, slowest, what came of it), in milliseconds."""
    times = []
    found = 0
    for _ in range(repeats):
        began = time.perf_counter()
        found = what()
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times), max(times), found


def main() -> None:
    """Generate, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--casebook", help="an empty database by its URL (default: a new SQLite file)")
    args = parser.parse_args()
    random = np.random.default_rng(0)
    with (
        tempfile.TemporaryDirectory() as folder,
        Casebook.open(args.casebook or Path(folder) / "cases.db") as casebook,
    ):
        began = time.perf_counter()
        fill(casebook, args.cases, random)
        print(f"{args.cases} cases added in {time.perf_counter() - began:.1f} s; {platform.platform()}")
        measure_filters(casebook, args.repeats)


def fill(casebook: Casebook, cases: int, random: np.random.Generator) -> None:
    """Add the generated cases and their pictures."""
    images = []
    for _ in range(max(1, cases // 20)):
        noise = random.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        picture = case_picture(Image.fromarray(noise).resize((320, 240)))
        casebook.keep_picture(picture)
        images.append(picture.hash)
    for start in range(0, cases, 1000):
        casebook.add(
            [generated(i, random, images[i % len(images)]) for i in range(start, min(cases, start + 1000))]
        )
    for id in casebook.ids(count=50):
        casebook.write(id, "verdict", "miss", author="benchmark")
        casebook.write(id, "note", "the handle is hidden", author="benchmark")


def measure_filters(casebook: Casebook, repeats: int) -> None:
    """Print a line for each way to look."""

    def page(wanted: CaseFilter) -> Callable[[], int]:
        def look() -> int:
            found = casebook.cases(casebook.ids(wanted, count=_PAGE))
            casebook.thumbnails([case.record.image for case in found])
            casebook.facets(wanted)
            return casebook.count(wanted)

        return look

    wrong = AnswerFilter(model=_MODELS[0], right=False, least_confidence=0.9)
    saw = EvidenceFilter(name=PRESENCE, model=_MODELS[1], layer=63, beats_control=True)
    print(
        f"{'a page of ' + str(_PAGE) + ' with counts and thumbnails':44s} {'median':>8s} {'slowest':>8s}  passing"
    )
    for name, wanted in (
        ("all", CaseFilter()),
        ("what a rule found", CaseFilter(mined=True)),
        ("one rule", CaseFilter(rule="confident-and-wrong")),
        ("one benchmark and split", CaseFilter(benchmark="pope", split="random")),
        ("a sure mistake of one model", CaseFilter(answers=(wrong,))),
        ("evidence above its control", CaseFilter(evidence=(saw,))),
        ("words in a question", CaseFilter(text="image 77")),
        ("words in a note", CaseFilter(text="handle is hidden")),
        ("all, the surest mistake first", CaseFilter(sort="surest-mistake")),
        ("all, by the models' gap", CaseFilter(sort="gap")),
        ("a verdict", CaseFilter(verdict="miss")),
    ):
        median, slowest, found = timed(page(wanted), repeats)
        print(f"{name:44s} {median:8.0f} {slowest:8.0f}  {found}")
    first = casebook.ids(count=1)[0]
    median, slowest, _ = timed(lambda: len(casebook.case(first).history), repeats)
    print(f"{'one case':44s} {median:8.0f} {slowest:8.0f}")


if __name__ == "__main__":
    main()
