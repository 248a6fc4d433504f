"""Implicit attention of the answer: what the position that begins it took from image, text and biases, by layer."""

from collections.abc import Sequence

import numpy as np
import torch

from emma_viz.capture import record
from emma_viz.evidence.mixers.implicit_attention import attention_rows
from emma_viz.evidence.mixers.rollout import roll_out
from emma_viz.models import Block
from probes.causes.regions import case_of, elsewhere, region
from probes.charts import Chart, Grids, Panel
from probes.numbers import joined_parts, layer_chart, layer_word, mean_measure
from probes.protocol import Batch, Gathered, Measure, Needs, Result, Seen

_SHOWN = 4
"""Layers whose mean maps are shown: those that take most from the image."""
ROLLED = {
    "image": "image embeddings",
    "text": "text embeddings",
    "bias": "the convolutions' biases",
    "object": "the object's embeddings",
}
"""What the last state is shared out over."""
_DEEP = 16
"""Layers beyond which there is no rollout, which needs the rows of every position at every layer."""
_EVERY = 8
"""With --quick, of every so manieth image a rollout is made."""


class Implicit:
    """Exact rows of each mixer, through convolution, gate and norm, the biases' part beside them."""

    name = "implicit"
    title = "What the answer's position reads"
    question = (
        "At which layers does the position that begins the answer read image tokens, and does it "
        "read the object's?"
    )
    method = (
        "The row of the last position in each mixer, exact through convolution, scan, gate and norm: the token vectors "
        "and the biases' vector sum to the mixer's output (the gap is printed). Shares are of vectors' lengths, which "
        "says how much is moved and not what. Against the object's share: the same shape elsewhere. Rollout multiplies "
        "shares by ALTI's rule, max(0, ‖y‖₁ − ‖y − T‖₁), through all blocks, residual stream included. Not causal: "
        "what is read may cancel, or be used by nobody."
    )

    def needs(self) -> Needs:
        """The model itself."""
        return Needs(live=True, scan=("delta", "B", "C"), apart=True)

    def see(self, batch: Batch) -> Seen:
        """Shares by layer, for each image, and the sum of maps."""
        layers = tuple(layer for layer in batch.layers if layer >= 0)
        rows, notes, maps = [], [], 0.0
        for index, subject in enumerate(batch.subjects):
            row, lengths = self._row(batch, index, layers)
            place = region(subject, batch.trace.geometry[index])
            for name, where in (
                ("region", place),
                ("elsewhere", None if place is None else elsewhere(place)),
            ):
                row[name] = (
                    np.full(len(layers), np.nan)
                    if where is None
                    else lengths[:, where].sum(axis=1) / np.maximum(lengths.sum(axis=(1, 2)), 1e-30)
                )
            deep = batch.model is None or batch.model.info.n_layer > _DEEP
            if deep:
                notes.append(f"no rollout: it is made of models of up to {_DEEP} layers")
            elif batch.spares(index, _EVERY):
                notes.append(batch.said("rollout", _EVERY))
            skipped = deep or batch.spares(index, _EVERY)
            row = {**row, **(_no_rollout() if skipped else _rolled_out(batch, index, place))}
            rows.append(row)
            maps = maps + lengths / np.maximum(lengths.sum(axis=(1, 2), keepdims=True), 1e-30)
        return joined_parts(
            rows,
            notes,
            sums={"maps": np.asarray(maps), "count": np.array(float(len(rows)))},
        )

    @torch.no_grad()
    def _row(
        self, batch: Batch, index: int, layers: Sequence[int]
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        model, subject = batch.model, batch.subjects[index]
        assert model is not None
        trace = record(
            model,
            subject.image,
            subject.prompt,
            sites=("mixer_in", "mixer_out"),
            layers=layers,
            tokens="all",
            generate=False,
        )
        grid, count = model.vlm.grid, model.vlm.n_image_tokens
        shares, lengths, gaps = [], [], []
        for layer in layers:
            block = model.vlm.llm.backbone.layers[layer]
            assert isinstance(block, Block)
            normed = trace["mixer_in", layer][0].to(model.vlm.device)
            found = attention_rows(block.mixer, normed, [len(normed) - 1])
            vectors, bias = found.vectors()[0].double().cpu(), found.bias_vectors()[0].double().cpu()
            out = trace["mixer_out", layer][0, -1].double()
            gaps.append(float((vectors.sum(dim=0) + bias - out).norm() / out.norm().clamp(min=1e-30)))
            size = vectors.norm(dim=-1).numpy()
            parts = np.array([size[:count].sum(), size[count:].sum(), float(bias.norm())])
            shares.append(parts / max(parts.sum(), 1e-30))
            lengths.append(size[:count].reshape(grid))
        return {"shares": np.stack(shares), "gap": np.array(gaps)}, np.stack(lengths)

    def measures(self, gathered: Gathered) -> Sequence[Measure]:
        """Shares of image, text and biases, and of the object, by layer; the gap."""
        columns = gathered.columns
        if not columns:
            return []
        found = [
            mean_measure(
                columns["gap"].max(axis=1),
                name="implicit.gap",
                title="largest gap, over layers, of token vectors and bias to the mixer's output, of its length",
            )
        ]
        for name, what in ROLLED.items():
            if np.isfinite(columns[f"rolled {name}"]).any():
                found.append(
                    mean_measure(
                        columns[f"rolled {name}"],
                        columns["rolled elsewhere"] if name == "object" else None,
                        name=f"implicit.rollout.{name}",
                        title=f"share of the last state that comes from {what}, by rollout (ALTI)",
                        control_title="the same shape elsewhere" if name == "object" else "",
                    )
                )
        for index, layer in enumerate(layer for layer in gathered.layers if layer >= 0):
            for part, name in enumerate(("image", "text", "bias")):
                found.append(
                    mean_measure(
                        columns["shares"][:, index, part],
                        name=f"implicit.{name}",
                        title=f"share of what the answer's position takes that is from {name}",
                        layer=layer,
                    )
                )
            if np.isfinite(columns["region"][:, index]).any():
                found.append(
                    mean_measure(
                        columns["region"][:, index],
                        columns["elsewhere"][:, index],
                        name="implicit.region",
                        title="share of what it takes from the image that is from the object's tokens",
                        layer=layer,
                        control_title="the same shape elsewhere",
                    )
                )
        return found

    def plots(self, results: Sequence[Result]) -> Sequence[Chart]:
        """Shares of image and object by layer, and mean maps of the layers that read most of the image."""
        charts: list[Chart] = []
        for name, title, y_title in (
            ("image", "How much of what the answer's position takes is from the image", "share of lengths"),
            ("bias", "How much is from the convolutions' biases", "share of lengths"),
            ("region", "How much of what it takes from the image is the object's", "share of lengths"),
        ):
            chart = layer_chart(results, f"implicit.{name}", name=name, title=title, y_title=y_title)
            if chart:
                charts.append(chart)
        for index, result in enumerate(results):
            sums, curve = result.gathered.sums, result.curve("implicit.image")
            if not sums or not curve:
                continue
            mean = sums["maps"].sum(axis=0) / sums["count"].sum()
            most = sorted(sorted(range(len(curve)), key=lambda each: -curve[each].number.value)[:_SHOWN])
            charts.append(
                Grids(
                    name=f"maps-{index}",
                    title=f"Where it reads, mean over images: {result.model}",
                    panels=[
                        Panel(title=f"layer {layer_word(curve[each].measure.layer)}", values=mean[each])
                        for each in most
                    ],
                    columns=2,
                    value_title="share",
                    caption="A mean over images of different content: structure here is a habit of the place, not of a "
                    "picture. Colours end at the 98th percentile.",
                )
            )
        return charts

    def summary(self, results: Sequence[Result]) -> str:
        """The layer that reads the image most."""
        said = []
        for result in results:
            curve = [each for each in result.curve("implicit.image") if np.isfinite(each.number.value)]
            if not curve:
                continue
            top = max(curve, key=lambda each: each.number.value)
            beat = [each for each in result.curve("implicit.region") if each.beats]
            line = (
                f"The answer's position of {result.model} takes most from the image at layer "
                f"{top.measure.layer} "
                f"({top.number.value:.0%} of lengths)"
            )
            if result.curve("implicit.region"):
                line += (
                    f"; it takes more from the object than from elsewhere at {len(beat)} of "
                    f"{len(result.curve('implicit.region'))} layers"
                )
            said.append(line + ".")
        return " ".join(said)


def _no_rollout() -> dict[str, float]:
    return {f"rolled {name}": float("nan") for name in (*ROLLED, "elsewhere")}


def _rolled_out(batch: Batch, index: int, place: np.ndarray | None) -> dict[str, float]:
    """Shares of the state that the answer is read from, through all blocks."""
    case = case_of(batch, index)
    embeddings = torch.cat([case.tokens, case.text], dim=1)
    found = roll_out(case.vlm.llm, embeddings, [case.length - 1])
    image, text = found.tokens[0, : case.count], found.tokens[0, case.count :]
    row = _no_rollout() | {
        "rolled image": float(image.sum()),
        "rolled text": float(text.sum()),
        "rolled bias": float(found.bias.sum()),
    }
    if place is not None:
        row |= {
            "rolled object": float(image[place.ravel()].sum()),
            "rolled elsewhere": float(image[elsewhere(place).ravel()].sum()),
        }
    return row
