"""Travel: how far back a token's last state reaches, through content, through routing, and by decay alone."""

from collections.abc import Sequence

import numpy as np
import torch

from emma_viz.evidence.mixers.travel import decay_back, half_life, influence
from emma_viz.models import Block
from probes.causes.regions import case_of
from probes.charts import Chart, Lines
from probes.numbers import joined_parts, layer_chart, mean_measure, series_of
from probes.protocol import Batch, Finding, Gathered, Measure, Needs, Result, Seen

_BANDS = ((1, 3), (4, 7), (8, 15), (16, 31), (32, 63), (64, 127), (128, 255), (256, 4096))
"""Distances in tokens, from and to."""
_KINDS = {
    "free": "influence of the embeddings so far back",
    "held": "the same with the routing held",
    "decay": "what decay alone leaves of a write so far back",
}
_DRAWS, _QUICK_DRAWS = 8, 2
_EVERY = 8
"""With --quick, every so manieth image."""
_APART = 3
"""Patches of the row above that stand so many columns aside, or more, are no neighbours."""


class Travel:
    """The influence of image tokens on one of the last row, by distance."""

    name = "travel"
    title = "How far what a patch holds travels"
    question = "How many tokens back does a token's last state reach, and does it know its neighbour in the row above?"
    method = (
        "‖∂h_i/∂e_j‖ (Frobenius, Hutchinson's estimate) of the last state of the patch in the middle of the last row "
        "by the embeddings before it, as a share of that by its own; with the routing held it is what content alone "
        "does. Beside it the mean over channels, states and layers of exp(A ΣΔ), which is what a state would keep of "
        "a write, and the median half-life of channels, ln 2 / (|A| mean Δ). The model reads row by row: the patch "
        f"above is a row away; its control are patches of that row {_APART} columns or more aside, on both sides. A "
        "derivative is about small changes; a large influence may be of nothing that matters."
    )

    def needs(self) -> Needs:
        """Step sizes, and the model."""
        return Needs(sites=("delta",), live=True, scan=("delta",), apart=True)

    def see(self, batch: Batch) -> Seen:
        """Influences by distance, of each image; half-lives by layer."""
        layers = [layer for layer in batch.layers if layer >= 0]
        rows, notes = [], []
        for index in range(len(batch.subjects)):
            row: dict = {kind: np.full(len(_BANDS), np.nan) for kind in _KINDS}
            row |= {"above": np.nan, "aside": np.nan}
            row["lives"] = np.array([_median_life(batch, index, layer) for layer in layers])
            if batch.spares(index, _EVERY):
                notes.append(batch.said("influences", _EVERY))
            else:
                row |= _influences(batch, index, layers)
            rows.append(row)
        return joined_parts(rows, notes)

    def measures(self, gathered: Gathered) -> Sequence[Measure]:
        """Each kind by distance, the patch above, and half-lives by layer."""
        columns = gathered.columns
        if not columns:
            return []
        found = []
        for kind, said in _KINDS.items():
            for band, (near, far) in enumerate(_BANDS):
                found.append(
                    mean_measure(
                        columns[kind][:, band], name=_named(kind, band),
                        title=f"{said}, {near}–{far} tokens, of that at no distance",
                    )
                )  # fmt: skip
        found.append(
            mean_measure(
                columns["above"], columns["aside"], name="travel.above",
                title="influence of the patch above, of that of a token's own embedding",
                control_title="patches of the row above that are no neighbours",
            )
        )  # fmt: skip
        for index, layer in enumerate(layer for layer in gathered.layers if layer >= 0):
            found.append(
                mean_measure(
                    columns["lives"][:, index], name="travel.half_life", layer=layer, unit="tokens",
                    title="median half-life of what channels hold",
                )
            )  # fmt: skip
        return [each for each in found if each.columns["count"].any()]

    def plots(self, results: Sequence[Result]) -> Sequence[Chart]:
        """Influence by distance, one chart a model, and half-lives by layer."""
        drawn: list[Chart | None] = [_by_distance(result, index) for index, result in enumerate(results)]
        drawn.append(
            layer_chart(
                results, "travel.half_life", name="half-life", title="How long channels hold what was written",
                y_title="tokens", caption="Median over channels. Bands: 95 % over images.",
            )
        )  # fmt: skip
        return [each for each in drawn if each is not None]

    def summary(self, results: Sequence[Result]) -> str:
        """How far influence falls to a tenth of the nearest, and whether the patch above is known."""
        said = []
        for result in results:
            known = [(band, one) for band in range(len(_BANDS)) if (one := result.one(_named("free", band)))]
            if not known:
                continue
            low = [band for band, one in known if one.number.value < 0.1 * known[0][1].number.value]
            far = "at no distance in the image" if not low else f"from {_BANDS[low[0]][0]} tokens on"
            text = f"In {result.model} the influence of earlier patches is below a tenth of the nearest {far}"
            above = result.one("travel.above")
            if above is not None:
                verb = "has" if above.beats else "is not shown to have"
                text += f", and the patch above {verb} more of it than others of its row"
            said.append(f"{text}.")
        return " ".join(said)


def _named(kind: str, band: int) -> str:
    return f"travel.{kind}.{_BANDS[band][0]}"


def _median_life(batch: Batch, index: int, layer: int) -> float:
    assert batch.model is not None
    delta = batch.trace["delta", layer][index, : batch.patches.shape[1]]
    block = batch.model.vlm.llm.backbone.layers[layer]
    assert isinstance(block, Block)
    found = half_life(block.mixer, delta)
    return float(found.median()) if bool(torch.isfinite(found).all()) else float("nan")


def _influences(batch: Batch, index: int, layers: Sequence[int]) -> dict:
    assert batch.model is not None
    case = case_of(batch, index)
    rows, columns = batch.trace.geometry[index].grid
    at = (rows - 1) * columns + columns // 2
    embeddings = torch.cat([case.tokens, case.text], dim=1)
    llm, draws = case.vlm.llm, _QUICK_DRAWS if batch.quick else _DRAWS
    sizes = {
        kind: influence(
            llm, embeddings, at, draws=draws, held=kind == "held", seed=batch.subjects[index].number
        )
        for kind in ("free", "held")
    }
    kept = [
        decay_back(block.mixer, batch.trace["delta", layer][index, : case.count], at)
        for layer in layers
        if isinstance(block := llm.backbone.layers[layer], Block)
    ]
    sizes["decay"] = torch.stack(kept).mean(dim=0)
    shares = {kind: each.numpy()[: at + 1] / max(float(each[at]), 1e-30) for kind, each in sizes.items()}
    if not all(np.isfinite(each).all() for each in shares.values()):
        return {}
    distance = at - np.arange(at + 1)
    found: dict = {
        kind: np.array([_mean(each[(distance >= near) & (distance <= far)]) for near, far in _BANDS])
        for kind, each in shares.items()
    }
    if rows > 1:
        aside = np.abs(np.arange(columns) - columns // 2)
        reach = min(columns // 2, columns - 1 - columns // 2)
        above = shares["free"][(rows - 2) * columns : (rows - 1) * columns]
        found |= {
            "above": float(above[aside == 0][0]),
            "aside": _mean(above[(aside >= _APART) & (aside <= reach)]),
        }
    return found


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _by_distance(result: Result, index: int) -> Lines | None:
    curves: dict[str, list[Finding | None]] = {
        kind: [result.one(_named(kind, band)) for band in range(len(_BANDS))] for kind in _KINDS
    }
    known = [band for band, each in enumerate(curves["free"]) if each is not None]
    if not known:
        return None
    return Lines(
        name=f"distance-{index}",
        title=f"Influence by distance: {result.model}",
        x=[f"{_BANDS[band][0]}–{_BANDS[band][1]}" for band in known],
        x_title="tokens back",
        y_title="share of that at no distance",
        series=[
            series_of(_KINDS[kind], index, [one.number if (one := some[band]) else None for band in known],
                      control=kind == "decay")
            for kind, some in curves.items()
        ],
        caption="Of the middle patch of the last row. Dashed: by decay alone. Bands: 95 % over images.",
    )  # fmt: skip
