import json

import numpy as np
import pytest

from emma_viz.capture import record
from emma_viz.checkpoints import load_model
from emma_viz.data.tabletop import DESCRIBE, draw_scene, make_scene
from emma_viz.lens import decode, load_lens
from training.bundle import bundle_family
from training.report import BEGIN, END, tables, write_into
from training.stages import Work
from training.train import main


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    assert main(["joint", "--recipe", "tiny", "--work", str(folder)]) == 0
    return Work(folder, "tiny")


def test_the_tiny_recipe_runs_and_its_loss_falls(work):
    lines = [json.loads(line) for line in (work.folder / "joint/tiny/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(30))

    def mean(name, part):
        return sum(line[name] for line in part) / len(part)

    assert mean("text", lines[-10:]) < 0.7 * mean("text", lines[:10])
    assert mean("pixels", lines[-10:]) < mean("pixels", lines[:10])


def test_a_finished_member_is_read_and_not_trained_again(work):
    before = (work.folder / "tiny.safetensors").stat().st_mtime_ns
    task = work.joint("tiny", progress=False)
    assert (work.folder / "tiny.safetensors").stat().st_mtime_ns == before
    assert not task.training
    assert work.minutes().keys() == {"encoder", "text", "tiny"}


def test_the_bundle_loads_answers_and_decodes(work, tmp_path):
    bundle_family(work, ("tiny",), tmp_path, command="a test")
    model = load_model(
        tmp_path / "tiny",
        vision_source=tmp_path / "pocket-conv-128px.safetensors",
        tokenizer_source=tmp_path / "tokenizer.json",
    )
    image = draw_scene(make_scene("test", 0)).image
    trace = record(model, image, DESCRIBE, layers=[-1, 0, 3], max_new_tokens=4)
    assert len(trace.answers) == 1
    ridge = load_lens(model, "ridge")
    assert ridge.info.layers == (-1, 0, 1, 2, 3)
    assert ridge.info.n_heldout == 8
    decoding = decode(trace, ridge)
    error = np.square(decoding.patches[0] - decoding.true).mean()
    assert error < 0.5 * np.square(decoding.true - decoding.true.mean()).mean(), (
        "behind the projector the image is there"
    )
    native = load_lens(model, "native")
    assert native.tap_layers == (1, 2, 3)
    kept = json.loads((tmp_path / "tiny" / "config.json").read_text())["emma_viz"]["provenance"]
    assert kept["joint"]["optimisation"]["steps"] == 30
    assert kept["data"]["digest"] == work.scenes("train", 64).digest
    assert {"commit", "tokenizer", "minutes", "text", "encoder", "torch"} <= kept.keys()


def test_the_report_replaces_what_stands_between_its_marks(tmp_path):
    quality = [{"layer": layer, "r2": 0.5, "psnr": 20.0, "ssim": 0.5} for layer in (-1, 0)]
    results = {
        "cobra": {
            "answers": {"existence random": {"accuracy": 0.75, "questions": 4, "yes_rate": 0.5}},
            "naming": {"f1": 0.5},
            "retention": {"scenes": quality, "photos": quality},
            "captions": ["A red cup."] * 3,
            "encoder": {"scenes": 0.9, "photos": 0.8},
        }
    }
    text = tables(results)
    assert "| existence random | 4 | 0.750 (0.50) |" in text
    assert "| cobra | 0.90 / 0.80 | 0.50 / 0.50 | 0.50 / 0.50 | — |" in text
    document = tmp_path / "doc.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_into(document, text)
    assert document.read_text() == f"before\n{BEGIN}\n{text}\n{END}\nafter\n"


def test_an_unknown_recipe_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["joint", "--recipe", "cobra-9b"])
    assert "cobra-pocket" in capsys.readouterr().err
