"""Where a layer's time goes: its products, convolution, recurrence and norm, timed inside the layer itself."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from unittest.mock import patch

import torch
from torch.nn import functional

from benchmarks.kernels import SIZES, our_mixer
from benchmarks.speed.layers import NAMES, Kind
from benchmarks.speed.rows import Row, number
from emma_viz.models import norms
from emma_viz.models.mixers import mamba1, mamba2

ROUNDS = {"a1": 100, "b": 30, "c": 8}
PIECES: dict[str, tuple[tuple[object, str], ...]] = {
    "products": ((functional, "linear"),),
    "convolution": ((mamba1, "convolve"), (mamba2, "convolve")),
    "recurrence": ((mamba1, "selective_scan"), (mamba2, "ssd")),
    "norm and gate": ((norms.GatedRMSNorm, "forward"),),
}
"""A part of a layer → the functions that do it."""


def parts() -> Iterator[Row]:
    """A row for each layer and size: the whole in multiples of its products, and its parts in the same measure."""
    for dtype, name in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
        for kind in NAMES:
            for label in ROUNDS:
                if dtype == torch.float32 or label != "a1":
                    yield _row(kind, label, dtype, name)


@torch.no_grad()
def _row(kind: Kind, label: str, dtype: torch.dtype, name: str) -> Row:
    size = SIZES[label]
    mixer = our_mixer(kind, size, "auto").to(dtype)
    x = torch.randn(size.batch, size.length, size.width, dtype=dtype)
    mixer(x)
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    rounds = [broken_down(lambda: mixer(x), pieces=PIECES, clock=clock) for _ in range(ROUNDS[label])]
    totals = [whole / pieces["products"] for whole, pieces in rounds]
    low, _, high = statistics.quantiles(totals, n=4)
    shares = {
        piece: statistics.median(pieces[piece] / pieces["products"] for _, pieces in rounds)
        for piece in PIECES
        if piece != "products"
    }
    shares["the rest"] = statistics.median(totals) - 1 - sum(shares.values())
    return Row(
        what=f"{NAMES[kind]} layer, {name}, forward at {label}",
        median=statistics.median(totals), low=low, high=high, rounds=len(rounds),
        note=", ".join(f"{piece} {number(share)}" for piece, share in shares.items() if share),
    )  # fmt: skip


def broken_down(
    call: Callable[[], object],
    *,
    pieces: Mapping[str, tuple[tuple[object, str], ...]],
    clock: Callable[[], float],
) -> tuple[float, dict[str, float]]:
    """Seconds of a call, and of each of its parts.

    Args:
        call: what is timed.
        pieces: part → (owner, attribute) of the functions that do it; one inside another counts as the outer.
        clock: the seconds until now.
    """
    spent = dict.fromkeys(pieces, 0.0)
    inside: list[str] = []

    def timed(piece: str, do: Callable) -> Callable:
        def run(*given, **named):
            if inside:
                return do(*given, **named)
            inside.append(piece)
            begun = clock()
            try:
                return do(*given, **named)
            finally:
                spent[piece] += clock() - begun
                inside.pop()

        return run

    with ExitStack() as stack:
        for piece, places in pieces.items():
            for owner, attribute in places:
                stack.enter_context(patch.object(owner, attribute, timed(piece, getattr(owner, attribute))))
        begun = clock()
        call()
        return clock() - begun, spent
