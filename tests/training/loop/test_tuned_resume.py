"""A tuned lens that was stopped goes on, and ends as the library's own training does."""

import pytest
import torch

from emma_viz.errors import TrainingError
from emma_viz.lens.fitting.tuned_fit import new_head, train_tuned
from emma_viz.lens.fitting.tuned_settings import TunedSettings
from emma_viz.lens.tuned import tuned_config
from emma_viz.session.options import LensRecipe
from tests.tiny_model import odd_photos, tiny_model, tiny_tokenizer
from training.loop import lens as lens_module
from training.loop.lens import LensImages, fit_file, resumable

SETTINGS = TunedSettings(steps=7, batch=3, layers_per_step=2, lr=1e-2, calibration=4)
CONFIG = tuned_config(width=16, patch=2, n_layers=3)
LAYERS = (-1, 0, 1)


class Noise:
    """States of three layers and patches of eight images; breaks off at a chosen number of reads."""

    def __init__(self, reads: int = 1000):
        generator = torch.Generator().manual_seed(0)
        self.states = torch.randn(3, 8, 4, 16, generator=generator)
        self.patches = torch.rand(8, 4, 2, 2, 3, generator=generator)
        self.left = reads

    def __len__(self) -> int:
        return 8

    def read(self, samples, layers):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return self.states[[layer + 1 for layer in layers]][:, list(samples)], self.patches[list(samples)]


def test_stopped_and_resumed_it_equals_the_training_of_the_library(tmp_path, monkeypatch):
    monkeypatch.setattr(lens_module, "_SAVE_EVERY", 2)
    plain = new_head(CONFIG, SETTINGS)
    train_tuned(plain, Noise(), LAYERS, SETTINGS)
    start = new_head(CONFIG, SETTINGS)
    trainer = resumable(tmp_path, title="x", identity={"model": "a"}, progress=False)
    with pytest.raises(KeyboardInterrupt):
        trainer(new_head(CONFIG, SETTINGS), Noise(reads=7), LAYERS, SETTINGS)
    assert [path.name for path in sorted(tmp_path.glob("step-*"))] == ["step-000002.pt", "step-000004.pt"]
    resumed, source = new_head(CONFIG, SETTINGS), Noise()
    trainer(resumed, source, LAYERS, SETTINGS)
    assert source.left == 1000 - 3
    for (name, mine), other in zip(resumed.state_dict().items(), plain.state_dict().values(), strict=True):
        assert torch.equal(mine, other), name
    assert not torch.equal(plain.mean, start.mean)


def test_checkpoints_of_another_model_are_refused(tmp_path):
    resumable(tmp_path, title="x", identity={"model": "a"}, progress=False)(
        new_head(CONFIG, SETTINGS), Noise(), LAYERS, SETTINGS
    )
    other = resumable(tmp_path, title="x", identity={"model": "b"}, progress=False)
    with pytest.raises(TrainingError, match="another"):
        other(new_head(CONFIG, SETTINGS), Noise(), LAYERS, SETTINGS)


def test_a_lens_of_chosen_sizes_decodes_what_a_pooled_token_stands_for(tmp_path):
    """Its tokens are of two by two patches each."""
    model, photos = tiny_model("tiny-mobilevlm-v2", tiny_tokenizer()), odd_photos()
    shown = LensImages(fit=photos[:2], held_out=photos[2:], names=("a", "b", "c"), said="noise")
    recipe = LensRecipe(kind="tuned", fit=2, held_out=1, steps=1, layers=(0,), rank=2, decoder_layers=1)
    lens = fit_file(model, recipe, shown, tmp_path / "tuned.lens", progress=False)
    assert lens.info.patch == 2 * model.config.vision.patch
