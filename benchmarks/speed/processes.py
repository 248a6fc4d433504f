"""What a user waits for: a figure from a new process, a training step, a capture of more and more images."""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.capture_memory import draw_images, peak
from benchmarks.speed.layers import NAMES
from benchmarks.speed.rows import Row, interleaved, of, ratios
from emma_viz.capture import SITES
from emma_viz.data.tabletop import draw_scene, make_scene
from emma_viz.models import PRESETS, MambaLM
from emma_viz.models.config import MambaConfig

COUNTS = (1, 1000, 10_000)
FIGURES = 3


def figure() -> Iterator[Row]:
    """A comparison of the pocket pair from a new process to the saved PNG, on two threads."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Image.fromarray(draw_scene(make_scene("test", 0)).image).save(folder / "scene.png")
        first, later, said = [], [], b""
        for number in range(FIGURES):
            place = folder / f"cache-{number}"
            spent, said = _figure(folder, place)
            first.append(spent)
            later.append(_figure(folder, place)[0])
        words = said.decode().strip().splitlines()
        line = next((each for each in words if "compiling" in each), "says nothing")
        yield of(
            "pocket pair, new process to saved PNG, the first time ever: CPU seconds", [cpu for cpu, _ in first],
            unit="s", goal=9.0, note=f"{line.split(' (')[0]}; {min(wall for _, wall in first):.1f} s on the clock",
        )  # fmt: skip
        yield of(
            "pocket pair, new process to saved PNG, after the first time: CPU seconds", [cpu for cpu, _ in later],
            unit="s", goal=4.0, note=f"{min(wall for _, wall in later):.1f} s on the clock",
        )  # fmt: skip


def _figure(folder: Path, place: Path) -> tuple[tuple[float, float], bytes]:
    """CPU and clock seconds of one call, and what it said."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "emma_viz",
                "figure",
                str(folder / "scene.png"),
                "--models",
                "cobra-pocket",
            ),
            *("emma-v1-pocket", "--out", str(folder / "figure.png")),
        ],
        env={
            **os.environ,
            "NUMBA_CACHE_DIR": str(place),
            "OMP_NUM_THREADS": "2",
            "OMP_WAIT_POLICY": "passive",
        },
        capture_output=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr.decode(errors="replace"))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return (spent, time.perf_counter() - begun), done.stderr


class Adapter(nn.Module):
    """A mixer of transformers where one of ours is called."""

    def __init__(self, mixer: nn.Module):
        super().__init__()
        self.mixer = mixer

    def forward(self, x: Tensor, cache: None = None, lengths: None = None) -> Tensor:
        """Mix."""
        return self.mixer(x)


def _their_mixer(config: MambaConfig) -> nn.Module:
    sizes: dict[str, Any] = {
        "hidden_size": config.d_model, "state_size": config.d_state, "expand": config.expand, "num_hidden_layers": 1,
    }  # fmt: skip
    if config.ssm == "mamba1":
        from transformers import MambaConfig as Config
        from transformers.models.mamba.modeling_mamba import MambaMixer as Mixer

        return Mixer(Config(**sizes), layer_idx=0)
    from transformers import Mamba2Config as Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer as Mixer

    heads = {"num_heads": config.n_heads, "head_dim": config.headdim, "n_groups": config.ngroups}
    return Mixer(Config(**sizes, **heads), layer_idx=0)


def training() -> Iterator[Row]:
    """A training step of the pocket EMMAs' language models, against the same model on transformers' mixers."""
    for name in ("emma-v1-pocket", "emma-v2-pocket"):
        config = PRESETS[name]().llm
        torch.manual_seed(0)
        ours = MambaLM(config)
        theirs = deepcopy(ours)
        for block in theirs.backbone.layers:
            block.mixer = Adapter(_their_mixer(config))
        ids = torch.randint(0, config.vocab_size, (4, 257))

        def step(model: MambaLM, ids: Tensor = ids) -> None:
            scores = model(ids[:, :-1])
            functional.cross_entropy(scores.flatten(0, 1), ids[:, 1:].flatten()).backward()
            with torch.no_grad():
                for weight in model.parameters():
                    if weight.grad is not None:
                        weight.sub_(1e-4 * weight.grad)
                        weight.grad = None

        times = interleaved(
            {
                "ours": lambda ours=ours, step=step: step(ours),
                "theirs": lambda theirs=theirs, step=step: step(theirs),
            },
            rounds=4,
        )
        yield of(
            f"a training step of {name}'s language model (4 × 256 tokens): on transformers' mixers against ours",
            ratios(times, "theirs", "ours"), goal=8.0, at_most=False,
        )  # fmt: skip


_RECORDING = """
import sys, torch
from benchmarks.memory import peak
from benchmarks.speed.models import small
from emma_viz.capture import SITES, Recorder
from contextlib import nullcontext
kind, sites = sys.argv[1], sys.argv[2:]
model = small(kind, layers=24)
recorder = Recorder(model, sites) if sites else nullcontext()
with torch.no_grad(), recorder:
    model.backbone(torch.randn(1, 800, 768))
kept = sum(recorder[key].nbytes for key in recorder) if sites else 0
print(peak(), kept)
"""
"""Run in a process of its own: its peak in MB, and the bytes that the recorder kept."""


def memory() -> Iterator[Row]:
    """The peak memory of a recording, against that of the plain pass and the bytes kept."""

    def peaks(*arguments: str) -> tuple[float, float]:
        done = subprocess.run(
            [sys.executable, "-c", _RECORDING, *arguments], capture_output=True, text=True, check=True
        )
        peak, kept = map(float, done.stdout.split())
        return peak, kept / 2**20

    for kind, name in NAMES.items():
        for words, sites in (("all sites", tuple(SITES)), ("resid_post", ("resid_post",))):
            found = []
            for _ in range(3):
                plain, (peak, kept) = peaks(kind)[0], peaks(kind, *sites)
                found.append((peak, plain, kept))
            yield of(
                f"{name}, 24 layers, 800 tokens: recording {words}: peak memory, against "
                "the plain pass's and the bytes kept",
                [peak / (plain + kept) for peak, plain, kept in found], goal=1.0,
                note=", ".join(f"{part:.0f}" for part in found[0]) + " MB: peak, plain, kept",
            )  # fmt: skip


def images() -> Iterator[Row]:
    """Captures of more and more images: the peak memory of the largest against the smallest, and time an image."""
    peaks, seconds = [], []
    for count in COUNTS:
        with tempfile.TemporaryDirectory() as folder:
            draw_images(Path(folder) / "images", count)
            begun = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
            peaks.append(peak(Path(folder) / "images", "cobra-pocket", "maps"))
            seconds.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - begun)
    each = (seconds[-1] - seconds[0]) / (COUNTS[-1] - COUNTS[0])
    line = [seconds[0] + each * (count - COUNTS[0]) for count in COUNTS]
    worst = max(abs(found / said - 1) for found, said in zip(seconds, line, strict=True))
    yield of(
        f"capture of {COUNTS[0]}, {COUNTS[1]} and {COUNTS[2]} images: peak memory of the most against the fewest",
        [peaks[-1] / peaks[0]], note=", ".join(f"{p:.0f} MB" for p in peaks),
    )  # fmt: skip
    yield of(
        f"the same: worst residual of a line through the ends ({1000 * each:.0f} ms an image)", [worst],
        unit="of it", note=", ".join(f"{s:.1f} s" for s in seconds),
    )  # fmt: skip
