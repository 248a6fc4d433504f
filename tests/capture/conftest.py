"""A tiny random model with a tokenizer, and images of several shapes."""

import numpy as np
import pytest
import torch
from PIL import Image

from emma_viz.capture import HookReport, Trace
from emma_viz.capture.trace import Sampling
from emma_viz.data import Geometry, image_hash
from emma_viz.data.provenance import ModelInfo
from emma_viz.study import open_study
from tests.tiny_model import odd_photos, tiny_model, tiny_tokenizer


@pytest.fixture(scope="session")
def tokenizer():
    """All bytes and the two special tokens, no merges."""
    return tiny_tokenizer()


@pytest.fixture(scope="session", params=["tiny-emma-v1", "tiny-emma-v2"])
def model(request, tokenizer):
    """A tiny Mamba-1 or Mamba-2 model."""
    return tiny_model(request.param, tokenizer)


@pytest.fixture(scope="session")
def one(tokenizer):
    """One tiny model, where the kind does not matter."""
    return tiny_model("tiny-emma-v1", tokenizer)


@pytest.fixture(scope="session")
def photos():
    """Three random images, wide, high and square."""
    return odd_photos()


@pytest.fixture
def study(tmp_path):
    """An empty study."""
    return open_study(tmp_path / "study", create=True)


@pytest.fixture(scope="session")
def make_trace():
    """A function that makes a trace of random numbers, without a model."""
    return _make_trace


@pytest.fixture(scope="session")
def assert_same():
    """A function that compares two traces to the bit."""
    return _assert_same


def _make_trace(
    *,
    seed=0,
    batch=1,
    layers=(-1, 0, 2),
    sites=("resid_post", "B"),
    generated=False,
    dtype=torch.float32,
    **changes,
):
    """A trace of random numbers, without a model."""
    draw, numbers = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    sizes = [(int(draw.integers(9, 40)), int(draw.integers(9, 40))) for _ in range(batch)]
    images = tuple(Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes)
    info = ModelInfo(
        name="tiny", source="memory", family="emma", fingerprint="0f" * 8, dtype="float32", n_layer=3, d_model=5,
        ssm="mamba1", grid=(2, 2), prompt_style="zephyr", taps=(0, 1),
    )  # fmt: skip

    def states(length):
        shape = {
            "resid_post": (len(layers), batch, length, 5),
            "B": (len([y for y in layers if y >= 0]), batch, length, 1, 3),
        }
        return {site: torch.randn(shape[site], generator=numbers).to(dtype) for site in sites}

    values = {
        "model": info,
        "sites": tuple(sites),
        "layers": tuple(layers),
        "token_kind": "image",
        "states": states(4),
        "generated": states(3) if generated else {},
        "geometry": tuple(
            Geometry(image_size=image.size, strategy="letterbox", size=17, patch=8) for image in images
        ),
        "views": draw.integers(0, 256, (batch, 17, 17, 3), dtype=np.uint8),
        "images": images,
        "image_hashes": tuple(image_hash(image) for image in images),
        "prompts": tuple(f"prompt {seed} {sample}" for sample in range(batch)),
        "prompt_ids": tuple(tuple(range(sample + 2)) for sample in range(batch)),
        "answers": tuple(f"answer {seed} {sample}" for sample in range(batch)),
        "answer_ids": ((5, 6, 7),) * batch,
        "ended": (True,) * batch,
        "sampling": Sampling(max_new_tokens=3, temperature=0.0, top_p=1.0, seed=None),
        "hooks": tuple(HookReport(name=site, fired=1, shape=(batch, 4, 5), finite=True) for site in sites),
    }
    return Trace(**{**values, **changes})


def _assert_same(actual, expected):
    """Two traces hold the same, to the bit."""
    for name in (
        "model", "sites", "layers", "token_kind", "geometry", "image_hashes", "prompts", "prompt_ids", "answers",
        "answer_ids", "ended", "sampling", "hooks",
    ):  # fmt: skip
        assert getattr(actual, name) == getattr(expected, name), name
    for kind in ("states", "generated"):
        one, other = getattr(actual, kind), getattr(expected, kind)
        assert list(one) == list(other), kind
        for site in other:
            assert one[site].dtype == other[site].dtype
            assert one[site].shape == other[site].shape
            # By bits: NaN counts as equal to itself, and -0.0 differs from 0.0.
            assert torch.equal(
                one[site].contiguous().view(torch.uint8), other[site].contiguous().view(torch.uint8)
            )
    assert np.array_equal(actual.views, expected.views)
    assert [image.mode for image in actual.images] == [image.mode for image in expected.images]
    assert [image.tobytes() for image in actual.images] == [image.tobytes() for image in expected.images]
