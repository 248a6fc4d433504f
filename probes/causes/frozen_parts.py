"""The frozen decomposition: through which tokens the answer's logit came, with the routing held as it was."""

from collections.abc import Sequence

import numpy as np

from emma_viz.evidence.mixers.frozen import decompose
from emma_viz.metrics.intervals import ratio
from probes.causes.regions import Means, case_of, region
from probes.charts import Chart
from probes.numbers import curve_chart, joined_parts, mean_measure, percent
from probes.protocol import Batch, Gathered, Measure, Needs, Result, Seen

_SOURCES = {
    "image": "comes through image positions",
    "text": "comes through text positions",
    "bias": "comes from biases",
}
_PARTS = tuple(_SOURCES)


class FrozenParts:
    """Shares of image, text and biases by layer; and how far a knock-out goes beyond them."""

    name = "frozen"
    title = "Content or gates: the answer's logit taken apart"
    question = (
        "How much of the difference between the answer's word and its rival came as content through image tokens, text "
        "tokens and biases, and how much does the image act through the routing instead?"
    )
    method = (
        "Step sizes, B, C, gates and norms are held as they were; the logit difference is then an exact sum over "
        "embeddings and convolution biases (Σ parts − logit is printed). It is not causal. Shares are sums over "
        "images of the part that pulls the way the answer went, over sums of the size of the logit difference. The "
        "selection effect is the fall when the object's tokens are replaced by the mean "
        "token of other images, less what the held routing predicts for the same replacement: what is left acts "
        "through step sizes, gates and norms."
    )

    def __init__(self):
        self._means = Means()

    def needs(self) -> Needs:
        """The model itself."""
        return Needs(live=True, scan=("delta", "B", "C"), apart=True)

    def see(self, batch: Batch) -> Seen:
        """The parts by layer, the remainder, and frozen against real replacement of the object's tokens."""
        rows, notes = [], []
        for index, subject in enumerate(batch.subjects):
            assert batch.model is not None
            case = case_of(batch, index)
            found = decompose(
                batch.model, subject.image, subject.prompt, word=[case.word], against=[case.against]
            )
            tokens = found.image.size
            parts = np.array(
                [
                    [
                        found.content[max(layer, 0), :tokens].sum(),
                        found.content[max(layer, 0), tokens:].sum(),
                        found.bias[max(layer, 0) :].sum(),
                    ]
                    for layer in batch.layers
                ]
            )
            if case.word == batch.model.tokenizer.eos_id:
                notes.append("some answers are empty: the word that is taken apart is the end of the answer")
            row = {"score": found.score, "remainder": abs(found.remainder), "parts": parts}
            rows.append(row | self._selection(batch, index, found.slope, found.image))
        if any(subject.words is None for subject in batch.subjects):
            notes.append(
                "nobody knows the true answers: the word is the likeliest first token, its rival the second"
            )
        return joined_parts(rows, notes)

    def _selection(self, batch: Batch, index: int, slope: np.ndarray, image: np.ndarray) -> dict[str, float]:
        """Frozen and real fall when the object's tokens become the mean token, and the object's part of the sizes."""
        place = region(batch.subjects[index], batch.trace.geometry[index])
        if place is None or not batch.others or batch.model is None:
            return dict.fromkeys(("frozen", "real", "inside", "area"), np.nan)
        case = case_of(batch, index)
        mean = self._means.of(batch.model, batch.others)
        where = np.flatnonzero(place)
        away = (case.tokens[0] - mean).float().cpu().numpy()
        before, after = case.scores([case.tokens[0], case.with_tokens(where.tolist(), mean)])
        size = np.abs((slope * away).sum(axis=1))
        return {
            "frozen": float((slope * away).sum(axis=1)[where].sum()),
            "real": before - after,
            "inside": float(size[where].sum() / size.sum()) if size.sum() else np.nan,
            "area": float(place.mean()),
        }

    def measures(self, gathered: Gathered) -> Sequence[Measure]:
        """Shares by layer, the exactness, and the selection effect."""
        columns = gathered.columns
        if not columns:
            return []
        found = [
            mean_measure(
                columns["remainder"],
                name="frozen.remainder",
                title="gap between the sum of all parts and the logit",
                unit="nats",
            )
        ]
        for number, layer in enumerate(gathered.layers):
            if layer < 0:
                continue
            for part, name in enumerate(_PARTS):
                found.append(
                    Measure(
                        name=f"frozen.{name}",
                        title=f"share of the logit difference that {_SOURCES[name]}, seen before the block",
                        layer=layer,
                        columns={
                            "part": np.sign(columns["score"]) * columns["parts"][:, number, part],
                            "score": np.abs(columns["score"]),
                        },
                        statistic=ratio("part", "score"),
                    )
                )
        if np.isfinite(columns["real"]).any():
            known = np.isfinite(columns["real"])
            found.append(
                mean_measure(
                    columns["real"] - columns["frozen"],
                    name="frozen.selection",
                    title="selection effect: fall without the object's tokens, beyond what held routing predicts",
                    unit="nats",
                )
            )
            found.append(
                Measure(
                    name="frozen.content",
                    title="share of that fall which content explains with the routing held",
                    columns={
                        "frozen": np.where(known, columns["frozen"], 0),
                        "real": np.where(known, columns["real"], 0),
                    },
                    statistic=ratio("frozen", "real"),
                )
            )
            found.append(
                mean_measure(
                    columns["inside"],
                    columns["area"],
                    name="frozen.inside",
                    title="share of the contributions' sizes that lies on the object",
                    control_title="the object's share of the area",
                )
            )
        return found

    def plots(self, results: Sequence[Result]) -> Sequence[Chart]:
        """Shares by layer."""
        charts = []
        for index, result in enumerate(results):
            curves = {name: result.curve(f"frozen.{name}") for name in _PARTS}
            if not curves["image"]:
                continue
            charts.append(
                curve_chart(
                    curves,
                    name=f"shares-{index}",
                    title=f"Where the answer's logit comes from: {result.model}",
                    x_title="seen before block",
                    y_title="share of the logit difference",
                    caption="Shares sum to 1 at every layer. Routing held; not causal.",
                )
            )
        return charts

    def summary(self, results: Sequence[Result]) -> str:
        """The shares at the first block, and gates."""
        said = []
        for result in results:
            curves = {name: result.curve(f"frozen.{name}") for name in _PARTS}
            if not all(curves.values()):
                continue
            image, text, bias = (curves[name][0].number.value for name in _PARTS)
            line = (
                f"Of the logit difference of {result.model}'s answers, {percent(image)} comes as content through image "
                f"tokens, {percent(text)} through text, {percent(bias)} through biases"
            )
            content, selection = result.one("frozen.content"), result.one("frozen.selection")
            if content and selection and np.isfinite(content.number.value):
                line += f"; held routing explains {content.number.value:.0%} of the fall without the object"
                line += (
                    ", the rest acts through what was held: step sizes, gates and norms"
                    if selection.number.low > 0
                    else ", and content alone would fall further: the routing makes up for it"
                    if selection.number.high < 0
                    else ", and no effect of what was held can be told from none"
                )
            said.append(f"{line}.")
        return " ".join(said)
