"""What the page shows of words: the image tokens that they depend on, and what they lose without a place."""

import base64
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from apps.explorer.news import News
from apps.explorer.offer import LENS_METHODS
from apps.explorer.places import translate
from apps.explorer.questions import OfPlaceOfWord, OfWord
from apps.explorer.running import require_live, too_slow
from apps.explorer.state import Models, Phrase, RunResult
from emma_viz.capture import Trace
from emma_viz.checkpoints import LoadedModel
from emma_viz.errors import InputError
from emma_viz.evidence.attribution import attribute, falls_without
from emma_viz.evidence.mixers.frozen import decompose
from emma_viz.evidence.regions import places_alike
from emma_viz.evidence.verdict import judge
from emma_viz.maps.scale import evidence_scale
from emma_viz.progress import Progress
from emma_viz.render.figures.map_rows import evidence_said
from emma_viz.render.footer import number
from emma_viz.session import Comparison

_OTHERS = 19
"""Other places of the same shape that a place is compared with, where the grid has as many."""


def phrase_of(asked: OfWord, method: str) -> Phrase:
    """Under what the evidence of some words is kept: row, first and last word, and method."""
    last = asked.word if asked.last is None else asked.last
    return asked.model, asked.word, last, asked.method or method


def word_evidence(
    result: RunResult, models: Models, asked: OfWord, method: str, news: News
) -> dict[str, Any]:
    """The evidence of words in every row, which the result then keeps, so that it can be saved as it was seen.

    Returns:
        {models: [float32 maps as base64, one a row, or one a layer of it], layered, parts, scores, scored, limit,
        negligible, meaning, id, method, help, judged, beats, weak}

    Raises:
        InputError: the result comes from a study, or there is no such word or method.
    """
    key = phrase_of(asked, method)
    if key[-1] not in LENS_METHODS:
        raise InputError(f"There is no evidence {key[-1]!r} here; choose one of {', '.join(LENS_METHODS)}.")
    if key not in result.evidence:
        said = (_frozen if key[-1] == "frozen" else _attributed)(result, models, key, news)
        name, meaning = LENS_METHODS[key[-1]]
        result.evidence[key] = {"id": key[-1], "method": name, "help": meaning, **said}
    return result.evidence[key]


def shown_evidence(reply: dict[str, Any], comparison: Comparison, layers: Sequence[int]) -> list[np.ndarray]:
    """The map (R, C) of each row that the page shows at some layers, one a row; the last one where none is named."""
    found = []
    for index, (each, packed) in enumerate(zip(comparison.decodings, reply["models"], strict=True)):
        values = np.frombuffer(base64.b64decode(packed), "<f4").reshape(-1, *each.grid)
        layer = layers[index] if index < len(layers) else each.layers[-1]
        found.append(values[each.layers.index(layer) if reply["layered"] else 0])
    return found


def without_place(
    result: RunResult, models: Models, asked: OfPlaceOfWord, method: str, news: News
) -> dict[str, Any]:
    """What the words lose without a place of the image, beside what they lose without other places of its shape.

    Returns:
        {models: a row each, {fall, low, high, others, beats}, nats, None for what is no number or cannot be compared;
        None where a row has no such place}

    Raises:
        InputError: the result comes from a study, or there is no such word or place.
    """
    key = phrase_of(asked, method)
    require_live(result)
    grids = [each.geometry[result.sample] for each in result.comparison.decodings]
    top, left, bottom, right = asked.region
    if not 0 <= asked.row < len(grids):
        raise InputError("There is no such row.")
    rows, columns = grids[asked.row].grid
    if not (0 <= top <= bottom < rows and 0 <= left <= right < columns):
        raise InputError("There is no such place in the image.")
    sets: dict[str, list[np.ndarray]] = {}
    for label, grid in zip(result.models, grids, strict=True):
        place = translate(asked.region, grids[asked.row], grid)
        if place is None:
            continue
        own = np.zeros(grid.grid, bool)
        own[place[0] : place[2] + 1, place[1] : place[3] + 1] = True
        others = places_alike(own, count=_OTHERS, seed=result.asked.image_hash)
        sets[label] = [np.flatnonzero(each.ravel()) for each in (own, *others)]

    def measure(label, model, trace, before, word, say):
        if label not in sets:
            return None
        return falls_without(
            model, trace.images[0], trace.prompts[0], sets[label], before=before, word=word, progress=say
        )

    found = _each_model(result, models, key, news, measure)
    return {"models": [_compared(found[label]) for label in result.models]}


def _compared(falls: list[float] | None) -> dict[str, Any] | None:
    if not falls:
        return None
    own, *others = [_finite(each) for each in falls]
    known = [each for each in others if each is not None]
    return {
        "fall": own,
        "low": min(known, default=None),
        "high": max(known, default=None),
        "others": len(others),
        "beats": own > max(known) if known and own is not None and len(known) == len(others) else None,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


_Measure = Callable[[str, LoadedModel, Trace, Sequence[int], Sequence[int], Progress], Any]


def _each_model(
    result: RunResult,
    models: Models,
    key: Phrase,
    news: News,
    measure: _Measure,
) -> dict[str, Any]:
    """Label → what is measured of some words of one row's answer in every model, each model once.

    The other models score the same words after the same words before them, though they did not say them. Between two
    steps of a measurement others may use the models.

    Raises:
        InputError: the result comes from a study, or there are no such words.
    """
    require_live(result)
    row, first, last, _ = key
    if not (0 <= row < len(result.words) and 0 <= first <= last < len(result.words[row])):
        raise InputError("There is no such word in this answer.")
    start, stop = result.words[row][first].start, result.words[row][last].stop
    said = result.traces[row].answer_ids[0]
    found, count = {}, len({*result.models})

    def say(done: int, total: int, _message: str) -> None:
        models.running.let_others()
        news.say(len(found) * total + done, count * total, "measuring")

    with models.running:
        own = models.get(result.models[row]).tokenizer
        # As it was said: white space around the answer is shown to nobody, but models take it for text.
        text, spoken = own.decode(said[:start]), own.decode(said[start:stop])
        for label, trace in zip(result.models, result.traces, strict=True):
            if label in found:  # another row of the same model
                continue
            model = models.get(label)
            if label == result.models[row]:
                before, word = said[:start], said[start:stop]
            else:
                before, word = model.tokenizer.encode(text), model.tokenizer.encode(spoken)
            found[label] = measure(label, model, trace, before, word, say)
    return found


def _judged(result: RunResult, model: LoadedModel) -> int:
    """How many maps are compared with random sets together; 0 where that would take minutes."""
    return 0 if too_slow(model) else len({*result.models})


def _attributed(result: RunResult, models: Models, key: Phrase, news: News) -> dict[str, Any]:
    def measure(_label, model, trace, before, word, say):
        return attribute(
            model,
            trace.images[0],
            trace.prompts[0],
            before=before,
            word=word,
            method=key[-1],
            judged=_judged(result, model),
            progress=say,
        )

    by_label = _each_model(result, models, key, news, measure)
    found = [by_label[label] for label in result.models]
    scale = evidence_scale([each.values for each in found], [each.score for each in found])
    return {
        "models": [_packed(each.values) for each in found],
        "layered": False,
        "scores": [each.score for each in found],
        "scored": "log-probability",
        "limit": scale.limit,
        "negligible": scale.negligible,
        "meaning": evidence_said(scale),
        **_verdicts([each.verdict for each in found]),
    }


def _frozen(result: RunResult, models: Models, key: Phrase, news: News) -> dict[str, Any]:
    def measure(_label, model, trace, before, word, say):
        image, prompt = trace.images[0], trace.prompts[0]
        found = decompose(model, image, prompt, before=before, word=word)
        verdict = None
        if judged := _judged(result, model):

            def falls(sets: Sequence[np.ndarray]) -> list[float]:
                return falls_without(model, image, prompt, sets, before=before, word=word, progress=say)

            verdict = judge(found.image, falls, maps=judged)
        return found, verdict

    by_label = _each_model(result, models, key, news, measure)
    found = [by_label[label] for label in result.models]
    maps, parts = [], []
    for (each, _), decoding in zip(found, result.comparison.decodings, strict=True):
        tokens = each.image.size
        stages = [layer + 1 for layer in decoding.layers]  # what a block hands on is what the next one gets
        maps.append(each.content[stages, :tokens].reshape(-1, *each.image.shape))
        text, bias = each.content[stages, tokens:].sum(axis=1), [each.bias[stage:].sum() for stage in stages]
        parts.append(
            [
                [float(one), float(two), float(three)]
                for one, two, three in zip(maps[-1].sum(axis=(1, 2)), text, bias, strict=True)
            ]
        )
    scores = [each.score for each, _ in found]
    scale = evidence_scale(maps, scores)
    return {
        "models": [_packed(each) for each in maps],
        "layered": True,
        "parts": parts,
        "scores": scores,
        "scored": "logit less the mean",
        "limit": scale.limit,
        "negligible": scale.negligible,
        "meaning": f"at most {number(scale.most, 2)} nats through a token",
        **_verdicts([verdict for _, verdict in found]),
    }


def _verdicts(found: Sequence[Any]) -> dict[str, Any]:
    return {
        "judged": [each.said if each else "not judged" for each in found],
        "beats": [each.beats if each else None for each in found],
        "weak": any(each is None or not each.beats for each in found),
    }


def _packed(values: np.ndarray) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode()
