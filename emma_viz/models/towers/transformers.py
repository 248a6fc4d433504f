"""DINOv2 (with registers), SigLIP and CLIP through their transformers classes.

Features are the output of the SECOND-TO-LAST block, before any final norm, patch tokens only, as the
released Cobra, EMMA and LLaVA take them. The last block, the final norm and SigLIP's pooling head are kept, so
that published weights fit without leftovers and the parameter count is that of the published encoders,
but they never run.
"""

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from emma_viz.models.vision_config import TextTowerConfig, TowerConfig


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


def _network(model: Any, settings: Any, config: TowerConfig, *, eps: float) -> Any:
    """The network of one of transformers' vision classes, of a tower's size."""
    whole = model(
        settings(
            hidden_size=config.width,
            intermediate_size=config.mlp_width,
            num_hidden_layers=config.n_layer,
            num_attention_heads=config.n_heads,
            hidden_act=config.activation,
            layer_norm_eps=eps,
            image_size=config.image_size,
            patch_size=config.patch,
        )
    )
    # Some transformers releases wrap the network once more; the parameter names must not depend on it.
    network = getattr(whole, "vision_model", whole)
    # The class numbers its positions in a buffer, which would stay on the meta device.
    del network.embeddings.position_ids
    return network


class SiglipTower(nn.Module):
    """SigLIP's vision transformer. It has patch tokens only."""

    def __init__(self, config: TowerConfig):
        super().__init__()
        from transformers import SiglipVisionConfig, SiglipVisionModel

        self.model = _network(SiglipVisionModel, SiglipVisionConfig, config, eps=1e-6)

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


class ClipTower(nn.Module):
    """CLIP's vision transformer. The class token is dropped from the features."""

    def __init__(self, config: TowerConfig):
        super().__init__()
        from transformers import CLIPVisionConfig, CLIPVisionModel

        self.model = _network(CLIPVisionModel, CLIPVisionConfig, config, eps=1e-5)

    @property
    def patch_convolution(self) -> nn.Conv2d:
        """The convolution that makes a token of a patch, before positions and blocks."""
        return self.model.embeddings.patch_embedding

    def forward(self, pixels: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B T F"]:
        """Patch tokens of normalised pixels, row-major."""
        own = self.model.embeddings
        patches = rearrange(
            own.patch_embedding(pixels.to(own.patch_embedding.weight.dtype)), "B F R C -> B (R C) F"
        )
        head = own.class_embedding.expand(len(patches), 1, -1)
        hidden = self.model.pre_layrnorm(torch.cat([head, patches], dim=1) + own.position_embedding.weight)
        for block in self.model.encoder.layers[:-1]:
            hidden = _hidden(block(hidden, None))
        return hidden[:, 1:]


class ClipTextTower(nn.Module):
    """CLIP's text transformer: the states of an instruction's tokens after the block that `layer` names."""

    def __init__(self, config: TextTowerConfig):
        super().__init__()
        from transformers import CLIPTextConfig, CLIPTextModel

        self.config = config
        model = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=config.vocab_size,
                hidden_size=config.width,
                intermediate_size=config.mlp_width,
                num_hidden_layers=config.n_layer,
                num_attention_heads=config.n_heads,
                max_position_embeddings=config.context,
                bos_token_id=None,
                eos_token_id=None,
                hidden_act=config.activation,
                layer_norm_eps=1e-5,
            )
        )
        self.model = getattr(model, "text_model", model)
        del self.model.embeddings.position_ids

    def forward(self, ids: Int[Tensor, "B Q"]) -> Float[Tensor, "B s W"]:
        """States of the tokens that are taken, of `TextTowerConfig.n_tokens`."""
        own, config = self.model.embeddings, self.config
        hidden = own.token_embedding(ids) + own.position_embedding.weight[: ids.shape[1]]
        later = torch.full((ids.shape[1], ids.shape[1]), float("-inf"), device=ids.device).triu(1)
        mask = later.to(hidden.dtype)[None, None]
        for block in self.model.encoder.layers[: config.n_layer + 1 + config.layer]:
            hidden = _hidden(block(hidden, mask))
        return hidden[:, 0 if config.start else 1 : None if config.end else 1]


def _hidden(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    """A block's hidden state; some transformers releases return it inside a tuple."""
    return output if isinstance(output, torch.Tensor) else output[0]
