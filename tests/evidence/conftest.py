"""A tiny random model with a tokenizer, and images of several shapes."""

import pytest

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


@pytest.fixture(scope="session", params=["tiny-mobilevlm-v2", "tiny-matvlm", "tiny-mmmamba"])
def led(request, tokenizer):
    """A tiny model that reads a text before the image: attention alone, and hybrids of both forms."""
    model = tiny_model(request.param, tokenizer)
    assert model.vlm.lead
    return model


@pytest.fixture(scope="session")
def photos():
    """Three random images, wide, high and square."""
    return odd_photos()
