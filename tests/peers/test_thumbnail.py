"""The tokens of the whole image, where a model cuts it into tiles as well: drawn when asked for."""

import numpy as np
import pytest
import torch
from PIL import Image

from emma_viz.capture import record
from emma_viz.checkpoints import load_model
from emma_viz.cli.main import main
from emma_viz.errors import LensMismatchError, StudyError
from emma_viz.lens import load_lens, save_lens
from emma_viz.maps import decode
from emma_viz.render.sidecar import read_spec
from emma_viz.session import Asking, Running, capture, compare, fit_ridge
from emma_viz.session.payload import payload
from emma_viz.study import open_study

pytestmark = pytest.mark.slow  # the package's models take seconds to import


@pytest.fixture(scope="module")
def both(peer):
    """A family's name, its model, and the same drawing thumbnails."""
    name, model = peer
    return name, model, load_model(model.folder, part="thumbnail")


def test_the_same_states_with_those_of_the_whole_image_in_front(both, pictures):
    name, tiles, whole = both
    tiled = name.startswith(("llava-next", "llava-one", "idefics", "smol", "internvl"))
    assert whole.info.part == ("thumbnail" if tiled else None)
    assert whole.info.fingerprint == tiles.info.fingerprint
    for picture in pictures:
        place, other = (each.transform.geometry(picture) for each in (tiles, whole))
        first, second = (
            record(each, picture, "Why?", layers=[-1, 2], max_new_tokens=2) for each in (tiles, whole)
        )
        assert first.answers == second.answers
        if len(place.grids) == 1:
            assert other == place
            continue
        assert other.grids == place.grids[::-1]
        assert other.said.startswith(f"not drawn: {place.grid[0]}×{place.grid[1]} tokens of the tiles")
        count, small = place.n_tokens, other.n_tokens
        for layer in (-1, 2):
            expected = first["resid_post", layer][0]
            found = second["resid_post", layer][0]
            assert torch.equal(found[:small], expected[count : count + small])
            assert torch.equal(found[small : small + count], expected[:count])
            assert torch.equal(found[small + count :], expected[count + small :])
        assert second.views.shape[1:3] == other.view_size


@torch.no_grad()
def test_its_view_is_what_its_tokens_see(both):
    """A smooth image: in each box the mean of the view is that of the image."""
    _, _, whole = both
    noise = np.random.default_rng(1).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    smooth = Image.fromarray(noise).resize((101, 67), Image.Resampling.BICUBIC)
    place = whole.transform.geometry(smooth)
    means = place.patches(whole.transform.view(smooth)).mean(axis=(1, 2))
    for (left, top, right, bottom), mean in zip(place.token_boxes(), means, strict=True):
        if left >= 0 and top >= 0 and right <= smooth.width and bottom <= smooth.height:
            inside = smooth.crop((round(left), round(top), round(right), round(bottom)))
            assert np.abs(np.asarray(inside).mean(axis=(0, 1)) - mean).max() < 25


def test_figure_page_and_a_lens_of_its_own(both, tmp_path):
    _, tiles, whole = both
    draw = np.random.default_rng(0)
    noise = [draw.integers(0, 256, (60, 90, 3), dtype=np.uint8) for _ in range(9)]
    if whole.info.part is None:
        pair = [each.transform.view(Image.fromarray(noise[0])) for each in (tiles, whole)]
        assert np.array_equal(*pair)
        return
    own = fit_ridge(whole, noise[:6], heldout=noise[6:], fitted_on="noise", layers=[2])
    other = fit_ridge(tiles, noise[:6], heldout=noise[6:], fitted_on="noise", layers=[2])
    save_lens(own, tmp_path / "own.lens")
    assert load_lens(tmp_path / "own.lens").info.part == "thumbnail"
    assert "part" not in other.info.to_json()
    Image.fromarray(noise[0]).save(tmp_path / "photo.png")
    trace = record(whole, noise[0], "Why?", layers=[2], generate=False)
    with pytest.raises(LensMismatchError, match="fitted on tile tokens, the states are of thumbnail tokens"):
        decode(trace, other)
    argv = ["figure", str(tmp_path / "photo.png"), "--models", str(whole.folder), "--part", "thumbnail",
            "--lens", str(tmp_path / "own.lens"), "--layers", "2", "--max-new-tokens", "2",
            "--out", str(tmp_path / "figure.png")]  # fmt: skip
    assert main(argv) == 0
    spec = read_spec(tmp_path / "figure.png.json")
    assert spec.images[0].models[0].maps.shape[1:] == decode(trace, own).grid
    assert any("tokens of the tiles" in note for note in spec.notes)
    comparison = compare(
        tmp_path / "photo.png", [whole.folder], lenses=[own], asking=Asking(max_new_tokens=2),
        running=Running(part="thumbnail"),
    )  # fmt: skip
    (shown,) = payload(comparison, live=False)["models"]
    assert tuple(shown["grid"]) == decode(trace, own).grid


def test_a_study_holds_one_or_the_other(both, tmp_path):
    _, tiles, whole = both
    picture = Image.new("RGB", (90, 60), (40, 80, 120))
    picture.save(tmp_path / "photo.png")

    def kept(part, **options):
        (entry,) = capture(
            tmp_path / "photo.png", [tiles.folder], tmp_path / "study", layers=(2,),
            asking=Asking(max_new_tokens=1), running=Running(part=part), **options,
        )  # fmt: skip
        return open_study(tmp_path / "study").trace(entry)

    assert kept(None).model.part is None
    if whole.info.part is None:
        assert kept("thumbnail").model == tiles.info
        return
    with pytest.raises(StudyError, match=r"image tokens \('tiles' there, 'thumbnail' asked for\)"):
        kept("thumbnail")
    found = kept("thumbnail", overwrite=True)
    assert found.model == whole.info
    assert found.geometry[0] == whole.transform.geometry(picture)
