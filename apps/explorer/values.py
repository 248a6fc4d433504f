"""The numbers of the view: as a table, or as arrays."""

import io
import json
from dataclasses import asdict
from typing import Any

import numpy as np

from apps.explorer.evidence import shown_evidence
from apps.explorer.questions import OfView
from apps.explorer.state import RunResult
from emma_viz import __version__
from emma_viz.maps import ActivationMaps
from emma_viz.session import Comparison, View
from emma_viz.session.payload import KIND_WORDS

LETTERS = "ABCDEFGH"


def as_csv(result: RunResult, comparison: Comparison, view: OfView, evidence: dict[str, Any] | None) -> bytes:
    """A row for each patch of each model at the layer on the page; what is above the table begins with `#`.

    Columns: which model, its layer, whether the lens beats its control there (yes, no, or empty where that is not
    known), the patch, its value, that of the true pixels, and the evidence for the word on the page, if there is one.

    Args:
        result: what is shown.
        comparison: its image alone.
        view: what of it.
        evidence: of the word on the page; None without one.
    """
    maps = _maps(comparison, view)
    words = shown_evidence(evidence, comparison, view.layers) if evidence else [None] * len(maps)
    lines = [f"# {json.dumps(_about(result, comparison, view), ensure_ascii=False)}"]
    lines.append("model,layer,beats_control,row,column,value,true_value,evidence")
    for letter, each, layer, word in zip(LETTERS, maps, view.layers, words, strict=False):
        at = each.layers.index(layer)
        beats = {True: "yes", False: "no", None: ""}[each.decoding.verdicts[at].beats]
        rows, columns = each.decoding.grid
        for row in range(rows):
            for column in range(columns):
                numbers = [each.values[at, 0, row, column], each.true[0, row, column]]
                said = [str(number) for number in numbers] + ["" if word is None else str(word[row, column])]
                lines.append(",".join([letter, str(layer), beats, str(row), str(column), *said]))
    return ("\n".join(lines) + "\n").encode("utf-8")


def as_npz(result: RunResult, comparison: Comparison, view: OfView, evidence: dict[str, Any] | None) -> bytes:
    """Arrays, for each model under its letter A, B, …; `about` is JSON that says what they are.

    `A_values` "layer row column" float32, `A_layers`, `A_shown` (the layer on the page), `A_limits` "layer 2",
    `A_true` "row column", `A_beats_control` "layer" (1, 0, or −1 where it is not known), `A_evidence` "row column" nats
    while a word's is shown.

    Arguments as for `as_csv`.
    """
    maps = _maps(comparison, view)
    words = shown_evidence(evidence, comparison, view.layers) if evidence else [None] * len(maps)
    about = json.dumps(_about(result, comparison, view), ensure_ascii=False)
    arrays: dict[str, Any] = {"about": np.array(about)}
    for letter, each, layer, word in zip(LETTERS, maps, view.layers, words, strict=False):
        beats = [-1 if verdict.beats is None else int(verdict.beats) for verdict in each.decoding.verdicts]
        found = {
            "values": each.values[:, 0],
            "layers": np.array(each.layers),
            "shown": np.array(layer),
            "limits": each.limits[:, 0],
            "true": each.true[0],
            "beats_control": np.array(beats, np.int8),
        }
        arrays |= {f"{letter}_{name}": value for name, value in found.items()}
        arrays |= {} if word is None else {f"{letter}_evidence": word}
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def _maps(comparison: Comparison, view: OfView) -> tuple[ActivationMaps, ...]:
    return comparison.maps(View(map_kind=view.kind, scale=view.scale))


def _about(result: RunResult, comparison: Comparison, view: OfView) -> dict[str, Any]:
    return {
        "made by": f"the explorer of emma_viz {__version__}",
        "asked": asdict(result.asked),
        "map": view.kind,
        "meaning": KIND_WORDS[view.kind][1],
        "scale": view.scale,
        "models": {
            letter: {
                "name": name,
                "model": each.model.name,
                "fingerprint": each.model.fingerprint,
                "lens": each.lens.describe(),
                "site": each.site,
                "forced": list(each.forced_reasons),
            }
            for letter, name, each in zip(LETTERS, result.names, comparison.decodings, strict=False)
        },
    }
