"""Evidence of a casebook's cases: measured once, kept beside each, and mined by."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from emma_viz.cases.case import KNOCK_OUT, PRESENCE, CaseAnswer, CaseRecord
from emma_viz.cases.casebook import Casebook
from emma_viz.cases.pictures import case_picture
from emma_viz.checkpoints import load_model
from emma_viz.checkpoints.beside import encoder_key
from emma_viz.errors import InputError
from emma_viz.records.benchmarks import benchmark, read_benchmark
from emma_viz.session import Running
from emma_viz.session.evidence.document import CaseEvidence, CaseNumber
from emma_viz.session.evidence.keeping import asked_case, keep_evidence_of
from emma_viz.session.evidence.labelled import labelled_images
from emma_viz.session.evidence.measuring import EvidenceRoom
from emma_viz.session.evidence.references import tabletop_references
from emma_viz.session.loading import named_marks, one_mark


@pytest.fixture(scope="module")
def references():
    return tabletop_references(60)


@pytest.fixture
def casebook(tmp_path, pair):
    """Two scenes' questions, of which one was answered by another model alone."""
    kind = benchmark("tabletop")
    asked = [each for each in read_benchmark("tabletop").records if each.split == "random"]
    fingerprint = load_model(pair.cobra, vision_source=str(pair.vision)).info.fingerprint
    with Casebook.open(tmp_path / "cases.db") as opened:
        for number, record in enumerate((asked[0], asked[2])):
            picture = case_picture(Image.fromarray(kind.draw(record)))
            opened.keep_picture(picture)
            answer = CaseAnswer(
                model=("cobra", "other")[number], fingerprint=fingerprint, text="No.", said="no"
            )
            case = CaseRecord(
                image=picture.hash, image_name=record.image, prompt=record.question, truth=record.truth,
                object=record.object, benchmark="tabletop", split=record.split, row=record.id, answers=(answer,),
            )  # fmt: skip
            opened.add([case])
        yield opened


@pytest.mark.slow
def test_evidence_is_kept_beside_its_case_and_measured_once(casebook, pair, references):
    said = []

    def keep():
        return keep_evidence_of(
            casebook, casebook.ids(), [pair.cobra], references=references,
            running=Running(vision_source=str(pair.vision)), say=said.append,
        )  # fmt: skip

    assert keep() == 1
    assert said[0] == "cobra: 1 of 2 cases ask it for yes or no about an image"
    first, other = casebook.cases(casebook.ids())
    ((recipe, document),) = casebook.evidence(first.id).values()
    found = CaseEvidence.from_json(json.loads(json.dumps(document)))
    assert found.region_from == "mask"
    assert found.fingerprint == first.record.answers[0].fingerprint
    assert recipe.startswith(found.fingerprint[:32])
    deepest = first.record.deepest(PRESENCE, "cobra")
    assert deepest.value == pytest.approx(found.curve("presence").values[-1])
    assert first.record.deepest(KNOCK_OUT, "cobra").control == pytest.approx(
        found.number("knock-out change").control
    )
    # Whatever these untrained weights hold, of a "no" one of the two quadrants is found.
    assert {"saw-and-did-not-say", "did-not-see-and-did-not-say"} & set(first.reasons)
    assert not casebook.evidence(other.id)
    assert keep() == 0


@pytest.mark.slow
def test_a_case_that_cannot_be_measured_is_said_and_the_next_is_measured(casebook, pair, references):
    first, _ = (each.record for each in casebook.cases(casebook.ids()))
    other = case_picture(Image.new("RGB", (50, 30)))
    casebook.keep_picture(other)
    casebook.add([replace(first, image=other.hash)])  # of its name a mask is known, of another size
    asked = {each.record.image: each.id for each in casebook.cases(casebook.ids())}
    said = []
    done = keep_evidence_of(
        casebook, [asked[other.hash], asked[first.image]], [pair.cobra], references=references,
        running=Running(vision_source=str(pair.vision)), say=said.append,
    )  # fmt: skip
    assert done == 1
    assert casebook.evidence(asked[first.image])
    assert not casebook.evidence(asked[other.hash])
    assert any(repr(first.prompt)[:80] in each and "mask" in each for each in said)


@pytest.mark.parametrize("spoilt", [{"value": float("nan")}, {"control": float("inf")}])
def test_a_case_with_a_number_that_is_none_is_said_and_the_next_is_kept(
    casebook, pair, references, monkeypatch, spoilt
):
    first, _ = (each.record for each in casebook.cases(casebook.ids()))
    casebook.add([replace(first, row="again")])
    ids = casebook.ids()
    number = CaseNumber(name=KNOCK_OUT, title="", unit="nats", value=1.0, control=0.5)
    given = iter([replace(number, **spoilt), number])

    def measured(room, cases):
        for case in cases:
            yield CaseEvidence(
                model="cobra", fingerprint="", recipe="r", image="", prompt=case.prompt, object=case.object,
                grid=(4, 4), region=(), region_from=None, curves=(), numbers=(next(given),), lacking=(),
            )  # fmt: skip

    monkeypatch.setattr(EvidenceRoom, "evidence", measured)
    said = []
    done = keep_evidence_of(
        casebook, ids, [pair.cobra], references=references,
        running=Running(vision_source=str(pair.vision)), say=said.append,
    )  # fmt: skip
    assert done == 1
    assert [bool(casebook.evidence(id)) for id in ids] == [False, False, True]
    assert any(repr(first.prompt)[:80] in each and "expected finite numbers" in each for each in said)


def test_what_another_encoder_answered_is_not_measured(casebook, pair):
    model = load_model(pair.cobra, vision_source=str(pair.vision))
    record = casebook.case(casebook.ids()[0]).record
    beside = one_mark(named_marks(pair.cobra, Running(vision_source=str(pair.vision))))
    answers = {
        mark: replace(record, answers=(replace(record.answers[0], beside=mark),))
        for mark in ("", beside, "x")
    }
    for mark in ("", beside):
        assert asked_case(casebook, answers[mark], "cobra", model, beside=beside).prompt == record.prompt
    with pytest.raises(InputError, match="another image encoder or tokenizer answered in the name of cobra"):
        asked_case(casebook, answers["x"], "cobra", model, beside=beside)


def test_evidence_with_another_encoder_is_not_taken_for_what_is_kept(
    casebook, pair, references, monkeypatch, tmp_path
):
    """Of an answer that does not say which it was given with."""
    state = load_file(pair.vision)
    save_file({name: value + 0.125 for name, value in state.items()}, tmp_path / "other.safetensors")
    pictures = []

    def measured(room, cases):
        for case in cases:
            pictures.append(encoder_key(room.model.vlm))
            yield CaseEvidence(
                model="cobra", fingerprint="", recipe="r", image="", prompt=case.prompt, object=case.object,
                grid=(4, 4), region=(), region_from=None, curves=(), numbers=(), lacking=(),
            )  # fmt: skip

    monkeypatch.setattr(EvidenceRoom, "evidence", measured)

    def keep(encoder):
        return keep_evidence_of(
            casebook, casebook.ids(), [pair.cobra], references=references,
            running=Running(vision_source=str(encoder)),
        )  # fmt: skip

    other = tmp_path / "other.safetensors"
    assert [keep(each) for each in (pair.vision, pair.vision, other, other)] == [1, 0, 1, 0]
    assert len(set(pictures)) == 2


def labelled_case(number: int, *, there: bool, image: str, **changes) -> CaseRecord:
    return replace(
        CaseRecord(
            image=image, image_name=f"{number}.png", prompt="\nIs there a mug in the image?\nAnswer yes or no.",
            truth="yes" if there else "no", object="mug", benchmark="pope", row=str(number),
            answers=(CaseAnswer(model="cobra", text="No.", said="no"),),
        ),
        **changes,
    )  # fmt: skip


@pytest.fixture
def imported(tmp_path):
    """A casebook of answers that were given elsewhere, to a benchmark that has labels and no masks."""
    draw = np.random.default_rng(0)
    with Casebook.open(tmp_path / "imported.db") as opened:
        for number in range(36):
            there = number % 3 == 0
            pixels = draw.integers(90, 130, (48, 48, 3)).astype(np.uint8)
            if there:
                pixels[12:24, 12:24] = 255
            kept = case_picture(Image.fromarray(pixels))
            opened.keep_picture(kept)
            opened.add([labelled_case(number, there=there, image=kept.hash)])
        yield opened


def test_labels_are_of_questions_for_the_object_itself_and_of_lists(imported):
    first, *_ = (each.record for each in imported.cases(imported.ids()))
    imported.add(
        [
            replace(first, row="a", prompt="Is the mug in the image black?", truth="no"),
            replace(first, row="b", prompt="Is there a mug in this image?", truth="no", flags=("disputed",)),
            replace(
                first, row="c", asked="description", truth="", object="", present=("dog",), absent=("cat",)
            ),
            replace(first, row="d", object="cow", prompt="Is there a cow in the image?"),
            replace(first, row="e", object="cow", prompt="Is there a cow in the image?", truth="no"),
            replace(first, row="f", image="0" * 64),
            replace(first, row="g", object="owl", prompt="Is there an owl in the image?", benchmark="other"),
        ]
    )
    found = labelled_images(imported, "pope")
    assert set(found.labels) == {"mug", "dog", "cat", "cow"}
    assert (found.labels["dog"], found.labels["cat"]) == ({first.image: True}, {first.image: False})
    assert found.labels["cow"] == {}, "labels that contradict one another"
    assert sum(found.labels["mug"].values()) == 12
    assert len(found.labels["mug"]) == 36
    assert found.picture(first.image).size == (48, 48)


@pytest.mark.slow
def test_imported_answers_get_probes_from_their_own_labels(imported, pair, references):
    ids = imported.ids()[:2]

    def keep():
        return keep_evidence_of(
            imported,
            ids,
            [pair.cobra],
            references=references,
            running=Running(vision_source=str(pair.vision)),
        )

    assert keep() == 2
    for id, rule in zip(ids, ("saw-and-did-not-say", "did-not-see-and-did-not-say"), strict=True):
        assert rule in imported.case(id).reasons
        ((_, document),) = imported.evidence(id).values()
        title = CaseEvidence.from_json(json.loads(json.dumps(document))).curve("presence").title
        assert "labels of 35 other images of pope" in title
    assert keep() == 0
    image = case_picture(Image.new("RGB", (48, 48)))
    imported.keep_picture(image)
    imported.add([labelled_case(99, there=False, image=image.hash)])
    assert keep() == 2, "with one more label it is another probe"
