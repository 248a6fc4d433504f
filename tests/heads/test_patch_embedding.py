"""The released form's target, and the way back from it to pixels."""

import pytest
import torch
from torch import nn

from emma_viz.errors import InputError
from emma_viz.heads.losses import paper_loss, released_loss
from emma_viz.heads.patch_embedding import PatchEmbedding, invert_patch_embedding
from emma_viz.heads.pixels import from_units, to_units

PATCH, GRID, WIDTH = 2, (3, 6), 16


@pytest.fixture
def convolution():
    torch.manual_seed(0)
    return nn.Conv2d(3, WIDTH, PATCH, stride=PATCH)


@pytest.fixture
def embedding(convolution):
    made = PatchEmbedding(width=WIDTH, patch=PATCH, grid=GRID)
    return made.copy_from(convolution, pixel_mean=(0.5, 0.4, 0.3), pixel_std=(0.5, 0.25, 0.2))


@pytest.fixture
def pixels():
    """Encoder input of 7×13: the last row and column are seen by no patch."""
    return torch.randn(2, 3, 7, 13, generator=torch.Generator().manual_seed(0))


def patch_of(pixels: torch.Tensor, token: int) -> torch.Tensor:
    row, column = divmod(token, GRID[1])
    part = pixels[:, :, PATCH * row : PATCH * (row + 1), PATCH * column : PATCH * (column + 1)]
    return part.permute(0, 2, 3, 1)


def test_inverting_the_embedding_gives_the_patches_back(convolution, embedding, pixels):
    tokens = embedding.embed(pixels)
    assert tokens.shape == (2, 18, WIDTH)
    patches = invert_patch_embedding(convolution.weight, convolution.bias, tokens)
    for token in range(18):
        torch.testing.assert_close(patches[:, token], patch_of(pixels, token), rtol=1e-4, atol=1e-4)


def test_of_tokens_that_no_patch_gives_the_nearest_one_is_taken(convolution):
    """Least squares: the residual of the inverted patch is orthogonal to everything the convolution can
    produce."""
    tokens = torch.randn(1, 3, WIDTH)
    patches = invert_patch_embedding(convolution.weight, convolution.bias, tokens)
    again = torch.einsum("bthwc,fchw->btf", patches, convolution.weight) + convolution.bias
    residual = tokens - again
    assert residual.norm() > 0.1
    overlap = torch.einsum("btf,fchw->btchw", residual, convolution.weight)
    torch.testing.assert_close(overlap, torch.zeros_like(overlap), rtol=0, atol=1e-4)


def test_the_target_is_normalised_per_token_and_regrouped(embedding, pixels):
    target = embedding.target(pixels)
    tokens = embedding.embed(pixels)
    order = [6 * row + column + 3 * group for group in range(2) for row in range(3) for column in range(3)]
    for place, token in enumerate(order):
        one = tokens[:, token]
        variance = one.var(dim=-1, unbiased=True, keepdim=True)
        expected = (one - one.mean(dim=-1, keepdim=True)) / (variance + 1e-6).sqrt()
        torch.testing.assert_close(target[:, place], expected)


def test_a_picture_of_the_perfect_prediction_has_the_structure_of_the_image(embedding, pixels):
    """Mean and scale of each token are lost, so a patch comes back scaled and shifted by the typical ones."""
    embedding.calibrate(pixels)
    pictures = embedding.pictures(embedding.target(pixels))
    tokens = embedding.embed(pixels)
    typical = (tokens - tokens.mean(-1, keepdim=True)) / tokens.std(-1, keepdim=True)
    typical = typical * tokens.std(-1).mean() + tokens.mean()
    expected = invert_patch_embedding(embedding.weight, embedding.bias, typical)
    expected = expected * torch.tensor([0.5, 0.25, 0.2]) + torch.tensor([0.5, 0.4, 0.3])
    torch.testing.assert_close(pictures, expected, rtol=1e-3, atol=1e-3)


def test_a_convolution_of_another_size_is_refused():
    made = PatchEmbedding(width=WIDTH, patch=PATCH, grid=GRID)
    with pytest.raises(InputError, match=r"\(16, 3, 2, 2\) and stride 2"):
        made.copy_from(nn.Conv2d(3, WIDTH, PATCH, stride=1), pixel_mean=(0.0,) * 3, pixel_std=(1.0,) * 3)


def test_units_of_the_paper_decoder():
    patches = torch.rand(2, 5, 3, 3, 3)
    units = to_units(patches)
    assert units.shape == (2, 5, 27)
    assert units[1, 2, 3 * (3 * 1 + 2) + 0] == (patches[1, 2, 1, 2, 0] - 0.5) / 0.25
    torch.testing.assert_close(from_units(units, 3), patches)


def test_paper_loss_is_the_squared_distance_in_units():
    patches = torch.rand(2, 5, 3, 3, 3)
    decoded = torch.randn(2, 5, 27)
    squares = (decoded - to_units(patches)).square()
    torch.testing.assert_close(paper_loss(decoded, patches), squares.sum() / (2 * 5 * 27))
    torch.testing.assert_close(paper_loss(decoded, patches, reduction="sum"), squares.sum() / 2)
    assert paper_loss(to_units(patches), patches) == 0


def test_released_loss_is_a_sum_times_its_weight():
    a, b = torch.randn(2, 9, 4), torch.randn(2, 9, 4)
    torch.testing.assert_close(released_loss(a, b), 1e-5 * ((a - b) ** 2).sum())
