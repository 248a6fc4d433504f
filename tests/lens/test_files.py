"""Lens files: a round trip, and every way in which a file can be wrong."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from emma_viz.errors import LensError
from emma_viz.heads.config import paper_config, released_config
from emma_viz.heads.head import build_head
from emma_viz.lens import files, headers, kinds, places
from emma_viz.lens.info import LayerQuality
from emma_viz.lens.native import native_lens
from emma_viz.lens.ridge import RidgeLens

WIDTH, PATCH = 6, 4


@pytest.fixture
def ridge(make_info):
    quality = (LayerQuality(layer=0, r2=0.5, psnr=float("inf"), ssim=float("nan")),)
    info = make_info(quality=quality, n_heldout=3, notes=("λ",))
    return RidgeLens(info=info, weight=torch.randn(2, WIDTH, 48).half(), bias=torch.randn(2, 48))


def native(model, form: str):
    config = (
        paper_config(width=WIDTH, patch=PATCH)
        if form == "paper"
        else released_config(width=WIDTH, patch=PATCH, grid=(3, 3), target_width=5)
    )
    return native_lens(build_head(config), model, patch=PATCH, fitted_on="noise", n_fit=3)


def test_a_ridge_lens_survives_its_file(ridge, tmp_path):
    path = files.save_lens(ridge, tmp_path / "deep" / "toy.lens")
    back = files.load_lens(path)
    assert isinstance(back, RidgeLens)
    assert back.weight.dtype == torch.float16
    assert torch.equal(back.weight, ridge.weight)
    assert torch.equal(back.bias, ridge.bias)
    assert back.info.to_json() == ridge.info.to_json()
    assert headers.read_info(path).to_json() == ridge.info.to_json()
    assert [each.name for each in path.parent.iterdir()] == ["toy.lens"], "no half-written file is left"


@pytest.mark.parametrize("form", ["paper", "released"])
def test_a_native_lens_survives_its_file(form, make_model, tmp_path):
    lens = native(make_model(), form)
    back = files.load_lens(files.save_lens(lens, tmp_path / "toy.lens"))
    assert back.info == lens.info
    assert back.tap_layers == (0, 1, 2, 3)
    assert back.head.config == lens.head.config
    assert not back.head.training
    for (name, one), (other_name, other) in zip(
        lens.head.state_dict().items(), back.head.state_dict().items(), strict=True
    ):
        assert name == other_name
        assert torch.equal(one, other), name


def test_a_model_finds_its_own_lens(ridge, tmp_path, monkeypatch):
    monkeypatch.setattr(places, "BUNDLED", tmp_path / "bundled")
    files.save_lens(ridge, tmp_path / "bundled" / "toy" / "ridge.lens")
    files.save_lens(ridge, tmp_path / "run" / "ridge.lens")
    assert torch.equal(files.load_lens("toy").weight, ridge.weight)
    assert torch.equal(files.load_lens(str(tmp_path / "run")).weight, ridge.weight)
    assert places.bundled_lenses() == ("toy/ridge",)
    with pytest.raises(LensError, match=r"No native lens.*native\.lens.*bundled lenses: toy/ridge"):
        files.load_lens("toy", "native")
    with pytest.raises(LensError, match="No ridge lens was found"):
        files.load_lens("unheard-of")
    with pytest.raises(LensError, match="no kind of lens 'prism'"):
        files.load_lens("toy", "prism")


def test_writing_again_replaces_the_file(ridge, tmp_path):
    path = files.save_lens(ridge, tmp_path / "toy.lens")
    files.save_lens(replace(ridge, bias=ridge.bias + 1), path)
    assert torch.equal(files.load_lens(path).bias, ridge.bias + 1)


@pytest.fixture
def kinds_as_they_are():
    """What is taken out of the table comes back in its place."""
    before = dict(kinds.BUILT_IN)
    yield
    kinds.BUILT_IN.clear()
    kinds.BUILT_IN.update(before)


def test_a_kind_that_is_not_known_yet_is_named(ridge, tmp_path, kinds_as_they_are):
    tuned = replace(ridge, info=replace(ridge.info, kind="tuned"))
    with pytest.raises(LensError, match="of kind 'tuned' is a TunedLens; this one is a RidgeLens"):
        files.save_lens(tuned, tmp_path / "toy.lens")
    path = rewritten(ridge, tmp_path, lambda header: header["info"].update(kind="tuned"))
    del kinds.BUILT_IN["tuned"]  # as in a version without it
    with pytest.raises(LensError, match=r"no kind of lens 'tuned'; choose one of ridge, native"):
        files.load_lens(path)
    assert headers.read_info(path).kind == "tuned"


def rewritten(lens, folder, change):
    """The lens's file with a changed header."""
    path = files.save_lens(lens, folder / "toy.lens")
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()[headers.KEY])
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(header)
    save_file(tensors, path, metadata={headers.KEY: json.dumps(header)})
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda header: header.update(schema=99),
            "newer emma_viz: its schema version is 99, this one reads up to 2",
        ),
        (lambda header: header.pop("info"), "missing required field `info`"),
        (lambda header: header["info"].pop("site"), "missing required field `site`"),
        (lambda header: header["info"].update(layers=[0, 1, 2]), "3 layers with 48 pixel values"),
        (lambda header: header["info"].update(patch=5), "75 pixel values"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(ridge, tmp_path, change, message):
    with pytest.raises(LensError, match=message):
        files.load_lens(rewritten(ridge, tmp_path, change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: header["parts"].pop("tap_layers"), "missing required field `tap_layers`"),
        (lambda header: header["parts"].update(tap_layers=[0, 3]), "fuses 4 taps; 2 were named"),
        (lambda header: header["parts"]["head"].update(form="cubist"), "sizes of the decoder"),
        (
            lambda header: header["parts"]["head"]["sizes"]["decoder"].update(patch=2),
            r"2 tensors.*decoder\.out",
        ),
    ],
)
def test_a_native_lens_that_does_not_fit_together_is_refused(make_model, tmp_path, change, message):
    with pytest.raises(LensError, match=message):
        files.load_lens(rewritten(native(make_model(), "paper"), tmp_path, change))


@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "missing", "folder"])
def test_a_damaged_file_is_refused(ridge, tmp_path, damage):
    path = files.save_lens(ridge, tmp_path / "toy.lens")
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes({"cut": whole[:-10], "noise": b"\xff" * 64, "empty": b""}[damage])
    with pytest.raises(LensError, match=r"toy\.lens"):
        files.load_lens(path)


def test_other_safetensors_files_are_no_lens(tmp_path):
    save_file({"weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(LensError, match="no lens: its header has no"):
        files.load_lens(tmp_path / "model.safetensors")


def test_a_lens_without_its_tensors_is_refused(ridge, tmp_path):
    path = files.save_lens(ridge, tmp_path / "toy.lens")
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file({"weight": ridge.weight}, path, metadata=metadata)
    with pytest.raises(LensError, match="lacks 'bias'"):
        files.load_lens(path)


def test_a_place_that_cannot_be_written_is_an_error(ridge, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LensError, match="cannot be written"):
        files.save_lens(ridge, tmp_path / "file" / "toy.lens")
