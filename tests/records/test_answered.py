"""What a benchmark's run leaves: written and read back, and refused where it is broken."""

import json
from dataclasses import replace

import pytest

from emma_viz.errors import RecordError
from emma_viz.records.answered import (
    ANSWERED_FORMAT,
    AnsweredRecord,
    ModelAnswer,
    RunAbout,
    StudyPlace,
    open_answers,
    write_answers,
)
from emma_viz.records.benchmarks import BenchmarkRecord

RECORD = BenchmarkRecord(
    benchmark="pope",
    split="random",
    id="1",
    asked="yes-no",
    question="Is there a cup?",
    image="a.jpg",
    truth="yes",
    object="cup",
    groups=(("figure", "x"),),
    flags=("disputed",),
)
SAID = ModelAnswer(
    name="one",
    fingerprint="ab",
    answer="Yé",
    p_yes=0.25,
    p_no=0.5,
    read="yes",
    correct=True,
    study=StudyPlace(path="s", entry="one", sample=3),
)
ANSWERED = AnsweredRecord(
    record=RECORD, prompt="Is there a cup?", image="val/a.jpg", image_sha256="00", models=(SAID,)
)
RUN = RunAbout(benchmark="pope", scorers=("pope",), models=("one",), images="images", records=1)


@pytest.fixture
def run(tmp_path):
    (tmp_path / "images" / "val").mkdir(parents=True)
    (tmp_path / "images" / "val" / "a.jpg").write_bytes(b"")
    write_answers(tmp_path, RUN, [ANSWERED])
    return tmp_path


def test_answers_read_back_as_they_were_written(run):
    opened = open_answers(run)
    assert opened.about == RUN
    assert list(opened.answers()) == [ANSWERED]
    assert opened.image_file(ANSWERED) == run / "images" / "val" / "a.jpg"


def test_notes_and_what_was_beside_the_weights_are_kept(run):
    noted = replace(RUN, notes=("one: a note",), beside={"one": "ab"})
    write_answers(run, noted, [ANSWERED])
    assert open_answers(run).about == noted


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda line: line["models"][0].update(p_yes=2.0), "p_yes"),
        (lambda line: line.update(format=ANSWERED_FORMAT + 1), "newer emma_viz"),
        (lambda line: line["record"].update(truth="perhaps"), "perhaps"),
        (lambda line: line.pop("prompt"), "prompt"),
        (lambda line: line.update(more=1), "more"),
    ],
)
def test_a_broken_line_is_named(run, change, reason):
    line = json.loads((run / "answers.jsonl").read_text())
    change(line)
    (run / "answers.jsonl").write_text(json.dumps(line))
    with pytest.raises(RecordError, match=f"record 0.*{reason}"):
        list(open_answers(run).answers())


def test_a_run_that_lacks_lines_or_is_none_is_refused(run, tmp_path_factory):
    with pytest.raises(RecordError, match="expected a finished run"):
        open_answers(tmp_path_factory.mktemp("none"))
    (run / "answers.jsonl").write_text((run / "answers.jsonl").read_text() * 2)
    with pytest.raises(RecordError, match="expected 1 records, got 2"):
        list(open_answers(run).answers())


def test_an_image_outside_the_folder_is_refused(run):
    outside = replace(ANSWERED, image="../answers.jsonl")
    with pytest.raises(RecordError, match="record '1'"):
        open_answers(run).image_file(outside)
