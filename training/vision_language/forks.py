"""Many questions about one image: its states are computed once, and every question starts from them."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager

from jaxtyping import Float, Int
from torch import Tensor

from emma_viz.models.cache import MambaCache
from emma_viz.models.language_model import MambaBackbone
from emma_viz.models.vlm import VLM
from training.loop.conversations import TextBatch
from training.vision_language.batch import Forks


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
