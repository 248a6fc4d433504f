"""DINOv2 (with registers) and SigLIP through their transformers classes.

Features are the output of the SECOND-TO-LAST block, before any final norm, patch tokens only, as the
released Cobra and EMMA take them. The last block, the final norm and SigLIP's pooling head are kept, so
that published weights fit without leftovers and the parameter count is that of the published encoders,
but they never run.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from emma_viz.models.config import TowerConfig


class DinoV2Tower(nn.Module):
    """DINOv2 with register tokens. Class and register tokens are dropped from the features."""

    def __init__(self, config: TowerConfig):
        super().__init__()
        from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

        self.skip = 1 + config.n_registers
        self.model = Dinov2WithRegistersModel(
            Dinov2WithRegistersConfig(
                hidden_size=config.width,
                num_hidden_layers=config.n_layer,
                num_attention_heads=config.n_heads,
                mlp_ratio=config.mlp_width // config.width,
                hidden_act=config.activation,
                layer_norm_eps=1e-6,
                image_size=config.image_size,
                patch_size=config.patch,
                num_register_tokens=config.n_registers,
            )
        )

    @property
    def patch_convolution(self) -> nn.Conv2d:
        """The convolution that makes a token of a patch, before positions and blocks."""
        return self.model.embeddings.patch_embeddings.projection

    def forward(self, pixels: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B T F"]:
        """Patch tokens of normalised pixels, row-major."""
        hidden = self.model.embeddings(pixels)
        for block in self.model.encoder.layer[:-1]:
            hidden = _hidden(block(hidden))
        return hidden[:, self.skip :]


class SiglipTower(nn.Module):
    """SigLIP's vision transformer. It has patch tokens only."""

    def __init__(self, config: TowerConfig):
        super().__init__()
        from transformers import SiglipVisionConfig, SiglipVisionModel

        model = SiglipVisionModel(
            SiglipVisionConfig(
                hidden_size=config.width,
                intermediate_size=config.mlp_width,
                num_hidden_layers=config.n_layer,
                num_attention_heads=config.n_heads,
                hidden_act=config.activation,
                layer_norm_eps=1e-6,
                image_size=config.image_size,
                patch_size=config.patch,
            )
        )
        # Some transformers releases wrap the network once more; the parameter names must not depend on it.
        self.model = getattr(model, "vision_model", model)
        # The class numbers its positions in a buffer, which would stay on the meta device.
        del self.model.embeddings.position_ids

    @property
    def patch_convolution(self) -> nn.Conv2d:
        """The convolution that makes a token of a patch, before positions and blocks."""
        return self.model.embeddings.patch_embedding

    def forward(self, pixels: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B T F"]:
        """Patch tokens of normalised pixels, row-major."""
        embeddings = self.model.embeddings
        patches = embeddings.patch_embedding(pixels.to(embeddings.patch_embedding.weight.dtype))
        hidden = rearrange(patches, "B F R C -> B (R C) F") + embeddings.position_embedding.weight
        for block in self.model.encoder.layers[:-1]:
            hidden = _hidden(block(hidden, None))
        return hidden


def _hidden(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    """A block's hidden state; some transformers releases return it inside a tuple."""
    return output if isinstance(output, torch.Tensor) else output[0]
