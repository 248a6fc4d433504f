"""Many questions about one image: its states are computed once, and every question starts from them.

Image tokens may be averaged in squares before that: four times fewer, so that many steps are affordable.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from einops import rearrange, reduce
from jaxtyping import Float, Int
from torch import Tensor

from emma_viz.models.cache import MambaCache
from emma_viz.models.language_model import MambaBackbone
from emma_viz.models.vlm import VLM
from training.vision_language.batch import BatchImages, Forks, TextBatch

POOL = 2
"""Side of the squares of image tokens that are averaged in the pooled steps."""


def run_prefix(
    backbone: MambaBackbone, embeddings: Float[Tensor, "B L D"], lengths: Int[Tensor, " B"] | None = None
) -> tuple[Float[Tensor, "B L D"], MambaCache]:
    """The prefixes' final states token by token, and what the model remembers at their ends, with gradients."""
    cache = MambaCache(len(backbone.layers))
    hidden = backbone(embeddings, cache=cache, lengths=lengths)
    return hidden, cache


def run_forks(
    backbone: MambaBackbone, prefixes: MambaCache, forks: Sequence[Forks]
) -> list[tuple[Float[Tensor, "K M D"], TextBatch]]:
    """The texts' final states, each computed as if its prefix stood before it.

    A Mamba model sees the past through the states of its layers alone, so this equals running each text behind a
    copy of its prefix, in values and gradients.
    """
    found = []
    for part in forks:
        embeddings = backbone.embedding(part.text.ids)
        hidden = backbone(embeddings, cache=prefixes.select(part.owners))
        found.append((hidden, part.text))
    return found


@contextmanager
def tapped(vlm: VLM) -> Generator[list[Tensor]]:
    """Collect, with gradients, the mixer outputs of the tap blocks, and the final state after the last norm."""
    found: list[Tensor] = []
    points = [vlm.llm.backbone.layers[tap].get_submodule("hook_mixer_out") for tap in vlm.config.taps]
    points.append(vlm.llm.backbone.get_submodule("hook_norm_f"))
    handles = [point.register_forward_hook(lambda _m, _i, out: found.append(out)) for point in points]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def pool_tokens(tokens: Float[Tensor, "B T D"], grid: tuple[int, int]) -> Float[Tensor, "B t D"]:
    """Average squares of POOL×POOL neighbouring tokens."""
    rows = grid[0] // POOL
    return reduce(tokens, "B (R a C b) D -> B (R C) D", "mean", R=rows, a=POOL, b=POOL)


def pool_patches(patches: Float[Tensor, "B T p p c"], grid: tuple[int, int]) -> Float[Tensor, "B t p p c"]:
    """The patches of the image shrunk by POOL."""
    p = patches.shape[2]
    image = rearrange(patches, "B (R C) p q c -> B (R p) (C q) c", R=grid[0])
    small = reduce(image, "B (h a) (w b) c -> B h w c", "mean", a=POOL, b=POOL)
    return rearrange(small, "B (R p) (C q) c -> B (R C) p q c", p=p, q=p)


def pooled(
    tokens: Float[Tensor, "B T D"], images: BatchImages, grid: tuple[int, int]
) -> tuple[Float[Tensor, "B t D"], BatchImages]:
    """Image tokens averaged, and their images' features and patches with them."""
    features, patches = images.features, images.patches
    small = replace(
        images,
        features=None if features is None else pool_tokens(features, grid),
        patches=None if patches is None else pool_patches(patches, grid),
    )
    return pool_tokens(tokens, grid), small
