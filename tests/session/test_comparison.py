"""The road from images and models to a figure's contents."""

from dataclasses import replace

import numpy as np
import pytest

from emma_viz.checkpoints import require_model
from emma_viz.data.images import ImageTransform
from emma_viz.errors import CheckpointError, InputError, LensError, LensMismatchError
from emma_viz.heads.config import paper_config
from emma_viz.heads.head import build_head
from emma_viz.lens import load_lens
from emma_viz.lens.native import native_lens
from emma_viz.render.overlay import highlight
from emma_viz.session import Asking, Comparison, Running, View, compare, figure, shown_layers
from tests.tiny_model import odd_photos, tiny_model, tiny_tokenizer

SHORT = Asking(max_new_tokens=3)


@pytest.fixture(scope="module")
def running(pair) -> Running:
    return Running(vision_source=str(pair.vision))


@pytest.fixture(scope="module")
def comparison(pair, photos, running) -> Comparison:
    return compare(photos, pair.models, asking=SHORT, running=running)


def test_one_decoding_per_model_of_every_layer_the_lens_knows(comparison):
    assert [decoding.model.name for decoding in comparison.decodings] == ["cobra", "emma"]
    assert comparison.decodings[0].layers == (-1, 0, 1, 2)
    assert comparison.image_names == ("coffee.png", "chelsea.png")


def test_shared_scale_is_one_for_both_models_and_all_layers_of_an_image(comparison):
    first, second = comparison.maps(View(scale="shared"))
    for image in range(2):
        assert len(np.unique(np.concatenate([first.limits[:, image], second.limits[:, image]]), axis=0)) == 1
    assert not np.array_equal(first.limits[0, 0], first.limits[0, 1])


def test_per_map_scale_differs_from_layer_to_layer(comparison):
    first, _ = comparison.maps(View(scale="per_map"))
    assert len(np.unique(first.limits[:, 0], axis=0)) == len(first.layers)


def test_fixed_scale(comparison):
    for maps in comparison.maps(View(scale="0.5:2")):
        assert np.all(maps.limits == [0.5, 2.0])


@pytest.mark.parametrize("scale", ["sharde", "1", "a:b", "1:", "2:1"])
def test_wrong_scale(comparison, scale):
    with pytest.raises(InputError, match=r"scale|limits"):
        comparison.maps(View(scale=scale))


def test_spec_carries_what_made_it(comparison):
    spec = comparison.spec(View(layers=(-1, 2)))
    case = spec.images[0]
    assert case.title == "coffee.png"
    assert case.prompt == SHORT.prompt
    for model, decoding in zip(case.models, comparison.decodings, strict=True):
        assert model.layers == (-1, 2)
        assert model.answer == decoding.answers[0]
        assert [layer for layer, _ in model.retention] == [-1, 0, 1, 2]
        assert decoding.model.fingerprint[:12] in model.revision
        assert model.lens.startswith("ridge lens, resid_post, held-out R²")
        assert model.site == "resid_post"
        assert not model.forced
        assert np.array_equal(model.decoded, decoding.decoded_images()[[0, 3], 0])


@pytest.mark.parametrize(("size", "token"), [((96, 48), (0, 2)), ((48, 96), (3, 0)), ((60, 50), (2, 1))])
def test_what_stands_out_in_the_photo_is_lit_where_it_is(pair, running, size, token):
    from PIL import Image

    (probe,) = compare([Image.new("RGB", size)], pair.models[:1], asking=SHORT, running=running).decodings
    rows, columns = probe.grid
    box = probe.geometry[0].token_boxes()[token[0] * columns + token[1]]
    left, top, right, bottom = (round(float(edge)) for edge in box)
    photo = np.zeros((size[1], size[0], 3), np.uint8)
    photo[top:bottom, left:right] = 255
    found = compare([Image.fromarray(photo)], pair.models[:1], asking=SHORT, running=running)
    case = found.spec(View(layers=(-1, 0, 1, 2))).images[0]
    assert case.true_map.shape == (rows, columns)
    bright = highlight(case.image, case.true_map, case.true_limits, case.spans)
    dark = highlight(case.image, np.zeros_like(case.true_map), case.true_limits, case.spans)
    weight = np.abs(bright.astype(float) - dark).sum(axis=2)
    y, x = (np.average(axis, weights=weight) for axis in np.indices(weight.shape))
    assert y == pytest.approx((top + bottom - 1) / 2, abs=1.5)
    assert x == pytest.approx((left + right - 1) / 2, abs=1.5)
    (model,) = case.models
    assert model.spans.equals(case.spans)
    maps = found.maps(View())[0]
    assert np.array_equal(model.maps, maps.values[:, 0])


def test_retention_is_the_r2_of_this_image(comparison):
    model = comparison.spec().images[1].models[0]
    decoding = comparison.decodings[0]
    true = decoding.true[1].astype(np.float64)
    total = np.square(true - true.mean(axis=(0, 1, 2))).sum()
    for row, (layer, value) in enumerate(model.retention):
        assert layer == decoding.layers[row]
        assert value == pytest.approx(1 - np.square(decoding.patches[row, 1] - true).sum() / total)


def test_unknown_layer_is_named(comparison):
    with pytest.raises(InputError, match=r"cobra decodes \(-1 to 2\), got 7"):
        comparison.spec(View(layers=(0, 7)))


def test_default_layers_spread_over_the_depth():
    assert shown_layers(range(-1, 64), None, "m") == (0, 16, 32, 47, 63)
    assert shown_layers((-1, 0, 1), None, "m") == (0, 1)
    assert shown_layers((-1, 0, 1), ("all",), "m") == (0, 1)
    assert shown_layers((-1, 0, 1), ("all", -1), "m") == (-1, 0, 1)
    assert shown_layers((-1, 0, 1), (1, -1, 1), "m") == (1, -1)


def test_a_lens_of_another_model_is_refused_unless_forced(pair, photos, running):
    sources, lens = [pair.cobra], [pair.lens_of_emma]
    with pytest.raises(LensMismatchError, match="force"):
        compare(photos[0], sources, lenses=lens, asking=SHORT, running=running)
    forced = compare(photos[0], sources, lenses=lens, asking=SHORT, running=running, force_lens=True)
    assert forced.spec().images[0].models[0].forced


def test_missing_lens_says_where_it_was_looked_for(pair, photos, running):
    with pytest.raises(LensError, match=r"native\.lens"):
        compare(photos[0], [pair.cobra], lenses=["native"], asking=SHORT, running=running)


def test_as_many_lenses_as_models_or_one(pair, photos):
    with pytest.raises(InputError, match="2 lenses for 1 models"):
        compare(photos[0], [pair.cobra], lenses=["ridge", "ridge"])


class RanError(Exception):
    """A model was loaded."""


@pytest.fixture
def no_model_may_run(monkeypatch):
    def refuse(*_, **__):
        raise RanError

    monkeypatch.setattr("emma_viz.session.loading.load_model", refuse)
    monkeypatch.setattr("emma_viz.session.road.record", refuse)


@pytest.mark.usefixtures("no_model_may_run")
@pytest.mark.parametrize(
    ("second", "options", "error", "says"),
    [
        ("emma", {"views": [View(layers=(0, 9))]}, InputError, r"\(-1 to 2\), got 9"),
        ("nosuch", {}, CheckpointError, "no model 'nosuch'"),
        ("emma", {"lenses": ["ridge", "nosuch.lens"]}, LensError, r"nosuch\.lens"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_the_first_model_runs(
    pair, photos, running, second, options, error, says
):
    models = [pair.cobra, pair.emma if second == "emma" else second]
    with pytest.raises(error, match=says):
        compare(photos[0], models, running=running, **options)
    with pytest.raises(RanError):
        compare(photos[0], pair.models, views=[View(layers=(0, 2), difference=True)], running=running)


@pytest.mark.usefixtures("no_model_may_run")
def test_models_that_one_figure_cannot_show_are_refused_before_they_run(pair, photos, running):
    def refused(models, says, **options):
        with pytest.raises(InputError, match=says):
            compare(photos[0], models, running=running, **options)

    difference = View(difference=True)
    refused([pair.cobra] * 9, "1 to 8 models in a figure, got 9", views=[View()])
    refused([pair.cobra], "two models for a difference", views=[View(), difference])
    pooled = tiny_model("tiny-mobilevlm-v2", tiny_tokenizer())
    refused([pair.cobra, pooled], r"cobra with 4×4 and tiny-mobilevlm-v2 with 2×2", views=[difference])
    lenses = [
        only(load_lens(folder / "ridge.lens"), layer) for layer, folder in enumerate([pair.cobra, pair.emma])
    ]
    refused(pair.models, "both show for a difference .* got 0 and 1", views=[difference], lenses=lenses)
    with pytest.raises(RanError):
        compare(photos[0], pair.models, running=running, views=[View()], lenses=lenses)


def only(lens, layer):
    """A lens of one of its layers."""
    row = slice(lens.info.layers.index(layer), lens.info.layers.index(layer) + 1)
    info = replace(lens.info, layers=(layer,), quality=(), controls=())
    return replace(lens, info=info, weight=lens.weight[row], bias=lens.bias[row])


class Shaped(ImageTransform):
    """More tokens for wide images."""

    def geometry(self, image):
        return replace(super().geometry(image), size=self.size * (1 + (image.width > image.height)))


@pytest.mark.usefixtures("no_model_may_run")
def test_images_of_several_shapes_are_refused_before_they_are_shown():
    model = tiny_model("tiny-cobra", tiny_tokenizer())
    shaped = replace(model, info=replace(model.info, grid=None), transform=Shaped(**vars(model.transform)))
    with pytest.raises(InputError, match=r"grids of several shapes, \(8, 8\) and \(4, 4\)"):
        compare(odd_photos(), [shaped])


@pytest.mark.usefixtures("no_model_may_run")
def test_a_site_that_a_lens_of_taps_does_not_read_is_refused_before_anything_runs(pair, photos, running):
    config, found = require_model(pair.emma, vision_source=running.vision_source)
    head = build_head(paper_config(width=config.llm.d_model, patch=config.patch, n_taps=len(config.taps) + 1))
    lens = native_lens(head, found.info, patch=config.patch, fitted_on="noise", n_fit=1)
    for force in (False, True):
        with pytest.raises(
            LensMismatchError, match=r"cannot decode resid_post in their place; leave the site"
        ):
            compare(
                photos[0], [pair.emma], lenses=[lens], site="resid_post", running=running, force_lens=force
            )


@pytest.mark.usefixtures("no_model_may_run")
def test_a_film_of_several_prompts_that_reach_the_image_is_refused_before_anything_runs(
    pair, photos, running
):
    fused = tiny_model("tiny-emma-text-fusion", tiny_tokenizer())
    several = {"prompts": ["What?", "Why?"], "film": True, "running": running}
    with pytest.raises(InputError, match=r"one prompt .* film of tiny-emma-text-fusion"):
        compare(photos[0], [fused], **several)
    with pytest.raises(RanError):
        compare(photos[0], [pair.cobra], **several)


def test_a_colormap_that_there_is_not_is_no_view():
    with pytest.raises(InputError, match="unknown colormap 'virdis'; expected one of viridis"):
        View(colormap="virdis")
    assert View(colormap="cubehelix").colormap == "cubehelix"


def test_a_lens_that_does_not_fit_is_refused_before_anything_is_recorded(pair, photos, running, monkeypatch):
    monkeypatch.setattr("emma_viz.session.road.record", lambda *_, **__: pytest.fail("recorded"))
    with pytest.raises(LensMismatchError, match="fitted on emma"):
        compare(photos[0], [pair.cobra], lenses=[pair.lens_of_emma], running=running)
    with pytest.raises(LensMismatchError, match="mixer_out"):
        compare(photos[0], [pair.cobra], site="mixer_out", running=running)


def test_models_must_have_seen_the_same_images(comparison):
    first, second = comparison.decodings
    with pytest.raises(InputError, match="same images"):
        Comparison(decodings=(first, second.select(samples=[1, 0])))


def test_figure_of_maps_is_a_matplotlib_figure(comparison, tmp_path):
    maps = comparison.decodings[0].maps()
    figure(maps, view=View(layers=(0,))).savefig(tmp_path / "figure.pdf")
    assert (tmp_path / "figure.pdf").stat().st_size > 10_000


def test_progress_tells_of_both_models(pair, photos, running):
    heard = []
    compare(photos[0], pair.models, asking=SHORT, running=running, progress=lambda *step: heard.append(step))
    whats = {what for _, _, what in heard}
    assert {"recording cobra", "recording emma"} <= whats
    assert all(0 <= done <= total for done, total, _ in heard)


def test_a_forced_figure_says_why(pair, photos, running):
    forced = compare(
        photos[0], [pair.cobra], lenses=[pair.lens_of_emma], asking=SHORT, running=running, force_lens=True
    )
    why, *notes = forced.spec().notes
    assert why.startswith("cobra: the lens was forced although it was fitted on emma")
    assert notes == [f"cobra: {note}" for note in forced.decodings[0].lens.notes]
