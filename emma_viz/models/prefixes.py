"""Images that many questions share: the states after an image are computed once, and each question goes on from them.

A causal model's states after the image do not depend on the text, and nothing changes a state in place: a fork costs
no pass and no image tokens.

    seen = seen_images(vlm, features)
    answers = generate(vlm, None, prompts, prefix=seen.select(torch.tensor([0, 0, 0, 1])), max_new_tokens=5, eos_id=eos)
"""

import torch
from jaxtyping import Float
from torch import Tensor

from emma_viz.models.cache import MambaCache
from emma_viz.models.vlm import VLM


@torch.no_grad()
def seen_images(vlm: VLM, features: Float[Tensor, "B P F"]) -> MambaCache:
    """The states of a model after each of some images, one sample an image.

    Questions take theirs by `MambaCache.select`, an image as often as it is asked about, and several such caches are
    put in a row by `MambaCache.joined`.

    Args:
        vlm: the model, in evaluation mode.
        features: what its encoders see of each image (`vlm.vision`).
    """
    cache = vlm.llm.new_cache()
    vlm(None, None, features=features, cache=cache, logits="none")
    return cache
