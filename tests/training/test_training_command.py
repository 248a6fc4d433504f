import json

import numpy as np
import pytest

from emma_viz.capture import record
from emma_viz.checkpoints import load_model
from emma_viz.data.tabletop import DESCRIBE, draw_scene, make_scene
from emma_viz.lens import decode, load_lens
from training.bundle import bundle_family
from training.train import main


def test_the_tiny_recipe_runs_and_its_loss_falls(work):
    lines = [json.loads(line) for line in (work.folder / "joint/tiny/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(60))

    def mean(name, part):
        return sum(line[name] for line in part) / len(part)

    assert mean("text", lines[-10:]) < 0.7 * mean("text", lines[:10])
    assert mean("pixels", lines[-10:]) < mean("pixels", lines[:10])


def test_a_finished_member_is_read_and_not_trained_again(work):
    before = (work.folder / "tiny.safetensors").stat().st_mtime_ns
    task = work.joint("tiny", progress=False)
    assert (work.folder / "tiny.safetensors").stat().st_mtime_ns == before
    assert not task.training
    text = f"text-{work.config.llm_backbone_id}"
    assert {"encoder", text, "tiny"} <= work.minutes().keys()


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
    assert kept["joint"]["optimisation"]["steps"] == 60
    assert kept["seed"] == kept["joint"]["optimisation"]["seed"] == 0
    assert kept["data"]["digest"] == work.scenes("train", 64).digest
    assert {"commit", "tokenizer", "minutes", "text", "encoder", "torch"} <= kept.keys()
    assert kept["trained_at"] == dict.fromkeys(("encoder", "text", "joint"), kept["commit"])


def test_an_unknown_recipe_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["joint", "--recipe", "cobra-9b"])
    assert "cobra-pocket" in capsys.readouterr().err


def test_another_seed_does_not_go_into_the_package(capsys, tmp_path):
    assert main(["pocket-pair", "--seed", "1", "--work", str(tmp_path)]) == 1
    assert "--bundle" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
