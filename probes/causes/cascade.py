"""A model that forgets from the top down: the weights of its last blocks are shuffled, then those of more."""

from collections.abc import Generator
from contextlib import contextmanager

from emma_viz.evidence.shuffled_weights import shuffled_weights
from emma_viz.models import MambaLM

STAGES = 4
"""Into so many parts the blocks are cut; at the last stage every weight is shuffled, not the blocks' alone."""


@contextmanager
def forgetful(llm: MambaLM, stage: int) -> Generator[None]:
    """Inside the block, the weights of a stage, from 1 to STAGES, stand in a random order."""
    depth = llm.config.n_layer
    first = min(depth - 1, round(depth * (1 - stage / STAGES)))
    blocks = [llm] if stage == STAGES else [llm.backbone.layers[k] for k in range(first, depth)]
    with shuffled_weights(blocks, seed=stage):
        yield


def stage_said(stage: int) -> str:
    """What is shuffled at a stage."""
    return "all weights" if stage == STAGES else f"the last {100 * stage // STAGES} % of the blocks"
