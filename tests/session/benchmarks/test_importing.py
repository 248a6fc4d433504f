"""From a log of another evaluator to a run's folder, on the command line."""

import json
import zipfile

import openpyxl
import pytest

from emma_viz.cli.main import main
from emma_viz.errors import InputError, RecordError
from emma_viz.records.answered import open_answers
from emma_viz.records.benchmarks import benchmark_rows, chair
from emma_viz.session.benchmarks.importing import import_run

ROWS = (("cup", "yes", "Yes, it is."), ("cat", "no", "no"), ("dog", "no", "maybe"))


@pytest.fixture
def pope(tmp_path, photos):
    rows = [
        {"question_id": i, "image": photos[0].name, "text": f"Is there a {name}?", "label": truth}
        for i, (name, truth, _) in enumerate(ROWS)
    ]
    path = tmp_path / "coco_pope_adversarial.json"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def lmms_log(path, generation):
    rows = []
    for number, (name, truth, said) in enumerate(ROWS):
        answer = {1: [said], 2: [said], 3: said}[generation]
        asked = f"Is there a {name}?\nAnswer."
        given = {"arguments": [asked, {}]} if generation == 1 else {"input": asked}
        rows.append({"doc_id": number, "target": truth, "filtered_resps": answer, **given})
    path.parent.mkdir(exist_ok=True)
    whole = json.dumps({"args": {}, "logs": rows})
    path.write_text(whole if generation == 1 else "".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def workbook(path):
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["index", "question", "answer", "category", "prediction"])
    for number, (name, truth, said) in enumerate(ROWS):
        sheet.append([number, f"Is there a {name}?", truth.capitalize(), "adversarial", said])
    book.save(path)
    return path


@pytest.mark.parametrize("generation", [1, 2, 3])
def test_a_log_of_lmms_eval_becomes_a_run(generation, pope, photos, tmp_path, capsys):
    called = "pope_adv.json" if generation == 1 else "2026_samples_pope_adv.jsonl"
    log = lmms_log(tmp_path / "llava" / called, generation)
    argv = ["benchmark", "import", str(log), "--out", str(tmp_path / "run"), "--benchmark", "pope"]
    argv += ["--records", str(pope), "--images", str(photos[0].parent), "--scorers", "lmms-eval", "pope"]
    assert main(argv) == 0
    run = open_answers(tmp_path / "run")
    assert (run.about.models, run.about.scorers) == (("llava",), ("lmms-eval", "pope"))
    found = list(run.answers())
    assert [each.models[0].read for each in found] == [None, "no", None]
    assert [each.models[0].correct for each in found] == [False, True, False]
    assert [run.image_file(each) for each in found] == [photos[0]] * 3
    assert "Rows that scorers read differently: 2 of 3" in capsys.readouterr().out


def test_rows_whose_images_nobody_named_are_all_counted(tmp_path):
    rows = [
        {"doc_id": number, "target": "yes", "input": "Is there a cup?", "filtered_resps": said}
        for number, said in enumerate(("yes", "no", "yes", "yes"))
    ]
    log = tmp_path / "x_samples_pope_adv.jsonl"
    log.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert main(["benchmark", "import", str(log), "--out", str(tmp_path / "run")]) == 0
    tables = {
        each["name"]: each for each in json.loads((tmp_path / "run" / "table.json").read_text())["tables"]
    }
    whole = next(
        row for row in tables["verdicts"]["rows"] if row[0] == "all" and not row[1].startswith("always")
    )
    assert (whole[2], whole[3], whole[4]["value"]) == (4, 4, 0.75)


def test_a_workbook_of_vlmevalkit_becomes_a_run_with_images(pope, photos, tmp_path):
    log = workbook(tmp_path / "llava_v1_POPE.xlsx")
    argv = ["benchmark", "import", str(log), "--benchmark", "pope", "--records", str(pope)]
    assert main([*argv, "--images", str(photos[0].parent), "--out", str(tmp_path / "run")]) == 0
    run = open_answers(tmp_path / "run")
    found = list(run.answers())
    assert run.about.models == ("llava_v1",)
    assert [each.models[0].answer for each in found] == [said for _, _, said in ROWS]
    assert all(each.image == photos[0].name for each in found)
    assert "cobra" not in run.about.scorers


def test_a_json_table_of_vlmevalkit_is_known_by_its_rows(tmp_path, capsys):
    row = {"index": 0, "question": "Is there a cup?", "answer": "Yes", "prediction": "no"}
    log = tmp_path / "llava_v1_POPE.json"
    log.write_text(json.dumps([row], indent=4))
    assert main(["benchmark", "import", str(log), "--out", str(tmp_path / "run")]) == 0
    run = open_answers(tmp_path / "run")
    (found,) = run.answers()
    assert (run.about.benchmark, run.about.models) == ("POPE", ("llava_v1",))
    assert (found.record.truth, found.models[0].answer) == ("yes", "no")
    # A list of lmms-eval's rows is still its log, and what is no list of rows is one sentence.
    log.write_text(json.dumps([{"doc_id": 0, "target": "yes", "input": "A cup?", "filtered_resps": "yes"}]))
    assert main(["benchmark", "import", str(log), "--out", str(tmp_path / "log"), "--names=m"]) == 0
    for wrong in ("[3]", "[", "[]"):
        log.write_text(wrong)
        assert main(["benchmark", "import", str(log), "--out", str(tmp_path / "wrong")]) == 1
        assert log.name in capsys.readouterr().err


def test_logs_of_two_models_are_joined_and_rows_of_one_alone_named(pope, tmp_path, capsys):
    one = lmms_log(tmp_path / "a" / "x_samples_pope_adv.jsonl", 3)
    two = lmms_log(tmp_path / "b" / "x_samples_pope_adv.jsonl", 3)
    two.write_text("".join(two.read_text().splitlines(keepends=True)[:2]))
    argv = ["benchmark", "import", str(one), str(two), "--out", str(tmp_path / "run")]
    assert main(argv) == 0
    run = open_answers(tmp_path / "run")
    assert run.about.models == ("a", "b")
    assert run.about.records == 2
    assert "b has no answer to it" in capsys.readouterr().out
    assert main(argv) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert main([*argv, "--overwrite"]) == 0


def test_nothing_is_left_of_an_import_that_is_replaced(pope, tmp_path, monkeypatch):
    log, out = lmms_log(tmp_path / "a" / "x_samples_pope_adv.jsonl", 3), tmp_path / "run"
    import_run([log], out)
    short = tmp_path / "b" / "x_samples_colours.jsonl"
    one_row_log(short, "Which colour?", "red", "red")
    import_run([short], out, overwrite=True)  # no yes or no, of which scorers disagree
    alone = import_run([short], tmp_path / "alone").run.path
    assert {each.name for each in out.iterdir()} == {each.name for each in alone.iterdir()}
    # Killed with the new answers written, it is no run: neither the old one nor a mixture.
    monkeypatch.setattr("emma_viz.session.benchmarks.run.write_answers", killed_in_between)
    with pytest.raises(KeyboardInterrupt):
        import_run([log], out, overwrite=True)
    monkeypatch.undo()
    assert (out / "answers.jsonl").exists()
    with pytest.raises(RecordError, match="expected a finished run"):
        open_answers(out)
    assert import_run([log], out).run.about.records == 3


def killed_in_between(folder, about, records):
    (folder / "answers.jsonl").write_text("")
    raise KeyboardInterrupt


def one_row_log(path, asked, truth, said):
    path.parent.mkdir(exist_ok=True)
    row = {"doc_id": 0, "target": truth, "input": asked, "filtered_resps": said}
    path.write_text(json.dumps(row))
    return str(path)


def one_row_table(path, asked, truth, said):
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"index\tquestion\tanswer\tprediction\n0\t{asked}\t{truth}\t{said}\n")
    return str(path)


def one_row_list(path, asked, truth, said):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps([{"question": asked, "label": truth, "answer": said}]))
    return str(path)


@pytest.mark.parametrize(
    ("write", "name", "more"),
    [
        (one_row_log, "x_samples_mine.jsonl", []),
        (one_row_table, "m_Mine.tsv", []),
        (one_row_list, "mine.json", ["--kind", "records", "--benchmark", "plain"]),
    ],
)
def test_logs_that_ask_something_else_under_one_number_are_refused(tmp_path, capsys, write, name, more):
    first = write(tmp_path / "a" / name, "Is there a cup?", "yes", "yes")
    argv = ["benchmark", "import", "--names=m", "--out", str(tmp_path / "run"), *more, first]
    for asked, truth in (("Is there a dog?", "yes"), ("Is there a cup?", "no")):
        assert main([*argv, write(tmp_path / "b" / name, asked, truth, "no")]) == 1
        assert "asks something else under the same number" in capsys.readouterr().err
        assert not (tmp_path / "run").exists()
    assert main([*argv, write(tmp_path / "b" / name, "Is there a cup?", "yes", "no")]) == 0
    assert "1 rows stand in another log of m; the last counts" in capsys.readouterr().out
    assert next(open_answers(tmp_path / "run").answers()).models[0].answer == "no"


def test_tables_that_do_not_name_images_are_joined_to_those_that_do(tmp_path, capsys):
    row = {"index": 0, "question": "Is there a cup?", "answer": "Yes", "prediction": "no"}
    logs = []
    for model, more in (("a", {}), ("b", {"image_path": "1.jpg"}), ("c", {"image_path": "2.jpg"})):
        logs.append(tmp_path / f"{model}_Mine.json")
        logs[-1].write_text(json.dumps([row | more]))
    for number, given in enumerate((logs[:2], logs[1::-1])):
        run = import_run(given, tmp_path / str(number)).run
        (found,) = run.answers()
        assert (set(run.about.models), found.record.image) == ({"a", "b"}, "1.jpg")
    # The first names none: the others are held against one another all the same.
    with pytest.raises(InputError, match=r"c_Mine\.json asks something else under the same number"):
        import_run(logs, tmp_path / "three")


def test_logs_of_two_tasks_are_not_joined_by_their_numbers(tmp_path, capsys):
    logs = [
        one_row_log(tmp_path / f"x_samples_{task}.jsonl", "Is there a cup?", "yes", "yes")
        for task in ("one", "two")
    ]
    assert main(["benchmark", "import", *logs, "--names", "m", "--out", str(tmp_path / "run")]) == 1
    assert "import each task into its own --out" in capsys.readouterr().err


def test_a_workbook_that_does_not_belong_or_is_none_is_refused(pope, tmp_path, capsys):
    log = workbook(tmp_path / "llava_POPE.xlsx")
    pope.write_text(pope.read_text().replace("cup", "pot"))
    argv = ["benchmark", "import", str(log), "--benchmark", "pope", "--records", str(pope)]
    assert main([*argv, "--out", str(tmp_path / "run")]) == 0
    assert "give the records that the table was made with" in capsys.readouterr().out
    assert open_answers(tmp_path / "run").about.records == 2
    log.write_bytes(b"PK\x03\x04 no workbook")
    assert main([*argv, "--out", str(tmp_path / "other")]) == 1
    assert "cannot be read as a workbook" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('<row r="3"', '<row r="1000000000000000"'),
        ('<dimension ref="A1:E4"', '<dimension ref="A1:ZZZ1000000000000000"'),
        ('<dimension ref="A1:E4"', '<dimension ref="A1:A1"'),
    ],
)
def test_a_workbook_that_says_another_size_is_read_to_its_end_or_refused(tmp_path, capsys, before, after):
    whole = workbook(tmp_path / "whole.xlsx")
    book = openpyxl.load_workbook(whole)
    book.active["E4"] = None
    book.save(whole)
    log = tmp_path / "llava_POPE.xlsx"
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(log, "w") as new:
        for name in old.namelist():
            content = old.read(name).decode()
            assert name != "xl/worksheets/sheet1.xml" or before in content
            new.writestr(name, content.replace(before, after))
    done = main(["benchmark", "import", str(log), "--out", str(tmp_path / "run")])
    if before.startswith("<row"):
        assert done == 1
        assert "at most 1048576 rows" in capsys.readouterr().err
    else:
        found = list(open_answers(tmp_path / "run").answers())
        assert [each.models[0].answer for each in found] == ["Yes, it is.", "no", ""]


def test_answers_beside_the_truth_become_a_run(tmp_path):
    rows = [
        {"image": None, "question": f"Is it a {name}?", "answer": said, "label": truth}
        for name, truth, said in ROWS
    ]
    (tmp_path / "model.json").write_text(json.dumps(rows))
    argv = ["benchmark", "import", str(tmp_path / "model.json"), "--kind", "records", "--benchmark", "plain"]
    assert main([*argv, "--names", "mine", "--out", str(tmp_path / "run")]) == 0
    found = list(open_answers(tmp_path / "run").answers())
    assert [each.models[0].answer for each in found] == [said for _, _, said in ROWS]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--records", "lacks.json"], "--benchmark"),
        (["--images", "."], "--benchmark"),
        (["--images", ".", "--benchmark", "pope"], "--records"),
        (["--questions", "lacks.jsonl"], "--kind answers"),
        (["--kind", "answers", "--benchmark", "pope"], "--records"),
        (["--kind", "records"], "--benchmark"),
        (["--kind", "records", "--benchmark", "mme", "--records", "lacks.txt"], "leave --records out"),
    ],
)
def test_what_would_not_be_looked_at_is_refused_before_the_logs_are_read(tmp_path, capsys, more, said):
    log = tmp_path / "x_samples_pope_adv.jsonl"  # is not there
    assert main(["benchmark", "import", str(log), "--out", str(tmp_path / "run"), *more]) == 1
    assert said in capsys.readouterr().err


def test_descriptions_are_judged_by_the_files_beside_them(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(
        chair, "benchmark_rows", lambda path, **how: opened.append(path.name) or benchmark_rows(path, **how)
    )
    kinds = {"categories": [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}]}
    kinds |= {
        "images": [{"id": 7, "file_name": "7.jpg"}],
        "annotations": [{"image_id": 7, "category_id": 17}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(kinds))
    noted = {"annotations": [{"image_id": 8, "caption": "A dog."}]}
    (tmp_path / "noted.json").write_text(json.dumps(noted))
    (tmp_path / "asked.jsonl").write_text('{"image_id": 7}\n{"image_id": 8}\n')
    logs = []
    for name, said in (("one", "A cat and a dog."), ("two", "A cat.")):
        logs.append(tmp_path / f"{name}.jsonl")
        logs[-1].write_text(json.dumps({"image_id": 7, "caption": said}))
    argv = ["benchmark", "import", *map(str, logs), "--kind", "records", "--names", "one", "two"]
    argv += ["--out", str(tmp_path / "run"), "--records", *map(str, tmp_path.glob("*.json"))]
    argv += [str(tmp_path / "asked.jsonl")]
    assert main([*argv, "--benchmark", "chair"]) == 0
    run = open_answers(tmp_path / "run")
    (found,) = run.answers()
    assert found.record.present == ("cat",)
    assert [each.made_up for each in found.models] == [("dog",), ()]
    assert not run.about.complaints
    # Once for all logs: the images and annotations of one file, the captions of the other.
    once = ["asked.jsonl", "instances.json", "instances.json", "noted.json", "one.jsonl", "two.jsonl"]
    assert sorted(opened) == once


def test_answers_in_a_file_of_their_own_become_a_run(pope, photos, tmp_path, capsys):
    log = tmp_path / "mine_adversarial.jsonl"
    rows = [{"question": f"Is there a {name}?", "answer": said} for name, _, said in ROWS]
    log.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    argv = ["benchmark", "import", str(log), "--kind", "answers", "--benchmark", "pope", "--names", "mine"]
    argv += ["--out", str(tmp_path / "run")]
    assert main(argv) == 1
    assert "--records" in capsys.readouterr().err
    assert main([*argv, "--records", str(pope), "--images", str(photos[0].parent)]) == 0
    run = open_answers(tmp_path / "run")
    found = list(run.answers())
    assert [each.models[0].answer for each in found] == [said for _, _, said in ROWS]
    assert [each.models[0].read for each in found] == ["yes", "no", "yes"]
    assert [run.image_file(each) for each in found] == [photos[0]] * 3
