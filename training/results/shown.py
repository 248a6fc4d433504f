"""What members are shown: images by the batch, as the encoder gives them, as lenses should, and on the road."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Float32, Int, UInt8
from torch import Tensor

from emma_viz.capture import Trace
from emma_viz.checkpoints import LoadedModel
from emma_viz.data.tabletop import DESCRIBE
from emma_viz.lens.native import NativeLens
from emma_viz.lens.protocol import recording_for
from emma_viz.maps import Decoding
from emma_viz.records.questions import Question
from emma_viz.session.options import Asking
from emma_viz.session.road import ask
from emma_viz.shapes import EMBEDDING

_BATCH = 25
_LONGEST = 64
"""Tokens of a caption, at most."""

Step = Callable[[int], object]
"""Called with the number of images that went through."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures:
    """Images as the encoder gives them and as the lenses should give them back."""

    images: UInt8[np.ndarray, "B S S 3"]
    """Of the models' input size."""
    features: Float32[np.ndarray, "B T F"]
    """The frozen encoder's tokens."""
    patch: int
    """Side of a patch, pixels."""
    kinds: Int[np.ndarray, "B T"]
    """0 where nobody says what a patch is of, else 1 + the kind's number."""

    def true(self, part: slice = slice(None)) -> Float32[np.ndarray, "b T p p c"]:
        """True pixels of some pictures, in [0, 1]."""
        p = self.patch
        pixels = self.images[part].astype(np.float32) / 255
        return rearrange(pixels, "b (R p) (C q) c -> b (R C) p q c", p=p, q=p)

    def __len__(self) -> int:
        return len(self.features)

    def batches(self, count: int | None = None) -> Iterator[slice]:
        """Slices of the first `count` images."""
        end = len(self) if count is None else min(count, len(self))
        for start in range(0, end, _BATCH):
            yield slice(start, min(start + _BATCH, end))


@torch.inference_mode()
def pictures(model: LoadedModel, images: np.ndarray, kinds: np.ndarray | None, step: Step) -> Pictures:
    """Encode images of the model's input size: uint8 (n, S, S, 3), kinds (n, R, C)."""
    parts = []
    (tower,) = model.config.vision.towers
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (tower.mean, tower.std))
    for start in range(0, len(images), _BATCH):
        pixels = torch.from_numpy(images[start : start + _BATCH]).permute(0, 3, 1, 2).float() / 255
        parts.append(model.vlm.vision([(pixels - mean) / std]).float().numpy())
        step(len(pixels))
    features = np.concatenate(parts)
    flat = np.zeros(features.shape[:2], np.int64) if kinds is None else kinds.reshape(len(kinds), -1)
    return Pictures(
        images=images, features=features, patch=model.config.vision.patch, kinds=flat.astype(np.int64)
    )


def show(
    model: LoadedModel, shown: Pictures, part: slice, own: NativeLens | None = None, *, caption: bool = False
) -> tuple[Trace, Decoding | None]:
    """Show a batch to a model: the residual stream at every layer, and the picture of its own decoder.

    Args:
        model: the member.
        shown: what is shown.
        part: of them.
        own: the member's own decoder, if it has one.
        caption: have the images described, too (`Trace.answers`), greedily.
    """
    n_layer = model.info.n_layer
    sites = () if own is None else recording_for(own)[0]
    (pair,) = ask(
        model,
        [Question(image=image, prompt=DESCRIBE) for image in shown.images[part]],
        own,
        asking=Asking(max_new_tokens=_LONGEST),
        sites=("resid_post", *sites),
        layers=range(EMBEDDING, n_layer),
        generate=caption,
        batch_size=part.stop - part.start,
    )
    return pair


def residual_stream(trace: Trace) -> Float[Tensor, "Y B T D"]:
    """The image tokens' residual stream, layers −1, 0, …"""
    return torch.stack([trace["resid_post", layer] for layer in trace.layers])
