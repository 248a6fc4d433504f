"""The photo pair's training, on a folder of made-up photographs and a few steps."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from emma_viz.checkpoints.save import save_vision_encoder
from emma_viz.data.photos import PHOTO_CATEGORIES
from emma_viz.errors import TrainingError
from emma_viz.models.backbones import PHOTO_VOCABULARY, lite0_256
from emma_viz.models.towers.vision import VisionEncoder
from tests.photographs import made_photographs
from training.loop.config import Phase
from training.photos.fitting import Fitted
from training.photos.recipe import photo_recipe, photo_tokenizer
from training.photos.work import PhotoWork
from training.pocket.joint import read_scores


@pytest.fixture
def work(tmp_path):
    """A work folder whose encoder is there already, with random weights."""
    photos = made_photographs(tmp_path / "photographs", each=4)
    recipe = photo_recipe()
    joint = replace(
        recipe.joint,
        scenes=4,
        phases=(Phase(steps=2, batch=2, pooled=True), Phase(steps=1, batch=2)),
        score_every=2,
        scored_scenes=2,
        optimisation=replace(recipe.joint.optimisation, steps=3, save_every=2),
    )
    work = PhotoWork(tmp_path / "work", photos, recipe=replace(recipe, joint=joint))
    work.folder.mkdir()
    torch.manual_seed(0)
    save_vision_encoder(work.folder / "lite0-256px.safetensors", VisionEncoder(lite0_256()), dtype="float16")
    confused = tuple(((n + 1) % 99,) for n in range(len(PHOTO_CATEGORIES)))
    fitted = Fitted(variance=0.5, r2_all=0.8, r2_reduced=0.7, confused=confused)
    (work.folder / "encoder.json").write_text(json.dumps(asdict(fitted)))
    return work


def test_the_vocabulary_fits_its_model():
    assert photo_tokenizer().vocab_size == PHOTO_VOCABULARY


def test_an_encoder_is_asked_for(work):
    (work.folder / "encoder.json").unlink()
    with pytest.raises(TrainingError, match="--weights"):
        _ = work.tower


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
