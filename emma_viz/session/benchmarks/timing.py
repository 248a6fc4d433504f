"""How long models take, and what of it each component takes: the protocols of the EMMA paper's Tables 3 and 7."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from emma_viz.checkpoints import LoadedModel
from emma_viz.checkpoints.peers import PeerModel
from emma_viz.data import read_image
from emma_viz.data.tabletop import draw_scene, make_scene
from emma_viz.errors import InputError, LensError
from emma_viz.heads.attention import CrossAttention
from emma_viz.heads.head import Head, build_head
from emma_viz.lens import load_lens
from emma_viz.lens.native import NativeLens
from emma_viz.metrics.intervals import student
from emma_viz.models import generate
from emma_viz.progress import Progress
from emma_viz.session.benchmarks.tables import Interval, Table
from emma_viz.session.catalogue import head_sizes
from emma_viz.session.loading import load
from emma_viz.session.options import Running

LATENCY_PROMPT = "Describe this image in detail"
"""As in Table 3."""
FORCED_TOKENS, REPEATS, WARM_UP = 256, 200, 3
"""Tokens of each answer, whatever they are; answers that are timed; answers before these, which are not."""
PAPER_LATENCY = (
    "The EMMA paper's Table 3, 256 tokens on an A100: EMMA-V2 149.96, EMMA-V1 and Cobra 138.95, TinyLLaVA 41.46, "
    "MobileVLM-V2 39.36 tokens/s."
)
PAPER_COMPONENTS = (
    "The EMMA paper's Table 7, parameters: ViT 731M, projector 47M, LLM 2.8B (V1) and 2.7B (V2), MFF 266M, of which CA "
    "105M, pixel decoder 174M."
)
_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class _Times:
    """Seconds of one repeated thing."""

    seconds: np.ndarray

    def interval(self, scale: float = 1.0) -> Interval:
        """The mean, with Student's interval over the repeats."""
        low, high = student(self.seconds * scale)
        ends = {} if low is None or high is None else {"low": low, "high": high}
        return Interval(value=float(self.seconds.mean() * scale), **ends)


def latency(
    models: Sequence[str | Path],
    *,
    image: Path | None = None,
    tokens: int = FORCED_TOKENS,
    repeats: int = REPEATS,
    running: Running = Running(),
    progress: Progress | None = None,
) -> Table:
    """Table 3: one image, one question, an answer of so many tokens whatever they are, again and again.

    What is timed begins with the pixels and ends with the last token; the image's file is read before.

    Args:
        models: as `run_benchmark` takes them.
        image: what is shown; a drawn scene when None.
        tokens: of each answer.
        repeats: answers that are timed, after WARM_UP that are not.
        running: how the models are loaded.
        progress: called as answers are given.

    Raises:
        InputError: a number is below 1, or the image cannot be used.
        EmmaVizError: a model cannot be loaded.
    """
    _require(tokens=tokens, repeats=repeats)
    shown = _shown(image)
    rows = []
    for source in models:
        model = load(source, running, progress)
        device, first = _device(model), []
        answer, n_image_tokens = _forced(model, shown, tokens)

        def timed(answer=answer, device=device, first=first) -> None:
            begun = time.perf_counter()

            def hear() -> None:
                _wait(device)
                first.append(time.perf_counter() - begun)

            answer(hear)

        times = _repeated(timed, repeats, device, progress, f"timing {model.name}")
        reading = _Times(seconds=np.array(first[WARM_UP:]))
        rate = _Times(seconds=tokens / times.seconds)
        per_second = Interval(
            value=tokens / float(times.seconds.mean()), low=rate.interval().low, high=rate.interval().high
        )
        rows.append(
            (model.name, _place(model), n_image_tokens, repeats, times.interval(), per_second,
             reading.interval())
        )  # fmt: skip
        del model, answer, timed
    return Table(
        name="latency",
        title=f"Time of {tokens} forced tokens to one image",
        columns=(
            "model",
            "where",
            "image tokens",
            "repeats",
            "T_avg (s)",
            "N_avg (tokens/s)",
            "to first token (s)",
        ),
        rows=tuple(rows),
        notes=(
            f"“{LATENCY_PROMPT}”, batch 1, from pixels to the last token; after {WARM_UP} that are not timed.",
            PAPER_LATENCY,
        ),
    )


def _forced(
    model: LoadedModel, shown: Image.Image, tokens: int
) -> tuple[Callable[[Callable[[], None]], object], int]:
    """What gives an answer of so many tokens, calling back at its first, and how many tokens the image becomes."""
    if isinstance(model, PeerModel):
        inputs = model.peer.inputs(shown, LATENCY_PROMPT)

        def ask(hear: Callable[[], None]) -> object:
            return model.peer.answer(
                inputs, max_new_tokens=tokens, temperature=0.0, top_p=1.0, seed=None, forced=True,
                on_first=lambda scores: hear(),
            )  # fmt: skip

        return ask, len(inputs.image)
    pixels = model.transform.pixels([shown])
    ids = [model.tokenizer.encode(model.prompt(LATENCY_PROMPT))]
    told = model.vlm.instruct([LATENCY_PROMPT])

    def answer(hear: Callable[[], None]) -> object:
        return generate(
            model.vlm, pixels, ids, max_new_tokens=tokens, eos_id=None, instruction=told,
            on_scores=lambda step, scores: None if step else hear(),
        )  # fmt: skip

    return answer, model.vlm.n_image_tokens


def component_costs(
    models: Sequence[str | Path],
    *,
    image: Path | None = None,
    repeats: int = 20,
    running: Running = Running(),
    progress: Progress | None = None,
) -> Table:
    """Table 7: parameters, time and memory of each component, for one image and LATENCY_PROMPT.

    Fusion and decoder are those of the model's native lens, or of its form with random weights, which take as long.

    Args:
        models: as `run_benchmark` takes them.
        image: what is shown; a drawn scene when None.
        repeats: passes that are timed, after WARM_UP that are not.
        running: how the models are loaded.
        progress: called as passes are made.

    Raises:
        InputError: `repeats` is below 1, the image cannot be used, or transformers' own class runs a model.
        EmmaVizError: a model cannot be loaded.
    """
    _require(repeats=repeats)
    shown = _shown(image)
    rows: list[tuple[Any, ...]] = []
    for source in models:
        model = load(source, running, progress)
        if isinstance(model, PeerModel):
            raise InputError(
                f"{model.name} runs through transformers' own class, whose parts are not timed one by one; "
                "`emma-viz benchmark latency` times all of it."
            )
        for name, module, do, note in _parts(model, model.transform.pixels([shown])):
            device = model.vlm.device
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
                before = torch.cuda.memory_allocated(device)
            times = _repeated(do, repeats, device, progress, f"timing {model.name}: {name}")
            peak = None
            if device.type == "cuda":
                peak = Interval(value=(torch.cuda.max_memory_allocated(device) - before) / _MIB)
            held = sum(each.numel() * each.element_size() for each in module.parameters()) / _MIB
            count = sum(each.numel() for each in module.parameters())
            rows.append((model.name, name, count, times.interval(1000.0), Interval(value=held), peak, note))
        del model
    return Table(
        name="components",
        title="Parameters, time and memory of each component",
        columns=(
            "model",
            "component",
            "parameters",
            "time (ms)",
            "weights (MiB)",
            "peak beside them (MiB)",
            "note",
        ),
        rows=tuple(rows),
        notes=(
            f"One image, “{LATENCY_PROMPT}”, one pass without an answer, after {WARM_UP} that are not timed. "
            "Memory beside the weights is measured on CUDA alone.",
            PAPER_COMPONENTS,
        ),
    )


_Part = tuple[str, nn.Module, Callable[[], object], str]


@torch.no_grad()
def _parts(model: LoadedModel, pixels: Sequence[Tensor]) -> Iterator[_Part]:
    """Name, module, what to time, and a note, for each component."""
    vlm = model.vlm
    shown = [each.to(vlm.device) for each in pixels]
    features = vlm.vision(shown)
    told = vlm.instruct([LATENCY_PROMPT])
    text = vlm.vision.read(told)
    tokens = vlm.projector(features, text)
    ids = torch.tensor([model.tokenizer.encode(model.prompt(LATENCY_PROMPT))], device=vlm.device)
    sequence = torch.cat([tokens, vlm.llm.embed(ids).to(tokens.dtype)], dim=1)
    yield "vision encoders (ViT)", vlm.vision, lambda: vlm.vision(shown), ""
    if vlm.vision.text is not None:
        yield "instruction encoder, part of ViT", vlm.vision.text, lambda: vlm.vision.read(told), ""
    yield "projector", vlm.projector, lambda: vlm.projector(features, text), ""
    yield "language model (LLM)", vlm.llm, lambda: vlm.states(sequence), ""
    head, note = _head(model)
    if head is None:
        return
    kind = next(head.parameters())
    taps = [tokens.to(kind.device, kind.dtype)] * head.config.n_taps
    yield "feature fusion (MFF)", head.fusion, lambda: head.fusion(taps), note
    asked = _inputs_of(head.fusion, lambda: head.fusion(taps))
    if asked:
        attention = nn.ModuleList(module for module, _ in asked)
        yield "cross-attention (CA), part of MFF", attention, lambda: [m(*given) for m, given in asked], note
    fused = head.fusion(taps)
    yield "pixel decoder", head.decoder, lambda: head.decoder(fused), note


def _inputs_of(module: nn.Module, do: Callable[[], object]) -> list[tuple[nn.Module, tuple[Any, ...]]]:
    """What each cross-attention inside is given when something is done."""
    found: list[tuple[nn.Module, tuple[Any, ...]]] = []
    hooks = [
        each.register_forward_pre_hook(lambda module, given: found.append((module, given)))
        for each in module.modules()
        if isinstance(each, CrossAttention)
    ]
    try:
        do()
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _head(model: LoadedModel) -> tuple[Head | None, str]:
    """The fusion and decoder of a model, on its device; None for one that was trained without."""
    if model.config.lens_form is None:
        return None, ""
    device = model.vlm.device
    try:
        lens = load_lens(model, "native")
    except LensError:
        lens = None
    if isinstance(lens, NativeLens):
        return lens.head.to(device), "of the native lens"
    sizes = head_sizes(model.config)
    if sizes is None:
        return None, ""
    weight = model.vlm.llm.backbone.embedding.weight
    return build_head(sizes).to(device, weight.dtype).eval(), "random weights: there is no native lens"


@torch.no_grad()
def _repeated(
    do: Callable[[], object], repeats: int, device: torch.device, progress: Progress | None, what: str
) -> _Times:
    """Seconds of each repeat, after WARM_UP that are not counted."""
    seconds = []
    for number in range(WARM_UP + repeats):
        _wait(device)
        begun = time.perf_counter()
        do()
        _wait(device)
        seconds.append(time.perf_counter() - begun)
        if progress is not None:
            progress(number + 1, WARM_UP + repeats, what)
    return _Times(seconds=np.array(seconds[WARM_UP:]))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _shown(image: Path | None) -> Image.Image:
    return read_image(draw_scene(make_scene("test", 0)).image if image is None else image)


def _device(model: LoadedModel) -> torch.device:
    return model.peer.device if isinstance(model, PeerModel) else model.vlm.device


def _place(model: LoadedModel) -> str:
    device = _device(model)
    where = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{torch.get_num_threads()} CPU threads"
    )
    return f"{where}, {model.info.dtype}"


def _require(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise InputError(f"{name} must be at least 1, got {number}.")
