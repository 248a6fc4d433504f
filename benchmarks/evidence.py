"""Time and peak memory of implicit attention and the frozen decomposition at full shape, with made-up weights.

    OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive python -m benchmarks.evidence
    python -m benchmarks.evidence --models cobra --layers 8 --length 200

The shapes are those of Cobra-3B (Mamba-1) and of EMMA-3B's second kind (Mamba-2). Every layer has the same random
weights, so that a machine without room for 3 billion can run it: time and the memory beyond the model are those of a
whole one. Each measurement is a process of its own, whose peak the system tells; what it held when its model was made
is taken off. On a machine with other jobs the seconds of the processor, over all threads, say more than those on the
clock.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

from benchmarks.memory import peak
from emma_viz.cli.guard import guarded
from emma_viz.evidence.mixers.frozen import decompose_states
from emma_viz.evidence.mixers.implicit_attention import attention_rows
from emma_viz.models import Block, MambaLM
from emma_viz.models.config import MambaConfig

MODELS = {
    "cobra": MambaConfig(d_model=2560, n_layer=1, vocab_size=64),
    "emma-v2": MambaConfig(d_model=2560, n_layer=1, vocab_size=64, ssm="mamba2", d_state=128),
}
"""The shape of a layer of the 3B models (Mamba-1 and Mamba-2)."""
LAYERS = 64
LENGTH = 800
"""729 image tokens and a prompt."""


Spent = tuple[float, float]
"""Seconds on the clock, and of the processor, over all threads."""


def _since(before: Spent | None = None) -> Spent:
    wall, busy = before or (0.0, 0.0)
    return time.perf_counter() - wall, time.process_time() - busy


def of_depth(llm: MambaLM, layers: int) -> MambaLM:
    """The same language model with its first layer so many times."""
    llm.backbone.layers = nn.ModuleList([llm.backbone.layers[0]] * layers)
    return llm


@torch.no_grad()
def rows(llm: MambaLM, embeddings: torch.Tensor, direction: torch.Tensor) -> Spent:
    """What the last position's row in every layer takes, along a direction; the model's own pass is not counted."""
    hidden, residual, spent = embeddings, None, (0.0, 0.0)
    for block in llm.backbone.layers:
        assert isinstance(block, Block)
        stream = hidden if residual is None else hidden + residual
        normed, started = block.norm(stream)[0], _since()
        attention_rows(block.mixer, normed, [len(normed) - 1]).along(direction)
        wall, busy = _since(started)
        spent = (spent[0] + wall, spent[1] + busy)
        hidden, residual = block(hidden, residual)
    return spent


def frozen(llm: MambaLM, embeddings: torch.Tensor, direction: torch.Tensor) -> Spent:
    """What the decomposition of one score over all tokens and biases takes, its passes included."""
    started = _since()
    decompose_states(llm, embeddings, direction[None])
    return _since(started)


METHODS: dict[str, Callable[[MambaLM, torch.Tensor, torch.Tensor], Spent]] = {
    "implicit attention": rows,
    "frozen": frozen,
}


def measure(
    name: str, method: str, layers: int, length: int, *, backend: str = "auto"
) -> tuple[float, float, float]:
    """Seconds, those of the processor, and MB at the peak beyond the model, of this process."""
    torch.manual_seed(0)
    llm = MambaLM(MODELS[name], backend=backend).eval()
    draw = torch.Generator().manual_seed(1)
    embeddings = torch.randn(1, length, llm.config.d_model, generator=draw) * 0.02
    direction = torch.randn(llm.config.d_model, generator=draw)
    METHODS[method](llm, embeddings[:, :8], direction)  # kernels are compiled here
    of_depth(llm, layers)
    before = peak()
    wall, busy = METHODS[method](llm, embeddings, direction)
    return wall, busy, peak() - before


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure each in a process of its own, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=tuple(MODELS), default=list(MODELS))
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=list(METHODS))
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--length", type=int, default=LENGTH, help="tokens of image and prompt")
    options = parser.parse_args(arguments)
    print(
        f"{'model':>10}{'method':>22}{'layers':>8}{'tokens':>8}{'seconds':>9}{'of processor':>14}"
        f"{'MB beyond the model':>21}"
    )
    for name in options.models:
        for method in options.methods:
            given = (name, method, options.layers, options.length)
            code = f"import json; from benchmarks.evidence import measure; print(json.dumps(measure(*{given!r})))"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            wall, busy, peak = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{name:>10}{method:>22}{options.layers:>8}{options.length:>8}{wall:>9.1f}{busy:>14.1f}{peak:>21.0f}",
                flush=True,
            )


if __name__ == "__main__":
    sys.exit(guarded(main, program="python -m benchmarks.evidence"))
