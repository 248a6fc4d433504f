"""What a figure's spec accepts and refuses, and its sidecar."""

import base64
import dataclasses
import io
import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from emma_viz.errors import InputError
from emma_viz.render.sidecar import SIDECAR_SCHEMA, from_json, read_spec, to_json, write_spec
from emma_viz.render.spans import GridSpans
from emma_viz.render.spec import FigureSpec, ImageCase, ModelCase, map_change
from emma_viz.render.words import clean
from tests.render.conftest import TILES

FINITE = {"allow_nan": False, "allow_infinity": False}
WORDS = st.text(max_size=12)


def same(one, other) -> bool:
    """Equal in every field, arrays bit by bit and with their dtype."""
    if dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]
        return type(one) is type(other) and all(same(getattr(one, n), getattr(other, n)) for n in names)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return type(one) is type(other) and (one == other or (one != one and other != other))


@st.composite
def spans(draw, grid: tuple[int, int]) -> dict[str, np.ndarray]:
    """Cells of any sizes, any distances apart: the fields of `GridSpans`."""
    down, across = (
        np.cumsum([draw(st.integers(-8, 8)), *(draw(st.integers(i % 2, 9)) for i in range(1, 2 * n))]) / 16
        for n in grid
    )
    return {"across": np.stack([across[::2], across[1::2]]), "down": np.stack([down[::2], down[1::2]])}


@st.composite
def models(draw) -> dict:
    # Fields and not values: the checks at construction may draw random numbers, which strategies must not.
    layers = tuple(draw(st.lists(st.integers(-1, 63), min_size=1, max_size=3, unique=True)))
    kind = draw(st.sampled_from([np.float16, np.float32, np.float64]))
    wide = 16 if kind is np.float16 else 32
    some = st.floats(width=wide, **FINITE)
    limit = st.floats(-(2.0**14), 2.0**14, width=wide)
    y, (r, c) = len(layers), draw(st.tuples(st.integers(1, 3), st.integers(1, 3)) | st.just((2, 3)))
    retention = draw(st.lists(st.tuples(st.integers(-1, 63), st.floats()), max_size=3))
    return {
        "name": draw(WORDS),
        "answer": draw(WORDS),
        "layers": layers,
        "decoded": draw(arrays.arrays(kind, (y, 2 * r, 2 * c, 3), elements=st.floats(0, 1, width=wide))),
        "maps": draw(arrays.arrays(kind, (y, r, c), elements=some)),
        "limits": np.sort(draw(arrays.arrays(kind, (y, 2), elements=limit)), axis=1),
        "correlation": draw(
            arrays.arrays(kind, (y,), elements=st.floats(-1, 1, width=wide) | st.just(np.nan))
        ),
        "retention": tuple(retention),
        "lens": draw(WORDS),
        "forced": draw(st.booleans()),
        "spans": None if (r, c) == (2, 3) and draw(st.booleans()) else draw(spans((r, c))),
    }


@st.composite
def cases(draw) -> dict:
    size = draw(arrays.array_shapes(min_dims=2, max_dims=2))
    return {
        "title": draw(WORDS),
        "image": draw(arrays.arrays(np.uint8, (*size, 3))),
        "image_hash": draw(WORDS),
        "prompt": draw(WORDS),
        "spans": draw(spans((2, 3))),
        "true_map": draw(arrays.arrays(np.float32, (2, 3), elements=st.floats(0, 1, width=32))),
        "true_limits": (0.1, 0.7),
        "models": draw(
            st.lists(models(), min_size=1, max_size=2, unique_by=lambda model: clean(model["name"]))
        ),
        "truth": draw(st.none() | WORDS),
    }


def built(fields: dict) -> ImageCase:
    return ImageCase(
        **(with_spans(fields) | {"models": tuple(ModelCase(**with_spans(m)) for m in fields["models"])})
    )


def with_spans(fields: dict) -> dict:
    given = fields["spans"]
    return fields | {"spans": None if given is None else GridSpans(**given)}


@settings(max_examples=40)
@given(st.lists(cases(), min_size=1, max_size=2), st.lists(WORDS, max_size=2))
def test_sidecar_round_trip_is_exact(images, notes):
    spec = FigureSpec(images=tuple(map(built, images)), scale="per_map", notes=tuple(notes))
    text = to_json(spec)
    again = from_json(text)
    assert same(again, spec)
    assert to_json(again) == text


def test_sidecar_file(tmp_path, make):
    spec = make.spec()
    path = write_spec(spec, tmp_path / "figure.json")
    assert same(read_spec(path), spec)
    assert (
        json.loads(path.read_text())["figure"]["images"][0]["models"][0]["answer"]
        == "A white cup on a table."
    )


def test_sidecar_takes_numpy_scalars(make):
    case = make.case()
    low, high = case.models[0].limits[0]
    spec = FigureSpec(images=(dataclasses.replace(case, true_limits=(float(low), float(high)), truth=None),))
    object.__setattr__(spec.images[0], "true_limits", (low, high))
    assert from_json(to_json(spec)).images[0].true_limits == (float(low), float(high))


def _changed(spec: FigureSpec, change) -> str:
    document = json.loads(to_json(spec))
    change(document)
    return json.dumps(document)


def _object_array() -> str:
    stream = io.BytesIO()
    np.savez(stream, **{"figure.images.0.image": np.array([{"a": 1}], dtype=object)})
    return base64.b64encode(stream.getvalue()).decode()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(format="other"), "other JSON"),
        (lambda d: d.pop("format"), "other JSON"),
        (lambda d: d.update(schema=SIDECAR_SCHEMA + 1), "newer emma_viz"),
        (lambda d: d.update(schema="1"), "expected a schema version"),
        (lambda d: d.update(arrays=d["arrays"][:-400]), "cannot be unpacked"),
        (lambda d: d.update(arrays="§"), "cannot be unpacked"),
        (lambda d: d.update(arrays=_object_array()), "is missing"),
        (lambda d: d.pop("arrays"), "field `arrays`"),
        (lambda d: d["figure"].pop("scale"), "field `scale`"),
        (lambda d: d["figure"].update(surprise=1), "unknown fields 'surprise'"),
        (lambda d: d["figure"]["images"][0]["models"][0].pop("maps"), "field `maps`"),
        (lambda d: d["figure"].update(images=7), "Expected `array`"),
        (lambda d: d["figure"].update(style="baroque"), "unknown style"),
    ],
)
def test_a_damaged_or_foreign_sidecar_is_named(make, change, words):
    with pytest.raises(InputError, match=words):
        from_json(_changed(make.spec(), change), "figure.json")


def test_a_sidecar_of_an_older_schema_is_read(make):
    def older(document):
        document["schema"] = 1
        for case in document["figure"]["images"]:
            del case["difference_limit"], case["kept"], case["word"]
            case["extent"] = [0.0, 0.0, 1.0, 1.0]
            del case["spans"]
            for model in case["models"]:
                model["extent"] = None
                del model["evidence"], model["score"], model["marked"], model["controls"], model["spans"]
        with np.load(io.BytesIO(base64.b64decode(document["arrays"]))) as held:
            arrays = {name: held[name] for name in held.files if ".spans." not in name}
        np.savez(stream := io.BytesIO(), **arrays)
        document["arrays"] = base64.b64encode(stream.getvalue()).decode()

    spec = make.spec()
    assert same(from_json(_changed(spec, older)), spec)
    case = spec.images[0]
    coarse = dataclasses.replace(
        case.models[1],
        maps=case.models[1].maps[:, ::2, ::3],
        decoded=case.models[1].decoded[:, ::2, ::3],
        spans=GridSpans.even((0.0, 0.0, 1.0, 1.0), (3, 2)),
    )
    spec = dataclasses.replace(spec, images=(dataclasses.replace(case, models=(case.models[0], coarse)),))
    assert same(from_json(_changed(spec, older)), spec)  # its grid has the rectangle of the image's
    with pytest.raises(InputError, match="field `difference_limit`"):
        from_json(_changed(spec, lambda d: d["figure"]["images"][0].pop("difference_limit")))


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"\xff\xfe\x00", pickle.dumps({"a": 1})])
def test_files_that_are_no_sidecars(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.json: expected "):
        read_spec(path)


def test_a_missing_sidecar_is_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_spec(tmp_path / "none.json")


@pytest.mark.parametrize("scale", ["shared", "fixed"])
def test_limits_that_are_not_shared_are_refused(make, scale):
    """A figure whose maps were normalised one by one must not say that they share a scale."""
    per_map = make.case(scale="per_map")
    with pytest.raises(InputError, match="same colour limits"):
        FigureSpec(images=(per_map,), scale=scale)


def test_limits_that_differ_from_the_true_maps_are_refused(make):
    case = make.case()
    with pytest.raises(InputError, match="same colour limits"):
        FigureSpec(images=(dataclasses.replace(case, true_limits=(0.0, 9.0)),))


def test_limits_that_differ_within_a_row_are_refused(make):
    with pytest.raises(InputError, match="all maps of a model"):
        FigureSpec(images=(make.case(scale="per_map"),), scale="per_row")
    FigureSpec(images=(make.case(scale="per_row"),), scale="per_row")


@pytest.mark.parametrize("field", ["style", "scale", "colormap"])
def test_unknown_options_list_the_known(make, field):
    with pytest.raises(InputError, match=rf"unknown {field} 'plaid'; expected one of \w+, "):
        FigureSpec(images=(make.case(),), **{field: "plaid"})


def test_arrays_must_fit_the_layers(make):
    model = make.case().models[0]
    with pytest.raises(
        InputError, match=r"decoded: expected an array of shape \(2, any, any, 3\), got \(3, 24"
    ):
        dataclasses.replace(model, layers=(0, 4))
    with pytest.raises(InputError, match="at least one layer"):
        dataclasses.replace(model, layers=())
    with pytest.raises(InputError, match="every layer once"):
        dataclasses.replace(model, layers=(0, 4, 4))
    with pytest.raises(InputError, match="lowest first"):
        dataclasses.replace(model, limits=model.limits[:, ::-1])


def test_an_extent_must_have_an_area(make):
    with pytest.raises(InputError, match="left < right"):
        dataclasses.replace(make.case(), kept=(1.0, 0.0, 0.0, 1.0))


def test_difference_is_of_the_common_layers(make):
    case = make.case(layers=(0, 4, 8))
    second = case.models[1]
    fewer = dataclasses.replace(
        second,
        layers=(8, 2, 0),
        decoded=second.decoded,
        maps=second.maps,
    )
    layers, values = map_change(dataclasses.replace(case, models=(case.models[0], fewer)))
    assert layers == (0, 8)
    np.testing.assert_array_equal(values[0], case.models[0].maps[0] - second.maps[2])
    np.testing.assert_array_equal(values[1], case.models[0].maps[2] - second.maps[0])


def test_the_difference_is_of_the_pair_that_is_named(make):
    case = dataclasses.replace(make.case(models=3), pair=(2, 0))
    layers, values = map_change(case)
    first, second = case.models[2], case.models[0]
    for layer, value in zip(layers, values, strict=True):
        one, other = (each.maps[each.layers.index(layer)] for each in (first, second))
        np.testing.assert_array_equal(value, one - other)
    spec = FigureSpec(images=(case,), difference=True)
    assert from_json(to_json(spec)).images[0].pair == (2, 0)


def test_a_difference_needs_two_comparable_models(make):
    for count, pair in ((1, (0, 1)), (3, (0, 3)), (3, (-1, 0)), (2, (1, 1))):
        with pytest.raises(InputError, match=f"two models for a difference, got models .* of {count}"):
            FigureSpec(images=(dataclasses.replace(make.case(models=count), pair=pair),), difference=True)
    case = make.case()
    elsewhere = dataclasses.replace(case.models[1], layers=(1, 2, 3))
    with pytest.raises(InputError, match="at least one in common"):
        FigureSpec(images=(dataclasses.replace(case, models=(case.models[0], elsewhere)),), difference=True)
    cropped = dataclasses.replace(case.models[1], spans=GridSpans.even((0.1, 0.0, 0.9, 1.0), (6, 6)))
    with pytest.raises(InputError, match=r"over \(0.1, 0.0, 0.9, 1.0\); a difference needs the same one"):
        FigureSpec(images=(dataclasses.replace(case, models=(case.models[0], cropped)),), difference=True)
    case = make.case(spans=TILES)
    even = dataclasses.replace(case.models[1], spans=GridSpans.even(TILES.extent, TILES.grid))
    with pytest.raises(InputError, match=r"\(their patches lie elsewhere within it\); a difference"):
        FigureSpec(images=(dataclasses.replace(case, models=(case.models[0], even)),), difference=True)
