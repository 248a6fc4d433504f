"""What a drawn figure shows: its panels, words, colour scales and geometry."""

import dataclasses
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import matplotlib
import numpy as np
import pytest
from matplotlib.patches import Rectangle

from emma_viz.render import draw, page
from emma_viz.render.colours import MODELS, colour_table, paint
from emma_viz.render.footer import UNIFORM, provenance
from emma_viz.render.overlay import to_bytes
from emma_viz.render.spans import GridSpans
from emma_viz.render.spec import FigureSpec, difference_limits
from tests.render.conftest import TILES

NAIVE = (0.0, 0.0, 1.0, 1.0)
CROP = (0.125, 0.0, 0.875, 1.0)
LETTERBOX = (0.0, -0.25, 1.0, 1.25)
SHORT_OF_PATCHES = (0.0, 0.0, 378 / 384, 378 / 384)


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def words(figure) -> str:
    """All that is written, lines joined as they were before they were wrapped."""
    return " ".join(texts(figure))


def labels(figure, start: str) -> list[str]:
    return [axes.get_label() for axes in figure.axes if axes.get_label().startswith(start)]


def panels(figure, start: str):
    return [axes for axes in figure.axes if axes.get_label().startswith(start)]


def picture(axes):
    (image,) = axes.get_images()
    return image


def check_table(figure, start: str, name: str) -> None:
    """Every patch of these panels has a colour of this table."""
    known = {tuple(entry) for entry in colour_table(name).tolist()}
    for axes in panels(figure, start):
        assert {tuple(pixel) for pixel in picture(axes).get_array()[..., :3].reshape(-1, 3).tolist()} <= known


def rendered(figure) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3]


def pixel_at(figure, pixels: np.ndarray, axes, x: float, y: float) -> np.ndarray:
    """The colour that is drawn at a point of an axes' data."""
    column, row = axes.transData.transform((x, y))
    return pixels[int(pixels.shape[0] - row), int(column)]


def test_every_panel_is_there(make):
    figure = draw(make.spec(layers=(-1, 4, 8)))
    tails = [
        f"coffee.png/{name}/{layer}" for name in ("cobra-pocket", "emma-v1-pocket") for layer in (-1, 4, 8)
    ]
    for kind in ("decoded", "map", "highlight"):
        assert labels(figure, f"{kind}/") == [f"{kind}/{tail}" for tail in tails]
    for kind in ("input", "true map", "retention", "colour bar"):
        assert len(labels(figure, kind)) == 1


def test_the_words_of_a_figure(make):
    case = make.case(layers=(-1, 4, 8), truth="a cup of coffee")
    said = words(draw(FigureSpec(images=(case,), notes=("drawn for a test",))))
    for expected in (
        "coffee.png",
        "“Describe the image in detail.”",
        "“A white cup on a table.”",
        "“A cup of coffee with a spoon.”",
        "Truth: a cup of coffee",
        "embedding",
        "layer 4",
        "layer 8",
        "input",
        "map of true pixels",
        "R² of the decoded pixels",
        "distance to the median patch",
        "Hook site: resid_post",
        "ridge, held-out R² of cobra-pocket 0.17 to 0.26",
        "one colour scale for all models and layers",
        "main@1a2b3c4",
        f"coffee.png sha256 {case.image_hash[:16]}",
        "Note: drawn for a test",
    ):
        assert expected in said
    assert "layer -1" not in said
    assert "forced" not in said
    assert "own scale" not in said


def test_a_scale_of_several_images_is_one_of_each(make):
    one = make.case()
    wide = tuple(
        dataclasses.replace(model, limits=np.full_like(model.limits, [0.2, 0.9])) for model in one.models
    )
    other = dataclasses.replace(one, title="other", models=wide, true_limits=(0.2, 0.9))
    (maps,) = (text for what, text in provenance(FigureSpec(images=(one, other))) if what == "Maps")
    assert "one colour scale for all models and layers of an image: " in maps


def test_hatching_is_explained_where_there_is_some(make):
    whole, part = (
        dataclasses.replace(make.case(), spans=GridSpans.even(extent, make.case().spans.grid))
        for extent in ((0.0, 0.0, 1.0, 1.0), (0.1, 0.0, 0.9, 1.0))
    )
    assert "hatched" not in dict(provenance(FigureSpec(images=(whole,))))["Maps"]
    assert dict(provenance(FigureSpec(images=(whole, part))))["Maps"].endswith("; hatched: no patch sees it")


def test_each_map_has_its_correlation_below(make):
    spec = make.spec()
    models = list(spec.images[0].models)
    models[0] = dataclasses.replace(models[0], correlation=np.array([0.684, -0.5, np.nan], dtype=np.float32))
    figure = draw(FigureSpec(images=(dataclasses.replace(spec.images[0], models=tuple(models)),)))
    expected = ["r 0.68", "r −0.50", "r –", *(f"r {value:.2f}" for value in models[1].correlation)]
    assert [text for text in texts(figure) if text.startswith("r ")] == expected
    for axes, text in zip(panels(figure, "map/"), expected, strict=True):
        place = next(
            t for t in figure.texts if t.get_text() == text and t.get_position()[1] < axes.get_position().y0
        )
        assert place.get_position()[0] == pytest.approx(
            axes.get_position().x0 + axes.get_position().width / 2, abs=0.35
        )


@pytest.mark.parametrize("style", ["default", "paper"])
@pytest.mark.parametrize("scale", ["shared", "fixed"])
def test_a_shared_scale_is_the_same_on_every_map(make, style, scale):
    """Fails if any map is normalised by itself while the figure says that the scale is shared."""
    spec = make.spec(scale=scale, models=3, figure={"style": style})
    figure = draw(spec)
    maps = panels(figure, "map/") + panels(figure, "true map/")
    assert len(maps) == (10 if style == "default" else 9)
    # The same value is the same colour wherever it stands.
    case = spec.images[0]
    values = [each for model in case.models for each in model.maps]
    values += [case.true_map] if style == "default" else []
    for axes, each in zip(maps, values, strict=True):
        np.testing.assert_array_equal(
            picture(axes).get_array(), paint(each, case.true_limits, spec.color_table)
        )
    # The bar tells the same scale.
    (bar,) = panels(figure, "colour bar")
    assert bar.get_ylim() == pytest.approx(spec.images[0].true_limits)


def test_an_own_scale_is_said_at_each_map(make):
    figure = draw(make.spec(scale="per_map"))
    assert sum(text.startswith("own scale ") for text in texts(figure)) == 6
    assert "colours cannot be compared between maps" in words(figure)
    assert not panels(figure, "colour bar")
    for axes in panels(figure, "map/"):
        shown = picture(axes).get_array()[..., :3].reshape(-1, 3)
        assert (shown == colour_table("viridis")[255]).all(axis=1).any(), (
            "each map reaches the top of its own scale"
        )


def test_an_own_scale_is_said_in_narrow_panels_too(make):
    figure = draw(make.spec(scale="per_map", layers=(-1, 0, 1, 2, 3, 4, 6, 8), figure={"style": "paper"}))
    assert sum(text.startswith("own ") for text in texts(figure)) == 16


def test_a_scale_per_row_has_a_bar_per_model(make):
    figure = draw(make.spec(scale="per_row"))
    assert len(panels(figure, "colour bar")) == 2
    assert "colours cannot be compared between models" in words(figure)


def test_the_papers_layout(make):
    spec = make.spec(figure={"style": "paper", "map_kind": "magnitude"}, layers=(0, 2, 4, 6))
    figure = draw(spec)
    assert not labels(figure, "decoded/")
    assert not labels(figure, "retention")
    assert len(labels(figure, "map/")) == len(labels(figure, "highlight/")) == 8
    assert texts(figure).count("magnitude") == 2
    check_table(figure, "map/", "jet")
    assert "“A white cup on a table.”" in words(figure)
    assert "held-out R²" in words(figure)


@pytest.mark.parametrize("name", ["cividis", "RdBu"])
def test_colormaps(make, name):
    figure = draw(make.spec(figure={"colormap": name}, models=1))
    check_table(figure, "map/", name)


@pytest.mark.parametrize("extent", [NAIVE, CROP, LETTERBOX, SHORT_OF_PATCHES])
def test_each_patch_is_drawn_where_it_belongs(make, extent):
    """Fails if the geometry is off by one patch: the centre of each patch has the colour of its own value."""
    spec = make.spec(extent=extent, models=1)
    figure = draw(spec)
    figure.set_dpi(200)
    pixels = rendered(figure)
    case, model = spec.images[0], spec.images[0].models[0]
    axes = panels(figure, "map/")[1]
    left, top, right, bottom = extent
    rows, columns = model.maps.shape[1:]
    checked = 0
    for row in range(rows):
        for column in range(columns):
            x = left + (column + 0.5) / columns * (right - left)
            y = top + (row + 0.5) / rows * (bottom - top)
            if 0.02 < x < 0.98 and 0.02 < y < 0.98:
                expected = paint(model.maps[1], case.true_limits, "viridis")[row, column, :3]
                np.testing.assert_array_equal(pixel_at(figure, pixels, axes, x, y), expected)
                checked += 1
    assert checked >= rows * columns / 2


@pytest.mark.parametrize("style", ["default", "paper"])
def test_a_place_that_was_kept_is_outlined_in_every_picture(make, style):
    place = (0.25, 0.5, 0.5, 0.75)
    spec = make.spec(figure={"style": style})
    spec = dataclasses.replace(spec, images=(dataclasses.replace(spec.images[0], kept=place),))
    pictures = [axes for axes in draw(spec).axes if axes.get_images()]
    assert pictures
    for axes in pictures:
        outlines = [each for each in axes.patches if each.get_gid() == "kept"]
        assert {tuple(each.get_bbox().extents) for each in outlines} == {place}
    text = page(spec)
    assert text.count('<i class="kept" style="left:25.0000%;top:50.0000%;') == text.count('class="panel"')


def test_patches_of_tiles_are_drawn_where_they_lie(make):
    """Each is 4 of the picture's 28 pixels; the two that a tile leaves over are hatched, below the decoded one too."""
    spec = make.spec(spans=TILES, models=1)
    figure = draw(spec)
    figure.set_dpi(200)
    pixels = rendered(figure)
    case, model = spec.images[0], spec.images[0].models[0]
    expected = {
        "map/": np.kron(paint(model.maps[1], case.true_limits, "viridis")[..., :3], np.ones((4, 4, 1), int)),
        "decoded/": to_bytes(model.decoded[1]),
    }
    own = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, None, None]
    source = [*own, *(None if each is None else each + 12 for each in own)]
    for kind, colours in expected.items():
        axes = panels(figure, kind)[1]
        for y, row in enumerate(source):
            for x, column in enumerate(source):
                found = pixel_at(figure, pixels, axes, (x + 0.5) / 28, (y + 0.5) / 28)
                if row is not None and column is not None:
                    np.testing.assert_array_equal(found, colours[row, column])
        hatched = [patch for patch in axes.patches if isinstance(patch, Rectangle) and patch.get_hatch()]
        area = sum(patch.get_width() * patch.get_height() for patch in hatched)
        assert area == pytest.approx(1 - (24 / 28) ** 2)


@pytest.mark.parametrize(
    ("extent", "margins"), [(NAIVE, 0), (CROP, 2), (LETTERBOX, 0), (SHORT_OF_PATCHES, 2)]
)
def test_what_no_patch_sees_is_hatched(make, extent, margins):
    figure = draw(make.spec(extent=extent, models=1))
    for kind in ("input", "decoded/", "map/", "highlight/", "true map"):
        for axes in panels(figure, kind):
            hatched = [patch for patch in axes.patches if isinstance(patch, Rectangle) and patch.get_hatch()]
            assert len(hatched) == margins
            area = sum(patch.get_width() * patch.get_height() for patch in hatched)
            assert area == pytest.approx(
                {NAIVE: 0, CROP: 0.25, LETTERBOX: 0, SHORT_OF_PATCHES: 1 - (378 / 384) ** 2}[extent]
            )


@pytest.mark.parametrize("shape", [(40, 320), (320, 40), (60, 90), (90, 60)])
@pytest.mark.parametrize("style", ["default", "paper"])
def test_panels_keep_the_images_aspect(make, shape, style):
    image = np.zeros((*shape, 3), dtype=np.uint8)
    image[: shape[0] // 2] = 200
    figure = draw(make.spec(image=image, figure={"style": style}))
    width, height = figure.get_size_inches()
    checked = [
        axes
        for kind in ("input", "true map", "decoded", "map/", "highlight")
        for axes in panels(figure, kind)
    ]
    assert checked
    for axes in checked:
        place = axes.get_position()
        assert place.width * width / (place.height * height) == pytest.approx(shape[1] / shape[0])


def test_a_model_with_another_preprocessing_keeps_its_own_frame(make):
    case = make.case()
    other = dataclasses.replace(case.models[1], spans=GridSpans.even(CROP, (6, 6)))
    figure = draw(FigureSpec(images=(dataclasses.replace(case, models=(case.models[0], other)),)))
    frames = [picture(axes).get_extent() for axes in panels(figure, "map/")]
    assert [tuple(frame) for frame in frames] == [(0, 1, 1, 0)] * 3 + [(0.125, 0.875, 1, 0)] * 3


@pytest.mark.parametrize("style", ["default", "paper"])
def test_a_uniform_image_is_named(make, style):
    case = dataclasses.replace(make.case(models=1), image=np.full((40, 60, 3), 90, np.uint8))
    plain = FigureSpec(images=(case,), style=style)
    assert UNIFORM in words(draw(plain))
    assert "The image is uniform" in page(plain)
    assert "uniform" not in words(draw(make.spec(figure={"style": style})))


def test_a_scale_without_extent_has_a_bar_of_two_colours(make):
    """Older sidecars hold such scales; matplotlib's own bar would show values around the one there is."""
    case = make.case(models=1)
    flat = dataclasses.replace(case.models[0], limits=np.full((3, 2), 2.0, np.float32))
    spec = FigureSpec(images=(dataclasses.replace(case, true_limits=(2.0, 2.0), models=(flat,)),))
    (bar,) = panels(draw(spec), "colour bar")
    assert bar.get_yticks().tolist() == [2.0]
    assert "rgb(68 1 84) 0 50%, rgb(253 231 37) 50%" in page(spec)


def test_retention_lines(make):
    spec = make.spec(models=3, layers=(0, 4, 8))
    figure = draw(spec)
    (axes,) = panels(figure, "retention")
    curves = [line for line in axes.get_lines() if len(line.get_xdata()) > 1]
    for line, model, colour in zip(curves, spec.images[0].models, MODELS, strict=False):
        np.testing.assert_array_equal(np.column_stack([line.get_xdata(), line.get_ydata()]), model.retention)
        assert line.get_color() == colour
        marked = [
            m.get_xdata()[0]
            for m in axes.get_lines()
            if len(m.get_xdata()) == 1 and m.get_markerfacecolor() == colour
        ]
        assert marked == [0, 4, 8]
        assert len([t for t in figure.texts if t.get_text() == model.name and t.get_color() == colour]) == 1
    assert len(curves) == 3


def test_retention_of_models_of_other_depths_is_by_relative_depth(make):
    case = make.case()
    deep = dataclasses.replace(case.models[1], retention=tuple((layer, 0.5) for layer in range(64)))
    figure = draw(FigureSpec(images=(dataclasses.replace(case, models=(case.models[0], deep)),)))
    (axes,) = panels(figure, "retention")
    assert {line.get_xdata()[-1] for line in axes.get_lines() if len(line.get_xdata()) > 1} == {1.0}
    assert "depth (layer / last layer)" in words(figure)


def test_retention_far_below_zero_is_drawn_at_the_edge(make):
    case = make.case(models=1)
    failed = dataclasses.replace(case.models[0], retention=((0, 0.9), (4, -40.0), (8, float("nan"))))
    figure = draw(FigureSpec(images=(dataclasses.replace(case, models=(failed,)),)))
    (axes,) = panels(figure, "retention")
    assert axes.get_ylim()[0] == -0.5
    assert [line.get_ydata()[0] for line in axes.get_lines() if line.get_markerfacecolor() == "white"] == [
        -0.5
    ]
    assert axes.get_yticklabels()[0].get_text() == "≤ −0.5"
    assert ">≤ −0.5</text>" in page(FigureSpec(images=(dataclasses.replace(case, models=(failed,)),)))


def test_no_retention_no_plot(make):
    case = make.case(models=1)
    bare = dataclasses.replace(case.models[0], retention=())
    assert not panels(draw(FigureSpec(images=(dataclasses.replace(case, models=(bare,)),))), "retention")


def test_a_forced_lens_is_warned_of(make):
    for style in ("default", "paper"):
        said = words(draw(make.spec(forced=(1,), figure={"style": style})))
        assert "lens forced on states that it does not belong to" in said
        assert "the lens of emma-v1-pocket does not belong to these states" in said


def test_values_that_are_not_finite_are_grey_and_counted(make):
    case = make.case()
    model = case.models[0]
    maps, decoded = model.maps.copy(), model.decoded.copy()
    maps[1, 2, 3] = np.nan
    decoded[1, :8, :8] = np.nan
    broken = dataclasses.replace(model, maps=maps, decoded=decoded)
    spec = FigureSpec(images=(dataclasses.replace(case, models=(broken, case.models[1])),), difference=True)
    figure = draw(spec)
    assert "1 of 108 patches that cobra-pocket holds of coffee.png are not finite" in words(figure)
    figure.set_dpi(200)
    pixels = rendered(figure)
    np.testing.assert_array_equal(
        pixel_at(figure, pixels, panels(figure, "map/")[1], 3.5 / 6, 2.5 / 6), [215] * 3
    )
    np.testing.assert_array_equal(
        pixel_at(figure, pixels, panels(figure, "decoded/")[1], 0.1, 0.1), [215] * 3
    )


def test_the_difference_of_two_models(make):
    spec = make.spec(figure={"difference": True})
    figure = draw(spec)
    first, second = spec.images[0].models
    shown = panels(figure, "difference/")
    assert len(shown) == 3
    for axes, a, b in zip(shown, first.maps, second.maps, strict=True):
        np.testing.assert_array_equal(
            picture(axes).get_array(), paint(a - b, difference_limits(spec.images[0]), "RdBu")
        )
    assert "map of cobra-pocket minus map of emma-v1-pocket" in words(figure)


def test_text_is_never_read_as_mathematics(make):
    odd = "It costs $5 and $6_{x}$ \\frac{1}{ — <b>{}%"
    figure = draw(make.spec(answers=(odd, "$", "", "")))
    rendered(figure)
    assert f"“{odd}”" in words(figure)


def test_control_characters_and_line_breaks_become_spaces(make):
    figure = draw(make.spec(answers=("A\x00 cup\n\n on\ta \ud800table.", "", "", "")))
    rendered(figure)
    assert "“A cup on a table.”" in words(figure)
    assert "(no answer)" in words(figure)


def test_a_character_that_another_font_has_is_drawn_with_it(make):
    """U+2312 is in DejaVu Sans Mono, which ships with matplotlib, and not in the first font."""
    figure = draw(make.spec(answers=("An arc \u2312 here.", "", "", "")))
    rendered(figure)
    (text,) = [each for each in figure.texts if "\u2312" in each.get_text()]
    assert text.get_fontfamily()[0] == "DejaVu Sans"
    assert len(text.get_fontfamily()) == 2
    assert "no installed font" not in words(figure)


def test_characters_that_no_font_has_are_counted(make, monkeypatch):
    monkeypatch.setattr(
        "emma_viz.render.words.lacking", lambda text, fonts: frozenset(text) & {"\u65e5", "\U0001f600"}
    )
    said = words(draw(make.spec(answers=("\u65e5\U0001f600!", "", "", ""))))
    assert "no installed font has 2 of the characters (U+65E5, U+1F600)" in said
    assert "Install a font" in said


def test_a_long_answer_is_cut(make):
    long = "The image shows a white cup. " * 60
    figure = draw(make.spec(answers=(long, "Short.", "", "")))
    lines = [text for text in texts(figure) if "white cup" in text or text.endswith("…")]
    assert any(line.endswith("…") for line in lines)
    assert figure.get_size_inches()[1] < 9.5


def test_users_settings_do_not_matter_and_stay(make):
    spec = make.spec(models=1)
    expected = rendered(draw(spec)).copy()
    with matplotlib.rc_context(
        {"font.size": 30, "text.color": "red", "image.cmap": "hot", "axes.facecolor": "red"}
    ):
        before = dict(matplotlib.rcParams)
        figure = draw(spec)
        assert dict(matplotlib.rcParams) == before
    np.testing.assert_array_equal(rendered(figure), expected)


@pytest.mark.slow
def test_drawing_in_threads(make):
    specs = [make.spec(models=1, layers=(layer,)) for layer in (0, 4, 8)]
    alone = [rendered(draw(spec)).copy() for spec in specs]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(draw, specs))
    for figure, expected in zip(together, alone, strict=True):
        np.testing.assert_array_equal(rendered(figure), expected)


def test_drawing_leaves_pyplot_and_torch_alone():
    code = (
        "import sys, emma_viz.render.figures.figure, emma_viz.render.formats\n"
        "import emma_viz.render.web.html, emma_viz.render.sidecar\n"
        "print(sorted({'matplotlib.pyplot', 'torch', 'plotly'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_is_light_until_it_draws():
    code = (
        "import sys, emma_viz.render.spec, emma_viz.render.formats\n"
        "print(sorted({'matplotlib', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
