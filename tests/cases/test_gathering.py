"""From a benchmark's run to cases."""

import json

import numpy as np
import pytest
from PIL import Image

from emma_viz.cases.case import CaseAnswer, CaseRecord
from emma_viz.cases.casebook import Casebook
from emma_viz.cases.exchange import bundled_cases, import_cases
from emma_viz.cases.filters import AnswerFilter, CaseFilter
from emma_viz.cases.gathering import answered_of, gather_run
from emma_viz.cli.main import main
from emma_viz.data.images import image_hash
from emma_viz.errors import RecordError
from emma_viz.records.answered import (
    AnsweredRecord,
    ModelAnswer,
    RunAbout,
    StudyPlace,
    open_answers,
    write_answers,
)
from emma_viz.records.benchmarks import BenchmarkRecord
from emma_viz.session.benchmarks.results import answered_tables
from emma_viz.session.evidence import keeping


def answered(number: int, image: str | None, sha: str | None, *models: ModelAnswer, **more) -> AnsweredRecord:
    record = BenchmarkRecord(
        **{
            "benchmark": "pope",
            "split": "random",
            "id": str(number),
            "asked": "yes-no",
            "question": f"Is there a cup {number}?",
            "image": image,
            "truth": "yes",
            "object": "cup",
            **more,
        }
    )
    return AnsweredRecord(record=record, prompt=record.question, image=image, image_sha256=sha, models=models)


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    (folder / "images").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    picture.save(folder / "images" / "a.png")
    place = StudyPlace(path="../study", entry="cobra-0", sample=3)
    cobra = ModelAnswer(
        name="cobra",
        fingerprint="aa",
        answer="No.",
        p_yes=0.02,
        p_no=0.9,
        read="no",
        correct=False,
        study=place,
    )
    emma = ModelAnswer(
        name="emma", fingerprint="bb", answer="Yes.", p_yes=0.9, p_no=0.02, read="yes", correct=True
    )
    sha = image_hash(picture)
    odd = ModelAnswer(name="cobra", fingerprint="aa", answer="A cup?", read=None, correct=False)
    told = ModelAnswer(name="emma", fingerprint="bb", answer="A dog.", made_up=("dog",), missed=("cup",))
    records = [
        answered(0, "a.png", sha, cobra, emma),
        answered(1, "a.png", None, cobra, emma),
        answered(2, None, None, odd),
        answered(3, "a.png", sha, told, asked="description", truth="", present=("cup",)),
        answered(4, "a.png", "0" * 64, cobra),
        answered(5, "gone.png", None, cobra),
    ]
    about = RunAbout(
        benchmark="pope", scorers=("pope",), models=("cobra", "emma"), images="images", records=len(records)
    )
    write_answers(folder, about, records)
    return folder


def test_a_run_becomes_cases(tmp_path, run):
    with Casebook.open(tmp_path / "cases.db") as casebook:
        found = gather_run(casebook, run)
        assert (found.added.cases, found.added.answers, found.pictures) == (4, 6, 1)
        assert [("others" in each, "gone.png" in each) for each in found.complaints] == [
            (True, False),
            (False, True),
        ]
        first, second, text, told = casebook.cases(casebook.ids())
        assert first.record.answers[0].study == str((tmp_path / "study").resolve())
        assert (first.record.answers[0].entry, first.record.answers[0].sample) == ("cobra-0", 3)
        assert first.record.image == second.record.image
        assert casebook.has_picture(first.record.image)
        assert first.reasons == {
            "models-disagree": ("cobra", "emma"),
            "one-right-one-wrong": ("cobra", "emma"),
            "confident-and-wrong": ("cobra",),
        }
        assert (text.record.image, text.record.answers[0].said) == ("", "unparsed")
        assert (told.record.answers[0].made_up, told.record.answers[0].missed) == (("dog",), ("cup",))
        again = gather_run(casebook, run)
        assert (again.added.cases, again.added.answers, again.pictures) == (0, 0, 0)
        assert casebook.count(CaseFilter(mined=True)) == 3


def test_what_is_no_run_is_refused(tmp_path):
    with Casebook.open(tmp_path / "cases.db") as casebook, pytest.raises(RecordError, match="finished run"):
        gather_run(casebook, tmp_path)


def test_the_command_line_mines_lists_exports_and_imports(tmp_path, run, capsys):
    one, two = str(tmp_path / "one.db"), str(tmp_path / "two.db")
    assert main(["cases", "mine", str(run), "--casebook", one]) == 0
    said = capsys.readouterr().out
    assert "4 new questions, 6 new answers (0 in place of others), 1 new images" in said
    assert "3 of them cases" in said
    assert "     2  models-disagree" in said
    assert main(["cases", "list", "--casebook", one, "--rule", "models-disagree", "--limit", "1"]) == 0
    said = capsys.readouterr().out
    assert "Is there a cup 0?" in said
    assert "cobra: No. ✗" in said
    assert "… and 1 more" in said
    assert main(["cases", "export", str(tmp_path / "out.zip"), "--casebook", one, "--all"]) == 0
    assert main(["cases", "import", str(tmp_path / "out.zip"), "--casebook", two]) == 0
    assert "4 new questions, 6 new answers" in capsys.readouterr().out
    with Casebook.open(one) as first, Casebook.open(two) as second:
        assert second.cases(second.ids()) == first.cases(first.ids())


def test_evidence_is_of_the_bundled_models_that_answered(tmp_path, monkeypatch):
    answers = tuple(CaseAnswer(model=name, text="No.", said="no") for name in ("mine", "cobra-pocket"))
    with Casebook.open(tmp_path / "cases.db") as casebook:
        casebook.add([CaseRecord(prompt="Is there a cup?", truth="yes", answers=answers)])
    asked = []
    monkeypatch.setattr(keeping, "keep_evidence_of", lambda _, ids, models, **__: asked.append(models) or 0)
    assert main(["cases", "evidence", "--all", "--casebook", str(tmp_path / "cases.db")]) == 0
    assert main(["cases", "evidence", "--models", "x", "--casebook", str(tmp_path / "cases.db")]) == 0
    assert asked == [["cobra-pocket"], ["x"]]


def test_the_command_line_says_what_is_wrong(tmp_path, run, capsys):
    one = ["--casebook", str(tmp_path / "one.db")]
    assert main(["cases", "list", *one]) == 1
    assert "there is no casebook" in capsys.readouterr().err
    assert not (tmp_path / "one.db").exists()
    assert main(["cases", "mine", str(tmp_path), *one]) == 1
    assert "finished run" in capsys.readouterr().err
    assert main(["cases", "mine", str(run), *one]) == 0
    (tmp_path / "mine.zip").write_text("mine")
    for argv, said in (
        (["list", "--verdict", "maybe"], "expected one of the verdicts"),
        (["list", "--rule", "typo"], "no such rule; known: "),
        (["list", "--benchmark", "typo"], "known: pope"),
        (["list", "--tag", "typo"], "known: none"),
        (["export", str(tmp_path / "mine.zip")], "is there already"),
        (["evidence", "--all"], "expected answers of a bundled model"),
        (["report", str(tmp_path / "one.html"), "--id", "zz"], "no case of "),
        (["report", str(tmp_path / "one.html"), "--id", ""], "no case of "),
    ):
        capsys.readouterr()
        assert main(["cases", *argv, *one]) == 1, argv
        assert said in capsys.readouterr().err
    assert (tmp_path / "mine.zip").read_text() == "mine"


def test_tables_of_a_casebook_draw_the_clusters_of_the_run(tmp_path):
    folder, models = tmp_path / "run", ("cobra", "emma")
    folder.mkdir()
    records = []
    for number in range(12):
        answers = [
            ModelAnswer(name=name, fingerprint="aa", answer="No.", read="no", correct=number % 4 != each)
            for each, name in enumerate(models)
        ]
        truth = "no" if number % 4 else "yes"
        cluster = f"topic {number // 4}"
        records.append(answered(number, None, None, *answers, truth=truth, cluster=cluster))
    about = RunAbout(benchmark="pope", scorers=("pope",), models=models, images="", records=len(records))
    write_answers(folder, about, records)
    with Casebook.open(tmp_path / "cases.db") as casebook:
        gather_run(casebook, folder)
        before = casebook.state()
        held = [answered_of(each, models) for each in casebook.records(CaseFilter())]
        casebook.write(casebook.ids()[0], "verdict", "miss", author="Ana")
        assert casebook.state() != before
    own = answered_tables(list(open_answers(folder).answers()), models, ("pope",), "pope")
    assert repr(own) == repr(
        answered_tables(held, models, ("pope",), "pope")
    )  # with NaN, which equals nothing
    assert {row[3] for row in own[0].rows} == {3}


def test_one_command_goes_from_an_evaluators_log_to_an_open_casebook(tmp_path, run, monkeypatch, capsys):
    from apps.casebook import command, server

    photo = run / "images" / "a.png"
    row = {"question_id": 0, "image": photo.name, "text": "Is there a cup?", "label": "yes"}
    (tmp_path / "coco_pope_adversarial.json").write_text(json.dumps(row))
    said = {"doc_id": 0, "target": "yes", "filtered_resps": "no", "input": "Is there a cup?\nAnswer."}
    (tmp_path / "llava").mkdir()
    log = tmp_path / "llava" / "2026_samples_pope_adv.jsonl"
    log.write_text(json.dumps(said))
    opened = []
    monkeypatch.setattr(server, "serve_casebook", lambda place, **how: opened.append(place))
    database = str(tmp_path / "cases.db")
    argv = ["--casebook", database, "--add", str(log), str(run), "--benchmark", "pope", "--example"]
    argv += ["--records", str(tmp_path / "coco_pope_adversarial.json"), "--images", str(photo.parent)]
    assert command.main(argv) == 0
    assert opened == [database]
    assert command.main(["--casebook", database, "--add", str(run), "--benchmark", "pope"]) == 1
    assert "got no log" in capsys.readouterr().err
    with Casebook.open(database) as casebook:
        (logged,) = casebook.records(CaseFilter(answers=(AnswerFilter(model="llava"),)))
        assert (logged.answers[0].text, logged.answers[0].right, logged.split) == ("no", False, "adversarial")
        assert casebook.has_picture(logged.image)
        assert casebook.facets()["model"]["cobra"] == 3
        assert casebook.facets()["model"]["emma-v1-pocket"] >= 30


def test_the_cases_that_ship(tmp_path):
    with Casebook.open(tmp_path / "cases.db") as casebook:
        found = import_cases(casebook, bundled_cases())
        assert not found.complaints
        cases = casebook.cases(casebook.ids())
        assert len(cases) >= 30
        drawn = [case for case in cases if case.record.benchmark == "tabletop"]
        charts = [
            case for case in drawn if case.record.object in ("bar", "line") or "chart" in str(case.record)
        ]
        assert len(drawn) >= 24
        assert charts
        assert len({case.record.image for case in cases if case.record.benchmark == "plain"}) == 6
        assert all(casebook.has_picture(case.record.image) for case in cases)
        worse = [
            case
            for case in cases
            if {a.model: a.right for a in case.record.answers}
            == {"cobra-pocket": True, "emma-v1-pocket": False}
        ]
        assert worse, "cases where EMMA fails and Cobra does not"
        retold = {tag: case for case in cases for tag in case.review.tags}
        assert set(retold) == {"figure 1", "figure 4", "figure 5"}
        for case in retold.values():  # what is shown and what is not, in this case's own numbers
            (note,) = case.review.notes
            assert all(f"{answer.model}: the pixels decoded" in note.value for answer in case.record.answers)
            made_up = {name for answer in case.record.answers for name in answer.made_up}
            assert all(name in note.value for name in made_up)
            assert "Not shown: " in note.value
        asked = [case for case in cases if case.record.asked == "yes-no"]
        assert all(set(casebook.evidence(case.id)) == {"cobra-pocket", "emma-v1-pocket"} for case in asked)
