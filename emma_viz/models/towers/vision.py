"""The frozen image encoders of a model as one module."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from emma_viz.errors import InputError
from emma_viz.models.linear import use_kernels
from emma_viz.models.towers.lite0 import Lite0Tower
from emma_viz.models.towers.patches import PatchTower
from emma_viz.models.towers.pocket import PocketEncoder
from emma_viz.models.towers.transformers import ClipTextTower, ClipTower, DinoV2Tower, SiglipTower
from emma_viz.models.vision_config import TowerConfig, TowerKind, VisionConfig

TOWERS: dict[TowerKind, Callable[[TowerConfig], nn.Module]] = {
    "dinov2": DinoV2Tower,
    "siglip": SiglipTower,
    "clip": ClipTower,
    "pocket": PocketEncoder,
    "lite0": Lite0Tower,
    "patches": PatchTower,
}


class VisionEncoder(nn.Module):
    """One or more encoders side by side, their patch tokens concatenated over the channels.

    Frozen: its parameters take no gradient and it stays in evaluation mode. To train an encoder, train
    the tower alone (`PocketEncoder`) and load it here. Parameters are named `towers.<kind>.…`, and `text.…` those of
    the instruction's encoder, where there is one.

    Args:
        config: what to build.
        backend: kernel backend of the linear layers.
    """

    def __init__(self, config: VisionConfig, *, backend: str = "auto"):
        super().__init__()
        self.config = config
        self.towers = nn.ModuleDict({tower.kind: TOWERS[tower.kind](tower) for tower in config.towers})
        self.text = None if config.text is None else ClipTextTower(config.text)
        use_kernels(self, backend=backend)
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

    @torch.no_grad()
    def read(self, instruction: Int[Tensor, "B Q"] | None) -> Float[Tensor, "B s W"] | None:
        """The states of instructions; None for a model whose image tokens do not depend on them.

        Raises:
            InputError: there is no instruction and the model needs one, or the other way round.
        """
        if (self.text is None) != (instruction is None):
            raise InputError(
                "The image tokens of this model depend on the instruction: pass instruction = vlm.instruct(messages)."
                if instruction is None
                else "The image tokens of this model do not depend on the instruction; leave it out."
            )
        if self.text is None or instruction is None:
            return None
        return self.text(instruction.to(self.text.model.embeddings.token_embedding.weight.device))
