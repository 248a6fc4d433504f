"""Documents of cases, and the maps of a case."""

import gc
import html
import io
import re
import weakref
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image
from pypdf import PdfReader

from emma_viz.cases.case import CaseAnswer, CaseRecord
from emma_viz.cases.casebook import Casebook
from emma_viz.cases.pictures import case_picture
from emma_viz.checkpoints import load_model
from emma_viz.cli.main import main
from emma_viz.data import image_hash
from emma_viz.errors import InputError
from emma_viz.render.colours import MODELS
from emma_viz.session.case_maps import CaseMaps
from emma_viz.session.case_report.writing import write_case_report
from emma_viz.session.evidence.document import CaseCurve, CaseEvidence, CaseNumber, EvidenceSentence
from emma_viz.session.loading import named_marks, one_mark
from emma_viz.session.options import Running

LONG = (
    "A sentence that is longer than the line on which it begins, and goes on and on, and then on once more,"
)
NASTY = '<img src=x onerror=alert(1)>"&'


@pytest.fixture
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))


@pytest.fixture
def casebook(tmp_path, image):
    with Casebook.open(tmp_path / "cases.db") as opened:
        opened.keep_picture(case_picture(image))
        asked = CaseRecord(
            image=image_hash(image),
            image_name="a.png",
            prompt=f"Is there a cup? {NASTY}",
            truth="yes",
            object="cup",
            box=(8, 8, 32, 24),
            benchmark="pope",
            row="1",
            answers=(
                CaseAnswer(model="cobra", text=f"No. {NASTY}", said="no", right=False, p_yes=0.25, p_no=0.5),
                CaseAnswer(model="emma", text="Yes.", said="yes", right=True),
            ),
        )
        told = CaseRecord(
            prompt="Describe it.",
            asked="description",
            present=("cup",),
            answers=(CaseAnswer(model="cobra", text="A key.", made_up=("key",), missed=("cup",)),),
        )
        opened.add([asked, told])
        opened.keep_evidence(
            asked.identity, "cobra", recipe="r", document=evidence().to_json(), measured=evidence().measured()
        )
        opened.write(asked.identity, "verdict", "miss", author="Ana")
        opened.write(asked.identity, "note", f"Odd {NASTY}", author="Ana")
        yield opened


def evidence() -> CaseEvidence:
    curve = CaseCurve(
        name="presence",
        title="the probe's score",
        unit="",
        layers=(-1, 0, 1),
        values=(0.5, None, -200.0),
        control=(0.25, 0.25, 0.25),
        control_title="what 5 % exceed",
    )
    return CaseEvidence(
        model="cobra",
        fingerprint="ab",
        recipe="r" * 32,
        image="0" * 64,
        prompt="Is there a cup?",
        object="cup",
        grid=(4, 4),
        region=(1, 2),
        region_from="box",
        curves=(curve,),
        numbers=(
            CaseNumber(
                name="prior: mean tokens",
                title="without the image",
                unit="nats",
                value=-1.25,
                control=0.5,
                control_title=f"chance {NASTY}",
            ),
        ),
        lacking=("No lens was given: no retention.",),
        sentences=(
            EvidenceSentence(text="The probe is below its threshold.", numbers=("presence",)),
            EvidenceSentence(text=f"{LONG} leaves its number.", numbers=("prior: mean tokens", "presence")),
            EvidenceSentence(text="This one has none.", numbers=()),
            EvidenceSentence(text="This one's is not shown.", numbers=("elsewhere",)),
        ),
    )


def test_a_page_says_everything_and_runs_nothing(tmp_path, casebook):
    assert write_case_report(casebook, casebook.ids(), tmp_path / "cases.html") == (2, ())
    page = (tmp_path / "cases.html").read_text("utf-8")
    for said in (
        "2 cases",
        "Truth: yes.",
        "The probe is below its threshold.",
        "Verdict: miss",
        "names what is not there: key",
        "leaves out: cup",
        "P(yes) 0.250, P(no) 0.500",
        "Nothing was measured of it yet",
        "cobra: No lens was given: no retention.",
        "dashed: what 5 % exceed",
        "One model says yes and another says no.",
    ):
        assert said in page, said
    assert "<script" not in page
    assert "<img src=x" not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") >= 3
    assert "default-src 'none'" in page
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert "left:12.50%;top:16.67%;width:37.50%;height:33.33%" in page


def test_a_pdf_has_a_page_a_case_and_its_text_as_text(tmp_path, casebook):
    write_case_report(casebook, casebook.ids(), tmp_path / "cases.pdf")
    first, second = PdfReader(io.BytesIO((tmp_path / "cases.pdf").read_bytes())).pages
    assert "Is there a cup?" in first.extract_text()
    assert "cobra: wrong" in first.extract_text()
    assert "The probe is below its threshold." in first.extract_text()
    assert "No lens was given: no retention." in first.extract_text()
    assert "names what is not there: key" in second.extract_text()
    write_case_report(casebook, casebook.ids(), tmp_path / "again.pdf")
    assert (tmp_path / "again.pdf").read_bytes() == (tmp_path / "cases.pdf").read_bytes()


def test_each_sentence_of_a_page_leads_to_its_number(tmp_path, casebook):
    write_case_report(casebook, casebook.ids(), tmp_path / "cases.html")
    page = (tmp_path / "cases.html").read_text("utf-8")
    links = dict(re.findall(r'<a class="said" href="#([\w-]+)" title="[^"]*">([^<]+)</a>', page))
    (curve, first), (number, second) = links.items()
    assert first == "The probe is below its threshold."
    assert second == f"{LONG} leaves its number."
    assert re.findall(r'<(\w+) id="([\w-]+)">', page) == [("figure", curve), ("tr", number)]
    row = page[page.index(f'<tr id="{number}">') :].partition("</tr>")[0]
    assert "<b>-1.25</b><br>not above chance &lt;img" in row
    assert "without the image, nats" in row
    assert ":target {" in page
    assert "This one has none. This one&#x27;s is not shown.</p>" in page


def test_each_sentence_of_a_pdf_leads_to_its_number_on_its_page(tmp_path, casebook):
    write_case_report(casebook, casebook.ids()[::-1], tmp_path / "cases.pdf")
    reader = PdfReader(io.BytesIO((tmp_path / "cases.pdf").read_bytes()))
    page = reader.pages[1]
    assert "/Annots" not in reader.pages[0] or not reader.pages[0]["/Annots"]
    height = float(page.mediabox.height)
    found = []
    for each in page["/Annots"]:
        link = each.get_object()
        assert link["/A"]["/S"] == "/GoTo"
        target, kind, _, top, _ = link["/A"]["/D"]
        assert target == page.indirect_reference
        assert kind == "/XYZ"
        found.append((text_in(page, link["/Rect"]), below(page, float(top), height)))
    # The second sentence is of two lines, each of which leads there.
    assert found[0][0] == "The probe is below its threshold."
    assert " ".join(said for said, _ in found[1:]) == f"{LONG} leaves its number."
    assert len(found) == 3
    assert [at.startswith("presence: the probe") for _, at in found] == [True, False, False]
    assert [at.startswith("prior: mean tokens") for _, at in found] == [False, True, True]
    assert "not above chance" in page.extract_text()
    assert "-1.25" in page.extract_text()


@pytest.fixture
def one_curve(casebook):
    """The case of which cobra has no curve, and emma has one: of each model something was measured."""
    (id,) = [each.id for each in casebook.cases(casebook.ids()) if each.record.asked == "yes-no"]
    for model, found in (
        ("cobra", replace(evidence(), curves=())),
        ("emma", replace(evidence(), model="emma")),
    ):
        casebook.keep_evidence(
            id, model, recipe="r", document=found.to_json(), measured=found.measured(model)
        )
    return id


def test_a_curve_has_its_models_colour_where_another_lacks_it(tmp_path, casebook, one_curve):
    write_case_report(casebook, [one_curve], tmp_path / "cases.html")
    page = (tmp_path / "cases.html").read_text("utf-8")
    assert set(re.findall(r'<g style="--c:var\((--m\d)\)', page)) == {"--m1"}
    write_case_report(casebook, [one_curve], tmp_path / "cases.pdf")
    (sheet,) = PdfReader(io.BytesIO((tmp_path / "cases.pdf").read_bytes())).pages
    filled, stroked, now = set(), set(), dict.fromkeys((b"rg", b"RG"))
    for operands, operator in sheet.get_contents().operations:
        if operator in (b"rg", b"RG"):
            now[operator] = tuple(round(float(each), 3) for each in operands)
        elif operator in (b"Tj", b"TJ"):
            filled.add(now[b"rg"])
        elif operator == b"S":
            stroked.add(now[b"RG"])
    first, second = (tuple(round(each, 3) for each in to_rgb(colour)) for colour in MODELS[:2])
    assert {first, second} <= filled, "the models' names"
    assert second in stroked
    assert first not in stroked


def pieces(page) -> list[tuple[float, float, str]]:
    """(x, y, text) of all that is written on a page, in points from its lower left corner."""
    found = []

    def visit(text, matrix, place, _font, _size):
        if text.strip():
            found.append((matrix[4] + place[4], matrix[5] + place[5], text.strip()))

    page.extract_text(visitor_text=visit)
    return found


def text_in(page, box) -> str:
    """What is written within a rectangle."""
    left, low, right, high = map(float, box)
    return " ".join(text for x, y, text in pieces(page) if left - 1 <= x <= right and low - 1 <= y <= high)


def below(page, top: float, height: float) -> str:
    """What is written first below a height."""
    return next(text for _, y, text in sorted(pieces(page), key=lambda each: -each[1]) if y < top)


CURVE, SENTENCE = evidence().curves[0], evidence().sentences[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"sentences": (replace(SENTENCE, text="a\ud800"),)},
        {"lacking": ("a\ud800",)},
        {"curves": (replace(CURVE, title="a\ud800"),)},
        {"curves": (replace(CURVE, values=(1e308, None, -1e308)),)},
        {"curves": (replace(CURVE, values=(1e300,) * 3, control=()),)},
        {"numbers": (replace(evidence().numbers[0], value=1e308),)},
    ],
)
@pytest.mark.parametrize("ending", ["html", "pdf"])
def test_evidence_that_no_page_can_show_is_left_out(tmp_path, casebook, changes, ending):
    (id,) = [each.id for each in casebook.cases(casebook.ids()) if each.record.asked == "yes-no"]
    document = replace(evidence(), **changes).to_json()
    casebook.keep_evidence(id, "cobra", recipe="r", document=document, measured=evidence().measured())
    assert write_case_report(casebook, [id], tmp_path / f"cases.{ending}") == (1, ())
    if ending == "html":
        assert "Nothing was measured of it yet" in (tmp_path / "cases.html").read_text("utf-8")


def test_a_curve_of_which_no_value_is_defined_is_not_drawn(tmp_path, casebook):
    (id,) = [each.id for each in casebook.cases(casebook.ids()) if each.record.asked == "yes-no"]
    bare = replace(evidence(), curves=(replace(CURVE, values=(None,) * 3),))
    casebook.keep_evidence(id, "cobra", recipe="r", document=bare.to_json(), measured=())
    write_case_report(casebook, [id], tmp_path / "cases.html")
    assert "<figure" not in (tmp_path / "cases.html").read_text("utf-8")


def test_what_cannot_be_written_is_refused(tmp_path, casebook):
    with pytest.raises(InputError, match=r"\.html or \.pdf"):
        write_case_report(casebook, casebook.ids(), tmp_path / "cases.docx")
    with pytest.raises(InputError, match="at least one case"):
        write_case_report(casebook, [], tmp_path / "cases.html")
    with pytest.raises(InputError, match="one case, not of 2"):
        write_case_report(casebook, casebook.ids(), tmp_path / "cases.html", canvas=True)
    assert not list(tmp_path.glob("cases.*ml"))


def test_the_command_writes_it(tmp_path, casebook, capsys):
    out = tmp_path / "one.html"
    command = ["cases", "report", str(out), "--casebook", casebook.where, "--id", casebook.ids()[1][:8]]
    assert main(command) == 0
    assert "wrote 1 cases" in capsys.readouterr().out
    assert "A key." in out.read_text("utf-8")


def test_the_command_takes_ids_or_a_filter(tmp_path, casebook, capsys):
    out = tmp_path / "one.html"
    command = ["cases", "report", str(out), "--casebook", casebook.where, "--id", casebook.ids()[1][:8]]
    assert main([*command, "--verdict", "none", "--tag", "a"]) == 1
    assert "expected either --id or a filter, got --id and --verdict, --tag;" in capsys.readouterr().err
    assert not out.exists()


def test_maps_are_made_by_the_models_that_answered(pair, image):
    model = load_model(pair.cobra, vision_source=str(pair.vision))
    fingerprint = model.info.fingerprint
    asked = CaseRecord(
        image=image_hash(image),
        prompt="Is there a cup?",
        answers=(
            CaseAnswer(model="a", text="No.", fingerprint=fingerprint),
            CaseAnswer(model="b", text="No.", fingerprint="other"),
            CaseAnswer(model="c", text="No."),
            CaseAnswer(model="d", text="No.", study="/not/there", entry="e"),
        ),
    )
    maps = CaseMaps(
        {"a": str(pair.cobra), "b": str(pair.emma)}, running=Running(vision_source=str(pair.vision))
    )
    shown = maps.of(asked, image)
    assert shown.payload is not None
    assert [each["answer"] for each in shown.payload["models"]] == ["No.", "No."]
    assert shown.payload["image"]["hash"] == asked.image
    said = "\n".join(shown.notes)
    assert "b: the maps are of other weights" in said
    assert "c: no maps without its weights" in said
    assert "d: the study behind it cannot be shown" in said
    assert maps.of(asked, image) is shown
    running = Running(vision_source=str(pair.vision))
    beside = one_mark(named_marks(pair.cobra, running))
    for mark, told in ((beside, 0), ("", 0), ("other", 1)):
        answers = (replace(asked.answers[0], beside=mark),)
        notes = (
            CaseMaps({"a": str(pair.cobra)}, running=running).of(replace(asked, answers=answers), image).notes
        )
        assert notes == ("a: the maps are of another image encoder or tokenizer than answered.",) * told
    blind = maps.of(replace(asked, image=""), None)
    assert blind.payload is None
    assert "does not have the image" in blind.notes[0]


def test_a_page_with_a_canvas_says_what_is_to_be_said_of_its_maps(pair, image, tmp_path):
    answers = (
        CaseAnswer(model="a", text="No.", fingerprint="of other weights"),
        CaseAnswer(model=NASTY, text="Yes."),
    )
    asked = CaseRecord(image=image_hash(image), prompt="Is there a cup?", answers=answers)
    with Casebook.open(tmp_path / "cases.db") as opened:
        opened.keep_picture(case_picture(image))
        opened.add([asked])
        maps = CaseMaps({"a": str(pair.cobra)}, running=Running(vision_source=str(pair.vision)))
        _, notes = write_case_report(opened, opened.ids(), tmp_path / "case.html", canvas=True, maps=maps)
    page = (tmp_path / "case.html").read_text("utf-8")
    said = [html.unescape(each) for each in re.findall('<p class="small">(.*?)</p>', page)]
    assert f"{NASTY}: no maps without its weights" in notes[0]
    assert "a: the maps are of other weights" in notes[1]
    assert set(notes) <= set(said)
    assert page.index("the maps are of other weights") < page.index('<div id="canvas">')


def test_maps_that_could_not_be_made_are_tried_again(pair, image, tmp_path):
    answers = (CaseAnswer(model="a", text="No."), CaseAnswer(model="b", text="Yes."))
    asked = CaseRecord(image=image_hash(image), prompt="Is there a cup?", answers=answers)
    late = tmp_path / "late"
    sources, running = {"a": str(late), "b": str(pair.cobra)}, Running(vision_source=str(pair.vision))
    maps, patient = CaseMaps(sources, running=running, again=0.0), CaseMaps(sources, running=running)
    blind = maps.of(asked, None)  # as of cases that were imported before their images
    assert blind.payload is None
    assert "does not have the image" in blind.notes[0]
    lacking = maps.of(asked, image)
    assert [each["answer"] for each in lacking.payload["models"]] == ["Yes."]
    assert lacking.notes[0].startswith("a: ")
    assert maps.of(asked, image) is lacking  # and is not made anew
    assert patient.of(asked, None).payload is None
    waiting = patient.of(asked, image)  # an image that came is looked at at once
    assert [each["answer"] for each in waiting.payload["models"]] == ["Yes."]
    late.symlink_to(pair.emma)
    whole = maps.of(asked, image)
    assert [each["answer"] for each in whole.payload["models"]] == ["No.", "Yes."]
    assert whole.notes == ()
    assert maps.of(asked, image) is whole
    assert patient.of(asked, image) is waiting


def test_no_maps_of_other_cases_than_the_one_looked_at_are_held_undrawn(pair, image, monkeypatch):
    """Those of a large model take a hundred megabytes a case."""
    made = []
    decode = CaseMaps._decoding

    def decoding(*given):
        found = decode(*given)
        if found is not None:
            made.append(weakref.ref(found))
        return found

    def held():
        gc.collect()
        return [each for each in made if each() is not None]

    monkeypatch.setattr(CaseMaps, "_decoding", decoding)
    maps = CaseMaps({"a": str(pair.cobra)}, running=Running(vision_source=str(pair.vision)))
    whole = CaseRecord(
        image=image_hash(image), prompt="Is there a cup?", answers=(CaseAnswer(model="a", text="No."),)
    )
    maps.of(whole, image)
    assert len(made) == 1
    assert not held()
    lacking = replace(whole, answers=(*whole.answers, CaseAnswer(model="nobody's", text="Yes.")))
    first = maps.of(lacking, image)
    assert len(held()) == 1  # for when the other's are to be had
    maps.of(whole, image)
    assert not held()
    assert maps.of(lacking, image) is first
