"""Training a tuned lens: what it learns, the budget, and where the states come from."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from emma_viz.capture import record
from emma_viz.checkpoints import LoadedModel
from emma_viz.data.tokenizer import train_tokenizer
from emma_viz.errors import InputError, LensError
from emma_viz.heads.config import DecoderConfig, FusionConfig, MixerSize, PaperConfig
from emma_viz.lens.fitting.states import StateSource, TraceStates, in_batches
from emma_viz.lens.fitting.tuned_fit import fit_tuned_on_states, new_head, parameter_groups, train_tuned
from emma_viz.lens.fitting.tuned_settings import TunedSettings, groups_of_step
from emma_viz.lens.tuned import TunedConfig
from emma_viz.models import PRESETS, VLM
from emma_viz.session import fit_tuned
from emma_viz.session.fitting import AskedStates
from emma_viz.study import open_study

WIDTH, PATCH, PIXELS, LAYERS = 8, 2, 12, (1, 3)
MIXER = MixerSize(ssm="mamba1", d_state=4)


def small(width: int = WIDTH, patch: int = PATCH, n_layers: int = 2) -> TunedConfig:
    """Without norms, which at width 8 take a good part of what a token holds."""
    head = PaperConfig(
        fusion=FusionConfig(width=width, n_taps=1, n_blocks=1, n_heads=2, mixer=MIXER, norms=False),
        decoder=DecoderConfig(width=width, patch=patch, n_layers=1, mixer=MIXER, norms=False),
    )
    return TunedConfig(n_layers=n_layers, head=head)


class Written:
    """Images on a 3×3 grid whose pixels are in layer 1, far from the origin, and in layer 3 not at all."""

    def __init__(self, seed: int, n: int):
        generator = torch.Generator().manual_seed(seed)
        mixing = 0.05 * torch.randn(WIDTH, PIXELS, generator=torch.Generator().manual_seed(9))
        self.states = torch.randn(2, n, 9, WIDTH, generator=generator)
        self.patches = (0.5 + self.states[0] @ mixing).reshape(n, 9, PATCH, PATCH, 3)
        self.states[0] = 40 * self.states[0] + 100
        self.calls: list[tuple[list[int], list[int]]] = []

    def __len__(self) -> int:
        return self.states.shape[1]

    def read(self, samples, layers):
        self.calls.append((list(samples), list(layers)))
        rows = [LAYERS.index(layer) for layer in layers]
        return self.states[rows][:, list(samples)], self.patches[list(samples)]


def fit(model, source, **changes):
    given = {"model": model, "site": "resid_post", "layers": LAYERS, "fitted_on": "noise", "config": small()}
    settings = TunedSettings(steps=60, batch=16, layers_per_step=2, lr=3e-2, calibration=16)
    return fit_tuned_on_states(source, Written(1, 12), **given | {"settings": settings} | changes)


@pytest.fixture(scope="module")
def trained():
    """(lens, what was read, losses) of one short training."""
    from emma_viz.data.provenance import ModelInfo

    model = ModelInfo(
        name="toy", source="toy", family="cobra", fingerprint="f" * 32, dtype="float32", n_layer=4, d_model=WIDTH,
        ssm="mamba1", grid=(3, 3), taps=(),
    )  # fmt: skip
    source, losses = Written(0, 64), []
    return fit(model, source, on_step=lambda step, loss: losses.append(loss)), source, losses


def test_it_reads_what_is_there_and_no_more(trained):
    lens, _, losses = trained
    kept, lost = lens.info.quality
    assert (kept.layer, lost.layer) == LAYERS
    assert kept.r2 > 0.8
    assert -0.3 < lost.r2 < 0.05, "there is nothing to learn in layer 3"
    assert len(losses) == 60
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])
    assert (lens.info.n_fit, lens.info.n_heldout) == (64, 12)
    assert not lens.head.training


def test_its_quality_is_that_of_its_decodings(trained):
    lens, _, _ = trained
    heldout = Written(1, 12)
    true = heldout.patches
    centred = true - true.mean(dim=(0, 1, 2, 3))
    for row, record_ in enumerate(lens.info.quality):
        error = lens.decode(heldout.states[row], LAYERS[row]) - true
        assert record_.r2 == pytest.approx(1 - float(error.square().sum() / centred.square().sum()), abs=1e-3)


def test_the_notes_state_the_budget(trained):
    notes = " | ".join(trained[0].info.notes)
    assert "60 steps of 16 images × 2 layers" in notes
    assert "lr 0.03, seed 0" in notes
    assert "full rank, 144 parameters" in notes
    assert "painted from its neighbours" in notes


def test_every_layer_and_image_comes_equally_often():
    source, settings = Written(0, 10), TunedSettings(steps=6, batch=5, layers_per_step=1, calibration=5)
    train_tuned(new_head(small(), settings), source, LAYERS, settings)
    steps = source.calls[1:]  # the first is the calibration
    assert Counter(layer for _, asked in steps for layer in asked) == {1: 3, 3: 3}
    assert set(Counter(sample for samples, _ in steps for sample in samples).values()) == {3}
    assert len({tuple(samples) for samples, _ in steps}) > 2


def test_the_same_seed_gives_the_same_lens_and_leaves_the_generator_alone(make_model):
    def short(seed: int):
        settings = TunedSettings(steps=4, batch=8, layers_per_step=1, seed=seed, calibration=8)
        return fit(make_model(d_model=WIDTH), Written(0, 20), settings=settings).head.state_dict()

    torch.manual_seed(99)
    before = torch.get_rng_state()
    one, again, other = short(0), short(0), short(1)
    assert torch.equal(torch.get_rng_state(), before)
    for name, values in one.items():
        assert torch.equal(values, again[name]), name
    assert not torch.equal(one["head.decoder.out.weight"], other["head.decoder.out.weight"])


def test_models_that_are_compared_start_equal_and_see_the_same():
    settings = TunedSettings(steps=50, batch=6, layers_per_step=2)
    one, other = new_head(small(), settings), new_head(small(), settings)
    for name, values in one.state_dict().items():
        assert torch.equal(values, other.state_dict()[name]), name
    plan = [(settings.samples_of(step, 20), settings.rows_of(step, 5)) for step in range(50)]
    assert plan == [(settings.samples_of(step, 20), settings.rows_of(step, 5)) for step in range(50)]


@pytest.mark.parametrize(("n", "size"), [(13, 4), (5, 8), (8, 4), (1, 1)])
def test_groups_cover_everything_once_a_round(n, size):
    n_groups = -(-n // size)
    rounds = []
    for start in (0, n_groups, 2 * n_groups):
        groups = [groups_of_step(start + step, n, size, seed=(3,)) for step in range(n_groups)]
        assert sorted(number for group in groups for number in group) == list(range(n))
        assert max(map(len, groups)) <= size
        assert max(map(len, groups)) - min(map(len, groups)) <= 1
        rounds.append([number for group in groups for number in group])
    if n > 5:
        assert rounds[0] != rounds[1], "each round has an order of its own"


def test_the_rate_warms_up_and_falls_to_nothing():
    settings = TunedSettings(steps=100, lr=0.5, warmup=0.1)
    rates = [settings.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.05)
    assert rates[9] == pytest.approx(0.5)
    assert rates[10] == pytest.approx(0.5)
    assert rates[55] == pytest.approx(0.25)
    assert 0 < rates[99] < 0.001
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_vectors_are_not_decayed():
    decayed, free = parameter_groups(new_head(small(), TunedSettings()), 0.1)
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    assert all(parameter.ndim == 1 for parameter in free["params"])
    total = sum(1 for _ in new_head(small(), TunedSettings()).parameters())
    assert len(decayed["params"]) + len(free["params"]) == total


def test_a_training_that_diverges_says_so():
    source = Written(0, 16)
    settings = TunedSettings(steps=3, batch=8, layers_per_step=2, calibration=8)
    head = new_head(small(), settings)
    source.patches[:] = float("nan")
    with pytest.raises(LensError, match="loss is nan at step 0"):
        train_tuned(head, source, LAYERS, settings)
    source.states[1, 3] = float("inf")
    with pytest.raises(LensError, match="not finite"):
        train_tuned(head, source, LAYERS, settings)


def test_settings_that_make_no_sense_are_refused(make_model):
    with pytest.raises(InputError, match="at least 1"):
        TunedSettings(steps=0)
    with pytest.raises(InputError, match="warmup"):
        TunedSettings(warmup=1.0)
    with pytest.raises(LensError, match="got 0 and 12"):
        fit(make_model(d_model=WIDTH), Written(0, 0))


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["a cup on a table"], vocab_size=258)
    config = PRESETS["tiny-cobra"]()
    vlm = VLM(replace(config, llm=replace(config.llm, vocab_size=tokenizer.vocab_size)), backend="torch")
    return LoadedModel.from_vlm(vlm.eval(), tokenizer, name="tiny")


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(0, 256, (40, 30, 3), dtype=np.uint8)) for _ in range(6)]


def test_a_lens_for_a_model_mirrors_fit_ridge(model, photos):
    settings = TunedSettings(steps=3, batch=2, layers_per_step=2, calibration=4)
    n_layers = model.info.n_layer + 1
    config = small(width=model.info.d_model, patch=model.transform.patch, n_layers=n_layers)
    steps = []
    lens = fit_tuned(
        model, photos[:4], heldout=photos[4:], fitted_on="noise", config=config, settings=settings,
        on_step=lambda step, loss: steps.append(step),
    )  # fmt: skip
    assert lens.info.layers == (-1, *range(model.info.n_layer))
    assert (lens.info.n_fit, lens.info.n_heldout) == (4, 2)
    assert len(lens.info.quality) == n_layers
    assert lens.info.model_fingerprint == model.info.fingerprint
    assert steps == [0, 1, 2]
    assert model.vlm.llm.backbone.embedding.weight.grad is None, "the model is frozen"
    with pytest.raises(LensError, match="Held-out image 0 is also image 1"):
        fit_tuned(model, photos[:2], heldout=[photos[1]], fitted_on="noise", settings=settings)


def test_without_sizes_the_papers_are_used_at_the_models_width(model, photos):
    settings = TunedSettings(steps=1, batch=1, layers_per_step=1, calibration=1)
    lens = fit_tuned(model, photos[:1], heldout=photos[1:2], fitted_on="noise", layers=[1], settings=settings)
    config = lens.head.config
    assert (config.rank, config.n_layers, config.head.width) == (None, 1, model.info.d_model)
    assert (config.head.fusion.n_blocks, config.head.decoder.n_layers) == (1, 4)


def test_states_of_a_study_are_those_recorded_anew(model, photos, tmp_path):
    study = open_study(tmp_path / "study", create=True)
    with study.writer("train") as writer:
        for some in (photos[:2], photos[2:5]):
            trace = record(model, some, ["?"] * len(some), layers=(-1, 0, 2), tokens="all", generate=False)
            writer.append_batch(trace)
    stored, live = TraceStates(list(study.traces("train"))), AskedStates(model, photos[:5])
    assert isinstance(stored, StateSource)
    assert isinstance(live, StateSource)
    assert len(stored) == len(live) == 5
    for samples, layers in (([4, 0, 2], [2, -1]), ([1], [0])):
        one, other = stored.read(samples, layers), live.read(samples, layers)
        assert one[0].shape == (len(layers), len(samples), 16, model.info.d_model)
        torch.testing.assert_close(one[0], other[0], rtol=1e-4, atol=1e-5)
        assert torch.equal(one[1], other[1])
    sizes = [len(patches) for _, patches in in_batches(stored, [0], 2)]
    assert sizes == [2, 2, 1]
    with pytest.raises(LensError, match="do not all hold them"):
        TraceStates(list(study.traces("train")), site="mixer_out")
    with pytest.raises(LensError, match="no trace was given"):
        TraceStates([])
