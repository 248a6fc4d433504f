"""How long models take to answer: the protocol of the EMMA paper's Table 3."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from emma_viz.checkpoints import LoadedModel
from emma_viz.checkpoints.peers import PeerModel
from emma_viz.data import read_image
from emma_viz.data.tabletop import draw_scene, make_scene
from emma_viz.errors import InputError
from emma_viz.metrics.intervals import student
from emma_viz.models import generate
from emma_viz.progress import Progress
from emma_viz.session.benchmarks.tables import Cell, Interval, Table
from emma_viz.session.loading import free, load, require_loadable
from emma_viz.session.options import Running
from emma_viz.session.papers import TIMED_ON, latency_note, printed_rate

LATENCY_PROMPT = "Describe this image in detail"
"""As in Table 3."""
FORCED_TOKENS, REPEATS, WARM_UP = 256, 200, 3
"""Tokens of each answer, whatever they are; answers that are timed; answers before these, which are not."""


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds of one repeated thing."""

    seconds: np.ndarray

    def interval(self, scale: float = 1.0) -> Interval:
        """The mean, with Student's interval over the repeats."""
        low, high = student(self.seconds * scale)
        ends = {} if low is None or high is None else {"low": low, "high": high}
        return Interval(value=float(self.seconds.mean() * scale), **ends)


def latency(
    models: Sequence[str | Path | LoadedModel],
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
        models: loaded, or as `run_benchmark` takes them.
        image: what is shown; a drawn scene when None.
        tokens: of each answer.
        repeats: answers that are timed, after WARM_UP that are not.
        running: how the models are loaded.
        progress: called as answers are given.

    Raises:
        InputError: a number is below 1, or the image cannot be used.
        EmmaVizError: a model cannot be loaded.
    """
    require_counts(tokens=tokens, repeats=repeats)
    shown = what_is_shown(image)
    for source in models:
        require_loadable(source, running)
    rows, notes = [], []
    for source in models:
        model = load(source, running, progress)
        rows.append(_timed(model, shown, tokens, repeats, progress))
        notes += [f"{model.name}: {note}." for note in model.notes]
        del model
        free(source)
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
            f"N_avg in the paper ({TIMED_ON})",
            "to first token (s)",
        ),
        rows=tuple(rows),
        notes=(
            f"“{LATENCY_PROMPT}”, batch 1, from pixels to the last token; after {WARM_UP} that are not timed.",
            latency_note(),
            *notes,
        ),
    )


def _timed(
    model: LoadedModel, shown: Image.Image, tokens: int, repeats: int, progress: Progress | None
) -> tuple[Cell, ...]:
    """The line of one model."""
    device, first = device_of(model), []
    answer, n_image_tokens = _forced(model, shown, tokens)

    def once() -> None:
        begun = time.perf_counter()

        def hear() -> None:
            _wait(device)
            first.append(time.perf_counter() - begun)

        answer(hear)

    times = repeated(once, repeats, device, progress, f"timing {model.name}")
    rate = Times(seconds=tokens / times.seconds).interval()
    per_second = Interval(value=tokens / float(times.seconds.mean()), low=rate.low, high=rate.high)
    # The paper's numbers are of 256 tokens.
    printed = None if isinstance(model, PeerModel) or tokens != FORCED_TOKENS else printed_rate(model.config)
    return (
        model.name,
        where_it_runs(model),
        n_image_tokens,
        repeats,
        times.interval(),
        per_second,
        None if printed is None else Interval(value=printed.tokens_per_second),
        Times(seconds=np.array(first[WARM_UP:])).interval(),
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


@torch.no_grad()
def repeated(
    do: Callable[[], object], repeats: int, device: torch.device, progress: Progress | None, what: str
) -> Times:
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
    return Times(seconds=np.array(seconds[WARM_UP:]))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def what_is_shown(image: Path | None) -> Image.Image:
    """An image of a file, or a drawn scene."""
    return read_image(draw_scene(make_scene("test", 0)).image if image is None else image)


def device_of(model: LoadedModel) -> torch.device:
    """Where a model is, whoever runs it."""
    return model.peer.device if isinstance(model, PeerModel) else model.vlm.device


def where_it_runs(model: LoadedModel) -> str:
    """The same in words, with the kind of its numbers."""
    device = device_of(model)
    where = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{torch.get_num_threads()} CPU threads"
    )
    return f"{where}, {model.info.dtype}"


def require_counts(**numbers: int) -> None:
    """Refuse counts below 1.

    Raises:
        InputError: one is.
    """
    for name, number in numbers.items():
        if number < 1:
            raise InputError(f"{name} must be at least 1, got {number}.")
