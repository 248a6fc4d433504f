"""The photo pair's training, on a folder of made-up photographs and a few steps."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from emma_viz.checkpoints import BUNDLED
from emma_viz.checkpoints.save import save_vision_encoder
from emma_viz.data.photos import PHOTO_CATEGORIES
from emma_viz.errors import TrainingError
from emma_viz.models.backbones import PHOTO_VOCABULARY, lite0_256
from emma_viz.models.towers.vision import VisionEncoder
from tests.photographs import made_photographs
from training.loop.provenance import commit, read_provenance
from training.photos.__main__ import main as command
from training.photos.__main__ import retraining
from training.photos.bundle import bundle_pair, start_from_bundle
from training.photos.encoder import LICENCES
from training.photos.fitting import Fitted
from training.photos.recipe import photo_recipe, photo_tokenizer
from training.photos.work import PhotoWork
from training.pocket.bundle_reading import open_bundle
from training.pocket.scores import read_scores
from training.pocket.stages import keep
from training.results.__main__ import main
from training.results.examination import as_control
from training.results.worlds import photo_world
from training.vision_language.recipe import Phase


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A work folder whose encoder is there already, with random weights."""
    tmp_path = tmp_path_factory.mktemp("photos")
    photos = made_photographs(tmp_path / "photographs", each=2)
    recipe = photo_recipe()
    joint = replace(
        recipe.joint,
        phases=(Phase(steps=2, batch=2, pooled=True), Phase(steps=1, batch=2)),
        save_every=2,
    )
    few = replace(recipe.tuned, fit=4, held_out=2, batch_size=2, steps=2)
    small = {"scenes": 4, "score_every": 2, "scored_scenes": 2, "lens_pictures": 6, "lens_heldout": 4}
    recipe = replace(recipe, joint=joint, tuned=few, **small)
    work = PhotoWork(tmp_path / "work", photos, recipe=recipe)
    work.folder.mkdir()
    torch.manual_seed(0)
    save_vision_encoder(work.folder / "lite0-256px.safetensors", VisionEncoder(lite0_256()), dtype="float16")
    confused = tuple(((n + 1) % 99,) for n in range(len(PHOTO_CATEGORIES)))
    fitted = Fitted(variance=0.5, r2_all=0.8, r2_reduced=0.7, confused=confused)
    (work.folder / "encoder.json").write_text(json.dumps(asdict(fitted)))
    return work


def test_the_vocabulary_fits_its_model():
    assert photo_tokenizer().vocab_size == PHOTO_VOCABULARY


def test_an_encoder_is_asked_for(work, tmp_path):
    work = replace(work, folder=tmp_path / "empty")
    with pytest.raises(TrainingError, match="--weights"):
        _ = work.tower


def test_a_fitted_encoder_carries_its_data_and_licences(work, tmp_path, monkeypatch):
    kept = work.fitted
    monkeypatch.setattr("training.photos.work.fit_tower", lambda *_: kept)
    fresh = replace(work, folder=tmp_path / "fresh", weights=tmp_path / "lite0.pth")
    assert fresh.fitted == kept
    with safe_open(fresh.folder / "lite0-256px.safetensors", "pt") as file:
        about = json.loads(file.metadata()["provenance"])
    assert (about["photographs"], about["commit"]) == (work.library.digest, commit())
    assert about["licences"] == LICENCES


def test_the_encoder_that_ships_carries_its_data_and_licences():
    with safe_open(BUNDLED / "lite0-256px.safetensors", "pt") as file:
        about = json.loads(file.metadata()["provenance"])
    origin = read_provenance(BUNDLED / "cobra-photo/config.json")
    assert about["photographs"] == origin.data["digest"]
    assert about["licences"] == origin.licences


def test_a_folder_whose_encoder_was_fitted_on_other_photographs_is_refused(work, tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    found = json.loads((work.folder / "encoder.json").read_text())
    (folder / "encoder.json").write_text(json.dumps({**found, "photographs": work.library.digest}))
    # As if both members were finished.
    for member in ("cobra-photo", "emma-v1-photo"):
        (folder / f"{member}.safetensors").touch()
    assert replace(work, folder=folder).fitted == work.fitted
    before = sorted(folder.iterdir())
    other = replace(work, folder=folder, photos=made_photographs(tmp_path / "other", each=3))
    said = f"fitted on photographs with the digest {work.library.digest}.* holds those with {other.library.digest}"
    with pytest.raises(TrainingError, match=said):
        other.train("cobra-photo", progress=False)
    with pytest.raises(TrainingError, match=said):
        bundle_pair(other, ("cobra-photo", "emma-v1-photo"), tmp_path / "bundle", command="made here")
    assert sorted(folder.iterdir()) == before
    assert not (tmp_path / "bundle").exists()


def test_a_member_of_another_recipe_is_refused_before_the_other_is_trained(
    work, tmp_path, monkeypatch, capsys
):
    work = replace(work, folder=Path(shutil.copytree(work.folder, tmp_path / "work")))
    task = work.start("emma-v1-photo", seed=0)
    slower = {**work.joint_recipe("emma-v1-photo", 0).record(), "data": {}}
    keep(task, work.folder / "emma-v1-photo.safetensors", minutes=1.0, commit="c", recipe=slower)
    before = sorted(work.folder.rglob("*"))
    monkeypatch.setattr("training.photos.__main__.side_by_side", None)
    monkeypatch.setattr("training.photos.__main__.PhotoWork", lambda *_: work)
    assert command(["pair", "--photos", str(work.photos), "--work", str(work.folder)]) == 1
    assert "another recipe" in capsys.readouterr().err
    with pytest.raises(TrainingError, match="another recipe"):
        bundle_pair(work, ("cobra-photo", "emma-v1-photo"), tmp_path / "bundle", command="made here")
    assert not (tmp_path / "bundle").exists()
    assert sorted(work.folder.rglob("*")) == before


@pytest.mark.slow
def test_members_start_equal_see_the_same_and_resume(work):
    cobra, emma = (work.start(member, seed=0) for member in ("cobra-photo", "emma-v1-photo"))
    for name, tensor in cobra.vlm.state_dict().items():
        assert torch.equal(tensor, emma.vlm.state_dict()[name]), name
    assert cobra.head is None
    assert emma.head is not None
    trained = work.train("emma-v1-photo", progress=False)
    scores = read_scores(work.folder / "joint" / "emma-v1-photo")
    assert [line["step"] for line in scores] == [2, 3]
    assert {"what", "existence adversarial", "caption"} <= set(scores[0]["accuracy"])
    again = work.train("emma-v1-photo", progress=False)
    for name, tensor in trained.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    # Features do not depend on who else was asked for, nor on when.
    pictures = work.training_pictures
    apart = [pictures.features([number])[0] for number in (3, 1)]
    assert np.array_equal(pictures.features([1, 3])[::-1], np.stack(apart))


@pytest.mark.slow
def test_a_bundle_carries_its_tokenizer_and_what_made_it_and_is_measured(work, tmp_path, capsys):
    folder = bundle_pair(work, ("emma-v1-photo",), tmp_path / "bundle", command="made here")
    emma = open_bundle(folder, world="photos").load("emma-v1-photo")
    assert emma.tokenizer.vocab_size == work.tokenizer.vocab_size
    assert {path.name for path in (folder / "emma-v1-photo").glob("*.lens")} == {
        "native.lens", "ridge.lens", "tuned.lens",
    }  # fmt: skip
    origin = read_provenance(folder / "emma-v1-photo/config.json")
    assert (origin.seed, origin.command, origin.data["digest"]) == (0, "made here", work.library.digest)
    # What the members are compared with is what their training began from, to the bit.
    world = photo_world([open_bundle(folder, world="photos")], work.photos)
    before = world.untrained(open_bundle(folder, world="photos"), emma, "emma-v1-photo").state_dict()
    for name, tensor in work.start("emma-v1-photo", seed=0).vlm.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    control = as_control(emma, world.untrained(open_bundle(folder, world="photos"), emma, "emma-v1-photo"))
    (first, second), picture = (
        (each.vlm.vision for each in (emma, control)),
        np.zeros((1, 256, 256, 3), np.uint8),
    )
    seen = emma.transform.pixels([Image.fromarray(picture[0])])
    assert torch.equal(first(seen), second(seen))
    # A half of the pictures are single photographs, and nobody says what their patches are of.
    views = world.views("test", 4)
    assert [bool(each.any()) for each in views.kinds] == [False, True, False, True]

    asked = [str(folder), "--photos", str(work.photos), "--scenes", "4", "--out", str(tmp_path / "out")]
    assert main([*asked, "--json", str(tmp_path / "n.json")]) == 0
    first = (tmp_path / "out/results-photo.md").read_text()
    assert "What MFF does" not in first
    found = json.loads((tmp_path / "n.json").read_text())["members"]["emma-v1-photo"]["answers"]
    assert found["what"]["questions"] == 2
    assert found["existence random"]["questions"] == 8
    assert main([str(folder), "--scenes", "4", "--out", str(tmp_path)]) == 1
    assert "no model of the world tabletop" in capsys.readouterr().err
    other = made_photographs(tmp_path / "other", each=3)
    assert main([str(folder), "--photos", str(other), "--out", str(tmp_path)]) == 1
    assert "Name the photographs that it was trained on" in capsys.readouterr().err

    assert (
        main([str(folder), "--photos", str(work.photos), "--scenes", "4", "--keep", str(tmp_path / "k.npz")])
        == 0
    )
    # What was kept makes a page without the bundle.
    assert main([str(tmp_path / "k.npz"), "--photos", str(work.photos), "--out", str(tmp_path)]) == 0
    page = (tmp_path / "results-photo.md").read_text()
    assert page[page.index("## Retention") :] == first[first.index("## Retention") :]
    assert "| existence random, photographs | 4 |" in page

    # Another seed starts from it, in a folder of its own.
    again = replace(work, folder=tmp_path / "again")
    for _ in range(2):
        start_from_bundle(again, folder)
        assert (again.fitted, again.tokenizer.vocab_size) == (work.fitted, work.tokenizer.vocab_size)
    for name, tensor in work.tower.state_dict().items():
        assert torch.equal(tensor, again.tower.state_dict()[name]), name
    with pytest.raises(TrainingError, match="Name the photographs that it was trained on"):
        start_from_bundle(PhotoWork(tmp_path / "new", other), folder)
    (folder / "lite0-256px.safetensors").rename(tmp_path / "moved")
    with pytest.raises(TrainingError, match=r"no whole bundle: .* there is no .*/lite0-256px\.safetensors"):
        start_from_bundle(replace(work, folder=tmp_path / "new"), folder)
    save_vision_encoder(folder / "lite0-256px.safetensors", VisionEncoder(lite0_256()), dtype="float16")
    with pytest.raises(TrainingError, match="has another lite0-256px"):
        start_from_bundle(again, folder)
    assert not (tmp_path / "new").exists()


def test_a_start_needs_a_member_of_the_pair(work, tmp_path, capsys):
    asked = ["pair", "--photos", str(work.photos), "--work", str(tmp_path / "work"), "--start", str(tmp_path)]
    assert command(asked) == 1
    assert "needs a member of the photo pair (cobra-photo, emma-v1-photo)" in capsys.readouterr().err


@pytest.mark.parametrize("seed", [0, 2])
@pytest.mark.parametrize("start", [False, True])
def test_the_command_that_is_kept_trains_in_an_empty_folder(work, tmp_path, monkeypatch, capsys, seed, start):
    """It has all that an empty folder lacks, and comes to itself again."""
    monkeypatch.setattr("training.photos.__main__.side_by_side", lambda *_: None)
    monkeypatch.setattr("training.photos.__main__.start_from_bundle", lambda *_: None)
    monkeypatch.setattr(PhotoWork, "training_pictures", work.training_pictures)
    kept = []
    monkeypatch.setattr(
        "training.photos.__main__.bundle_pair", lambda *_, command, **__: kept.append(command) or tmp_path
    )
    said = retraining(seed=seed, start=start)
    places = {"DIR": str(work.photos), "BUNDLE": str(tmp_path), "FILE": str(tmp_path / "lite0.pth")}
    asked = [places.get(word, word) for word in said.removeprefix("python -m training.photos ").split()]
    assert command([*asked, "--work", str(tmp_path / "empty")]) == 0
    assert kept == [said]
    assert (("--start BUNDLE" in said), ("--weights FILE" in said)) == (start, not start)


@pytest.mark.parametrize("member", ["cobra-photo", "emma-v1-photo"])
def test_what_ships_says_the_command_that_trains_it_in_an_empty_folder(member):
    origin = read_provenance(BUNDLED / member / "config.json")
    assert origin.command == retraining(seed=0, start=False)


def test_the_pair_is_trained_side_by_side(work, tmp_path, monkeypatch, capsys):
    """Each in a process of its own, whose command line its own parser takes; then both are bundled."""
    started = []
    monkeypatch.setattr(
        "training.photos.__main__.side_by_side", lambda module, commands: started.extend(commands)
    )
    monkeypatch.setattr("training.photos.__main__.PhotoWork", lambda *_: work)
    monkeypatch.setattr("training.photos.__main__.bundle_pair", lambda *a, **_: tmp_path / "bundle")
    options = ["--photos", str(work.photos), "--work", str(tmp_path / "work"), "--seed", "2"]
    assert command(["pair", *options]) == 0
    assert "wrote" in capsys.readouterr().out
    trained = []
    monkeypatch.setattr(PhotoWork, "train", lambda _, member, *, seed: trained.append((member, seed)))
    assert [command(each) for each in started] == [0, 0]
    assert trained == [("cobra-photo", 2), ("emma-v1-photo", 2)]
