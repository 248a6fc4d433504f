"""A tuned lens goes the way of every lens: found in a model's folder, inspected, compared, drawn."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from emma_viz.checkpoints import load_model
from emma_viz.cli.main import main
from emma_viz.heads.config import DecoderConfig, FusionConfig, MixerSize, PaperConfig
from emma_viz.lens import TunedSettings, find_lens, load_lens, save_lens
from emma_viz.lens.tuned import TunedConfig
from emma_viz.session import Asking, Running, compare, fit_tuned


@pytest.fixture(scope="module")
def models(pair, tmp_path_factory) -> list[Path]:
    """The pair with a tuned lens each, of one budget, in their folders."""
    folder, lenses = tmp_path_factory.mktemp("tuned"), []
    images = list(np.random.default_rng(1).integers(0, 256, (4, 40, 50, 3), dtype=np.uint8))
    mixer = MixerSize(ssm="mamba1", d_state=4)
    for source in (pair.cobra, pair.emma):
        shutil.copytree(source, folder / source.name)
        model = load_model(folder / source.name, vision_source=str(pair.vision))
        width, patch, n_layers = model.info.d_model, model.transform.patch, model.info.n_layer + 1
        head = PaperConfig(
            fusion=FusionConfig(width=width, n_taps=1, n_blocks=1, n_heads=2, mixer=mixer),
            decoder=DecoderConfig(width=width, patch=patch, n_layers=1, mixer=mixer),
        )
        lens = fit_tuned(
            model, images[:3], heldout=images[3:], fitted_on="3 images of noise",
            config=TunedConfig(n_layers=n_layers, head=head, rank=2),
            settings=TunedSettings(steps=2, batch=2, layers_per_step=2, calibration=2),
        )  # fmt: skip
        save_lens(lens, folder / source.name / "tuned.lens")
        lenses.append(lens)
    assert lenses[0].info.notes == lenses[1].info.notes, "the same budget reads the same"
    return [folder / "cobra", folder / "emma"]


def test_a_model_finds_its_tuned_lens(models, pair):
    model = load_model(models[1], vision_source=str(pair.vision))
    lens = load_lens(model, "tuned")
    assert lens.info.kind == "tuned"
    assert find_lens(model, "tuned") == models[1] / "tuned.lens"


def test_two_models_are_compared_by_kind(models, pair, photos):
    comparison = compare(
        photos[:1],
        [str(model) for model in models],
        lenses=["tuned"],
        asking=Asking(max_new_tokens=2),
        running=Running(vision_source=str(pair.vision)),
    )
    for decoding in comparison.decodings:
        assert decoding.lens.kind == "tuned"
        assert decoding.layers == (-1, 0, 1, 2)
        assert not decoding.forced
    case = comparison.spec().images[0]
    assert all("tuned lens (paper form), resid_post, held-out R²" in model.lens for model in case.models)
    assert [layer for layer, _ in case.models[0].retention] == [-1, 0, 1, 2]
    # What both lenses say of themselves is printed once, for both.
    budget, sizes, mixing = comparison.spec().notes
    assert budget.startswith("cobra, emma: 2 steps of 2 images × 2 layers")
    assert sizes.startswith("cobra, emma: translators of rank 2")
    assert (
        mixing == "cobra, emma: the decoder mixes tokens: a patch may be painted from its neighbours' states"
    )


def test_inspect_shows_it(models, capsys):
    assert main(["inspect", str(models[0])]) == 0
    assert "tuned lens (paper form), resid_post" in capsys.readouterr().out
