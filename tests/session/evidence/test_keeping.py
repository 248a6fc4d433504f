"""Evidence of a casebook's cases: measured once, kept beside each, and mined by."""

import json

import pytest
from PIL import Image

from emma_viz.cases.case import KNOCK_OUT, PRESENCE, CaseAnswer, CaseRecord
from emma_viz.cases.casebook import Casebook
from emma_viz.cases.pictures import case_picture
from emma_viz.checkpoints import load_model
from emma_viz.records.benchmarks import benchmark, read_benchmark
from emma_viz.session import Running
from emma_viz.session.evidence.document import CaseEvidence
from emma_viz.session.evidence.keeping import keep_evidence_of
from emma_viz.session.evidence.references import tabletop_references


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
