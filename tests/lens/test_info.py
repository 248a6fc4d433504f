"""What a lens says about itself."""

import json
import math
from dataclasses import replace

import pytest
import torch

from emma_viz.data.provenance import ModelInfo
from emma_viz.errors import LensError, LensMismatchError
from emma_viz.lens.info import LayerQuality, LensInfo, require_fit
from emma_viz.lens.protocol import mismatch
from emma_viz.lens.ridge import RidgeLens


def test_a_trip_through_json_keeps_numbers_that_json_lacks(make_info):
    quality = (
        LayerQuality(layer=-1, r2=0.25, psnr=math.inf, ssim=math.nan),
        LayerQuality(layer=2, r2=-1.5, psnr=20.0, ssim=0.5),
    )
    info = make_info(layers=(-1, 2), quality=quality, form="paper", notes=("one", "two"))
    back = LensInfo.from_json(json.loads(json.dumps(info.to_json(), allow_nan=False)))
    assert math.isnan(back.quality[0].ssim)
    assert back.quality[0].psnr == math.inf
    assert back.quality[1] == quality[1]
    assert back.to_json() == info.to_json()


@pytest.mark.parametrize(
    "change", [{"layers": ()}, {"layers": (2, 0)}, {"layers": (1, 1)}, {"kind": "Magic!"}, {"kind": ""}]
)
def test_a_description_that_makes_no_sense_is_refused(make_info, change):
    with pytest.raises(LensError):
        LensInfo.from_json(make_info().to_json() | change)


def test_a_description_that_is_not_complete_is_refused(make_info):
    for broken in (
        {key: value for key, value in make_info().to_json().items() if key != "site"},
        make_info().to_json() | {"flavour": "lemon"},
        make_info().to_json() | {"quality": [{"layer": 0, "r2": "good", "psnr": 1, "ssim": 1}]},
    ):
        with pytest.raises(LensError, match="the description of a lens"):
            LensInfo.from_json(broken)


def test_states_of_another_model_or_site_do_not_fit(make_info):
    lens = RidgeLens(info=make_info(), weight=torch.zeros(2, 6, 48), bias=torch.zeros(2, 48))
    model = ModelInfo(
        name="toy", source="toy", family="cobra", fingerprint="f" * 32, dtype="float32", n_layer=3, d_model=6,
        ssm="mamba1",
    )  # fmt: skip
    fitting = {"model": model, "sites": ("mixer_out", "resid_post")}
    assert mismatch(lens, **fitting) == ()
    (reason,) = mismatch(lens, **fitting | {"model": replace(model, part="thumbnail")})
    assert reason == "it was fitted on tile tokens, the states are of thumbnail tokens"
    (reason,) = mismatch(lens, **fitting | {"model": replace(model, fingerprint="a" * 32, name="other")})
    assert "fitted on toy (ffffffffffff), the states come from other (aaaaaaaaaaaa)" in reason
    (reason,) = mismatch(lens, **fitting | {"sites": ("mixer_out",)})
    assert "reads resid_post, the states are of mixer_out" in reason
    require_fit((), force=False)
    require_fit((reason,), force=True)
    with pytest.raises(LensMismatchError, match=r"reads resid_post.*force=True"):
        require_fit((reason,), force=False)


def test_one_line_for_the_foot_of_a_picture(make_info):
    quality = tuple(
        LayerQuality(layer=layer, r2=r2, psnr=20.0, ssim=0.5) for layer, r2 in ((0, 0.876), (2, 0.5))
    )
    assert make_info().describe() == "ridge lens, resid_post, quality not measured"
    assert (
        make_info(quality=quality, n_heldout=150).describe()
        == "ridge lens, resid_post, held-out R² 0.50 to 0.88 (150 images)"
    )
    assert (
        make_info(kind="native", site="taps", form="paper")
        .describe()
        .startswith("native lens (paper form), taps")
    )


def test_quality_and_nearest_layer(make_info):
    quality = (LayerQuality(layer=2, r2=0.5, psnr=20.0, ssim=0.5),)
    info = make_info(quality=quality)
    assert info.quality_of(2) is quality[0]
    assert info.quality_of(0) is None
    assert [info.nearest_layer(layer) for layer in (-1, 0, 1, 2, 9)] == [0, 0, 0, 2, 2]
