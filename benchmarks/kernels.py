"""Time one Mamba layer per backend, as a multiple of its matrix products alone ("gemm", the floor).

    OMP_WAIT_POLICY=passive python -m benchmarks.kernels --sizes a1 a8 b --backends torch cpu

Everything runs in one process on the same weights and inputs; the column `transformers` is its layer without
compiled kernels. On a busy machine the ratios still hold: each run of a layer is divided by the run of the products
just before it, the median of those ratios is printed, and with one thread the clock is CPU time.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from emma_viz.cli.guard import guarded
from emma_viz.models.config import MambaConfig
from emma_viz.models.mixers.mamba1 import Mamba1Mixer
from emma_viz.models.mixers.mamba2 import Mamba2Mixer


@dataclass(frozen=True, kw_only=True)
class Size:
    """The width of a layer and the shape of its input."""

    width: int
    length: int
    batch: int


SIZES = {
    "a1": Size(width=192, length=256, batch=1),
    "a8": Size(width=192, length=256, batch=8),
    "b": Size(width=768, length=800, batch=1),
    "c": Size(width=2560, length=800, batch=1),
}
"""A pocket model, a batch of it, a 130M model, a 2.8B model."""

STATES: dict[Literal["mamba1", "mamba2"], int] = {"mamba1": 16, "mamba2": 128}

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Products(nn.Module):
    """The Linear layers of a mixer, one after the other on random inputs of their own."""

    def __init__(self, mixer: nn.Module, size: Size):
        super().__init__()
        linears = [module for module in mixer.modules() if isinstance(module, nn.Linear)]
        self.weights = nn.ParameterList(nn.Parameter(linear.weight.detach().clone()) for linear in linears)
        self.inputs = [
            torch.randn(size.batch, size.length, weight.shape[1], dtype=weight.dtype).requires_grad_()
            for weight in self.weights
        ]

    def forward(self, x: Tensor) -> list[Tensor]:
        """The products; `x` is not read."""
        return [functional.linear(x, w) for x, w in zip(self.inputs, self.weights, strict=True)]


def our_mixer(ssm: Literal["mamba1", "mamba2"], size: Size, backend: str) -> nn.Module:
    """A mixer of emma_viz with random weights."""
    torch.manual_seed(0)
    config = MambaConfig(d_model=size.width, n_layer=1, vocab_size=16, ssm=ssm, d_state=STATES[ssm])
    return (Mamba1Mixer if ssm == "mamba1" else Mamba2Mixer)(config, layer=0, backend=backend)


def transformers_mixer(ssm: Literal["mamba1", "mamba2"], size: Size) -> nn.Module:
    """The layer of transformers of the same sizes, without compiled kernels."""
    if ssm == "mamba1":
        from transformers import MambaConfig as Config
        from transformers.models.mamba.modeling_mamba import MambaMixer as Mixer

        return Mixer(Config(hidden_size=size.width, state_size=STATES[ssm], num_hidden_layers=1), layer_idx=0)
    from transformers import Mamba2Config as Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer as Mixer

    config = Config(
        hidden_size=size.width, state_size=STATES[ssm], num_hidden_layers=1, head_dim=64, n_groups=1,
        num_heads=2 * size.width // 64, chunk_size=256,
    )  # fmt: skip
    return Mixer(config, layer_idx=0)


def run(module: Callable[[Tensor], Tensor], x: Tensor, backward: bool) -> None:
    """One pass."""
    with torch.set_grad_enabled(backward):
        outputs = module(x.clone().requires_grad_(backward))
    if backward:
        outputs = outputs if isinstance(outputs, list) else [outputs]
        torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])


def compare(
    calls: Mapping[str, Callable[[], None]], floor: Callable[[], None], *, rounds: int, budget: float
) -> tuple[float, dict[str, float]]:
    """The floor's best time in seconds, and the median ratio of each call to the run of the floor just before it.

    Slow calls sit out once they have had their share of the budget in seconds.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter

    def seconds(call: Callable[[], None]) -> float:
        start = clock()
        call()
        return clock() - start

    spent = dict.fromkeys(calls, 0.0)
    ratios: dict[str, list[float]] = {name: [] for name in calls}
    for call in [floor, *calls.values()]:
        call()
    best = seconds(floor)
    for _ in range(rounds):
        for name, call in calls.items():
            if len(ratios[name]) >= 3 and spent[name] > budget:
                continue
            below, time_taken = seconds(floor), seconds(call)
            best, spent[name] = min(best, below), spent[name] + time_taken
            ratios[name].append(time_taken / below)
    return best, {name: statistics.median(found) for name, found in ratios.items()}


def measure(arguments: argparse.Namespace) -> None:
    """Measure and print the table."""
    dtype = DTYPES[arguments.dtype]
    names = [*arguments.backends, *([] if arguments.no_transformers else ["transformers"])]
    print(f"{'layer':8} {'size':5} {'pass':9} {'gemm ms':>9}  " + "  ".join(f"{name:>12}" for name in names))
    for ssm in arguments.layers:
        for label in arguments.sizes:
            size = SIZES[label]
            x = torch.randn(size.batch, size.length, size.width, dtype=dtype)
            modules = {name: our_mixer(ssm, size, name) for name in arguments.backends}
            if not arguments.no_transformers:
                modules["transformers"] = transformers_mixer(ssm, size)
            products = Products(our_mixer(ssm, size, "auto").to(dtype), size)
            for backward in [False] if arguments.forward_only else [False, True]:
                calls = {
                    name: partial(run, module.to(dtype), x, backward) for name, module in modules.items()
                }
                floor = partial(run, products, x, backward)
                gemm, ratios = compare(calls, floor, rounds=arguments.rounds, budget=arguments.budget)
                row = "  ".join(f"{ratios[name]:12.2f}" for name in names)
                kind = "fwd+bwd" if backward else "fwd"
                print(f"{ssm:8} {label:5} {kind:9} {1e3 * gemm:9.2f}  {row}", flush=True)


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["a1", "a8", "b"])
    parser.add_argument("--layers", nargs="+", choices=STATES, default=list(STATES))
    parser.add_argument("--backends", nargs="+", default=["torch", "cpu"], help="of emma_viz.kernels")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--budget", type=float, default=5.0, help="seconds of measuring a cell")
    parser.add_argument("--no-transformers", action="store_true")
    parser.add_argument("--forward-only", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    measure(arguments)


if __name__ == "__main__":
    sys.exit(guarded(main, program="python -m benchmarks.kernels"))
