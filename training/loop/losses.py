"""The text loss; the pixel losses are emma_viz.heads.losses."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from training.loop.conversations import IGNORED


def text_loss(
    hidden: Float[Tensor, "B M D"], head: Float[Tensor, "V D"], labels: Int[Tensor, "B M"]
) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
    """Summed cross-entropy over the positions that have a label: sums of the parts of a step can be added.

    Only those are scored, which on long prompts is a fraction of them.

    Args:
        hidden: final states of the text tokens.
        head: the language model's output matrix.
        labels: what each position must predict; -100 where nothing.

    Returns:
        The sum (0 where nothing is labelled), and how many most likely tokens are right.
    """
    kept = labels != IGNORED
    scores = F.linear(hidden[kept], head).float()
    wanted = labels[kept]
    return F.cross_entropy(scores, wanted, reduction="sum"), (scores.argmax(-1) == wanted).sum()
