"""One layer against its own matrix products, and beside it the layers of others."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.kernels import SIZES, Products, our_mixer, run, transformers_mixer
from benchmarks.speed import references
from benchmarks.speed.rows import Row, interleaved, of, ratios
from emma_viz.models.mixers import mamba1, mamba2

Kind = Literal["mamba1", "mamba2"]
GOALS: dict[tuple[Kind, bool], dict[str, float]] = {
    ("mamba1", False): {"a1": 1.45, "b": 1.08, "c": 1.05},
    ("mamba1", True): {"a1": 1.5, "b": 1.15},
    ("mamba2", False): {"a1": 1.7, "b": 1.15, "c": 1.08},
    ("mamba2", True): {"a1": 2.2, "b": 1.3},
}
"""By layer and whether the backward pass is timed too: at most so many times the products, by size."""
HALF_GOALS = {"b": 1.25, "c": 1.10}
NAMES: dict[Kind, str] = {"mamba1": "Mamba-1", "mamba2": "Mamba-2"}


def layers() -> Iterator[Row]:
    """Our layers in fp32."""
    for (kind, backward), goals in GOALS.items():
        for label, goal in goals.items():
            yield _layer(kind, label, backward, goal, torch.float32)


def halves() -> Iterator[Row]:
    """Our layers in bf16, forward; and against products in fp32, which shows a cliff where a CPU has no bf16 units."""
    for kind in NAMES:
        for label, goal in HALF_GOALS.items():
            yield _layer(kind, label, False, goal, torch.bfloat16)
        size = SIZES["b"]
        x = torch.randn(size.batch, size.length, size.width)
        mixer = our_mixer(kind, size, "auto")
        half = our_mixer(kind, size, "auto").bfloat16()
        times = interleaved(
            {
                "products": partial(run, Products(mixer, size), x, False),
                "half": partial(run, half, x.bfloat16(), False),
            },
            rounds=30,
            budget=8.0,
        )
        yield of(
            f"{NAMES[kind]} layer in bf16, forward at b, against the products in fp32",
            ratios(times, "half", "products"),
        )


def peers() -> Iterator[Row]:
    """Others' layers against ours; the backward pass at a1 alone, for at b a round of transformers takes minutes."""
    if not importlib.util.find_spec("mambapy"):
        print("left out: mambapy is not installed here (pip install mambapy)", file=sys.stderr)
    for kind in NAMES:
        for label, passes in (("a1", (False, True)), ("b", (False,))):
            for backward in passes:
                size = SIZES[label]
                x = torch.randn(size.batch, size.length, size.width)
                calls: dict[str, Callable[[], None]] = {
                    name: partial(run, module, x, backward)
                    for name, module in _others(kind, label, backward).items()
                }
                times = interleaved(
                    {"ours": partial(run, our_mixer(kind, size, "auto"), x, backward), **calls}, rounds=9
                )
                for name in calls:
                    yield of(
                        f"{name}, {NAMES[kind]} {_pass(backward)} at {label}, against ours",
                        ratios(times, name, "ours"),
                    )


def _layer(kind: Kind, label: str, backward: bool, goal: float, dtype: torch.dtype) -> Row:
    size = SIZES[label]
    mixer = our_mixer(kind, size, "auto").to(dtype)
    x = torch.randn(size.batch, size.length, size.width, dtype=dtype)
    times = interleaved(
        {
            "products": partial(run, Products(mixer, size), x, backward),
            "layer": partial(run, mixer, x, backward),
        },
        rounds=60,
        budget=8.0,
    )
    short = "" if dtype == torch.float32 else ", bf16"
    return of(
        f"{NAMES[kind]} layer{short}, {_pass(backward)} at {label}",
        ratios(times, "layer", "products"),
        goal=goal,
    )


def _pass(backward: bool) -> str:
    return "forward + backward" if backward else "forward"


def on_their_reference(kind: Kind, mixer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A pass of our layer with mamba_ssm's reference in place of our scan or SSD."""
    place, name, theirs = {
        "mamba1": (mamba1, "selective_scan", references.selective_scan_ref),
        "mamba2": (mamba2, "ssd", references.ssd_minimal_discrete),
    }[kind]
    with patch.object(place, name, theirs):
        return mixer(x)


def _others(kind: Kind, label: str, backward: bool) -> dict[str, Callable[[Tensor], Tensor]]:
    size = SIZES[label]
    theirs = {"mamba1": "selective_scan_ref", "mamba2": "ssd_minimal_discrete"}[kind]
    found: dict[str, Callable[[Tensor], Tensor]] = {
        "transformers": transformers_mixer(kind, size),
        f"our layer on mamba_ssm's `{theirs}` (written anew)": partial(
            on_their_reference, kind, our_mixer(kind, size, "auto")
        ),
    }
    if not backward:
        found["our own sequential loop (`reference`)"] = our_mixer(kind, size, "reference")
    if kind == "mamba1" and importlib.util.find_spec("mambapy"):
        mambapy = importlib.import_module("mambapy.mamba")

        found["mambapy"] = mambapy.MambaBlock(mambapy.MambaConfig(d_model=size.width, n_layers=1))
    return found
