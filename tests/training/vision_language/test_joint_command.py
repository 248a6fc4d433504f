"""`joint` on a data set, from the command line to a model that answers and a lens that decodes."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import training.vision_language.finish
from emma_viz.capture import record
from emma_viz.checkpoints import load_model
from emma_viz.data.images import read_image
from emma_viz.lens import load_lens
from emma_viz.lens.headers import read_info
from emma_viz.maps import decode
from emma_viz.models.vlm import VLM
from emma_viz.records.tables import open_records
from tests.records.llava_set import records, talk, without
from tests.training.forked_runs import ForkedRun, start
from training.loop.provenance import commit
from training.train import main
from training.vision_language.feature_cache import FeatureCache, content_hash, feature_cache_of, fill_cache
from training.vision_language.recipe import training_recipe
from training.vision_language.run import Data, split


def joint(llava, folder, *more, recipe="tiny-emma-v1"):
    options = without(llava.options, "--vision") if "--vision" in more else llava.options
    common = ["--recipe", recipe, *options, "--work", str(folder), "--batch", "4", "--held-out", "2"]
    if "emma" not in recipe:  # without a decoder there is nothing to measure
        common = common[:-2]
    return main(["joint", *common, *more])


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(llava, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    assert joint(llava, folder, "--steps", "12", "--lr", "0.004", "--gradient-checkpointing") == 0
    return folder


@pytest.mark.slow
def test_the_run_learns_and_says_how_fast(finished):
    lines = metrics(finished)
    assert [line["step"] for line in lines] == list(range(12))
    text = [line["text"] for line in lines]
    assert np.mean(text[-4:]) < 0.9 * np.mean(text[:4])
    assert all(line["tokens/s"] > 0 and 0 <= line["waited"] <= line["seconds"] for line in lines)
    assert list((finished / "tensorboard").glob("events.*"))


def test_the_model_loads_and_answers(llava, finished):
    model = load_model(finished / "model", vision_source=str(finished / "model/encoder.safetensors"))
    image = read_image(llava.images / "0.png")
    trace = record(model, image, "What colour is it?", layers=[0, 2], max_new_tokens=3)
    assert len(trace.answers) == 1
    kept = json.loads((finished / "model/config.json").read_text())["emma_viz"]["provenance"]
    assert kept["commit"] == commit()
    assert kept["joint"]["objective"]["pixels"] == "paper"
    assert kept["joint"]["phases"] == [{"batch": 4, "steps": 12, "captions": False, "pooled": False}]
    assert kept["data"]["records"] == 16


def test_the_trained_decoder_is_a_lens_with_its_quality(llava, finished):
    model = load_model(finished / "model", vision_source=str(finished / "model/encoder.safetensors"))
    lens = load_lens(model, "native")
    assert lens.info.n_heldout == 2
    assert lens.info.n_fit == 4
    assert [each.layer for each in lens.info.quality] == [2], "the depth that was trained"
    image = read_image(llava.images / "0.png")
    trace = record(model, image, "x", sites=("mixer_out", "norm_f"), generate=False)
    assert np.isfinite(decode(trace, lens).patches).all()
    state = torch.load(finished / "step-000012.pt", weights_only=True)["module"]
    for name, value in lens.head.state_dict().items():
        assert torch.equal(value, state[f"head.{name}"]), name


def held_out_of(llava, images, folder) -> list[Path]:
    """The images that a run with `joint` keeps from training."""
    data = Data(records=llava.data, images=images, held_out=2)
    table = open_records(llava.data, images, llava.rules(), folder, broken_limit=0)
    return [images / table.read(row).image for row in split(training_recipe("tiny-emma-v1"), data, table)[0]]


@pytest.mark.parametrize("unreadable", [1, 2])
def test_held_out_images_that_cannot_be_read_cost_nothing_that_was_trained(
    llava, tmp_path, caplog, unreadable
):
    images = tmp_path / "images"
    shutil.copytree(llava.images, images)
    broken = held_out_of(llava, images, tmp_path / "table")[:unreadable]
    for path in broken:
        path.write_bytes(b"no picture")
    assert joint(llava, tmp_path / "run", "--steps", "1", "--images", str(images)) == 0
    assert f"measured on {2 - unreadable} of 2 held-out images" in caplog.text
    assert all(str(path) in caplog.text for path in broken)
    info = read_info(tmp_path / "run/model/native.lens")
    assert info.n_heldout == 2 - unreadable
    assert len(info.quality) == (unreadable < 2)


def test_a_lens_that_cannot_be_measured_is_written_all_the_same(llava, tmp_path, caplog, monkeypatch):
    encoder = tmp_path / "run/model/encoder.safetensors"
    writes = training.vision_language.finish.save_run_directory

    def lose_the_encoder(*arguments, **options):
        writes(*arguments, **options)
        encoder.unlink()

    monkeypatch.setattr(training.vision_language.finish, "save_run_directory", lose_the_encoder)
    assert joint(llava, tmp_path / "run", "--steps", "1") == 0
    assert "written and not measured" in caplog.text
    assert read_info(tmp_path / "run/model/native.lens").n_heldout == 0


def test_features_from_the_cache_are_those_of_the_encoder(llava, tmp_path, monkeypatch):
    torch.manual_seed(0)
    vlm = VLM(llava.config())
    cache = feature_cache_of(vlm, tmp_path)
    paths = sorted(llava.images.iterdir())
    assert fill_cache(cache, vlm, paths[:4], batch=3, progress=False) == 4
    assert fill_cache(cache, vlm, [*paths, tmp_path / "absent.png"], progress=False) == 2, (
        "goes on where it was"
    )
    from emma_viz.checkpoints.loaded import image_transform

    pixels = image_transform(vlm.config).pixels([read_image(path) for path in paths])
    for path, wanted in zip(paths, vlm.vision(pixels).numpy(), strict=True):
        np.testing.assert_allclose(cache.read(content_hash(path)), wanted, rtol=2e-3, atol=2e-3)
    vision = replace(
        vlm.config.vision,
        towers=tuple(
            replace(each, activation="gelu" if each.activation != "gelu" else "quick_gelu")
            for each in vlm.config.vision.towers
        ),
    )
    others = [feature_cache_of(vlm, tmp_path, autocast=torch.bfloat16)]
    vlm.config = replace(vlm.config, vision=vision)
    others.append(feature_cache_of(vlm, tmp_path))
    torch.manual_seed(1)
    others.append(feature_cache_of(VLM(llava.config()), tmp_path))
    folders = {each.folder for each in (cache, *others)}
    assert len(folders) == 4, "other numbers, activation or weights, another folder"
    assert isinstance(cache, FeatureCache)
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.slow
def test_a_run_with_cached_features_is_the_run_without(llava, tmp_path):
    options = ("--steps", "4", "--lr", "0.001")
    assert joint(llava, tmp_path / "plain", *options) == 0
    assert joint(llava, tmp_path / "cached", *options, "--feature-cache", str(tmp_path / "cache")) == 0
    plain, cached = metrics(tmp_path / "plain"), metrics(tmp_path / "cached")
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 6
    for one, other in zip(plain, cached, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=2e-3)  # features in half precision


def test_vl_mamba_is_trained_by_the_loop_connector_and_all(llava, tmp_path):
    options = ["--steps", "3", "--save-every", "1", "--precision", "fp32"]
    assert joint(llava, tmp_path, *options, recipe="tiny-vl-mamba") == 0
    assert all(np.isfinite(line["text"]) for line in metrics(tmp_path))
    before, after = (
        torch.load(tmp_path / f"step-00000{step}.pt", weights_only=True)["module"] for step in (2, 3)
    )
    connector = [name for name in after if name.startswith("vlm.projector.")]
    assert any(".mixer." in name for name in connector)
    assert not [name for name in connector if torch.equal(before[name], after[name])]
    model = load_model(tmp_path / "model", vision_source=str(tmp_path / "model/encoder.safetensors"))
    assert model.info.family == "vl-mamba"
    assert record(model, read_image(llava.images / "0.png"), "What colour is it?", max_new_tokens=2).answers


@pytest.mark.slow
def test_bf16_runs_and_learns(llava, tmp_path):
    # In a process of its own: accelerate has one precision a process.
    options = ["--recipe", "tiny-cobra", *llava.options, "--work", str(tmp_path), "--batch", "4"]
    options += ["--steps", "9", "--lr", "0.004", "--precision", "bf16"]
    assert start([ForkedRun(name="bf16", options=options)]) == ["run bf16: code 0"]
    text = [line["text"] for line in metrics(tmp_path)]
    assert np.mean(text[-3:]) < np.mean(text[:3])
    state = torch.load(tmp_path / "step-000009.pt", weights_only=True)["module"]
    assert {value.dtype for value in state.values()} == {torch.float32}
    model = load_model(tmp_path / "model", vision_source=str(tmp_path / "model/encoder.safetensors"))
    assert model.info.dtype == "bfloat16"


def test_too_many_broken_records_end_the_run_with_their_names(llava, tmp_path, capsys):
    bad = [{"id": f"bad{n}", "image": f"absent{n}.png", "conversations": talk("Q", "A.")} for n in range(3)]
    path = llava.write([*records(), *bad], "bad.json")
    arguments = [*llava.options, "--data", str(path), "--work", str(tmp_path), "--recipe", "tiny-cobra"]
    assert main(["joint", *arguments, "--steps", "1", "--broken-limit", "2"]) == 1
    message = capsys.readouterr().err
    assert "3 records that cannot be used" in message
    for number in range(3):
        assert f"absent{number}.png" in message


def test_what_is_missing_is_asked_for(llava, tmp_path, capsys):
    work = ["--work", str(tmp_path)]
    data = ["--data", str(llava.data), "--images", str(llava.images)]
    for arguments, sentence in (
        (["--recipe", "tiny-cobra", *work], "needs --data JSON and --images FOLDER"),
        (["--recipe", "tiny-cobra", *data, *work], "--llm SOURCE"),
        (["--recipe", "tiny", *data, *work], "--recipe tiny is no preset"),
        (["--recipe", "tiny-cobra", *data, *work, "--pixel-loss", "paper", "--llm", "fresh"], "has no taps"),
        (["--recipe", "tiny-cobra", *data, *work, "--ablate", "la", "--llm", "fresh"], "changes the paper's"),
    ):
        assert main(["joint", *arguments]) == 1
        assert sentence in capsys.readouterr().err


@pytest.fixture
def no_weights(monkeypatch):
    """Building a model is a failure."""

    def build(*_):
        raise AssertionError("a model was built")

    monkeypatch.setattr("training.vision_language.start.VLM", build)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            ["--llm", "mamba-2.8b-zephyr", "--recipe", "cobra-3b"],
            "config.json of xiuyul/mamba-2.8b-zephyr is not in the local cache",
        ),
        (["--llm", "mamba-2.8b-slimpj", "--recipe", "cobra-3b"], "state-spaces/mamba-2.8b-slimpj"),
        (["--llm", "mamba-2.7b-v2", "--recipe", "emma-v2-3b"], "not known where the weights"),
        (["--llm", "nonsense"], "There is no model 'nonsense'"),
        (["--llm", "cobra-pocket"], "d_model is 112, expected 32; n_layer is 12, expected 3"),
        (["--vision", "dinov2=absent"], "There is no absent for the dinov2 tower"),
        (["--vision", "absent.safetensors"], "There is no file absent.safetensors"),
        (["--vision", "dino=absent"], "names dino"),
        (["--tokenizer", "absent.json"], "absent.json"),
        (["--data", "absent.json"], "absent.json: there is no such file"),
        (["--images", "absent"], "There is no folder absent"),
        (["--feature-cache", "FILE"], "to be a folder, but it is none"),
        (["--held-out", "6"], "hold out fewer"),
        (["--pixel-loss", "released"], "SigLIP"),
    ],
)
def test_every_name_is_resolved_before_a_model_is_built(
    llava, tmp_path, capsys, no_weights, changes, sentence
):
    changes = [str(llava.data) if each == "FILE" else each for each in changes]
    if "released" in changes:
        changes += ["--recipe", "emma-v1-pocket"]
    # Accelerate has one precision a process.
    assert joint(llava, tmp_path, "--precision", "fp32", *changes) == 1
    assert sentence in capsys.readouterr().err
