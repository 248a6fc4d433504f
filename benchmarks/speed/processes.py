"""What a user waits for: a figure from a new process, a training step, memory, a capture of more and more images."""

import math
import os
import resource
import statistics
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
from benchmarks.speed.models import LENGTHS
from benchmarks.speed.rows import Row, interleaved, number, of, ratios
from emma_viz.capture import SITES
from emma_viz.data.tabletop import draw_scene, make_scene
from emma_viz.models import VLM
from emma_viz.models.config import MambaConfig, VLMConfig
from emma_viz.models.mixers.mamba1 import Mamba1Mixer
from emma_viz.models.mixers.mamba2 import Mamba2Mixer
from training.vision_language.batch import BatchImages, TextBatch, TrainingBatch
from training.vision_language.recipe import training_recipe
from training.vision_language.task import VisionLanguageTask

COUNTS = (1, 1000, 10_000)
FIGURES, FIGURE_THREADS = 3, 2
ROUNDS = 3
"""Of what is measured in processes of its own."""


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
            "OMP_NUM_THREADS": str(FIGURE_THREADS),
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
    """A training step of the pocket EMMAs, whole and of the language model alone, against transformers' mixers."""
    for name in ("emma-v1-pocket", "emma-v2-pocket"):
        recipe = training_recipe(name)
        torch.manual_seed(0)
        task = VisionLanguageTask(VLM(recipe.config()), recipe.objective)
        batch = _drawn(task.vlm.config)
        ids = torch.randint(0, task.vlm.config.llm.vocab_size, (4, 257))

        def whole(task: VisionLanguageTask, batch: TrainingBatch = batch) -> Tensor:
            return task(batch, labels=batch.n_labels, images=len(batch.text.ids))[0]

        def language(task: VisionLanguageTask, ids: Tensor = ids) -> Tensor:
            scores = task.vlm.llm(ids[:, :-1])
            return functional.cross_entropy(scores.flatten(0, 1), ids[:, 1:].flatten())

        theirs = on_their_mixers(task)
        for loss, words, goal in (
            (whole, f"a whole training step of {name} (4 images of {task.vlm.config.n_image_tokens} tokens, "
             f"{batch.text.ids.shape[1]} of text; encoders' features known)", 8.0),
            (language, f"a training step of {name}'s language model alone (4 × 256 tokens)", None),
        ):  # fmt: skip
            times = interleaved(
                {
                    "ours": lambda loss=loss, task=task: _step(task, loss(task)),
                    "theirs": lambda loss=loss, theirs=theirs: _step(theirs, loss(theirs)),
                },
                rounds=4,
            )
            yield of(
                f"{words}: on transformers' mixers against ours",
                ratios(times, "theirs", "ours"), goal=goal, at_most=False,
            )  # fmt: skip


def on_their_mixers(task: VisionLanguageTask) -> VisionLanguageTask:
    """A copy with a mixer of transformers, of the same sizes, for each of ours: the fusion's and decoder's too."""
    theirs = deepcopy(task)
    for module in list(theirs.modules()):
        mixer = getattr(module, "mixer", None)
        if isinstance(mixer, Mamba1Mixer | Mamba2Mixer):
            module.mixer = Adapter(_their_mixer(mixer.config))
    return theirs


def _drawn(config: VLMConfig) -> TrainingBatch:
    """Four images, whose features the encoders have computed, with a made-up conversation about each."""
    count, length, side = 4, 32, config.vision.patch
    ids = torch.randint(0, config.llm.vocab_size, (count, length))
    text = TextBatch(ids=ids, labels=ids.roll(-1, dims=1), lengths=torch.full((count,), length))
    images = BatchImages(
        pixels=None,
        features=torch.randn(count, math.prod(config.vision.grid), config.vision.width),
        patches=torch.rand(count, config.n_image_tokens, side, side, 3),
        usable=torch.ones(count, dtype=torch.bool),
    )
    return TrainingBatch(text=text, images=images)


def _step(task: VisionLanguageTask, loss: Tensor) -> None:
    """Go back, and descend a little."""
    loss.backward()
    with torch.no_grad():
        for weight in task.parameters():
            if weight.grad is not None:
                weight.sub_(1e-4 * weight.grad)
                weight.grad = None


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
            for _ in range(ROUNDS):
                plain, (peak, kept) = peaks(kind)[0], peaks(kind, *sites)
                found.append((peak, plain, kept))
            yield of(
                f"{name}, 24 layers, 800 tokens: recording {words}: peak memory, against "
                "the plain pass's and the bytes kept",
                [peak / (plain + kept) for peak, plain, kept in found], goal=1.0,
                note=", ".join(f"{part:.0f}" for part in found[0]) + " MB: peak, plain, kept",
            )  # fmt: skip


_PASS = """
import sys, torch
from benchmarks.memory import peak
from benchmarks.speed.models import small
kind, tokens = sys.argv[1], int(sys.argv[2])
model = small(kind, layers=2)
with torch.no_grad():
    model.backbone(torch.randn(1, tokens, 768))
print(peak())
"""
"""Run in a process of its own: the peak of a pass in MB."""


def lengths() -> Iterator[Row]:
    """The peak memory of a pass against its tokens."""
    for kind, name in NAMES.items():
        rounds = []
        for _ in range(ROUNDS):
            peaks = []
            for tokens in LENGTHS:
                done = subprocess.run(
                    [sys.executable, "-c", _PASS, kind, str(tokens)],
                    capture_output=True,
                    text=True,
                    check=True,
                )
                peaks.append(float(done.stdout))
            rounds.append(peaks)
        peaks = [statistics.median(each) for each in zip(*rounds, strict=True)]
        each = 1024 * (peaks[-1] - peaks[0]) / (LENGTHS[-1] - LENGTHS[0])
        yield of(
            f"{name}, 2 layers, {LENGTHS[0]} … {LENGTHS[-1]} tokens: peak memory of the most against the fewest "
            f"({number(each)} kB a token)",
            [peaks[-1] / peaks[0] for peaks in rounds], note=", ".join(f"{p:.0f} MB" for p in peaks),
        )  # fmt: skip


def images() -> Iterator[Row]:
    """Captures of more and more images: the peak memory of the largest against the smallest, and time an image."""
    peaks, seconds = [], []
    for _ in range(ROUNDS):
        held, spent = [], []
        for count in COUNTS:
            with tempfile.TemporaryDirectory() as folder:
                draw_images(Path(folder) / "images", count)
                begun = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
                held.append(peak(Path(folder) / "images", "cobra-pocket", "maps"))
                spent.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - begun)
        peaks.append(held)
        seconds.append(spent)
    usual = [[statistics.median(each) for each in zip(*rounds, strict=True)] for rounds in (peaks, seconds)]
    each = (usual[1][-1] - usual[1][0]) / (COUNTS[-1] - COUNTS[0])
    yield of(
        f"capture of {COUNTS[0]}, {COUNTS[1]} and {COUNTS[2]} images: peak memory of the most against the fewest",
        [held[-1] / held[0] for held in peaks], note=", ".join(f"{p:.0f} MB" for p in usual[0]),
    )  # fmt: skip
    yield of(f"the same: of the most against {COUNTS[1]}", [held[-1] / held[1] for held in peaks])
    yield of(
        f"the same: worst residual of a line through the ends ({1000 * each:.0f} ms an image)",
        [_worst_residual(spent) for spent in seconds], unit="of it", note=", ".join(f"{s:.1f} s" for s in usual[1]),
    )  # fmt: skip


def _worst_residual(seconds: list[float]) -> float:
    """How far the seconds of `COUNTS` images are from a line through the fewest's and the most's, of what it says."""
    each = (seconds[-1] - seconds[0]) / (COUNTS[-1] - COUNTS[0])
    line = [seconds[0] + each * (count - COUNTS[0]) for count in COUNTS]
    return max(abs(found / said - 1) for found, said in zip(seconds, line, strict=True))
