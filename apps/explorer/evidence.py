"""A word's evidence, as the page gets it."""

import base64
from typing import Any

from apps.explorer.news import News
from apps.explorer.offer import LENS_METHODS
from apps.explorer.questions import OfWord
from apps.explorer.running import explain
from apps.explorer.state import Models, RunResult
from emma_viz.maps.scale import evidence_scale
from emma_viz.render.figures.map_rows import evidence_said


def word_evidence(
    result: RunResult, models: Models, asked: OfWord, method: str, news: News
) -> dict[str, Any]:
    """A word's evidence in every model, which the result then keeps, so that it can be saved as it was seen.

    Returns:
        {models: [float32 maps as base64], scores, limit, negligible, meaning, method, help, judged, weak}
    """
    found = explain(result, models, asked.model, asked.word, method, news)
    name, meaning = LENS_METHODS[method]
    scale = evidence_scale([each.values for each in found], [each.score for each in found])
    reply = {
        "models": [base64.b64encode(each.values.astype("<f4").tobytes()).decode() for each in found],
        "scores": [each.score for each in found],
        "limit": scale.limit,
        "negligible": scale.negligible,
        "meaning": evidence_said(scale),
        "method": name,
        "help": meaning,
        "judged": [each.verdict.said if each.verdict else "not judged" for each in found],
        "weak": any(each.verdict is None or not each.verdict.beats for each in found),
    }
    result.evidence[asked.model, asked.word] = reply
    return reply
