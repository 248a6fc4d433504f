"""Cases go from one casebook to another, and nothing that a stranger sends does harm."""

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emma_viz.cases.case import PRESENCE, CaseAnswer, CaseRecord, MeasuredEvidence
from emma_viz.cases.casebook import Casebook
from emma_viz.cases.exchange import export_cases, import_cases
from emma_viz.cases.pictures import case_picture
from emma_viz.errors import CasebookError, InputError


@pytest.fixture
def other(tmp_path):
    with Casebook.open(tmp_path / "other.db") as opened:
        yield opened


@pytest.fixture
def filled(casebook, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    picture = case_picture(tmp_path / "a.png")
    casebook.keep_picture(picture)
    answer = CaseAnswer(model="cobra", text="No.", said="no", right=False, p_yes=0.1, p_no=0.8)
    given = [
        CaseRecord(
            image=picture.hash, image_name="a.png", prompt="Is there a cup?", truth="yes", answers=(answer,)
        ),
        CaseRecord(prompt="Is the sky green?", truth="no"),
    ]
    casebook.add(given)
    first, second = (record.identity for record in given)
    casebook.write(first, "verdict", "miss", author="Ana")
    casebook.write(first, "note", "Grüße ✓", author="Ana")
    casebook.write(second, "tag", "text alone", author="Bo")
    numbers = [MeasuredEvidence(name=PRESENCE, model="cobra", layer=2, value=0.9, control=0.4)]
    casebook.keep_evidence(first, "cobra", recipe="r" * 65, document={"layers": [0, 1]}, measured=numbers)
    return casebook


def everything(casebook):
    return [(case.record, case.history, case.reasons) for case in casebook.cases(casebook.ids())]


@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_what_is_exported_comes_back(filled, other, tmp_path, name):
    assert export_cases(filled, filled.ids(), tmp_path / name) == 2
    found = import_cases(other, tmp_path / name)
    assert (found.cases, found.answers, found.events, found.complaints) == (2, 1, 3, ())
    assert everything(other) == everything(filled)
    for id in filled.ids():
        assert other.evidence(id) == filled.evidence(id)
    image = everything(filled)[0][0].image
    assert other.picture(image) == filled.picture(image)
    again = import_cases(other, tmp_path / name)
    assert (again.cases, again.answers, again.events) == (0, 0, 0)
    assert everything(other) == everything(filled)


def test_histories_are_joined(filled, other, tmp_path):
    export_cases(filled, filled.ids(), tmp_path / "one.zip")
    import_cases(other, tmp_path / "one.zip")
    first = filled.ids()[0]
    filled.write(first, "note", "here", author="Ana")
    there = other.write(first, "verdict", "label", author="Cy")
    export_cases(filled, filled.ids(), tmp_path / "two.zip")
    assert import_cases(other, tmp_path / "two.zip").events == 1
    joined = other.case(first)
    assert joined.review.verdict == "label"
    assert {event.value for event in joined.history} == {"miss", "Grüße ✓", "here", "label"}
    assert there.history[-1] in joined.history


def test_answers_and_evidence_that_are_there_stay(filled, other, tmp_path):
    given, bare = (case.record for case in filled.cases(filled.ids()))
    emma = CaseAnswer(model="emma", text="Yes.", said="yes", right=True)
    filled.add([replace(bare, answers=(emma,)), replace(given, answers=(*given.answers, emma))])
    deeper = [replace(given.evidence[0], layer=7), replace(given.evidence[0], model="emma")]
    filled.keep_evidence(
        given.identity, "cobra", recipe="s" * 65, document={"layers": [7]}, measured=deeper[:1]
    )
    filled.keep_evidence(given.identity, "emma", recipe="e" * 65, document={}, measured=deeper[1:])
    export_cases(filled, filled.ids(), tmp_path / "out.zip")
    # Here cobra answered with another last digit, from a study of its own, and was measured at another layer.
    mine = replace(given.answers[0], fingerprint="aa", p_yes=0.1000001, study="/mine", entry="x")
    other.add([replace(given, answers=(mine,), evidence=given.evidence)])
    found = import_cases(other, tmp_path / "out.zip")
    assert (found.cases, found.answers, found.complaints) == (1, 2, ())
    joined = other.case(given.identity)
    assert joined.record.answers == (mine, emma)
    assert joined.record.evidence == (given.evidence[0], deeper[1])
    assert [event.kind for event in joined.history] == ["verdict", "note"]
    assert list(other.evidence(given.identity)) == ["emma"]
    assert other.case(bare.identity).record.answers == (emma,)


def test_a_case_that_is_measured_during_an_export_has_its_document_with_its_numbers_or_neither(
    filled, other, tmp_path
):
    first, second = filled.ids()
    late = [MeasuredEvidence(name=PRESENCE, model="cobra", layer=3, value=0.1)]

    def measure(done: int, total: int, what: str) -> None:
        filled.keep_evidence(second, "cobra", recipe="r" * 65, document={}, measured=late)

    export_cases(filled, [first, second], tmp_path / "out.zip", progress=measure)
    assert import_cases(other, tmp_path / "out.zip").complaints == ()
    for case in other.cases([first, second]):
        assert set(other.evidence(case.id)) == {each.model for each in case.record.evidence}


def test_evidence_without_its_numbers_is_named_and_can_be_measured_yet(filled, other, tmp_path):
    export_cases(filled, filled.ids(), tmp_path / "out")
    spoil(tmp_path / "out", record__evidence=[])
    found = import_cases(other, tmp_path / "out")
    (said,) = found.complaints
    assert "the evidence of 'cobra' at 'Is there a cup?': expected numbers" in said
    assert other.evidence(filled.ids()[0]) == {}
    lines = (tmp_path / "out" / "cases.jsonl").read_text().splitlines()
    (tmp_path / "out" / "cases.jsonl").write_text(lines[0] + "\n")
    assert any("cut off" in each for each in import_cases(other, tmp_path / "out").complaints)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"sentences": [{"text": "a\ud800"}]}, "unpaired surrogates"),
        ({"a\0b": 1}, "character zero"),
        ({"curves": [{"values": [0.5, -1e308]}]}, "numbers within"),
    ],
)
def test_evidence_that_no_page_can_show_is_named_and_left_out(filled, other, tmp_path, document, said):
    export_cases(filled, filled.ids(), tmp_path / "out")
    spoil(tmp_path / "out", evidence__cobra__document=document)
    found = import_cases(other, tmp_path / "out")
    (complaint,) = found.complaints
    assert complaint.startswith("the evidence of 'cobra' at 'Is there a cup?': ")
    assert said in complaint
    assert found.cases == 2
    assert other.evidence(filled.ids()[0]) == {}
    assert other.case(filled.ids()[0]).record.evidence == ()


def test_the_same_cases_make_the_same_bytes(filled, tmp_path):
    for name in ("a.zip", "b.zip"):
        export_cases(filled, filled.ids(), tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_what_is_there_is_not_overwritten(filled, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(InputError, match="not there yet"):
        export_cases(filled, filled.ids(), tmp_path / "out")
    with pytest.raises(InputError, match="at least one case"):
        export_cases(filled, [], tmp_path / "new")
    assert (tmp_path / "out" / "mine").read_text() == "mine"


def dated(at: str) -> dict:
    return {"kind": "note", "value": "x", "author": "Ana", "at": at, "id": "0" * 32}


def measured(value: float, layer: int = 2) -> dict:
    return {"name": PRESENCE, "model": "cobra", "layer": layer, "value": value, "control": None}


def documented(model: str, recipe: str) -> dict:
    return {model: {"recipe": recipe, "document": {}}}


def spoil(folder: Path, **changes) -> None:
    """Change the first line of an export."""
    lines = (folder / "cases.jsonl").read_text().splitlines()
    line = json.loads(lines[0])
    for path, value in changes.items():
        place = line
        *above, last = path.split("__")
        for part in above:
            place = place[int(part) if part.isdecimal() else part]
        place[last] = value
    (folder / "cases.jsonl").write_text("\n".join([json.dumps(line), *lines[1:]]) + "\n")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"record__prompt": "a\0b"}, "character zero"),
        ({"record__image": "../../etc/passwd"}, "image"),
        ({"record__surprise": 1}, "surprise"),
        ({"record__answers": 7}, "answers"),
        ({"format": 4}, "newer emma_viz"),
        ({"history": [{"kind": "drop", "value": "", "author": "x", "at": "", "id": ""}]}, "history"),
        ({"history": [dated("9999-12-31T23:59:59.999999")]}, "still to come"),
        ({"history": [dated("2026-02-31T00:00:00.000000")]}, "calendar"),
        ({"record__evidence": [measured(0.1), measured(0.2)]}, "several of one"),
        ({"record__evidence": [measured(0.1, layer=2**63)]}, "layer"),
        ({"record__evidence": [measured(0.1, layer=2**31)]}, "layer"),
        ({"record__evidence": [measured(0.1, layer=-2)]}, "layer"),
        ({"record__answers__0__sample": 2**31}, "sample"),
        ({"evidence": documented("x" * 501, "")}, "evidence"),
        ({"evidence": documented("a\0b", "")}, "character zero"),
        ({"evidence": documented("cobra", "r" * 201)}, "recipe"),
        ({"evidence": documented("cobra", "a\0b")}, "character zero"),
        ({"picture": "../../../etc/passwd"}, "named by it"),
        ({"picture": "0" * 64 + ".png"}, "named by it"),
    ],
)
def test_a_line_that_is_none_is_left_out_and_named(filled, other, tmp_path, changes, said):
    export_cases(filled, filled.ids(), tmp_path / "out")
    spoil(tmp_path / "out", **changes)
    found = import_cases(other, tmp_path / "out")
    assert any(said in complaint for complaint in found.complaints), found.complaints
    assert found.cases == (2 if "picture" in changes else 1)


def test_an_image_that_is_another_is_left_out(filled, other, tmp_path):
    export_cases(filled, filled.ids(), tmp_path / "out")
    (picture,) = (tmp_path / "out" / "pictures").iterdir()
    Image.new("RGB", (5, 5)).save(picture)
    found = import_cases(other, tmp_path / "out")
    assert ["its pixels" in each for each in found.complaints] == [True]
    assert not other.has_picture(picture.stem)


def test_links_lead_nowhere(filled, other, tmp_path):
    export_cases(filled, filled.ids(), tmp_path / "out")
    (picture,) = (tmp_path / "out" / "pictures").iterdir()
    shutil.move(picture, tmp_path / "outside.png")
    picture.symlink_to(tmp_path / "outside.png")
    assert any("link" in each for each in import_cases(other, tmp_path / "out").complaints)


def test_an_export_that_was_cut_off_says_so(filled, other, tmp_path):
    export_cases(filled, filled.ids(), tmp_path / "out")
    lines = (tmp_path / "out" / "cases.jsonl").read_text().splitlines()
    (tmp_path / "out" / "cases.jsonl").write_text(lines[0] + "\n")
    assert any("cut off" in each for each in import_cases(other, tmp_path / "out").complaints)


def zipped(path: Path, cases: int, lines: bytes) -> None:
    about = {"format": 2, "kind": "emma_viz casebook", "cases": cases}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("about.json", json.dumps(about))
        made.writestr("cases.jsonl", lines)


def test_a_small_zip_of_millions_of_lines_is_refused(filled, other, tmp_path):
    zipped(tmp_path / "bad.zip", 1_000_000, b"\n" * 10**7)
    assert (tmp_path / "bad.zip").stat().st_size < 20_000
    with pytest.raises(CasebookError, match="at most 1000 things to leave out"):
        import_cases(other, tmp_path / "bad.zip")
    export_cases(filled, filled.ids(), tmp_path / "out")
    line = (tmp_path / "out" / "cases.jsonl").read_bytes().splitlines(keepends=True)[1]
    zipped(tmp_path / "again.zip", 3, line * 100_000)
    with pytest.raises(CasebookError, match=r"expected 3 lines, as about\.json says, got more"):
        import_cases(other, tmp_path / "again.zip")
    zipped(tmp_path / "more.zip", 10**7, line * 3)
    with pytest.raises(CasebookError, match="1000000"):
        import_cases(other, tmp_path / "more.zip")
    assert other.count() == 1


def test_images_and_evidence_that_are_left_out_are_counted(filled, other, tmp_path):
    export_cases(filled, filled.ids(), tmp_path / "out")
    spoil(
        tmp_path / "out",
        evidence={f"model {number}": {"recipe": "", "document": {}} for number in range(1001)},
    )
    with pytest.raises(CasebookError, match="at most 1000 things to leave out"):
        import_cases(other, tmp_path / "out")


def _twice(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("about.json", "{}")
        with pytest.warns(UserWarning, match="Duplicate"):
            made.writestr("about.json", "{}")


def _other_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("../../evil", "x")


def _bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("about.json", b" " * (8 << 20))


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_zip_is_refused_wherever_the_damage_is(filled, other, tmp_path, method):
    export_cases(filled, filled.ids(), tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "whole.zip", "w", method) as made:
        made.writestr("é", "")
        for name in ("about.json", "cases.jsonl"):
            made.write(tmp_path / "out" / name, name)
    whole = (tmp_path / "whole.zip").read_bytes()
    refused = 0
    for at in range(0, len(whole), 17):
        (tmp_path / "damaged.zip").write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            import_cases(other, tmp_path / "damaged.zip")
        except CasebookError:
            refused += 1
    assert refused > len(whole) / 17 / 2


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.write_bytes(b"PK\x03\x04 no zip"), "damaged or something else"),
        (lambda path: path.write_text("{}"), "damaged or something else"),
        (lambda path: path.mkdir(), "about.json"),
        (_twice, "twice"),
        (_other_zip, "no about.json"),
        (_bomb, "at most"),
        (lambda path: None, "no such file"),
    ],
)
def test_what_is_no_export_is_refused(other, tmp_path, make, said):
    make(tmp_path / "given.zip")
    with pytest.raises(CasebookError, match=said):
        import_cases(other, tmp_path / "given.zip")
    assert other.count() == 0
    assert not (tmp_path.parent / "evil").exists()
