"""Whose stages a training may start from, another checkout's too; nothing is written before all is looked at."""

import json
import shutil
from pathlib import Path

import pytest

from emma_viz.checkpoints import BUNDLED
from emma_viz.checkpoints.tokenizers import BUNDLED_TOKENIZER
from emma_viz.errors import TrainingError
from training.pocket.bundle import take_start
from training.pocket.bundle_reading import Bundle, bundle_tokenizer
from training.pocket.stages import Work
from training.train import main

ENCODER, TEXT = "pocket-conv-128px.safetensors", "text-pocket-mamba1.safetensors"


@pytest.fixture
def checkout(tmp_path) -> Path:
    """The package's folder in another checkout, with what a start needs."""
    package = tmp_path / "other/emma_viz"
    for name in ("cobra-pocket/config.json", ENCODER, TEXT):
        (package / "checkpoints/bundled" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(BUNDLED / name, package / "checkpoints/bundled" / name)
    (package / "data/bundled").mkdir(parents=True)
    shutil.copy(BUNDLED_TOKENIZER, package / "data/bundled")
    return package


@pytest.fixture
def new(tmp_path) -> Work:
    return Work(tmp_path / "work", "pocket")


def test_the_bundle_of_another_checkout_is_started_from(checkout, new):
    """Its tokenizer does not lie beside its members."""
    take_start(new, checkout / "checkpoints/bundled")
    assert (new.folder / "tokenizer.json").read_bytes() == BUNDLED_TOKENIZER.read_bytes()
    assert (new.folder / TEXT).read_bytes() == (BUNDLED / TEXT).read_bytes()
    assert new.has_encoder


def test_a_member_is_loaded_with_its_own_checkouts_tokenizer(checkout):
    shutil.copytree(
        BUNDLED / "cobra-pocket", checkout / "checkpoints/bundled/cobra-pocket", dirs_exist_ok=True
    )
    found = json.loads(BUNDLED_TOKENIZER.read_text())
    vocabulary = found["model"]["vocab"]
    first, second = list(vocabulary)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (checkout / "data/bundled/tokenizer.json").write_text(json.dumps(found))
    there, here = (
        Bundle(folder=folder, members=("cobra-pocket",)).load("cobra-pocket").tokenizer
        for folder in (checkout / "checkpoints/bundled", BUNDLED)
    )
    ids = sorted(vocabulary.values())[-2:]
    assert here.decode(ids) != there.decode(ids) == here.decode(ids[::-1])


def test_a_tokenizer_that_is_missing_is_named_before_anything_is_written(checkout, new, tmp_path, capsys):
    """As where the folder alone was copied."""
    alone = Path(shutil.copytree(checkout / "checkpoints/bundled", tmp_path / "copied"))
    said = rf"{alone} is no whole bundle: .* there is no {alone}/tokenizer\.json\. Name a whole bundle"
    with pytest.raises(TrainingError, match=said):
        take_start(new, alone)
    (checkout / "data/bundled/tokenizer.json").unlink()
    with pytest.raises(TrainingError, match=r"there is no .*emma_viz/data/bundled/tokenizer\.json"):
        take_start(new, checkout / "checkpoints/bundled")
    assert main(["pocket-pair", "--seed", "1", "--start", str(alone), "--work", str(new.folder)]) == 1
    assert "is no whole bundle" in capsys.readouterr().err
    assert not new.folder.exists()


def test_an_encoder_that_is_missing_is_named_before_anything_is_written(checkout, new):
    (checkout / "checkpoints/bundled" / ENCODER).unlink()
    with pytest.raises(TrainingError, match=rf"there is no .*/{ENCODER}\."):
        take_start(new, checkout / "checkpoints/bundled")
    assert not new.folder.exists()


def test_another_tokenizer_than_the_members_record_is_refused(checkout, new):
    path = bundle_tokenizer(checkout / "checkpoints/bundled")
    path.write_text(path.read_text() + " ")
    with pytest.raises(
        TrainingError, match=r"is not the tokenizer of the members .* expected the digest 941e"
    ):
        take_start(new, checkout / "checkpoints/bundled")
    assert not new.folder.exists()


@pytest.mark.parametrize("part", ["encoder", "text"])
def test_what_differs_in_the_recipe_is_named(checkout, new, part):
    def change(kept):
        kept[part]["optimisation"]["seed"] = 41

    _changed(checkout, lambda config: change(config["emma_viz"]["provenance"]))
    said = rf"The {part} stage of .* another recipe .*: optimisation\.seed: expected 0, got 41\."
    with pytest.raises(TrainingError, match=said):
        take_start(new, checkout / "checkpoints/bundled")
    assert not new.folder.exists()


def test_a_member_that_is_another_model_here_is_refused(checkout, new):
    def change(config):
        config["emma_viz"]["llm"]["n_layer"] += 1

    _changed(checkout, change)
    said = r"The language model that .* another than that of cobra-pocket .*: n_layer: expected 12, got 13\."
    with pytest.raises(TrainingError, match=said):
        take_start(new, checkout / "checkpoints/bundled")
    assert not new.folder.exists()


def _changed(checkout, change):
    path = checkout / "checkpoints/bundled/cobra-pocket/config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
