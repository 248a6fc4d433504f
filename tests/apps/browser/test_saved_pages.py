"""Every kind of page that is saved to a file shuts nobody out, on a phone and a wide screen, light and dark.

The canvas by itself is in test_screens.py, and in the frame of a notebook in test_notebook.py.
"""

import runpy
from pathlib import Path

import nbformat
import pytest
from PIL import Image

from emma_viz.cases.case import CaseAnswer, CaseRecord
from emma_viz.cases.casebook import Casebook
from emma_viz.cases.pictures import case_picture
from emma_viz.data import image_hash
from emma_viz.session import Comparison, Running, View, capture, compare_study, decode_study, write_picture
from emma_viz.session.case_maps import CaseMaps
from emma_viz.session.case_report.writing import write_case_report
from emma_viz.session.evidence.document import CaseCurve, CaseEvidence, EvidenceSentence
from probes.run import main as probe
from tests.apps.axe import violations
from tests.apps.visiting import ALL_FRAMES, ROOT, Visit

pytestmark = pytest.mark.slow

SCREENS = {390: 844, 1440: 900}
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
TOY = ROOT / "tests" / "probes" / "toy_probe.py"


def faults(browser, path: Path, ready: str = "true") -> list[str]:
    """What axe-core finds on a page, on both screens and in both looks; and what the page asked for or got wrong.

    Args:
        ready: an expression that is true once all is drawn.
    """
    visit, found = Visit(browser, path.as_uri(), frames=ALL_FRAMES), []
    visit.page.goto(path.as_uri())
    for look in ("light", "dark"):
        visit.page.emulate_media(color_scheme=look)
        for width, height in SCREENS.items():
            visit.page.set_viewport_size({"width": width, "height": height})
            visit.page.wait_for_function(ready)
            found += [f"{width} {look}: {each}" for each in violations(visit)]
    found += visit.wrong
    visit.close()
    return found


@pytest.fixture(scope="module")
def casebook(pair, photos, tmp_path_factory):
    """Two cases: one with image, evidence, verdict and note, one with none of them."""
    image, model = Image.open(photos[0]).convert("RGB"), "cobra"
    asked = CaseRecord(
        image=image_hash(image),
        image_name="coffee.png",
        prompt="Is there a cup?",
        truth="yes",
        object="cup",
        box=(20, 8, 90, 60),
        benchmark="pope",
        row="1",
        answers=(
            CaseAnswer(model=model, text="No.", said="no", right=False, p_yes=0.25, p_no=0.5),
            CaseAnswer(model="emma", text="Yes.", said="yes", right=True),
        ),
    )
    told = CaseRecord(
        prompt="Describe it.",
        asked="description",
        present=("cup",),
        answers=(CaseAnswer(model=model, text="A key.", made_up=("key",), missed=("cup",)),),
    )
    curve = CaseCurve(
        name="presence",
        title="the probe's score",
        unit="",
        layers=(-1, 0, 1),
        values=(0.5, None, -2.0),
        control=(0.25, 0.25, 0.25),
        control_title="what 5 % exceed",
    )
    measured = CaseEvidence(
        model=model,
        fingerprint="ab",
        recipe="r" * 32,
        image="0" * 64,
        prompt=asked.prompt,
        object="cup",
        grid=(4, 4),
        region=(1, 2),
        region_from="box",
        curves=(curve,),
        numbers=(),
        lacking=("No lens was given: no retention.",),
        sentences=(EvidenceSentence(text="The probe is below its threshold.", numbers=("presence",)),),
    )
    with Casebook.open(tmp_path_factory.mktemp("casebook") / "cases.db") as opened:
        opened.keep_picture(case_picture(image))
        opened.add([asked, told])
        document = measured.to_json()
        opened.keep_evidence(
            asked.identity, model, recipe="r", document=document, measured=measured.measured()
        )
        opened.write(asked.identity, "verdict", "miss", author="Ana")
        opened.write(asked.identity, "note", "Odd", author="Ana")
        yield opened, asked.identity


def test_a_figure(browser, tiny_comparison: Comparison, tmp_path):
    spec = tiny_comparison.spec(View(layers=("all",), difference=True))
    path, _ = write_picture(spec, tmp_path / "figure.html")
    assert faults(browser, path) == []


def test_a_report_of_a_study(browser, pair, photos, tmp_path):
    study = tmp_path / "study"
    capture(photos, pair.models, study, running=Running(vision_source=str(pair.vision)))
    decode_study(study)
    path, _ = write_picture(compare_study(study).spec(View(style="paper")), tmp_path / "report.html")
    assert faults(browser, path) == []


def test_a_report_of_cases(browser, casebook, tmp_path):
    opened, _ = casebook
    write_case_report(opened, opened.ids(), tmp_path / "cases.html")
    assert faults(browser, tmp_path / "cases.html") == []


def test_a_case_with_its_canvas(browser, casebook, pair, tmp_path):
    opened, asked = casebook
    maps = CaseMaps(
        sources=dict(zip(("cobra", "emma"), pair.models, strict=True)),
        running=Running(vision_source=str(pair.vision)),
    )
    path = tmp_path / "case.html"
    _, lacking = write_case_report(opened, [asked], path, canvas=True, maps=maps)
    assert lacking == ()
    assert faults(browser, path, "document.querySelector('.ev')?.dataset.state === 'result'") == []


def test_a_report_of_probes(browser, pair, tmp_path):
    options = ["--vision", str(pair.vision), "--out", str(tmp_path), "--quick", "--count", "4"]
    assert probe([*pair.models, *options, "--probes", str(TOY)]) == 0
    assert faults(browser, tmp_path / "report.html", "document.querySelector('.chart svg')") == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook(browser, path, tmp_path):
    page_of = runpy.run_path(str(ROOT / "docs" / "notebooks.py"))["page_of"]
    page = tmp_path / "page.html"
    page.write_text(page_of(nbformat.read(path, as_version=4), title=path.stem), "utf-8")
    assert faults(browser, page) == []
