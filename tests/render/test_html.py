"""The web page: self-contained, escaped, and with the figure's content."""

import base64
import dataclasses
import hashlib
import html as stdlib_html
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from emma_viz.cells import cell_of
from emma_viz.render.colours import colour_table
from emma_viz.render.overlay import to_bytes
from emma_viz.render.sidecar import from_json, to_json
from emma_viz.render.spans import GridSpans
from emma_viz.render.spec import FigureSpec
from emma_viz.render.web.html import page
from tests.render.conftest import TILES

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'--></title></style></script>&lt;"


class Reader(HTMLParser):
    """Elements with their attributes, and the text outside scripts and styles."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    @property
    def data(self) -> dict:
        return json.loads(self.scripts[0])


def test_the_page_says_what_the_figure_says(make):
    spec = make.spec(layers=(-1, 4, 8), truth="a cup of coffee", forced=(1,))
    reader = Reader(page(spec))
    for expected in (
        "coffee.png",
        "“Describe the image in detail.”",
        "“A white cup on a table.”",
        "Truth: a cup of coffee",
        "embedding",
        "layer 8",
        "map of true pixels",
        "distance to the median patch",
        "the lens of emma-v1-pocket does not belong to these states",
        "Warning: lens forced on states that it does not belong to",
        "held-out R² of cobra-pocket 0.17 to 0.26",
        "main@1a2b3c4",
        "resid_post",
        spec.images[0].image_hash[:16],
        f"r {spec.images[0].models[0].correlation[1]:.2f}",
    ):
        assert expected in reader.text


def floats(text: str) -> np.ndarray:
    """The raw values of a map in the page's data."""
    return np.frombuffer(base64.b64decode(text), "<f4")


def test_the_maps_are_raw_values_on_the_figures_scale(make):
    spec = make.spec()
    scopes = Reader(page(spec)).data["images"][0]["scopes"]
    case = spec.images[0]
    assert len(scopes) == 3
    np.testing.assert_array_equal(floats(scopes[0]["maps"][0]["values"]), case.true_map.ravel())
    for scope, model in zip(scopes[1:], case.models, strict=True):
        for shown, values in zip(scope["maps"], model.maps, strict=True):
            np.testing.assert_array_equal(floats(shown["values"]), values.ravel())
            assert shown["limits"] == list(case.true_limits)
        assert scope["grid"] == [6, 6]
        assert scope["spans"] == case.spans.to_json()
    own = Reader(page(make.spec(scale="per_map"))).data["images"][0]["scopes"][1]["maps"]
    assert len({tuple(shown["limits"]) for shown in own}) == 3


def test_pictures_of_tiles_are_transparent_between_them(make):
    spec = make.spec(spans=TILES)
    reader = Reader(page(spec))
    assert reader.data["images"][0]["scopes"][1]["spans"] == TILES.to_json()
    shown = [attrs["src"] for tag, attrs in reader.elements if tag == "img"]
    seen = np.arange(26) % 14 < 12  # what lies behind the last patch is not the grid's
    for address, pixels in zip(shown, spec.images[0].models[0].decoded, strict=False):
        with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as picture:
            found = np.asarray(picture)
        np.testing.assert_array_equal(found[..., 3], 255 * np.logical_and.outer(seen, seen))
        np.testing.assert_array_equal(found[seen][:, seen, :3], to_bytes(pixels))


@pytest.mark.parametrize("width", [1e-3, 1e-9, 1e-12, np.finfo(float).smallest_subnormal])
def test_a_cell_far_smaller_than_the_others_makes_no_large_picture(make, width):
    across = TILES.across.copy()
    across[1, 0] = across[0, 0] + width
    spec = from_json(to_json(make.spec(spans=GridSpans(across=across, down=TILES.down))))
    shown = [attrs["src"] for tag, attrs in Reader(page(spec)).elements if tag == "img"]
    decoded = spec.images[0].models[0].decoded
    for address, pixels in zip(shown[: len(decoded)], decoded, strict=True):
        with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as picture:
            found = np.asarray(picture)
        height, side, _ = pixels.shape
        assert found.shape == (26, 4 * side, 4)
        # The other cells stay where they lie.
        seen = found[..., 3] > 0
        centres = (np.arange(4 * side) + 0.5) / (4 * side) * across[1, -1]
        cell, held = cell_of((across[0], across[1]), centres)
        np.testing.assert_array_equal(seen, np.logical_and.outer(np.arange(26) % 14 < 12, held))
        top = to_bytes(pixels)[0].reshape(6, height // 6, 3)
        assert all(colour in top[at] for colour, at in zip(found[0, held, :3], cell[held], strict=True))


def test_each_canvas_finds_its_map(make):
    spec = make.spec(images=2, figure={"difference": True})
    reader = Reader(page(spec))
    paths = [attrs["data-map"] for tag, attrs in reader.elements if tag == "canvas"]
    for path in paths:
        image, scope, layer = map(int, path.split("/"))
        assert reader.data["images"][image]["scopes"][scope]["maps"][layer]["values"]
    # Per image: the true map, a map and a highlight for 2 models x 3 layers, 3 differences.
    assert len(paths) == 2 * (1 + 12 + 3)


def test_decoded_images_are_the_specs_pixels(make):
    spec = make.spec(models=1)
    sources = [attrs["src"] for tag, attrs in Reader(page(spec)).elements if tag == "img"]
    assert len(sources) == 3
    for source, expected in zip(sources, spec.images[0].models[0].decoded, strict=True):
        image = Image.open(io.BytesIO(base64.b64decode(source.removeprefix("data:image/png;base64,"))))
        np.testing.assert_array_equal(np.asarray(image), np.round(expected * 255).astype(np.uint8))


def test_the_colour_table_is_the_figures(make):
    tables = Reader(page(make.spec(figure={"colormap": "cividis"}))).data["tables"]
    assert bytes.fromhex(tables["map"]) == colour_table("cividis").tobytes()
    assert bytes.fromhex(tables["difference"]) == colour_table("RdBu").tobytes()


def test_nothing_is_fetched_from_outside(make):
    text = page(make.spec(images=2, figure={"difference": True}))
    reader = Reader(text)
    loading = {"src", "href", "srcset", "data", "action", "poster", "xlink:href", "formaction", "background"}
    for tag, attrs in reader.elements:
        for name in loading & set(attrs):
            assert attrs[name].startswith("data:image/png;base64,"), (tag, name)
    assert not {"link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in reader.elements}
    plain = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", text)
    plain = plain.replace("http://www.w3.org/2000/svg", "")  # a name, which nothing looks up
    assert not re.search(r"(https?:)?//[a-z0-9]", plain.replace("// ", ""), re.IGNORECASE)
    assert "@import" not in plain
    assert re.findall(r"url\(([^)]*)\)", plain) == ["", ""]
    assert "default-src 'none'" in text


def test_only_the_pages_own_script_may_run(make):
    text = page(make.spec())
    reader = Reader(text)
    policy = next(
        attrs["content"]
        for tag, attrs in reader.elements
        if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    digest = base64.b64encode(hashlib.sha256(reader.scripts[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert [attrs for tag, attrs in reader.elements if tag == "script"] == [
        {"type": "application/json", "id": "data"},
        {},
    ]
    assert not [name for _, attrs in reader.elements for name in attrs if name.startswith("on")]


@pytest.mark.parametrize("style", ["default", "paper"])
def test_words_cannot_become_markup(make, style):
    """Every word that a user, a model or a file supplies."""
    clean = make.spec(figure={"style": style, "difference": True})
    case = make.case(
        names=(ATTACK, ATTACK + "2", "", ""), answers=(ATTACK,) * 4, prompt=ATTACK, title=ATTACK, truth=ATTACK
    )
    models = tuple(
        dataclasses.replace(model, lens=ATTACK, revision=ATTACK, site=ATTACK, forced=True)
        for model in case.models
    )
    case = dataclasses.replace(case, models=models, image_hash=ATTACK)
    spec = FigureSpec(images=(case,), style=style, difference=True, map_kind=ATTACK, notes=(ATTACK,))
    text = page(spec)
    reader = Reader(text)
    assert ATTACK in reader.text
    assert "<script>alert" not in text
    expected = [tag for tag, _ in Reader(page(dataclasses.replace(clean, images=clean.images))).elements]
    for tag in ("script", "style", "title", "img"):
        extra = 1 if tag == "title" else 0
        assert [t for t, _ in reader.elements].count(tag) <= expected.count(tag) + extra, tag
    assert len(reader.scripts) == 2
    assert reader.data["charts"][0]["lines"][0]["name"] == ATTACK
    assert stdlib_html.escape(ATTACK) in text


def test_the_paper_style_shows_two_rows(make):
    reader = Reader(page(make.spec(figure={"style": "paper", "map_kind": "magnitude"})))
    assert not [tag for tag, _ in reader.elements if tag == "img"]
    assert "decoded" not in [attrs.get("class") for _, attrs in reader.elements]
    assert bytes.fromhex(reader.data["tables"]["map"]) == colour_table("jet").tobytes()


def test_own_scales_are_said_at_each_map(make):
    reader = Reader(page(make.spec(scale="per_map")))
    assert reader.text.count("own scale") >= 6
    assert "colours cannot be compared between maps" in reader.text
    assert not [attrs for _, attrs in reader.elements if attrs.get("class") == "bar bar-text"]


def test_differences_layer_by_layer(make):
    spec = make.spec(figure={"difference": True})
    reader = Reader(page(spec))
    first, second = spec.images[0].models
    scope = reader.data["images"][0]["scopes"][3]
    for shown, a, b in zip(scope["maps"], first.maps, second.maps, strict=True):
        np.testing.assert_array_equal(floats(shown["values"]), (a - b).ravel())
        assert shown["limits"][0] == -shown["limits"][1]
    lines = {line["name"]: line["points"] for line in reader.data["charts"][1]["lines"]}
    rms = np.sqrt(((first.decoded - second.decoded).astype(np.float64) ** 2).mean(axis=(1, 2, 3)))
    np.testing.assert_allclose(lines["decoded pixels"], np.column_stack([first.layers, rms]), rtol=1e-5)
    assert [layer for layer, _ in lines["maps"]] == [0, 4, 8]


def test_retention_of_all_layers_as_chart_and_table(make):
    spec = make.spec()
    reader = Reader(page(spec))
    (chart,) = reader.data["charts"]
    for line, model in zip(chart["lines"], spec.images[0].models, strict=True):
        assert line["points"] == [[layer, r2] for layer, r2 in model.retention]
    rows = [tag for tag, _ in reader.elements if tag == "tr"]
    assert len(rows) == 1 + 9


def test_wide_images_show_layers_as_rows(make):
    image = np.zeros((40, 320, 3), dtype=np.uint8)
    image[:, :160] = 90
    reader = Reader(page(make.spec(image=image)))
    grids = [
        attrs["class"].split() for _, attrs in reader.elements if attrs.get("class", "").startswith("grid ")
    ]
    assert all("by-columns" in kind for kind in grids)


def test_values_that_are_not_finite_are_counted(make):
    case = make.case()
    maps = case.models[0].maps.copy()
    maps[0, 0, 0] = np.nan
    maps[2] = np.nan
    broken = dataclasses.replace(case.models[0], maps=maps, correlation=np.full(3, np.nan, dtype=np.float32))
    spec = FigureSpec(images=(dataclasses.replace(case, models=(broken, case.models[1])),), difference=True)
    reader = Reader(page(spec))
    assert np.isnan(floats(reader.data["images"][0]["scopes"][1]["maps"][0]["values"])[0])
    assert "37 of 108 patches" in reader.text
    assert "r –" in reader.text
