"""An estimate of a layer on a GPU, from the bytes and operations of its kernels and a card's published numbers.

    python -m benchmarks.speed.roofline

A kernel takes at least the larger of two times: that of reading and writing its tensors once at the memory's published
bandwidth, and that of its operations at the published rate of the units that do them. Real kernels take longer; the
sequential scan, whose chain of tokens neither number sees, by much.
"""

from dataclasses import dataclass
from typing import Literal

KEPT_BYTES = 4
"""Our kernels hold the recurrences in fp32."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A card's published numbers (NVIDIA's data sheets, without sparsity)."""

    name: str
    bandwidth: float
    """Bytes a second."""
    half: float
    """Operations a second of the tensor cores in bf16."""
    tf32: float
    """Operations a second of the tensor cores in tf32."""
    single: float
    """Operations a second of the fp32 units."""


CARDS = (
    Card(name="A100 80GB SXM", bandwidth=2.039e12, half=312e12, tf32=156e12, single=19.5e12),
    Card(name="H100 SXM", bandwidth=3.35e12, half=989e12, tf32=494e12, single=67e12),
    Card(name="RTX 4090", bandwidth=1.008e12, half=165e12, tf32=82.6e12, single=82.6e12),
)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one kernel moves and computes."""

    name: str
    bytes: float
    operations: float
    unit: Literal["half", "tf32", "single"]

    def seconds(self, card: Card) -> float:
        """The least time on a card."""
        return max(self.bytes / card.bandwidth, self.operations / getattr(card, self.unit))


def layer(
    ssm: Literal["mamba1", "mamba2"], *, width: int, length: int, states: int, size: int = 2
) -> list[Work]:
    """The kernels of one layer's forward pass.

    Args:
        ssm: which mixer.
        width: D. length: L tokens. states: N of each channel.
        size: bytes of a weight or an activation outside the recurrences.
    """
    inner, heads, chunk = 2 * width, 2 * width // 64, 32
    if ssm == "mamba1":
        rank = -(-width // 16)
        shapes = [(width, 2 * inner), (inner, rank + 2 * states), (rank, inner), (inner, width)]
        # u, Δ and y of each channel, B and C; an exponential counts as one operation.
        recurrence = Work(
            name="selective scan", bytes=KEPT_BYTES * length * (3 * inner + 2 * states),
            operations=6.0 * length * inner * states, unit="single",
        )  # fmt: skip
        convolved = inner
    else:
        shapes = [(width, 2 * inner + 2 * states + heads), (inner, width)]
        # Each program of 32 rows of the state reads B and C again.
        recurrence = Work(
            name="chunked SSD", bytes=KEPT_BYTES * length * (2 * inner + 2 * states * (inner // 32)),
            operations=2.0 * length * inner * (2 * states + chunk + chunk * states / 32), unit="tf32",
        )  # fmt: skip
        convolved = inner + 2 * states
    products = Work(
        name="matrix products",
        bytes=size * sum(a * b + length * (a + b) for a, b in shapes),
        operations=2.0 * length * sum(a * b for a, b in shapes),
        unit="half",
    )
    convolution = Work(
        name="convolution", bytes=2.0 * KEPT_BYTES * length * convolved,
        operations=8.0 * length * convolved, unit="single",
    )  # fmt: skip
    # Norm, gate, skip and softplus as torch writes them: about ten tensors of the inner width in fp32.
    rest = Work(
        name="elementwise",
        bytes=10.0 * KEPT_BYTES * length * inner,
        operations=20.0 * length * inner,
        unit="single",
    )
    return [products, convolution, recurrence, rest]


_MODELS: tuple[tuple[Literal["mamba1", "mamba2"], str, int], ...] = (
    ("mamba1", "Mamba-1", 16),
    ("mamba2", "Mamba-2", 128),
)


def table() -> str:
    """Least milliseconds of 64 layers of width 2560 over 800 tokens in bf16, and the least of one generated token."""
    lines = [
        "| card | mixer | products | convolution | recurrence | elementwise | sum, 64 layers | one token |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for card in CARDS:
        for ssm, title, states in _MODELS:
            parts = [64e3 * work.seconds(card) for work in layer(ssm, width=2560, length=800, states=states)]
            token = 1e3 * (2 * 2.77e9 + 2 * KEPT_BYTES * 64 * 5120 * states) / card.bandwidth
            cells = " | ".join(f"{part:.2f} ms" for part in (*parts, sum(parts), token))
            lines.append(f"| {card.name} | {title} | {cells} |")
    return "\n".join(
        [
            *lines,
            "",
            "A roofline estimate (`python -m benchmarks.speed.roofline`): the least times for the bytes and operations "
            "of a 3B model's kernels over 800 tokens in bf16, recurrences in fp32, by the cards' published numbers. It "
            "knows nothing of launches and of the scan's chain of tokens.",
        ]
    )


if __name__ == "__main__":
    print(table())
