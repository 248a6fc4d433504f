"""Fitting the fixed parts of the encoder on training photographs: the reduction, what it costs, and who is confused."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from emma_viz.data.photos import PHOTO_CATEGORIES, Photograph, PhotoLibrary, draw_photos, make_single
from emma_viz.models.towers.lite0 import Lite0Tower
from training.photos.encoder import fill_published, fit_reduction, normalised, read_published

_PER_CATEGORY = 10
"""Photographs of each category that the reduction is fitted on."""
_HELD_OUT = 100
"""Validation photographs that its cost is measured on."""
_PATCHES = 64
"""Patches of each photograph that are looked at."""
_RIVALS = 5
"""Categories that are kept as confused with another."""
_PENALTY = 1e-4
"""Ridge penalty, as a share of the mean diagonal."""
_SHRINKAGE = 0.3
"""Share of a round covariance in that of photographs about their category's mean."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What was found while the encoder was fitted."""

    variance: float
    """Share of the standardised features' variance that the reduction keeps."""
    r2_all: float
    """What a ridge finds of held-out patches' pixels in all features."""
    r2_reduced: float
    """The same in the reduced features, in half precision."""
    confused: tuple[tuple[int, ...], ...]
    """For each category, those whose photographs look most alike to the encoder."""


def fit_tower(tower: Lite0Tower, library: PhotoLibrary, weights: Path) -> Fitted:
    """Fill a tower with published weights and fit its reduction; all as it ships, in half precision.

    Args:
        tower: filled in place.
        library: the photographs.
        weights: the published file.
    """
    fill_published(tower.eval(), read_published(weights))
    train, held_out = library.split("train"), library.split("val")
    rng = np.random.default_rng(5)
    chosen = [
        int(place)
        for number in range(len(PHOTO_CATEGORIES))
        for place in rng.permutation([i for i, p in enumerate(train) if p.category == number])[:_PER_CATEGORY]
    ]
    _halve(tower)
    planes, pixels, means = _look(tower, train, chosen, rng)
    tried = rng.permutation(len(held_out))[:_HELD_OUT].tolist()
    test_planes, test_pixels, _ = _look(tower, held_out, tried, rng)
    variance = fit_reduction(tower, planes)
    _halve(tower)
    with torch.no_grad():
        reduced, test_reduced, images = (tower.reduce(part) for part in (planes, test_planes, means))
    labels = np.array([train[place].category for place in chosen])
    return Fitted(
        variance=variance,
        r2_all=ridge_r2(planes, pixels, test_planes, test_pixels),
        r2_reduced=ridge_r2(reduced, pixels, test_reduced, test_pixels),
        confused=_confused(images.numpy().astype(np.float64), labels),
    )


def ridge_r2(
    x: Float[Tensor, "n F"],
    y: Float[Tensor, "n P"],
    test_x: Float[Tensor, "m F"],
    test_y: Float[Tensor, "m P"],
) -> float:
    """R² of a ridge from x to y on other rows, over all of y together."""
    mean, spread, level = x.mean(0), x.std(0).clamp_min(1e-6), y.mean(0)
    a, b = ((x - mean) / spread).double(), (y - level).double()
    gram = a.T @ a
    gram += torch.eye(len(gram), dtype=gram.dtype) * gram.diagonal().mean() * _PENALTY
    found = ((test_x - mean) / spread).double() @ torch.linalg.solve(gram, a.T @ b)
    wanted = (test_y - level).double()
    return float(1 - ((found - wanted) ** 2).sum() / ((wanted - wanted.mean(0)) ** 2).sum())


@torch.no_grad()
def _halve(tower: Lite0Tower) -> None:
    """Round the weights to half precision, in which they ship."""
    for tensor in tower.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.half().to(tensor.dtype))


@torch.no_grad()
def _look(
    tower: Lite0Tower, photos: tuple[Photograph, ...], places: list[int], rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Features and pixels of some patches of some photographs, and the mean features of each photograph."""
    planes, pixels, means = [], [], []
    side = tower.config.patch
    for place in tqdm(places, desc="look at photographs"):
        image = draw_photos(make_single(photos, place), photos).image
        found = tower.planes(normalised(image[None], tower))[0]
        patches = rearrange(torch.from_numpy(image), "(R p) (C q) c -> (R C) (p q c)", p=side, q=side)
        kept = torch.from_numpy(rng.permutation(len(found))[:_PATCHES])
        planes.append(found[kept])
        pixels.append(patches[kept].float() / 255)
        means.append(found.mean(0))
    return torch.cat(planes), torch.cat(pixels), torch.stack(means)


def _confused(images: np.ndarray, labels: np.ndarray) -> tuple[tuple[int, ...], ...]:
    """The categories nearest to each, on the scale on which photographs of one category differ."""
    centres = np.stack([images[labels == number].mean(0) for number in range(len(PHOTO_CATEGORIES))])
    within = np.cov((images - centres[labels]).T)
    within = (1 - _SHRINKAGE) * within + _SHRINKAGE * np.eye(len(within)) * np.trace(within) / len(within)
    gaps = centres[:, None] - centres[None]
    distance = np.einsum("abf,fg,abg->ab", gaps, np.linalg.inv(within), gaps)
    np.fill_diagonal(distance, np.inf)
    return tuple(tuple(row[:_RIVALS].tolist()) for row in np.argsort(distance, axis=1, kind="stable"))
