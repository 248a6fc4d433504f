"""One value, one colour: the same view as PNG, SVG, page and canvas, patch by patch."""

import base64
import io
import json
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from emma_viz.data.geometry import Geometry, true_patches
from emma_viz.data.provenance import ModelInfo
from emma_viz.lens.info import LensInfo
from emma_viz.maps import Decoding
from emma_viz.render import draw, save
from emma_viz.render.overlay import MISSING
from emma_viz.render.web.data import script_data
from emma_viz.session import Comparison, View
from emma_viz.session.payload import payload
from tests.apps.programs import program

PATCH, SIDE = 4, 3
SIZE = PATCH * SIDE
LAYERS = (0, 1, 5)
PHOTO = (200, 120, 40)
KINDS = ("distance", "magnitude", "error", "cosine")


def decoding(name: str, view: np.ndarray, patches: np.ndarray) -> Decoding:
    place = Geometry(image_size=(48, 48), strategy="resize-naive", size=SIZE, patch=PATCH)
    model = ModelInfo(
        name=name, source=name, family="emma", fingerprint=name * 8, dtype="float32", n_layer=6, d_model=4,
        ssm="mamba1", grid=(SIDE, SIDE),
    )  # fmt: skip
    lens = LensInfo(
        kind="ridge", model_name=name, model_fingerprint=name * 8, site="resid_post", layers=LAYERS, patch=PATCH,
        grid=(SIDE, SIDE), fitted_on="noise", n_fit=1, n_heldout=0,
    )  # fmt: skip
    return Decoding(
        patches=patches,
        true=true_patches(view[None], [place]),
        layers=LAYERS,
        site="resid_post",
        model=model,
        lens=lens,
        geometry=(place,),
        views=view[None],
        images=(Image.new("RGB", (48, 48), PHOTO),),
        image_hashes=("same",),
        prompts=("what?",),
    )


RECIPES = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**16),
        "tone": st.integers(0, 255),
        "look": st.sampled_from(["noise", "halves", "patch", "plain"]),
        "errors": st.tuples(*[st.sampled_from([0.0, 0.01, 0.3, 2.0])] * 2),
        "gaps": st.booleans(),
    }
)
"""Recipes and not comparisons: the checks at construction may draw random numbers, which strategies must not."""


def made(*, seed: int, tone: int, look: str, errors: tuple[float, float], gaps: bool) -> Comparison:
    """Two models of one image: noise, two tones, one patch, or one tone; decoded with errors and gaps."""
    noise = np.random.default_rng(seed)
    view = np.full((SIZE, SIZE, 3), tone, np.uint8)
    if look == "noise":
        view = noise.integers(0, 256, view.shape, dtype=np.uint8)
    elif look == "halves":
        view[:, : SIZE // 2] = 255 - tone
    elif look == "patch":
        view[:PATCH, :PATCH] = (255, 0, 0)
    place = Geometry(image_size=(48, 48), strategy="resize-naive", size=SIZE, patch=PATCH)
    true = true_patches(view[None], [place])
    found = []
    for name, error in zip(("first", "second"), errors, strict=True):
        patches = np.stack([true + noise.normal(0, error, true.shape) for _ in LAYERS]).astype(np.float32)
        if gaps:
            patches[1, 0, 4] = np.nan
        found.append(decoding(name, view, patches))
    return Comparison(decodings=tuple(found), image_names=("a.png",))


def view_of(kind: str, scale: str, colours: str) -> View:
    return View(map_kind=kind, scale=scale, colormap=colours, difference=True, layers=LAYERS)


def from_canvas(comparison: Comparison, view: View) -> dict:
    spec, (name, limits) = comparison.spec(view), view.scale_and_limits()
    asked = {
        "page": json.loads(script_data(spec, [])),
        "payload": payload(comparison, live=False),
        "kind": view.kind,
        "scale": list(limits) if limits else name,
        "colours": view.colormap,
        "steps": [[index, index] for index in range(len(LAYERS))],
        "photo": PHOTO,
    }
    done = subprocess.run(
        [program("node"), str(Path(__file__).with_name("paint.js"))],
        input=json.dumps(asked), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def opaque(rgba: list) -> np.ndarray:
    """RGBA of a canvas over the grey that stands for what is not finite."""
    pixels = np.array(rgba, np.uint8).reshape(SIDE, SIDE, 4)
    return np.where(pixels[..., 3:] == 0, np.array(MISSING, np.uint8), pixels[..., :3])


def from_png(spec, path: Path) -> dict[str, np.ndarray]:
    """Panel → the colours of a PNG's pixels at the middle of each patch."""
    pixels = np.asarray(Image.open(save(spec, path, dpi=150)).convert("RGB"))
    height, width = pixels.shape[:2]
    found = {}
    for axes in draw(spec).axes:
        box = axes.get_position()
        middles = (np.arange(SIDE) + 0.5) / SIDE
        columns = ((box.x0 + middles * box.width) * width).astype(int)
        rows = ((1 - box.y1 + middles * box.height) * height).astype(int)
        found[axes.get_label()] = pixels[rows][:, columns]
    return found


def from_svg(spec, path: Path) -> dict[str, np.ndarray]:
    """Panel → the colours of the picture that the SVG holds for it."""
    root = ElementTree.parse(save(spec, path))
    found = {}
    for group in root.iter("{http://www.w3.org/2000/svg}g"):
        images = list(group.iter("{http://www.w3.org/2000/svg}image"))
        if len(images) == 1 and "/" in group.get("id", ""):
            address = images[0].get("{http://www.w3.org/1999/xlink}href", "")
            stream = io.BytesIO(base64.b64decode(address.partition("base64,")[2]))
            pixels = np.asarray(Image.open(stream).convert("RGBA"))
            if "scale(1 -1)" in images[0].get("transform", ""):
                pixels = pixels[::-1]
            middles = (np.arange(SIDE) + 0.5) / SIDE
            rows, columns = ((middles * length).astype(int) for length in pixels.shape[:2])
            found[group.get("id", "")] = opaque(pixels[rows][:, columns])
    return found


@pytest.mark.slow
@settings(max_examples=8)
@given(
    RECIPES,
    st.sampled_from(KINDS),
    st.sampled_from(["shared", "per_row", "per_map", "0.1:0.7"]),
    st.sampled_from(["viridis", "jet"]),
)
def test_every_patch_has_one_colour_in_every_picture(tmp_path_factory, recipe, kind, scale, colours):
    comparison = made(**recipe)
    view, folder = view_of(kind, scale, colours), tmp_path_factory.mktemp("pictures")
    spec = comparison.spec(view)
    png, svg = from_png(spec, folder / "a.png"), from_svg(spec, folder / "a.svg")
    drawn = from_canvas(comparison, view)

    def same(panel: str, *others: list) -> None:
        for other in others:
            np.testing.assert_array_equal(png[panel], opaque(other), err_msg=panel)
        np.testing.assert_array_equal(png[panel], svg[panel], err_msg=f"{panel} in the SVG")

    same("true map/a.png", drawn["sheets"][0][0], drawn["truth"])
    for index, layer in enumerate(LAYERS):
        for number, name in enumerate(("first", "second")):
            canvas = drawn["canvases"][number][index]
            same(f"map/a.png/{name}/{layer}", drawn["sheets"][1 + number][index], canvas["map"])
            tinted = np.array(canvas["highlight"]).reshape(SIDE, SIDE, 3)
            lit = png[f"highlight/a.png/{name}/{layer}"].astype(int)
            assert np.abs(lit - tinted).max() <= 2, "a tint's opacity is rounded to bytes"
        same(f"difference/a.png/{layer}", drawn["sheets"][3][index], drawn["differences"][index])


def test_models_without_a_common_layer_or_grid_have_no_difference_in_the_canvas():
    view = np.zeros((SIZE, SIZE, 3), np.uint8)
    place = Geometry(image_size=(48, 48), strategy="resize-naive", size=SIZE, patch=PATCH)
    patches = np.repeat(true_patches(view[None], [place])[None], 3, axis=0)
    first = decoding("first", view, patches)
    other = decoding("second", view, patches).select(layers=[0])
    shifted = first.select(layers=[1, 5])
    assert payload(Comparison(decodings=(first, other)))["differences"]["0,1"] == pytest.approx(
        {"distance": 48**0.5 / 64, "magnitude": 48**0.5 / 16, "error": 48**0.5 / 64, "cosine": 1 / 32}
    )
    assert payload(Comparison(decodings=(other, shifted)))["differences"] == {}
    assert payload(Comparison(decodings=(first,)))["differences"] == {}
