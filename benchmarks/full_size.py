"""A 3B model of made-up weights from its files to an answer: time and memory of each stage, and a table by layer.

    OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive python -m benchmarks.full_size                    # both Mambas, bf16
    python -m benchmarks.full_size --models cobra-3b --device cuda --json full.json
    python -m benchmarks.full_size --repeats 3 --json full.json                                 # medians and spread
    python -m benchmarks.full_size --models tiny-cobra --device cpu --dtype float32             # seconds: a dry run

The weights are written as a run directory by one process and read by another, so that the peak that the system tells is
that of loading and running. Takes 8 GB of disk and, on a CPU, 16 GB of memory. The floor is what the model's own matrix
products take, run once more on inputs of their sizes. Layers by tenths of the depth and the parts of a recording are of
a recording of their own, so that looking costs the timed one nothing. A repetition is a new process on the same files.
"""

import argparse
import gc
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.module import register_module_forward_pre_hook

from benchmarks.memory import forget_peak, peak
from benchmarks.speed.machine import machine
from benchmarks.speed.models import made_up_lens
from benchmarks.speed.parts import PIECES, broken_down
from benchmarks.speed.rows import number, of
from emma_viz import decode, figure
from emma_viz.capture import record
from emma_viz.checkpoints import LoadedModel, load_model, save_run_directory, save_vision_encoder
from emma_viz.cli.guard import guarded
from emma_viz.data.tokenizer import train_tokenizer
from emma_viz.kernels.backends import BACKENDS
from emma_viz.lens.fitting.fit import RidgeSettings
from emma_viz.lens.ridge import RidgeLens
from emma_viz.models import PRESETS, VLM
from emma_viz.models.meta import on_meta
from emma_viz.session.fitting import fit_ridge

PROMPT = "Is there a cup on the table?"
TOKENS = 16
HEADING = "| what | seconds | middle half | |\n|---|---|---|---|"
FITTED = 4
"""Images that a lens is fitted on: the sums that it keeps are as large for 500."""
ENCODER = "encoder.safetensors"
_STEP = math.log(math.expm1(0.01))
"""The bias of a step size of 0.01."""


@torch.no_grad()
def make_files(name: str, folder: Path, dtype: torch.dtype) -> None:
    """Write a preset's model with made-up weights, its encoders and a tokenizer of bytes."""
    tokenizer = train_tokenizer(["a cup on a table"], vocab_size=258)
    config = PRESETS[name]()
    rows = max(config.llm.vocab_size, tokenizer.vocab_size)  # a tiny preset has fewer
    with on_meta():
        vlm = VLM(replace(config, llm=replace(config.llm, vocab_size=rows)))
    noise = torch.randn(2**24, generator=torch.Generator().manual_seed(0)).to(dtype)
    state = {key: _made_up(key, like, noise) for key, like in vlm.state_dict().items()}
    save_run_directory(folder, vlm.config, state, tokenizer=tokenizer)
    vlm.vision.load_state_dict(
        {key.removeprefix("vision."): value for key, value in state.items() if key.startswith("vision.")},
        assign=True,
    )
    save_vision_encoder(folder / ENCODER, vlm.vision)


def _made_up(key: str, like: Tensor, noise: Tensor) -> Tensor:
    """Weights whose sizes are those of a model before training."""
    last = key.rpartition(".")[2]
    if last == "A_log":
        rates = (
            torch.arange(1, like.shape[-1] + 1).log()
            if like.ndim == 2
            else torch.linspace(0, 2, like.shape[0])
        )
        return rates.expand(like.shape).to(noise.dtype).contiguous()
    if last == "D" or (like.ndim == 1 and last == "weight"):
        return torch.ones(like.shape, dtype=noise.dtype)
    if like.ndim == 1:
        return torch.full(like.shape, _STEP if "dt_" in key else 0.0, dtype=noise.dtype)
    repeated = noise.repeat(-(-like.numel() // noise.numel()))[: like.numel()].view(like.shape)
    return repeated * (0.02 if "embedding" in key else like[0].numel() ** -0.5)


class Stages:
    """What each stage took: rows of `what`, `seconds`, and `numbers`, each by the words that it stands in."""

    def __init__(self, device: str):
        self.rows: list[dict[str, Any]] = []
        self._device = device

    def __call__(self, what: str, do: Callable[[], Any]) -> Any:
        """Run a stage and keep its seconds and its peak of memory (of all so far, where it cannot be begun anew)."""
        self.forget()
        begun = self.now()
        done = do()
        self.add(what, self.now() - begun, {"peak {} MB": self.peak()})
        return done

    def add(self, what: str, seconds: float, numbers: dict[str, float]) -> None:
        """Keep a row, and print it."""
        self.rows.append({"what": what, "seconds": seconds, "numbers": numbers})
        print(_line(_told(self.rows[-1])), flush=True)

    def note(self, numbers: dict[str, float]) -> None:
        """Keep more numbers of the last row, and print them."""
        self.rows[-1]["numbers"] |= numbers
        print(_told(self.rows[-1])["said"], flush=True)

    def now(self) -> float:
        """Seconds on the clock, the device having done what it was told."""
        if self._device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def forget(self) -> None:
        """Let the peak of memory begin anew."""
        gc.collect()
        forget_peak()
        if self._device == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def peak(self) -> float:
        """The most memory since, MB: the device's."""
        return torch.cuda.max_memory_allocated() / 2**20 if self._device == "cuda" else peak()


@torch.no_grad()
def run(name: str, folder: Path, *, device: str, dtype: str, backend: str = "auto") -> list[dict[str, Any]]:
    """Load, record, decode and answer; the rows of the table."""
    name = name if backend == "auto" else f"{name} on {backend} kernels"
    stages = Stages(device)
    model: LoadedModel = stages(
        f"{name}: load",
        lambda: load_model(
            folder, device=device, dtype=dtype, vision_source=folder / ENCODER, backend=backend
        ),
    )
    config, weights = model.config, sum(p.numel() * p.element_size() for p in model.vlm.parameters())
    draw = np.random.default_rng(0)
    image = Image.fromarray(draw.integers(0, 256, (384, 384, 3), dtype=np.uint8))
    record(model, image, PROMPT, generate=False, layers=[0])  # kernels are compiled or read
    trace = stages(
        f"{name}: record {config.llm.n_layer} layers", lambda: record(model, image, PROMPT, generate=False)
    )
    recorded, floor = stages.rows[-1]["seconds"], _products(model, image, device)
    stages.note({"{} × the products'": recorded / floor, "{} s the products alone": floor})
    lens = made_up_lens(layers=config.llm.n_layer, width=config.llm.d_model, patch=8, grid=config.grid)
    states = trace.states["resid_post"]
    stages(
        f"{name}: decode {config.llm.n_layer} layers",
        lambda: [lens.decode(_states(states, index, device), index) for index in range(config.llm.n_layer)],
    )
    del trace, states, lens
    _look_inside(stages, name, model, image)
    begun, *ends = stages(
        f"{name}: an image and {TOKENS} tokens", lambda: times_of_answer(model, image, stages.now)
    )
    # The pass over the image gives the first token; each of the others is a step.
    rate, limit = (len(ends) - 1) / (ends[-1] - ends[0]), 1 / _read(model.vlm.llm, device)
    stages.note(
        {
            "{} s until the first token": ends[0] - begun,
            "{} tokens a second after it": rate,
            "{} by reading the weights alone": limit,
            "{} of that": rate / limit,
            "weights {} MB": weights / 2**20,
        }
    )
    lens = _fit(stages, name, model)
    stages(f"{name}: a figure, from a recorded image to a file", _figure(model, image, lens, folder))
    return [_told(row) for row in stages.rows]


def _figure(model: LoadedModel, image: Image.Image, lens: RidgeLens, folder: Path) -> Callable[[], None]:
    """What draws a figure of an image, which is recorded at once."""
    trace = record(model, image, PROMPT, generate=False)
    return lambda: figure(decode(trace, lens).maps()).savefig(folder / "figure.png")


def _fit(stages: Stages, name: str, model: LoadedModel) -> RidgeLens:
    """A ridge lens of all layers on a few images: what one more costs beside its pass, and what solving costs once."""
    draw = np.random.default_rng(1)
    images = [
        Image.fromarray(draw.integers(0, 256, (384, 384, 3), dtype=np.uint8)) for _ in range(FITTED + 1)
    ]
    ends: list[float] = []
    passes = []
    for image in images[:2]:
        begun = stages.now()
        record(model, image, PROMPT, generate=False, layers=[0])
        passes.append(stages.now() - begun)
    for dtype in (torch.float64, torch.float32):
        ends.clear()
        lens = stages(
            f"{name}: a ridge lens of all layers, sums in {_word(dtype)}, {FITTED} images and one held out",
            lambda dtype=dtype: fit_ridge(
                model, images[:-1], heldout=images[-1:], fitted_on="noise", batch_size=1,
                on_batch=lambda _: ends.append(stages.now()), settings=RidgeSettings(dtype=dtype),
            ),
        )  # fmt: skip
        each = (ends[FITTED - 1] - ends[0]) / (FITTED - 1)
        stages.note(
            {
                "{} s an image": each,
                "{} × the speed of the passes alone": min(passes) / each,
                "solving and the image held out, once, {} s": ends[-1] - ends[FITTED - 1],
            }
        )
    return lens


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def times_of_answer(model: LoadedModel, image: Image.Image, now: Callable[[], float]) -> list[float]:
    """Answer with TOKENS tokens whatever they are; when that began, and when each was there."""
    from emma_viz.models import generate

    times = [now()]
    pixels = model.transform.pixels([image])
    ids = [model.tokenizer.encode(model.prompt(PROMPT))]
    generate(
        model.vlm, pixels, ids, max_new_tokens=TOKENS, eos_id=None, on_token=lambda *_: times.append(now())
    )
    return times


def _states(states: Any, index: int, device: str) -> Tensor:
    return torch.as_tensor(np.asarray(states[index])).to(device)


def _look_inside(stages: Stages, name: str, model: LoadedModel, image: Image.Image) -> None:
    """A recording in which the layers and the parts are timed: rows of both."""
    layers: list[tuple[float, float]] = []  # seconds of a layer, and the peak of memory behind it

    def timed(forward: Callable) -> Callable:
        def run(*given, **named):
            begun = stages.now()
            out = forward(*given, **named)
            layers.append((stages.now() - begun, stages.peak()))
            return out

        return run

    pieces = {"encoders": ((model.vlm.vision, "forward"),), **PIECES}
    with ExitStack() as stack:
        # In place of hooks, of which a recording says that they may alter the model.
        for block in model.vlm.llm.backbone.layers:
            stack.enter_context(patch.object(block, "forward", timed(block.forward)))
        stages.forget()
        whole, spent = broken_down(
            lambda: record(model, image, PROMPT, generate=False), pieces=pieces, clock=stages.now
        )
    spent["the rest"] = whole - sum(spent.values())
    stages.add(
        f"{name}: a recording by its parts, each timed",
        whole,
        {f"{piece} {{}} s": seconds for piece, seconds in spent.items() if seconds},
    )
    for part in np.array_split(np.arange(len(layers)), min(10, len(layers))):
        seconds = float(np.mean([layers[i][0] for i in part]))
        stages.add(
            f"{name}: a layer, of layers {part[0]} – {part[-1]}",
            seconds,
            {"peak {} MB so far": layers[part[-1]][1]},
        )


def _products(model: LoadedModel, image: Image.Image, device: str) -> float:
    """Seconds of the model's own matrix products over one image and prompt, encoders included."""
    seen: list[tuple[nn.Linear, torch.Size]] = []

    def noted(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        if isinstance(layer, nn.Linear):
            seen.append((layer, given[0].shape))

    hook = register_module_forward_pre_hook(noted)
    try:
        record(model, image, PROMPT, generate=False, layers=[0])
    finally:
        hook.remove()
    total = 0.0
    for layer, shape in seen:
        given = torch.randn(shape, dtype=layer.weight.dtype, device=device)
        begun = time.perf_counter()
        functional.linear(given, layer.weight)
        if device == "cuda":
            torch.cuda.synchronize()
        total += time.perf_counter() - begun
    return total


def _read(llm: nn.Module, device: str) -> float:
    """Seconds that reading the weights once takes."""
    begun = time.perf_counter()
    for weight in llm.parameters():
        weight.view(torch.int16 if weight.element_size() == 2 else torch.int32).amax()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def _told(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its numbers in words, as `said`."""
    return {**row, "said": "; ".join(words.format(number(found)) for words, found in row["numbers"].items())}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table of rows."""
    return "\n".join([HEADING, *map(_line, rows)])


def _line(row: dict[str, Any]) -> str:
    """The row of a Markdown table."""
    spread = f"{number(row['low'])} – {number(row['high'])}" if row.get("rounds", 1) > 1 else ""
    return f"| {row['what']} | {number(row['seconds'])} s | {spread} | {row['said']} |"


def joined(runs: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """One table of several runs' rows: medians, and of the seconds the first and third quartile and how often."""
    rows = []
    for same in zip(*runs, strict=True):
        found = of(same[0]["what"], [row["seconds"] for row in same])
        numbers = {
            words: statistics.median(row["numbers"][words] for row in same) for words in same[0]["numbers"]
        }
        spread = {"low": found.low, "high": found.high, "rounds": found.rounds}
        rows.append(_told({"what": found.what, "seconds": found.median, **spread, "numbers": numbers}))
    return rows


def whole(
    name: str,
    *,
    device: str,
    dtype: str,
    backend: str = "auto",
    repeats: int = 1,
    place: Path | None = None,
) -> list[dict[str, Any]]:
    """Make the files, run in processes of their own, and remove them; the rows, joined."""
    with tempfile.TemporaryDirectory(dir=place) as folder:
        common = ["--models", name, "--device", device, "--dtype", dtype, "--backend", backend]
        runs = []
        for stage in ("make", *["run"] * repeats):
            command = [sys.executable, "-m", "benchmarks.full_size", *common]
            subprocess.run([*command, "--files", folder, "--stage", stage], check=True)
            if stage == "run":
                runs.append(json.loads((Path(folder) / "rows.json").read_text()))
        return joined(runs)


def main(argv: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=PRESETS, default=["cobra-3b", "emma-v2-3b"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16")
    parser.add_argument("--backend", choices=["auto", *BACKENDS], default="auto", help="of the kernels")
    parser.add_argument("--repeats", type=int, default=1, help="processes that run a model's stages (1)")
    parser.add_argument("--place", type=Path, help="a folder with room for the weights")
    parser.add_argument("--json", type=Path, help="keep the rows in this file")
    parser.add_argument("--files", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--stage", choices=["make", "run"], help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.repeats < 1:
        parser.error(f"--repeats is how often a model is run, 1 or more; got {args.repeats}")
    ways: dict[str, Any] = {"device": args.device, "dtype": args.dtype, "backend": args.backend}
    if args.stage == "make":
        return make_files(args.models[0], args.files, getattr(torch, args.dtype))
    if args.stage == "run":
        rows = run(args.models[0], args.files, **ways)
        (args.files / "rows.json").write_text(json.dumps(rows))
        return None
    rows = [
        row for name in args.models for row in whole(name, **ways, repeats=args.repeats, place=args.place)
    ]
    card = torch.cuda.get_device_name() if args.device == "cuda" else args.device
    on = f"{args.dtype} on {card}, {args.repeats} × each; {machine()}"
    print(f"\n{table(rows)}\n\nMeasured in {on}.")
    if args.json:
        args.json.write_text(json.dumps({"machine": on, "rows": rows}, indent=1, ensure_ascii=False) + "\n")
    return None


if __name__ == "__main__":
    sys.exit(guarded(main, program="python -m benchmarks.full_size"))
