"""The frozen image encoders of a model as one module."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from emma_viz.errors import InputError
from emma_viz.models.config import TowerConfig, TowerKind, VisionConfig
from emma_viz.models.towers.lite0 import Lite0Tower
from emma_viz.models.towers.pocket import PocketEncoder
from emma_viz.models.towers.transformers import DinoV2Tower, SiglipTower

TOWERS: dict[TowerKind, Callable[[TowerConfig], nn.Module]] = {
    "dinov2": DinoV2Tower,
    "siglip": SiglipTower,
    "pocket": PocketEncoder,
    "lite0": Lite0Tower,
}


class VisionEncoder(nn.Module):
    """One or more encoders side by side, their patch tokens concatenated over the channels.

    Frozen: its parameters take no gradient and it stays in evaluation mode. To train an encoder, train
    the tower alone (`PocketEncoder`) and load it here. Parameters are named `towers.<kind>.…`.
    """

    def __init__(self, config: VisionConfig):
        super().__init__()
        self.config = config
        self.towers = nn.ModuleDict({tower.kind: TOWERS[tower.kind](tower) for tower in config.towers})
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "VisionEncoder":
        """Stay in evaluation mode: batch norms and dropout of a frozen encoder must not move."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, pixels: Sequence[Float[Tensor, "B 3 S S"]]) -> Float[Tensor, "B T F"]:
        """Features of a batch of images.

        Args:
            pixels: one normalised tensor a tower, in the order of the configuration (DINOv2, then SigLIP).

        Raises:
            InputError: the number of tensors or their size does not fit.
        """
        side = self.config.image_size
        if len(pixels) != len(self.towers):
            raise InputError(
                f"Expected {len(self.towers)} pixel tensors, one a tower ({', '.join(self.towers)}); "
                f"got {len(pixels)}."
            )
        for name, tensor in zip(self.towers, pixels, strict=True):
            if tensor.shape[-2:] != (side, side):
                raise InputError(
                    f"Expected {side}×{side} pixels for the {name} tower, "
                    f"got {tensor.shape[-2]}×{tensor.shape[-1]}; use the model's ImageTransform."
                )
        features = [tower(tensor) for tower, tensor in zip(self.towers.values(), pixels, strict=True)]
        return torch.cat(features, dim=-1)
