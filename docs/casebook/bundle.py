"""The casebook that ships: python -m docs.casebook.bundle --work FOLDER

Asks the pocket pair the tabletop benchmark and the questions of photos.jsonl, mines both, chooses cases by the rule of
`chosen_cases`, measures their evidence, and writes emma_viz/cases/bundled/pocket.zip. What is done already in the work
folder is not done again.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image

from emma_viz.cases.case import CaseRecord
from emma_viz.cases.casebook import Casebook
from emma_viz.cases.exchange import bundled_cases
from emma_viz.cases.filters import CaseFilter
from emma_viz.cases.stored import StoredCase
from emma_viz.cli.guard import guarded
from emma_viz.cli.main import main as emma_viz
from emma_viz.data import read_image
from emma_viz.data.tabletop import make_scene
from emma_viz.files.room import require_writable
from emma_viz.session.case_maps import CaseMaps

HERE = Path(__file__).parent
BUNDLED_CASES = bundled_cases()
PAIR = ("cobra-pocket", "emma-v1-pocket")
"""The models that are asked: whatever pair others start with, these cases are about the pocket family."""
OF_EACH_RULE, OF_CHARTS = 5, 6
"""Cases that are chosen."""
SCENE_RULES = ("models-disagree", "one-right-one-wrong", "makes-up", "confident-and-wrong")
"""Rules that need no evidence, by which scenes are chosen."""
FIGURES = {
    "figure 1": "The first photograph that is described: the paper's Figure 1",
    "figure 4": "The first chart that is described: the paper's Figure 4",
    "figure 5": "The first scene that is described: the paper's Figure 5",
}
"""Tag → what the case re-tells."""


def photographs(folder: Path) -> Path:
    """scikit-image's photographs at half their size, which the pocket models' 128 pixels do not miss."""
    import skimage

    folder.mkdir(parents=True, exist_ok=True)
    for name in (
        "coffee.png",
        "chelsea.png",
        "astronaut.png",
        "rocket.jpg",
        "motorcycle_left.png",
        "camera.png",
    ):
        image = read_image(Path(skimage.__file__).parent / "data" / name).reduce(2)
        image.save(folder / f"{Path(name).stem}.png")
    return folder


def is_chart(case: StoredCase) -> bool:
    """Whether a case of the tabletop world is about a chart."""
    split, _, rest = Path(case.record.image_name).stem.partition("-")
    return make_scene(split, int(rest)).chart is not None


def chosen_cases(casebook: Casebook) -> dict[str, str]:
    """id of a chosen case → why: in the order in which they were asked, of each rule the first five scenes that no
    rule before took, the first six charts, the first of each photograph, and the three descriptions of `FIGURES`. What
    several splits ask is one question: its first case stands for all."""
    mined = list(asked_once(casebook.cases(casebook.ids(CaseFilter(mined=True)))))
    drawn = [case for case in mined if case.record.benchmark == "tabletop"]
    found: dict[str, str] = {}
    for rule in SCENE_RULES:
        fits = (
            case for case in drawn if rule in case.reasons and not is_chart(case) and case.id not in found
        )
        found |= {case.id: rule for case, _ in zip(fits, range(OF_EACH_RULE), strict=False)}
    charts = (case for case in drawn if is_chart(case))
    found |= {case.id: "chart" for case, _ in zip(charts, range(OF_CHARTS), strict=False)}
    photos = {case.record.image: case.id for case in reversed(mined) if case.record.benchmark == "plain"}
    found |= dict.fromkeys(photos.values(), "photograph")
    return found | {id: tag for tag, id in figures(casebook)}


def asked_once(cases: Iterable[StoredCase]) -> Iterator[StoredCase]:
    """Of the cases that ask the same about the same image, the first."""
    seen = set()
    for case in cases:
        asked = case.record.image, case.record.prompt
        if asked not in seen:
            seen.add(asked)
            yield case


def figures(casebook: Casebook) -> Iterator[tuple[str, str]]:
    """(tag, id) of the descriptions that re-tell the paper's figures."""
    asked = casebook.cases(casebook.ids(CaseFilter(text="Describe the image in detail.")))
    photo = next(case for case in asked if case.record.benchmark == "plain")
    drawn = [case for case in asked if case.record.benchmark == "tabletop"]
    yield "figure 1", photo.id
    yield "figure 4", next(case for case in drawn if is_chart(case)).id
    yield "figure 5", next(case for case in drawn if not is_chart(case)).id


def main() -> int:
    """Build it; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="a folder for runs, which is gone on with")
    args = parser.parse_args()
    return guarded(lambda: build(args.work))


def build(work: Path) -> int:
    """Every step; the exit code."""
    work.mkdir(parents=True, exist_ok=True)
    require_writable(BUNDLED_CASES)
    images = photographs(work / "photographs")
    everything, chosen = str(work / "all.db"), str(work / "chosen.db")
    records = str(HERE / "photos.jsonl")
    run("benchmark", "tabletop", "--models", *PAIR, "--out", str(work / "tabletop"))
    photographed = ("--records", records, "--images", str(images))
    run("benchmark", "plain", "--models", *PAIR, *photographed, "--out", str(work / "photos"))
    run("cases", "mine", str(work / "photos"), str(work / "tabletop"), "--casebook", everything)
    with Casebook.open(everything) as asked, Casebook.open(chosen) as kept:
        why = chosen_cases(asked)
        keep(asked, kept, why)
        print(f"{len(why)} cases: {', '.join(sorted(why.values()))}")
    run("cases", "evidence", "--all", "--models", *PAIR, "--casebook", chosen)
    BUNDLED_CASES.unlink(missing_ok=True)
    run("cases", "export", str(BUNDLED_CASES), "--all", "--casebook", chosen)
    return 0


def keep(asked: Casebook, kept: Casebook, why: dict[str, str]) -> None:
    """Copy the chosen cases and their images, and tag those that re-tell a figure."""
    for case in asked.cases(list(why)):
        picture = asked.picture(case.record.image)
        assert picture is not None, case.record.image_name
        kept.keep_picture(picture)
        kept.add([case.record])
        tag = why[case.id]
        if tag in FIGURES and tag not in kept.case(case.id).review.tags:
            kept.write(case.id, "tag", tag, author="emma_viz")
            kept.write(case.id, "note", retold(tag, case.record, picture.image()), author="emma_viz")


def retold(tag: str, record: CaseRecord, image: Image.Image) -> str:
    """What the pocket models show of a figure and what they do not, from their answers and their maps alone."""
    shown = CaseMaps().of(record, image)
    assert shown.payload is not None, shown.notes
    parts = [f"{FIGURES[tag]}, re-told with models of pocket size."]
    for answer, model in zip(record.answers, shown.payload["models"], strict=True):
        scores, layers = model["scores"]["r2"], model["layers"]
        best = max(range(len(layers)), key=lambda place: scores[place])
        said = f"{answer.model}: the pixels decoded from its image tokens have R² "
        said += (
            f"{scores[0]:.2f} at layer {layers[0]}, at best {scores[best]:.2f} (layer {layers[best]}) and "
        )
        said += f"{scores[-1]:.2f} at layer {layers[-1]}; "
        named = len(record.present) - len(answer.missed)
        said += f"its description names {named} of the {len(record.present)} listed things that are there"
        parts.append(f"{said} and makes up {', '.join(answer.made_up) or 'none that is listed'}.")
    first, second = (model["scores"]["r2"][-1] for model in shown.payload["models"][:2])
    deeper = record.answers[0 if first > second else 1].model
    parts.append(
        f"Shown: how much of this one image either model holds to its end; {deeper} holds {abs(first - second):.2f} "
        "more of R² there. Not shown: the paper's own photographs and weights, its effect in size, or that models "
        "differ so on other images; one image of one seed supports no claim about a family."
    )
    return " ".join(parts)


def run(*words: str) -> None:
    """One command of emma-viz."""
    print("emma-viz", *words)
    if (code := emma_viz(words)) != 0:
        sys.exit(code)


if __name__ == "__main__":
    sys.exit(main())
