"""`emma-viz probe … --texts FILE`: language models alone, examined on the paragraphs of a file."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from emma_viz.capture import Trace, record
from emma_viz.capture.questions import TextModel, recordable
from emma_viz.checkpoints import LoadedLanguageModel, load_language_model
from emma_viz.errors import InputError
from emma_viz.files.json_door import read_bytes
from emma_viz.models.attention_sites import ALL_SITES
from emma_viz.progress import Progress
from emma_viz.session.options import Running
from probes.examination import layers_of, without_mixers
from probes.findings import differences, find
from probes.pages import report
from probes.parity import Check, check_of
from probes.protocol import Gathered, Result
from probes.text.reading import TEXT_PROBES, TextProbe

MOST_TEXT_TOKENS = 512
"""Tokens of a text that are read; what is behind is left out, and the report says so."""
LARGEST_TEXT = 64 * 2**20
"""Bytes of a file of texts."""
_ABOUT = "What the stream holds of a text, layer by layer."
_STEPS = 4


def read_texts(path: Path, count: int) -> list[str]:
    """The paragraphs of a text file, parted by empty lines; at most `count` of them.

    Raises:
        InputError: it is no regular file of at most LARGEST_TEXT bytes, cannot be read as UTF-8, or holds none.
    """
    try:
        whole = read_bytes(path, limit=LARGEST_TEXT, error=InputError).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected a text file in UTF-8 ({error}).") from error
    found = [" ".join(each.split()) for each in whole.replace("\r\n", "\n").split("\n\n")]
    if not (found := [each for each in found if each]):
        raise InputError(f"{path} holds no text; expected paragraphs, parted by empty lines.")
    return found[:count]


def report_on_texts(
    models: Sequence[str],
    path: Path,
    out: Path,
    *,
    count: int,
    layers: Sequence[int | str] | None,
    running: Running,
    progress: Progress | None = None,
) -> tuple[Path, ...]:
    """Examine one language model, or two, and write the report.

    Args:
        models: as `load_language_model` takes them; of a vision-language model its language model alone.
        path: the file of texts.
        out: where the report goes.
        count: texts at most.
        layers: to examine; all, or some of a deep model, when None.
        running: how the models are loaded.
        progress: called as texts are read.

    Returns:
        As `write_report`.

    Raises:
        InputError: the texts cannot be read, or a layer does not exist.
        CheckpointError: a model cannot be loaded.
    """
    started, texts = time.monotonic(), read_texts(path, count)
    seen, checked = [], []
    for source in models:
        model = load_language_model(
            source,
            device=running.device,
            dtype=running.dtype,
            backend=running.backend,
            tokenizer_source=running.tokenizer_source,
        )
        seen.append(examine_texts(model, texts, layers=layers, progress=progress))
        checked.append(text_checks(model, texts[0]))
        del model
    sections = []
    for probe in TEXT_PROBES:
        found = [each[probe.name] for each in seen if probe.name in each]
        if len(found) < len(models):
            continue
        measures = [probe.measures(each) for each in found]
        results = tuple(
            Result(gathered=each, findings=find(some)) for each, some in zip(found, measures, strict=True)
        )
        both = differences(*measures) if len(measures) == 2 else ()
        sections.append(report.Section(probe=probe, results=results, differences=both))
    made = report.Report(
        about=_ABOUT,
        models=tuple(each["next"].model for each in seen),
        checks=tuple(checked),
        images=f"{len(texts)} paragraphs of {path.name}",
        seen=len(texts),
        asked=len(texts),
        sections=tuple(sections),
        notes=tuple(_left_out(seen)),
        minutes=(time.monotonic() - started) / 60,
    )
    out.mkdir(parents=True, exist_ok=True)
    return report.write_report(made, out)


def _left_out(seen: Sequence[dict[str, Gathered]]) -> list[str]:
    return [
        without_mixers(probe.name, probe.sites)
        for probe in TEXT_PROBES
        if any(probe.name not in each for each in seen)
    ]


def examine_texts(
    model: LoadedLanguageModel,
    texts: Sequence[str],
    *,
    layers: Sequence[int | str] | None = None,
    probes: Sequence[TextProbe] = TEXT_PROBES,
    progress: Progress | None = None,
) -> dict[str, Gathered]:
    """What each probe that the examined layers have sites for keeps of some texts, by the probe's name.

    Args:
        model: from `load_language_model`, with its tokenizer.
        texts: read one at a time, their first MOST_TEXT_TOKENS tokens.
        layers: as `report_on_texts`.
        probes: which.
        progress: called as texts are read.

    Raises:
        InputError: the model was loaded without a tokenizer, a layer does not exist, or no probe has its sites there.
    """
    reader = recordable(model, images=False)
    assert isinstance(reader, TextModel), "a language model alone takes no images"
    if reader.tokenizer is None:
        raise InputError(f"{model.info.name} was loaded without a tokenizer; texts are read with one.")
    kept, notes = layers_of(model.info.n_layer, layers), dict[str, None]()
    mixers = tuple(layer for layer in kept if layer in model.info.mixer_layers)
    able = [probe for probe in probes if mixers or not probe.scan]
    if not able:
        raise InputError(" ".join(without_mixers(probe.name, probe.sites) for probe in probes))
    rows: dict[str, list] = {probe.name: [] for probe in able}
    sites = tuple(dict.fromkeys(site for probe in able for site in probe.sites))
    # A site that no block of several has is refused.
    there = mixers if all(ALL_SITES[site].in_mixer for site in sites) else kept
    for number, text in enumerate(texts):
        ids = reader.tokenizer.encode(text)
        if len(ids) > MOST_TEXT_TOKENS:
            notes[f"texts longer than {MOST_TEXT_TOKENS} tokens are read up to there"] = None
        trace = record(model, None, [ids[:MOST_TEXT_TOKENS]], sites=sites, layers=there, generate=False)
        for probe in able:
            rows[probe.name].append(probe.read(reader, trace, kept, number))
        if progress is not None:
            progress(number + 1, len(texts), f"reading with {model.info.name}")
    return {
        name: Gathered(
            model=model.info,
            layers=kept,
            columns={column: np.stack([each[column] for each in found]) for column in found[0]},
            sums={},
            images=len(texts),
            groups=0,
            notes=tuple(notes),
        )
        for name, found in rows.items()
    }


def text_checks(model: LoadedLanguageModel, text: str) -> tuple[Check, ...]:
    """Hooks that fired, and the cache against a full pass, on the first text."""
    reader = recordable(model, images=False)
    assert reader.tokenizer is not None, "examine_texts makes sure of it"
    ids = reader.tokenizer.encode(text)[:MOST_TEXT_TOKENS]
    trace: Trace = record(model, None, [ids], layers="all", generate=False)
    silent = [each.name for each in trace.hooks if not each.fired or each.finite is False]
    said = (
        f"{len(trace.hooks)} hooks, all fired, every state finite."
        if not silent
        else f"not so: {silent[:3]}."
    )
    fired = Check(name="hooks", passed=not silent, error=0.0, sentence=said)
    return fired, check_of("cache", _cache(model, ids), model.info.dtype,
                           "logits, token by token with a cache against one pass")  # fmt: skip


@torch.no_grad()
def _cache(model: LoadedLanguageModel, ids: Sequence[int]) -> float:
    """The largest difference of the last tokens' scores, over the largest score."""
    llm = model.llm
    whole = torch.tensor([list(ids)], device=llm.backbone.embedding.weight.device)
    at_once, cache = llm(whole)[0].float(), llm.new_cache()
    first = max(1, len(ids) - _STEPS)
    found = [llm(whole[:, :first], cache=cache)[0, -1]]
    found += [llm(whole[:, [place]], cache=cache)[0, -1] for place in range(first, len(ids))]
    apart = (torch.stack(found).float() - at_once[first - 1 :]).abs()
    return float(apart.max() / at_once.abs().max())
