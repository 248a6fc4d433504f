"""Whether a layer's maps beat their controls: planted pictures do, planted nothings do not, old files do not know."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from emma_viz.errors import LensError
from emma_viz.lens.controls import LayerControl, against_untrained, verdicts
from emma_viz.lens.evaluation import QualityGatherer, with_quality
from emma_viz.lens.files import save_lens
from emma_viz.lens.fitting.fit import fit_ridge_on_states
from emma_viz.lens.headers import KEY, read_info
from emma_viz.lens.info import LensInfo
from emma_viz.metrics.quality import r2
from emma_viz.session.fitting import quality_table
from emma_viz.session.picture import verdicts_said

WIDTH, PIXELS = 6, 12
MIXING = 0.03 * torch.randn(WIDTH, PIXELS, generator=torch.Generator().manual_seed(9))


def batches(seed, n, *, places=None):
    """Batches of two images whose pixels are in layer 1 with noise, in layer 2 not at all; every image has what
    `places` shows at its places."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n):
        states = torch.randn(2, 2, 9, WIDTH, generator=generator)
        pixels = 0.5 + states[0] @ MIXING + (0 if places is None else places)
        yield states, pixels.reshape(2, 9, 2, 2, 3)


@pytest.fixture
def lens(make_model):
    return fit_ridge_on_states(
        batches(0, 20), batches(1, 8), model=make_model(), site="resid_post", layers=(1, 2), fitted_on="noise"
    )


def test_a_planted_picture_beats_its_control_and_a_planted_nothing_does_not(lens):
    kept, lost = verdicts(lens.info.controls, lens.info.layers)
    assert kept.beats is True
    assert lost.beats is False
    assert lost.against == ("place",)
    assert "does not beat a lens that sees no state" in lost.said
    assert verdicts_said((kept, lost)).startswith("† does not beat a lens that sees no state, at layer 2;")


def test_the_control_knows_what_all_images_show_at_a_place(make_model):
    places = torch.randn(9, PIXELS, generator=torch.Generator().manual_seed(4))
    model = make_model()
    given = {"model": model, "site": "resid_post", "layers": (1, 2), "fitted_on": "noise"}
    lens = fit_ridge_on_states(batches(0, 20, places=places), batches(1, 8, places=places), **given)
    control = lens.info.controls[0]
    pixels = np.concatenate([each.numpy() for _, each in batches(1, 8, places=places)])
    assert control.r2 == pytest.approx(
        r2(np.broadcast_to(pixels.mean(axis=0), pixels.shape), pixels), abs=1e-3
    )
    assert control.r2 > 0.9, "all images look alike at a place"
    assert [each.beats for each in verdicts(lens.info.controls, (1, 2))] == [False, False]


def test_batches_do_not_matter_and_one_image_has_no_control():
    draw = np.random.default_rng(0)
    true = draw.random((5, 9, 4, 4, 3)).astype(np.float32)
    decoded = true + 0.1 * draw.normal(size=true.shape)
    whole, parts, one = (QualityGatherer((0,), (3, 3)) for _ in range(3))
    for gatherer, cuts in ((whole, [slice(0, 5)]), (parts, [slice(0, 2), slice(2, 5)]), (one, [slice(0, 1)])):
        for cut in cuts:
            gatherer.add_true(true[cut])
            gatherer.add_layer(0, decoded[cut], true[cut])
    assert whole.controls() == parts.controls()
    assert one.controls() == ()
    assert verdicts(one.controls(), (0,))[0].beats is None


def test_what_fitting_again_does_not_mend_is_said(make_model, make_decoding):
    def measured(heldout, **model):
        return fit_ridge_on_states(
            batches(0, 20),
            heldout,
            model=make_model(**model),
            site="resid_post",
            layers=(1, 2),
            fitted_on="noise",
        ).info

    ((states, pixels),) = batches(1, 1)
    one = measured([(states[:, :1], pixels[:1])])
    shapes = measured([(states, pixels), (states[:, :, :6], pixels[:, :6])], grid=None)
    for info, why in ((one, "fewer than two images"), (shapes, "grids of several shapes")):
        drawn, printed = make_decoding(lens=info, layers=(1, 2)).verdicts[0].said, quality_table(info)
        assert why in drawn
        assert printed.count(why) == 2
        assert "again" not in drawn + printed


def test_holm_counts_the_layers():
    def record(layer, p, low=0.1):
        return LayerControl(layer=layer, name="place", r2=0.0, gap=0.5, low=low, high=0.9, p=p)

    alone, *_ = verdicts([record(0, 0.03)], (0,))
    assert alone.beats is True
    among = verdicts([record(layer, 0.03) for layer in range(3)], (0, 2))
    assert [each.beats for each in among] == [False, False]
    assert verdicts([record(0, 0.0, low=math.nan)], (0,))[0].beats is False, (
        "a gap that is not defined is no gap"
    )


def test_a_native_or_forced_decoding_says_what_is_known(make_decoding, make_info, lens):
    decoding = make_decoding(batch=3)
    assert [each.beats for each in decoding.verdicts] == [None, None]
    assert "fit it again (emma-viz fit)" in decoding.verdicts[0].said
    info = make_info(controls=(replace(lens.info.controls[0], layer=0),))
    known = make_decoding(batch=3, lens=info)
    assert [each.beats for each in known.verdicts] == [True, None]
    forced = replace(known, forced_reasons=("another model",))
    assert [each.beats for each in forced.verdicts] == [None, None]
    assert "forced" in forced.verdicts[0].said


def test_files_of_before_are_read_and_say_that_they_do_not_know(lens, tmp_path):
    path = save_lens(lens, tmp_path / "new.lens")
    assert read_info(path).controls == lens.info.controls
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()[KEY])
    header["schema"] = 1
    del header["info"]["controls"]
    save_file(load_file(path), tmp_path / "old.lens", metadata={KEY: json.dumps(header)})
    old = read_info(tmp_path / "old.lens")
    assert old.controls == ()
    assert [each.r2 for each in old.quality] == [each.r2 for each in lens.info.quality]


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.update(p=1.5),
        lambda record: record.update(name="hope"),
        lambda record: record.update(r2="good"),
        lambda record: record.update(layer=5000),
        lambda record: record.pop("low"),
        lambda record: record.update(more=1),
    ],
)
def test_a_control_that_makes_no_sense_is_refused(lens, change):
    value = json.loads(json.dumps(lens.info.to_json(), allow_nan=False))
    change(value["controls"][0])
    with pytest.raises(LensError, match="the description of a lens"):
        LensInfo.from_json(value)


def test_more_controls_than_a_lens_can_have_are_refused(lens):
    value = lens.info.to_json()
    with pytest.raises(LensError, match="the description of a lens"):
        LensInfo.from_json(value | {"controls": value["controls"] * 5000})


def test_numbers_that_json_lacks_come_back(make_info):
    record = LayerControl(layer=0, name="place", r2=math.nan, gap=math.nan, low=-math.inf, high=1.0, p=1.0)
    info = make_info(controls=(record,))
    back = LensInfo.from_json(json.loads(json.dumps(info.to_json(), allow_nan=False)))
    assert math.isnan(back.controls[0].r2)
    assert back.controls[0].low == -math.inf


def test_a_measured_lens_has_controls(lens, make_decoding, make_info):
    named = replace(lens, info=make_info(layers=(0, 2)))
    decoding = make_decoding(lambda layer, patches: patches if layer == 0 else 1 - patches, batch=6)
    measured = with_quality(named, [decoding])
    assert [each.layer for each in measured.info.controls] == [0, 2]
    assert [each.beats for each in verdicts(measured.info.controls, (0, 2))] == [True, False]


def test_a_lens_must_stand_out_of_the_spread_between_untrained_models():
    drawn = (0.72, 0.64, 0.71, 0.70, 0.68)
    far, within = against_untrained(0, 0.95, drawn), against_untrained(1, 0.73, drawn)
    assert far.r2 == pytest.approx(0.69)
    assert far.low > 0 > within.low
    both = verdicts((far, within), (0, 1))
    assert [each.beats for each in both] == [True, False]
    assert both[1].against == ("untrained",)
    assert against_untrained(0, 0.5, (0.5, 0.5, 0.5)).p == 1.0
    with pytest.raises(LensError, match="at least 3"):
        against_untrained(0, 0.9, (0.5, 0.6))
