"""The instruction mixed into the image's features by one linear layer over the tokens of both (arXiv 2410.02080)."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from emma_viz.models.vision_config import TextTowerConfig


class Infusion(nn.Module):
    """T image tokens and s instruction tokens to T refined image tokens, with the parameter names of the released code.

    refined = W [image ; GELU(projected instruction)] + b over the token axis, each channel by itself. A fresh layer
    gives the image's own features back: W is the identity on the image's tokens and zero on the instruction's.

    Args:
        width: channels F of the image's features.
        n_image: image tokens T.
        text: the instruction's encoder.
        learned: add a learned vector to each refined token (`encoder_version` v3).
    """

    def __init__(self, width: int, n_image: int, *, text: TextTowerConfig, learned: bool):
        super().__init__()
        self.n_image = n_image
        self.text_projection = nn.Linear(text.width, width)
        self.image_text_infusion = nn.Linear(n_image + text.n_tokens, n_image)
        self.learnable_tokens = nn.Parameter(torch.zeros(n_image, width)) if learned else None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """The identity on the image, nothing of the instruction."""
        mixer = self.image_text_infusion
        if mixer.weight.is_meta:
            return
        mixer.weight.zero_()
        mixer.weight.fill_diagonal_(1.0)
        mixer.bias.zero_()

    def instructed(self, text: Float[Tensor, "B s W"]) -> Float[Tensor, "B s F"]:
        """The instruction's states at the image's width, as they enter the mixer."""
        return functional.gelu(self.text_projection(text))

    def forward(
        self, features: Float[Tensor, "B T F"], text: Float[Tensor, "B s W"]
    ) -> Float[Tensor, "B T F"]:
        """The image's features, refined by the instruction."""
        both = torch.cat([features, self.instructed(text)], dim=1)
        refined = rearrange(self.image_text_infusion(rearrange(both, "B X F -> B F X")), "B F T -> B T F")
        return refined if self.learnable_tokens is None else refined + self.learnable_tokens
