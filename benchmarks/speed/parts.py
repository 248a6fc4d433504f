"""Where the time of a layer and of a generated token goes: products, convolution, recurrence, norm, timed inside."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.kernels import SIZES, our_mixer, run
from benchmarks.speed import models
from benchmarks.speed.layers import NAMES, Kind
from benchmarks.speed.rows import Row, number
from emma_viz import kernels
from emma_viz.models import norms
from emma_viz.models.mixers import mamba1, mamba2
from emma_viz.models.vlm import TextNetwork

Pieces = Mapping[str, tuple[tuple[object, str], ...]]
ROUNDS = {"a1": 100, "b": 30, "c": 8}
ROUNDS_OF_BOTH = {"a1": 60, "b": 15}
"""Forward and backward."""
STEPS = 60
PIECES: Pieces = {
    "products": ((functional, "linear"), (kernels, "linear")),
    "convolution": ((mamba1, "convolve"), (mamba2, "convolve")),
    "recurrence": ((mamba1, "selective_scan"), (mamba2, "ssd")),
    "norm and gate": ((norms.GatedRMSNorm, "forward"),),
}
"""A part of a layer → the functions that do it."""
PIECES_OF_A_STEP: Pieces = {
    "products": PIECES["products"],
    "convolution": PIECES["convolution"],
    "recurrence": ((mamba1, "selective_scan_step"), (mamba2, "ssd_step")),
    "norms": ((norms.GatedRMSNorm, "forward"), (norms.RMSNorm, "forward")),
}
"""The same of a generated token, whose products have the table of words among them."""


def parts() -> Iterator[Row]:
    """A row for each layer and size: the whole in multiples of its products, and its parts in the same measure."""
    for dtype, name in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
        for kind in NAMES:
            for label in ROUNDS:
                if dtype == torch.float32 or label != "a1":
                    yield _layer(kind, label, dtype, f"{name}, forward", rounds=ROUNDS[label])
    for kind in NAMES:
        for label, rounds in ROUNDS_OF_BOTH.items():
            yield _layer(kind, label, torch.float32, "fp32, forward + backward", rounds=rounds)
    for kind in NAMES:
        for batch in (1, 8):
            yield _step(kind, batch)


def _layer(kind: Kind, label: str, dtype: torch.dtype, words: str, *, rounds: int) -> Row:
    size = SIZES[label]
    mixer = our_mixer(kind, size, "auto").to(dtype)
    x = torch.randn(size.batch, size.length, size.width, dtype=dtype)
    call = partial(run, mixer, x, "backward" in words)
    return _row(f"{NAMES[kind]} layer, {words} at {label}", call, PIECES, rounds=rounds)


@torch.no_grad()
def _step(kind: Kind, batch: int) -> Row:
    """One token of the 130M models, as `generate` computes it."""
    model = models.small(kind, layers=models.LAYERS, width=models.WIDTH, vocab=models.ROWS_OF_TABLE)
    network, cache = TextNetwork(model).eval(), model.new_cache()
    ids = torch.randint(0, models.ROWS_OF_TABLE, (batch, models.PROMPT))
    network(None, ids, cache=cache, logits="last")

    def call() -> None:
        network(None, ids[:, :1], cache=cache, logits="last")

    what = f"{NAMES[kind]} 130M, fp32, a generated token at batch {batch}"
    return _row(what, call, PIECES_OF_A_STEP, rounds=STEPS)


def _row(what: str, call: Callable[[], object], pieces: Pieces, *, rounds: int) -> Row:
    call()
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    found = [broken_down(call, pieces=pieces, clock=clock) for _ in range(rounds)]
    totals = [whole / spent["products"] for whole, spent in found]
    low, _, high = statistics.quantiles(totals, n=4)
    shares = {
        piece: statistics.median(spent[piece] / spent["products"] for _, spent in found)
        for piece in pieces
        if piece != "products"
    }
    shares["the rest"] = statistics.median(totals) - 1 - sum(shares.values())
    return Row(
        what=what, median=statistics.median(totals), low=low, high=high, rounds=len(found),
        note=", ".join(f"{piece} {number(share)}" for piece, share in shares.items() if share),
    )  # fmt: skip


def broken_down(
    call: Callable[[], object], *, pieces: Pieces, clock: Callable[[], float]
) -> tuple[float, dict[str, float]]:
    """Seconds of a call, and of each of its parts, the gradient of each among them where the call goes back.

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
            way_back = _WayBack(spent, piece, clock)
            given, named = way_back.leaving(given), way_back.leaving(named)
            inside.append(piece)
            begun = clock()
            try:
                found = do(*given, **named)
            finally:
                spent[piece] += clock() - begun
                inside.pop()
            return way_back.entering(found)

        return run

    with ExitStack() as stack:
        for piece, places in pieces.items():
            for owner, attribute in places:
                stack.enter_context(patch.object(owner, attribute, timed(piece, getattr(owner, attribute))))
        begun = clock()
        call()
        return clock() - begun, spent


class _WayBack:
    """Times the gradient of one call of a part.

    Autograd goes back in the order in which its nodes were made, latest first. So a node around each output begins the
    part's gradient, and those around its inputs end it, with nothing of another part between. Weights are left bare:
    adding to their gradients belongs to the part.
    """

    def __init__(self, spent: dict[str, float], piece: str, clock: Callable[[], float]):
        self._spent, self._piece, self._clock = spent, piece, clock
        self._begun: float | None = None

    def entering(self, found: Any) -> Any:
        """What a part gave."""
        return self._marked(found, self._begin)

    def leaving(self, given: Any) -> Any:
        """What a part is given."""
        return self._marked(given, self._end)

    def _begin(self) -> None:
        if self._begun is None:
            self._begun = self._clock()

    def _end(self) -> None:
        now = self._clock()
        if self._begun is not None:
            self._spent[self._piece] += now - self._begun
        self._begun = now

    def _marked(self, value: Any, mark: Callable[[], None]) -> Any:
        if isinstance(value, dict):
            return {name: self._marked(each, mark) for name, each in value.items()}
        if isinstance(value, tuple):
            return tuple(self._marked(each, mark) for each in value)
        if isinstance(value, Tensor) and value.requires_grad and not isinstance(value, nn.Parameter):
            return _Mark.apply(value, mark)
        return value


class _Mark(torch.autograd.Function):
    """A tensor as it is; `mark` is called when its gradient is known."""

    @staticmethod
    def forward(ctx, value, mark):
        ctx.mark = mark
        return value.view_as(value)

    @staticmethod
    def backward(ctx, *gradients):
        ctx.mark()
        return *gradients, None
