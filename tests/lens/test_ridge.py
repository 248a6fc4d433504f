"""The ridge lens against numpy's least squares, whatever the batching."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emma_viz.errors import LensError, LensMismatchError
from emma_viz.lens.ridge import RidgeLens, RidgeStatistics

LAYERS, WIDTH, PATCH = (0, 2), 6, 2


def data(images: int = 8, tokens: int = 9, seed: int = 0, offset: float = 0.0):
    """Random states (two layers) and patches that depend on them and on noise."""
    generator = torch.Generator().manual_seed(seed)
    states = (
        torch.randn(len(LAYERS), images, tokens, WIDTH, generator=generator, dtype=torch.float64) + offset
    )
    mixing = torch.randn(WIDTH, PATCH * PATCH * 3, generator=generator, dtype=torch.float64)
    noise = torch.randn(images, tokens, PATCH * PATCH * 3, generator=generator, dtype=torch.float64)
    patches = 0.5 + 0.1 * states[0] @ mixing + 0.05 * noise
    return states, patches.reshape(images, tokens, PATCH, PATCH, 3)


def fit(states, patches, ridge, sizes=None, dtype=torch.float64):
    statistics = RidgeStatistics(layers=LAYERS, dtype=dtype)
    start = 0
    for size in sizes or [len(patches)]:
        statistics.update(states[:, start : start + size], patches[start : start + size])
        start += size
    assert start == len(patches)
    return statistics.solve(ridge)


@pytest.mark.parametrize("ridge", [0.0, 1e-5, 0.3])
def test_the_fit_is_the_least_squares_solution(ridge):
    """Ridge regression is ordinary least squares with √(λd) · identity appended to the centred states."""
    states, patches = data()
    weight, bias = fit(states, patches, ridge)
    y = patches.reshape(-1, PATCH * PATCH * 3).numpy()
    for index in range(len(LAYERS)):
        x = states[index].reshape(-1, WIDTH).numpy()
        centred = x - x.mean(axis=0)
        penalty = ridge * np.mean(np.sum(centred**2, axis=0))
        rows = np.vstack([centred, np.sqrt(penalty) * np.eye(WIDTH)])
        targets = np.vstack([y - y.mean(axis=0), np.zeros((WIDTH, y.shape[1]))])
        expected = np.linalg.lstsq(rows, targets, rcond=None)[0]
        np.testing.assert_allclose(weight[index].numpy(), expected, atol=1e-6)
        np.testing.assert_allclose(bias[index].numpy(), y.mean(axis=0) - x.mean(axis=0) @ expected, atol=1e-6)


@settings(max_examples=25)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.sampled_from([0.0, 30.0]))
def test_batches_of_any_size_give_the_same_fit(sizes, offset):
    states, patches = data(images=sum(sizes), offset=offset)
    streamed, at_once = fit(states, patches, 1e-5, sizes), fit(states, patches, 1e-5)
    for one, other in zip(streamed, at_once, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_wide_states_are_solved_as_narrow_ones_are():
    """Wider than the columns that are added at once, with a last part of another width."""
    rng = np.random.default_rng(3)
    width = 1100
    x, y = rng.normal(size=(2 * width, width)) + 3, rng.random(size=(2 * width, 12))
    statistics = RidgeStatistics(layers=(0,))
    for part in np.array_split(np.arange(len(x)), 3):
        statistics.update(
            torch.from_numpy(x[part])[None, None], torch.from_numpy(y[part]).reshape(1, len(part), 2, 2, 3)
        )
    weight, bias = statistics.solve(1e-5)
    centred = x - x.mean(0)
    squares = centred.T @ centred
    squares += 1e-5 * squares.diagonal().mean() * np.eye(width)
    expected = np.linalg.solve(squares, centred.T @ (y - y.mean(0)))
    np.testing.assert_allclose(weight[0].numpy(), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(bias[0].numpy(), y.mean(0) - x.mean(0) @ expected, rtol=1e-4, atol=1e-5)


def test_large_means_lose_no_digits():
    """A naive Σxxᵀ − n·m·mᵀ in float32 would have no correct digit here."""
    states, patches = data(offset=1000.0)
    one = fit(states.float(), patches.float(), 1e-5, [2, 3, 3], torch.float32)
    other = fit(states, patches, 1e-5)
    torch.testing.assert_close(one[0], other[0], rtol=1e-2, atol=1e-3)


def test_states_that_hold_the_pixels_are_decoded_perfectly(make_info):
    states, _ = data(images=20)
    mixing = torch.randn(WIDTH, PATCH * PATCH * 3, dtype=torch.float64)
    patches = (0.3 + states[1] @ mixing).reshape(20, 9, PATCH, PATCH, 3)
    weight, bias = fit(states, patches, 1e-9)
    lens = RidgeLens(info=make_info(layers=LAYERS, patch=PATCH), weight=weight, bias=bias)
    torch.testing.assert_close(lens.decode(states[1], 2), patches.float(), rtol=1e-4, atol=1e-4)
    assert (lens.decode(states[0], 0) - patches).abs().max() > 0.5, "the other layer does not hold them"


def test_decoding_keeps_the_order_of_tokens_pixels_and_colours(make_info):
    weight = torch.zeros(2, WIDTH, PATCH * PATCH * 3)
    for row in range(PATCH):
        for column in range(PATCH):
            for colour in range(3):
                weight[0, 0, (row * PATCH + column) * 3 + colour] = 100 * row + 10 * column + colour
    lens = RidgeLens(info=make_info(layers=LAYERS, patch=PATCH), weight=weight, bias=torch.ones(2, 12))
    states = torch.zeros(1, 4, WIDTH, dtype=torch.bfloat16)
    states[0, 3, 0] = 1
    decoded = lens.decode(states, 0)
    assert decoded.dtype == torch.float32
    assert decoded.shape == (1, 4, PATCH, PATCH, 3)
    assert (decoded[0, :3] == 1).all()
    assert decoded[0, 3, 1, 0, 2] == 103
    assert decoded[0, 3, 0, 1, 1] == 12


def test_a_layer_or_width_that_was_not_fitted_is_refused(make_info):
    lens = RidgeLens(
        info=make_info(layers=LAYERS, patch=PATCH), weight=torch.zeros(2, WIDTH, 12), bias=torch.zeros(2, 12)
    )
    with pytest.raises(LensMismatchError, match=r"layers \[0, 2\].*layer 1"):
        lens.decode(torch.zeros(1, 4, WIDTH), 1)
    with pytest.raises(LensMismatchError, match="width 6; these have 7"):
        lens.decode(torch.zeros(1, 4, 7), 0)
    assert lens.reads(2) == (("resid_post", 2),)


def test_what_cannot_be_fitted_is_refused():
    states, patches = data()
    with pytest.raises(LensError, match="at least two tokens"):
        RidgeStatistics(layers=LAYERS).solve()
    with pytest.raises(LensError, match="fewer than 6 dimensions"):
        fit(states[:, :1, :3], patches[:1, :3], 0.0)
    with pytest.raises(LensError, match="2 layers"):
        RidgeStatistics(layers=LAYERS).update(states[:1], patches)
    statistics = RidgeStatistics(layers=LAYERS)
    statistics.update(states, patches)
    with pytest.raises(LensError, match="Earlier batches had width 6"):
        statistics.update(states[..., :5], patches)
    states[1, 0, 0, 0] = torch.nan
    with pytest.raises(LensError, match="Layer 2 holds values that are not finite"):
        statistics.update(states, patches)


def test_a_layer_that_never_changes_decodes_to_the_mean_patch(make_info):
    states, patches = data()
    states[1] = 7.0
    weight, bias = fit(states, patches, 1e-5)
    lens = RidgeLens(info=make_info(layers=LAYERS, patch=PATCH), weight=weight, bias=bias)
    torch.testing.assert_close(lens.decode(states[1, :1, :1], 2)[0, 0].double(), patches.mean(dim=(0, 1)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_solving_changes_nothing(dtype):
    """The sums are kept: a second solution is the first, and a batch may follow."""
    states, patches = data()
    statistics = RidgeStatistics(layers=LAYERS, dtype=dtype)
    statistics.update(states[:, :4], patches[:4])
    first = statistics.solve(0.1)
    for one, other in zip(first, statistics.solve(0.1), strict=True):
        assert torch.equal(one, other)
    statistics.update(states[:, 4:], patches[4:])
    torch.testing.assert_close(statistics.solve(0.1)[0], fit(states, patches, 0.1, [4, 4], dtype)[0])
