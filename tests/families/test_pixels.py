"""Which image tokens a pixel reaches in our own families, whose connectors may mix tokens.

The encoders attend from every patch to every other; here their attention writes nothing, so that what is left is what
the connector does with patches that know their own pixels alone.
"""

import numpy as np
import pytest
import torch
from PIL import Image

from emma_viz.capture import record
from tests.families.conftest import MEMBERS

REACH = {
    "cobra": 0, "emma-v1": 0, "emma-v2": 0, "llava-pocket": 0, "tinyllava": 0, "matvlm": 0,
    "mmmamba": 0,  # four patches become the channels of one token
    "cobra-ldp": 1, "mobilevlm-v2": 1,  # a convolution of 3×3 tokens behind the pool
    "ml-mamba": None, "vl-mamba": None,  # scans in two and four directions
    "emma-text-fusion": None,  # image tokens attend to one another and to the question
}  # fmt: skip
"""Rows and columns of tokens that a pixel reaches beyond its own token; None is all of the image."""
_WRITES = ("attn.proj.", "out_proj.", "o_proj.")


@pytest.fixture
def seeing(member):
    """A member whose encoder mixes no patches, and the name of its kind."""
    vision = member.loaded.vlm.vision
    written = [weight for name, weight in vision.named_parameters() if any(end in name for end in _WRITES)]
    before = [weight.clone() for weight in written]
    assert bool(written) == (member.name != "mmmamba")
    with torch.no_grad():
        for weight in written:
            weight.zero_()
        yield member.name, member.loaded
        for weight, kept in zip(written, before, strict=True):
            weight.copy_(kept)


def test_every_family_says_how_far_a_pixel_reaches():
    assert REACH.keys() == MEMBERS.keys()


def test_a_changed_pixel_changes_its_token_and_those_that_its_connector_mixes_it_with(seeing):
    name, model = seeing
    side = model.config.vision.image_size
    pixels = np.random.default_rng(1).integers(0, 256, (side, side, 3), dtype=np.uint8)
    place = model.transform.geometry(Image.fromarray(pixels))
    rows, columns = place.grid

    def tokens(changed):
        found = record(model, Image.fromarray(changed), "Why?", layers=[-1], generate=False)
        return found["resid_post", -1][0, : place.n_tokens].reshape(rows, columns, -1)

    plain = tokens(pixels)
    for token, (left, top, right, bottom) in enumerate(place.token_boxes()):
        row, column = divmod(token, columns)
        changed = pixels.copy()
        changed[int((top + bottom) / 2), int((left + right) / 2)] ^= 255
        apart = (tokens(changed) - plain).norm(dim=-1)
        assert apart[row, column] > 0
        if REACH[name] is None:
            continue
        y, x = np.mgrid[:rows, :columns]
        near = np.maximum(abs(y - row), abs(x - column)) <= REACH[name]
        np.testing.assert_array_equal(apart > 0, near)
        assert int(apart.argmax()) == token
