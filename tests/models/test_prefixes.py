"""Questions that go on from the states after their image get what each gets with the image in front."""

import pytest
import torch

from emma_viz.errors import InputError
from emma_viz.models import MambaCache, generate, seen_images

PROMPTS = [[1, 2, 3], [4, 5, 6, 7, 8, 9, 10], [11], [3, 2], [9]]
IMAGES = torch.tensor([0, 2, 0, 1, 2])


@pytest.fixture
def features(vlm, pixels):
    with torch.no_grad():
        return vlm.vision(pixels)


def test_answers_and_scores_are_those_of_the_image_in_front(vlm, features):
    scores = {True: [], False: []}

    def answer(shared, **settings):
        return generate(
            vlm, None, PROMPTS, max_new_tokens=6, eos_id=None, **settings,
            on_scores=lambda step, values: scores[shared].append(values.clone()),
        )  # fmt: skip

    whole = answer(False, features=features[IMAGES])
    assert answer(True, prefix=seen_images(vlm, features).select(IMAGES)).ids == whole.ids
    for actual, expected in zip(scores[True], scores[False], strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_a_prefix_is_left_as_it_was(vlm, features):
    seen = seen_images(vlm, features)
    before = [state.ssm.clone() for state in seen.layers]
    settings = {"max_new_tokens": 3, "eos_id": None}
    fork = seen.select(torch.tensor([1, 1]))
    first = generate(vlm, None, PROMPTS[:2], prefix=fork, **settings)
    assert generate(vlm, None, PROMPTS[:2], prefix=fork, **settings) == first
    assert seen.offset.tolist() == [vlm.n_image_tokens] * len(features)
    assert all(torch.equal(a.ssm, b) for a, b in zip(seen.layers, before, strict=True))


def test_caches_are_put_in_a_row(vlm, features):
    seen = seen_images(vlm, features)
    joined = MambaCache.joined([seen.select(torch.tensor([2])), seen.select(torch.tensor([0, 1]))])
    expected = seen.select(torch.tensor([2, 0, 1]))
    assert torch.equal(joined.offset, expected.offset)
    for actual, wanted in zip(joined.layers, expected.layers, strict=True):
        assert torch.equal(actual.ssm, wanted.ssm)
        assert torch.equal(actual.conv, wanted.conv)


def test_what_does_not_fit_is_named(vlm, features):
    seen = seen_images(vlm, features)
    settings = {"max_new_tokens": 1, "eos_id": None}
    with pytest.raises(InputError, match="a prefix of 3 samples and 2 prompts"):
        generate(vlm, None, PROMPTS[:2], prefix=seen, **settings)
    with pytest.raises(InputError, match="a prefix of 0 samples"):
        generate(vlm, None, PROMPTS[:2], prefix=MambaCache(1), **settings)
    with pytest.raises(InputError, match="not both"):
        generate(vlm, None, PROMPTS[:3], features=features, prefix=seen, **settings)
