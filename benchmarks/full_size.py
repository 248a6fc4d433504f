"""A 3B model of made-up weights from its files to an answer: time and memory of each stage, and a table by layer.

    OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive python -m benchmarks.full_size                    # both Mambas, bf16
    python -m benchmarks.full_size --models cobra-3b --device cuda --json full.json
    python -m benchmarks.full_size --models tiny-cobra --device cpu --dtype float32             # seconds: a dry run

The weights are written as a run directory by one process and read by another, so that the peak that the system tells is
that of loading and running. Takes 8 GB of disk and, on a CPU, 16 GB of memory. The floor is what the model's own matrix
products take, run once more on inputs of their sizes.
"""

import argparse
import gc
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.memory import forget_peak, peak
from benchmarks.speed.models import made_up_lens
from emma_viz import decode, figure
from emma_viz.capture import record
from emma_viz.checkpoints import LoadedModel, load_model, save_run_directory, save_vision_encoder
from emma_viz.cli.guard import guarded
from emma_viz.data.tokenizer import train_tokenizer
from emma_viz.lens.fitting.fit import RidgeSettings
from emma_viz.lens.ridge import RidgeLens
from emma_viz.models import PRESETS, VLM
from emma_viz.models.meta import on_meta
from emma_viz.session.fitting import fit_ridge

PROMPT = "Is there a cup on the table?"
TOKENS = 16
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
    """What each stage took."""

    def __init__(self, device: str):
        self.rows: list[dict[str, Any]] = []
        self._device = device

    def __call__(self, what: str, do: Any) -> Any:
        """Run a stage and keep its seconds and its peak of memory (of all so far, where it cannot be begun anew)."""
        gc.collect()
        forget_peak()
        if self._device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        begun = time.perf_counter()
        done = do()
        if self._device == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - begun
        memory = torch.cuda.max_memory_allocated() / 2**20 if self._device == "cuda" else peak()
        self.rows.append(
            {"what": what, "seconds": seconds, "said": f"peak {memory:.0f} MB", "memory": memory}
        )
        print(f"| {what} | {seconds:.2f} s | peak {memory:.0f} MB |", flush=True)
        return done


@torch.no_grad()
def run(name: str, folder: Path, *, device: str, dtype: str) -> list[dict[str, Any]]:
    """Load, record, decode and answer; the rows of the table."""
    stages = Stages(device)
    model: LoadedModel = stages(
        f"{name}: load",
        lambda: load_model(folder, device=device, dtype=dtype, vision_source=folder / ENCODER),
    )
    config, weights = model.config, sum(p.numel() * p.element_size() for p in model.vlm.parameters())
    draw = np.random.default_rng(0)
    image = Image.fromarray(draw.integers(0, 256, (384, 384, 3), dtype=np.uint8))
    record(model, image, PROMPT, generate=False, layers=[0])  # kernels are compiled or read
    spans: list[tuple[float, float]] = []
    hooks = [_timed(block, spans, device) for block in model.vlm.llm.backbone.layers]
    trace = stages(
        f"{name}: record {config.llm.n_layer} layers", lambda: record(model, image, PROMPT, generate=False)
    )
    for hook in (each for pair in hooks for each in pair):
        hook.remove()
    _say_deciles(spans)
    floor = _products(model, image, device)
    stages.rows[-1]["said"] += f"; {stages.rows[-1]['seconds'] / floor:.2f} × the products' {floor:.2f} s"
    print(stages.rows[-1]["said"])
    lens = made_up_lens(layers=config.llm.n_layer, width=config.llm.d_model, patch=8, grid=config.grid)
    states = trace.states["resid_post"]
    stages(
        f"{name}: decode {config.llm.n_layer} layers",
        lambda: [lens.decode(_states(states, index, device), index) for index in range(config.llm.n_layer)],
    )
    recorded = stages.rows[-2]["seconds"]
    del trace, states, lens
    answered = stages(f"{name}: an image and {TOKENS} tokens", lambda: model_answer(model, image))
    spent = stages.rows[-1]["seconds"] - recorded
    bound = _read(model.vlm.llm, device)
    stages.rows[-1]["said"] += (
        f"; {answered / max(spent, 1e-9):.2f} tokens a second after the image, reading the weights alone "
        f"would give {1 / bound:.2f}; weights {weights / 2**20:.0f} MB"
    )
    print(stages.rows[-1]["said"])
    lens = _fit(stages, name, model, device)
    stages(f"{name}: a figure, from a recorded image to a file", _figure(model, image, lens, folder))
    return stages.rows


def _figure(model: LoadedModel, image: Image.Image, lens: RidgeLens, folder: Path) -> Callable[[], None]:
    """What draws a figure of an image, which is recorded at once."""
    trace = record(model, image, PROMPT, generate=False)
    return lambda: figure(decode(trace, lens).maps()).savefig(folder / "figure.png")


def _fit(stages: Stages, name: str, model: LoadedModel, device: str) -> RidgeLens:
    """A ridge lens of all layers on a few images: what one more costs beside its pass, and what solving costs once."""
    draw = np.random.default_rng(1)
    images = [
        Image.fromarray(draw.integers(0, 256, (384, 384, 3), dtype=np.uint8)) for _ in range(FITTED + 1)
    ]
    ends: list[float] = []

    def now() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    passes = []
    for image in images[:2]:
        begun = now()
        record(model, image, PROMPT, generate=False, layers=[0])
        passes.append(now() - begun)
    for dtype in (torch.float64, torch.float32):
        ends.clear()
        lens = stages(
            f"{name}: a ridge lens of all layers, sums in {_word(dtype)}, {FITTED} images and one held out",
            lambda dtype=dtype: fit_ridge(
                model, images[:-1], heldout=images[-1:], fitted_on="noise", batch_size=1,
                on_batch=lambda _: ends.append(now()), settings=RidgeSettings(dtype=dtype),
            ),
        )  # fmt: skip
        each = (ends[FITTED - 1] - ends[0]) / (FITTED - 1)
        stages.rows[-1]["said"] += (
            f"; {each:.2f} s an image, {min(passes) / each:.2f} × the speed of the passes alone; "
            f"solving and the image held out, once, {ends[-1] - ends[FITTED - 1]:.1f} s"
        )
        print(stages.rows[-1]["said"])
    return lens


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def model_answer(model: LoadedModel, image: Image.Image) -> int:
    """Answer with TOKENS tokens whatever they are; how many those were."""
    from emma_viz.models import generate

    pixels = model.transform.pixels([image])
    ids = [model.tokenizer.encode(model.prompt(PROMPT))]
    return len(generate(model.vlm, pixels, ids, max_new_tokens=TOKENS, eos_id=None).ids[0])


def _states(states: Any, index: int, device: str) -> Tensor:
    return torch.as_tensor(np.asarray(states[index])).to(device)


def _timed(block: nn.Module, spans: list[tuple[float, float]], device: str) -> tuple[Any, Any]:
    def now(*_: Any) -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    begun: list[float] = []
    before = block.register_forward_pre_hook(lambda *_: begun.append(now()))
    after = block.register_forward_hook(lambda *_: spans.append((now() - begun.pop(), peak())))
    return before, after


def _say_deciles(spans: list[tuple[float, float]]) -> None:
    """Seconds a layer, and the peak of memory, by tenths of the depth."""
    print("\n| layers | seconds a layer | peak MB |\n|---|---|---|")
    for part in np.array_split(np.arange(len(spans)), min(10, len(spans))):
        seconds = np.mean([spans[i][0] for i in part])
        print(f"| {part[0]} – {part[-1]} | {seconds:.3f} | {spans[part[-1]][1]:.0f} |")
    print(flush=True)


def _products(model: LoadedModel, image: Image.Image, device: str) -> float:
    """Seconds of the model's own matrix products over one image and prompt, encoders included."""
    seen: list[tuple[nn.Linear, torch.Size]] = []
    hooks = [
        layer.register_forward_pre_hook(lambda layer, given: seen.append((layer, given[0].shape)))
        for layer in model.vlm.modules()
        if isinstance(layer, nn.Linear)
    ]
    record(model, image, PROMPT, generate=False, layers=[0])
    for hook in hooks:
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


def whole(name: str, *, device: str, dtype: str, place: Path | None = None) -> list[dict[str, Any]]:
    """Make the files, run in a process of its own, and remove them."""
    with tempfile.TemporaryDirectory(dir=place) as folder:
        common = ["--models", name, "--device", device, "--dtype", dtype, "--files", folder]
        for stage in ("make", "run"):
            subprocess.run(
                [sys.executable, "-m", "benchmarks.full_size", *common, "--stage", stage], check=True
            )
        return json.loads((Path(folder) / "rows.json").read_text())


def main(argv: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=PRESETS, default=["cobra-3b", "emma-v2-3b"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16")
    parser.add_argument("--place", type=Path, help="a folder with room for the weights")
    parser.add_argument("--json", type=Path, help="keep the rows in this file")
    parser.add_argument("--files", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--stage", choices=["make", "run"], help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.stage == "make":
        return make_files(args.models[0], args.files, getattr(torch, args.dtype))
    if args.stage == "run":
        rows = run(args.models[0], args.files, device=args.device, dtype=args.dtype)
        (args.files / "rows.json").write_text(json.dumps(rows))
        return None
    rows = [
        row
        for name in args.models
        for row in whole(name, device=args.device, dtype=args.dtype, place=args.place)
    ]
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))
    return None


if __name__ == "__main__":
    sys.exit(guarded(main, program="python -m benchmarks.full_size"))
