"""A benchmark that is run: answers of every model, resumed and shared to the same bytes, judged and written."""

import json
import shutil
from pathlib import Path

import pytest

from emma_viz.cases.casebook import Casebook
from emma_viz.cases.gathering import gather_run
from emma_viz.checkpoints import load_model, save_vision_encoder
from emma_viz.cli.main import main
from emma_viz.errors import CheckpointError, InputError
from emma_viz.records.answered import open_answers
from emma_viz.session import Asking, Running
from emma_viz.session.benchmarks.run import run_benchmark
from tests.session.killed_studies import start

QUESTIONS = [
    ("coffee.png", "Is there a cup?", "yes"),
    ("coffee.png", "Is there a cat?", "no"),
    ("chelsea.png", "Is there a cat?", "yes"),
    (None, "Is a cat an animal?", "yes"),
    ("coffee.png", "What is in the cup?", "coffee"),
    ("chelsea.png", "Is there a cup?", "no"),
    (None, "Is a cup an animal?", "no"),
] + [("coffee.png", f"Are there {number} cups?", "no") for number in range(2, 14)]
"""Three parts of eight questions, where a batch is one."""


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    path = tmp_path_factory.mktemp("records") / "asked.jsonl"
    rows = [{"image": image, "question": text, "label": label} for image, text, label in QUESTIONS]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def asked(pair, photos, records):
    """Run it in a folder."""

    def run(out, **more):
        return run_benchmark(
            "plain",
            more.pop("models", [pair.cobra, pair.emma]),
            out,
            records=[records],
            images=photos[0].parent,
            running=Running(
                vision_source=str(more.pop("vision", pair.vision)), dtype=more.pop("dtype", None)
            ),
            **{"batch_size": 1, "asking": Asking(max_new_tokens=1)} | more,
        )

    return run


@pytest.fixture(scope="module")
def whole(asked, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    return asked(out)


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a run but its lock."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_every_record_has_the_answer_of_every_model(whole, photos):
    run = open_answers(whole.run.path)
    found = list(run.answers())
    assert [(each.image, each.record.question, each.record.truth) for each in found] == QUESTIONS
    assert run.about.models == ("cobra", "emma")
    for each in found:
        assert [model.name for model in each.models] == ["cobra", "emma"]
        assert all(0 <= model.p_yes <= 1 and 0 <= model.p_no <= 1 for model in each.models)
        assert run.image_file(each) == (each.image and photos[0].parent / each.image)
        assert (each.image_sha256 is None) == (each.image is None)
        for model in each.models:
            assert model.correct == (model.read == each.record.truth if model.read else False)
    assert len({model.fingerprint for each in found for model in each.models}) == 2


@pytest.mark.slow
def test_a_run_that_is_interrupted_ends_as_one_that_is_not(whole, asked, tmp_path):
    def stop_at(step):
        left = iter(range(step))

        def progress(done, total, what):
            if next(left, None) is None:
                raise KeyboardInterrupt

        return progress

    for step in (0, 9, 20):
        with pytest.raises(KeyboardInterrupt):
            asked(tmp_path / "run", progress=stop_at(step))
    asked(tmp_path / "run")
    assert content(tmp_path / "run") == content(whole.run.path)
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "parts").rglob("*.jsonl")}
    asked(tmp_path / "run", progress=stop_at(0))
    assert done == {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "parts").rglob("*.jsonl")}


@pytest.mark.slow
def test_a_run_that_is_killed_anywhere_ends_as_one_that_is_not(asked, pair, photos, records, tmp_path):
    command = {
        "name": "benchmark",
        "models": [str(pair.cobra)],
        "records": str(records),
        "images": str(photos[0].parent),
        "vision": str(pair.vision),
    }
    # As it says what is asked, and between two parts.
    steps = (8, 30)
    work = [(command, tmp_path / str(step), at) for step in steps for at in (step, None)]
    assert start(work) == ["killed", "done"] * len(steps)
    asked(tmp_path / "whole", models=[pair.cobra])
    for step in steps:
        assert content(tmp_path / str(step)) == content(tmp_path / "whole")


@pytest.mark.slow
def test_processes_of_a_launcher_share_a_run(whole, pair, photos, records, tmp_path, capsys, monkeypatch):
    argv = [
        "benchmark",
        "plain",
        "--models",
        *pair.models,
        "--vision",
        str(pair.vision),
        "--max-new-tokens",
        "1",
    ]
    argv += ["--records", str(records), "--images", str(photos[0].parent), "--batch-size", "1"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, said in ((1, "parts of 6 are still to be answered"), (0, "wrote")):
        monkeypatch.setenv("RANK", str(rank))
        assert main([*argv, "--out", str(tmp_path / "run")]) == 0
        assert said in capsys.readouterr().out
    assert content(tmp_path / "run") == content(whole.run.path)


@pytest.mark.slow
def test_a_model_that_is_asked_later_stands_beside_the_others(whole, asked, pair, tmp_path):
    asked(tmp_path / "run", models=[pair.cobra])
    assert (tmp_path / "run" / "answers.jsonl").exists()
    asked(tmp_path / "run", models=[pair.emma], shard=(2, 2))
    assert not (tmp_path / "run" / "answers.jsonl").exists()  # of the model before alone
    done = asked(tmp_path / "run", models=[pair.emma])
    assert done.run.about.models == ("cobra", "emma")
    assert (tmp_path / "run" / "answers.jsonl").read_bytes() == (
        whole.run.path / "answers.jsonl"
    ).read_bytes()


def test_a_model_that_is_not_there_is_in_no_run(whole, asked, pair, tmp_path):
    before = content(whole.run.path)
    for out in (tmp_path / "run", whole.run.path):
        with pytest.raises(CheckpointError, match="ghost"):
            asked(out, models=[pair.cobra, "ghost"])
    assert not (tmp_path / "run").exists()
    assert content(whole.run.path) == before


def test_models_whose_answers_are_still_to_be_given_are_named(asked, tmp_path):
    said = []
    assert asked(tmp_path / "run", shard=(4, 4), say=said.append) is None  # of three parts
    assert said == ["6 parts of 6 are still to be answered, by cobra, emma"]


def test_weights_of_a_model_that_has_answered_all_may_be_gone(whole, asked, tmp_path):
    shutil.copytree(whole.run.path, tmp_path / "run")
    gone = [tmp_path / "cobra", tmp_path / "emma"]
    for folder in gone:
        folder.mkdir()
    done = asked(tmp_path / "run", models=gone)
    assert content(done.run.path) == content(whole.run.path)


def test_no_shard_takes_the_answers_of_others_away(
    whole, asked, photos, records, tmp_path, capsys, monkeypatch
):
    before = content(whole.run.path)
    with pytest.raises(InputError, match="begin again with one process, or give another --out"):
        asked(whole.run.path, shard=(1, 2), overwrite=True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    argv = ["benchmark", "plain", "--records", str(records), "--images", str(photos[0].parent)]
    assert main([*argv, "--out", str(whole.run.path), "--overwrite"]) == 1
    assert "got shard 2 of 2" in capsys.readouterr().err
    assert content(whole.run.path) == before


def test_other_weights_are_no_model_that_has_answered_all(whole, asked, pair, tmp_path):
    before = content(whole.run.path)
    other = shutil.copytree(pair.emma, tmp_path / "cobra")  # under the name of the one that answered
    with pytest.raises(InputError, match=r"answers of cobra with the fingerprint .* these weights have"):
        asked(whole.run.path, models=[other])
    with pytest.raises(InputError, match=r"\(float32\), and these weights have .* \(bfloat16\)"):
        asked(whole.run.path, models=[pair.cobra], dtype="bfloat16")
    assert content(whole.run.path) == before


@pytest.fixture(scope="module")
def other_encoder(pair, tmp_path_factory):
    vision = load_model(pair.cobra, vision_source=str(pair.vision)).vlm.vision
    next(iter(vision.parameters())).data += 1
    return save_vision_encoder(tmp_path_factory.mktemp("other") / "other.safetensors", vision)


def test_a_model_goes_on_with_the_encoder_that_began(asked, pair, other_encoder, tmp_path):
    assert asked(tmp_path / "run", models=[pair.cobra], shard=(1, 2)) is None
    before = content(tmp_path / "run")
    with pytest.raises(InputError, match="answers of cobra with another image encoder"):
        asked(tmp_path / "run", models=[pair.cobra], vision=other_encoder)
    assert content(tmp_path / "run") == before
    assert asked(tmp_path / "run", models=[pair.cobra]) is not None


def test_another_encoder_is_not_the_model_that_has_answered_all(whole, asked, pair, other_encoder, tmp_path):
    before = content(whole.run.path)
    with pytest.raises(
        InputError, match=r"answers of cobra with another image encoder\. Give the same --vision"
    ):
        asked(whole.run.path, vision=other_encoder)
    words = shutil.copytree(pair.cobra, tmp_path / "cobra") / "tokenizer.json"
    found = json.loads(words.read_text())
    found["added_tokens"][-1]["content"] += "x"
    words.write_text(json.dumps(found))
    with pytest.raises(InputError, match="answers of cobra with another tokenizer"):
        asked(whole.run.path, models=[words.parent])
    with pytest.raises(CheckpointError, match="gone"):
        asked(whole.run.path, vision=tmp_path / "gone.safetensors")
    assert content(whole.run.path) == before


def test_runs_of_two_encoders_are_two_models_of_a_casebook(whole, asked, pair, other_encoder, tmp_path):
    marks = whole.run.about.beside
    assert marks.keys() == {"cobra", "emma"}
    other = asked(tmp_path / "run", models=[pair.cobra], vision=other_encoder)
    assert other.run.about.beside["cobra"] != marks["cobra"]
    with Casebook.open(tmp_path / "cases.db") as casebook:
        gather_run(casebook, whole.run.path)
        kept = {each.model: each.beside for record in casebook.records() for each in record.answers}
        assert kept == marks
        with pytest.raises(InputError, match="one model, got answers of two: image encoder and tokenizer"):
            gather_run(casebook, other.run.path)


def test_another_run_or_something_else_in_the_folder_is_refused(whole, asked, tmp_path):
    with pytest.raises(InputError, match="max new tokens"):
        asked(whole.run.path, asking=Asking(max_new_tokens=3))
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="no run of a benchmark"):
        asked(tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_rows_whose_image_lacks_are_left_out_and_named(asked, photos, pair, tmp_path):
    rows = [
        {"image": name, "question": "Is it?", "label": "no"} for name in ("gone.png", "coffee.png", "bad.png")
    ]
    (tmp_path / "bad.png").write_bytes(b"no image")
    (tmp_path / "coffee.png").write_bytes(photos[0].read_bytes())
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    said = []
    done = run_benchmark(
        "plain", [pair.cobra], tmp_path / "run", records=[tmp_path / "rows.json"], images=tmp_path,
        asking=Asking(max_new_tokens=1), running=Running(vision_source=str(pair.vision)), say=said.append,
    )  # fmt: skip
    assert done.run.about.records == 1
    assert len(said) == 2 == len(done.run.about.complaints)
    assert "line 1" in said[0]
    assert "gone.png" in said[0]
    assert "bad.png" in said[1]


def test_the_command_prints_the_tables_and_names_their_files(
    pair, photos, records, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    argv = ["benchmark", "plain", "--models", *pair.models, "--vision", str(pair.vision)]
    argv += ["--records", str(records), "--images", str(photos[0].parent), "--max-new-tokens", "2"]
    assert main([*argv, "--scorers", "pope", "cobra", "--form", "cobra"]) == 0
    printed = capsys.readouterr().out
    assert "Yes and no, as pope reads them" in printed
    assert {path.name for path in (tmp_path / "benchmark-plain").iterdir()} >= {
        *(
            "answers.jsonl",
            "run.json",
            "table.md",
            "table.csv",
            "table.json",
            "table.tex",
            "disagreements.csv",
        )
    }
    assert "wrote benchmark-plain/table.md" in printed
    first = next(open_answers(tmp_path / "benchmark-plain").answers())
    assert first.prompt == "\nIs there a cup?\nAnswer the question using a single word or phrase."
    assert main(["benchmark", "nosuch"]) == 1
    assert "choose one of pope" in capsys.readouterr().err
