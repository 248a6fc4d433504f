"""Linear probes: is an object's kind or colour there to be read from its tokens, and is it more than its look?"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from emma_viz.capture import Recorder
from emma_viz.checkpoints import LoadedModel
from emma_viz.metrics import mask_on_grid
from emma_viz.metrics.classify import Method, balanced_hits, control_labels, out_of_fold
from emma_viz.metrics.intervals import ratio
from emma_viz.models.language_model import MambaLM
from probes.charts import Bars, Chart, Series
from probes.numbers import layer_chart, layer_word
from probes.protocol import Batch, Gathered, Measure, Needs, Result, Seen, Subject

THINGS = 6
"""Objects of an image that are looked at, the first ones."""
WIDEST = 128
"""Wider features are projected to this many random directions."""
COVERED = 0.5
LARGEST = 300_000_000
"""Parameters up to which the same model with random weights is run beside it."""
TASKS = {
    "kind": "what an object is",
    "colour": "an object's colour",
    "row": "whether it lies in the upper half",
}
BASELINES = {
    "pixels": "the raw pixels of its patches",
    "tower": "the vision encoder's output",
    "place": "its position alone",
    "random": "the last layer of the same model with random weights",
}
CONTROL = "random classes for things that look alike"


class Linear:
    """Classifiers on the mean token of each object, by layer."""

    name = "linear"
    title = "What a linear classifier reads of an object"
    question = "At which layers can an object's kind, colour and place be read from its image tokens?"
    method = (
        "The mean token of each object's patches at each layer is classified by a one-hot ridge (scikit-learn; λ by "
        "leave-one-out), fitted on four fifths of the images and judged on the rest: balanced accuracy. The control is "
        "a control task (Hewitt & Liang 2019): things whose pixels look alike share one random class; what the true "
        "task has above it is selectivity. Beside the layers stand raw pixels, the vision encoder, the position alone "
        "and a model of random weights. The last layer is also read by logistic regression. That something can be read "
        "does not say that the model uses it."
    )

    def __init__(self):
        self._random: dict[str, MambaLM] = {}

    def needs(self) -> Needs:
        """The residual stream, the model, masks and kinds."""
        return Needs(sites=("resid_post",), live=True, labels=True)

    def see(self, batch: Batch) -> Seen:
        """Mean features and classes of each object of each image; NaN where there is none."""
        assert batch.model is not None
        tokens = batch.patches.shape[1]
        features = {
            f"layer{k}": batch.trace["resid_post", k][:, :tokens].float().numpy() for k in batch.layers
        }
        features["pixels"] = batch.patches.reshape(*batch.patches.shape[:2], -1)
        features |= self._beside(batch, batch.model, tokens)
        columns: dict[str, list[np.ndarray]] = {}
        for row, subject in enumerate(batch.subjects):
            things = _things(subject, batch, row)
            for name, values in features.items():
                means = [_narrow(values[row][thing.tokens].mean(axis=0)) for thing in things]
                columns.setdefault(name, []).append(_padded(means))
            places = [
                np.array([*thing.place, *np.square(thing.place), np.prod(thing.place)]) for thing in things
            ]
            columns.setdefault("place", []).append(_padded(places, width=5))
            for task in TASKS:
                numbers = [np.array([thing.labels[task]]) for thing in things]
                columns.setdefault(f"class_{task}", []).append(_padded(numbers, width=1)[:, 0])
        notes = () if "random" in features else ("no model of random weights was run beside one so large",)
        return Seen(columns={name: np.stack(_even(each)) for name, each in columns.items()}, notes=notes)

    @torch.no_grad()
    def _beside(self, batch: Batch, model: LoadedModel, tokens: int) -> dict[str, np.ndarray]:
        """Features of baselines that need the model: the encoder's, and those of random weights."""
        pixels = model.transform.pixels([subject.image for subject in batch.subjects])
        tower = model.vlm.vision(pixels).float().cpu().numpy()
        found = {"tower": tower} if tower.shape[1] == tokens else {}
        if sum(each.numel() for each in model.vlm.llm.parameters()) <= LARGEST:
            if model.info.fingerprint not in self._random:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(0)
                    self._random = {model.info.fingerprint: MambaLM(model.vlm.llm.config).eval()}
            drawn = self._random[model.info.fingerprint]
            last = drawn.config.n_layer - 1
            with Recorder(drawn, "resid_post", layers=[last], dtype=torch.float32) as kept:
                drawn.backbone(model.vlm.embed_image(pixels).float().cpu())
            found["random"] = kept["resid_post", last].numpy()
        return found

    def measures(self, gathered: Gathered) -> Sequence[Measure]:
        """Balanced accuracy of each task by layer, of the baselines, and by logistic regression at the last layer."""
        found: list[Measure] = []
        for task, words in TASKS.items() if gathered.columns else ():
            table = _Table.of(gathered.columns, task)
            if table is None:
                continue
            for layer in gathered.layers:
                found += table.measure(f"linear.{task}", words, f"layer{layer}", layer=layer)
            for name, title in BASELINES.items():
                found += table.measure(f"linear.{task}_{name}", f"{words}, from {title}", name)
            last = f"layer{gathered.layers[-1]}"
            found += table.measure(
                f"linear.{task}_logistic",
                f"{words}, from the last layer by logistic regression",
                last,
                method="logistic",
            )
        return found

    def plots(self, results: Sequence[Result]) -> Sequence[Chart]:
        """Each task by layer, and the baselines beside the last layer."""
        drawn: list[Chart | None] = [
            layer_chart(
                results, f"linear.{task}", name=task, title=f"Read by a linear classifier: {words}",
                y_title="balanced accuracy", caption=f"Dashed: {CONTROL}. Bands: 95 % over images.",
            )
            for task, words in TASKS.items()
        ]  # fmt: skip
        drawn += [_bars(results, task, words) for task, words in TASKS.items()]
        return [each for each in drawn if each is not None]

    def summary(self, results: Sequence[Result]) -> str:
        """What is read of kinds first and last."""
        said = []
        for result in results:
            curve = [each for each in result.curve("linear.kind") if np.isfinite(each.number.value)]
            if len(curve) < 2:
                continue
            best, last = max(curve, key=lambda each: each.number.value), curve[-1]
            said.append(
                f"An object's kind is read best from {result.model} at layer {layer_word(best.measure.layer)} "
                f"(balanced accuracy {best.number.value:.2f}), and at the last with {last.number.value:.2f}"
                + ("." if last.beats else ", which is no better than its control task.")
            )
        return " ".join(said)


@dataclass(frozen=True, kw_only=True)
class _Thing:
    tokens: np.ndarray
    place: tuple[float, float]
    labels: Mapping[str, float]


def _things(subject: Subject, batch: Batch, row: int) -> list[_Thing]:
    """The first objects that a patch shows."""
    geometry = batch.trace.geometry[row]
    rows, columns = geometry.grid
    found: list[_Thing] = []
    for number, kind in enumerate(subject.kinds, start=1):
        if subject.mask is None or len(found) == THINGS:
            break
        share = np.nan_to_num(mask_on_grid(subject.mask == number, geometry)).ravel()
        if share.max() == 0:
            continue
        tokens = np.flatnonzero((share >= COVERED) | (share == share.max()))
        place = ((tokens // columns).mean() / rows, (tokens % columns).mean() / columns)
        colour = subject.colours[number - 1] if number <= len(subject.colours) else ""
        labels = {"kind": _code(kind), "colour": _code(colour), "row": float(place[0] < 0.5)}
        found.append(_Thing(tokens=tokens, place=place, labels=labels))
    return found


def _code(word: str) -> float:
    """A number for a word; NaN for none."""
    return float(zlib.crc32(word.encode())) if word else float("nan")


def _narrow(values: np.ndarray) -> np.ndarray:
    """At most WIDEST directions, the same for all of one width."""
    width = len(values)
    if width <= WIDEST:
        return values
    return values @ np.random.default_rng(width).standard_normal((width, WIDEST)) / np.sqrt(width)


def _padded(rows: Sequence[np.ndarray], *, width: int = 0) -> np.ndarray:
    found = np.full((THINGS, len(rows[0]) if rows else width), np.nan, dtype=np.float64)
    for index, row in enumerate(rows):
        found[index] = row
    return found


def _even(rows: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Rows of images without an object are as wide as the others."""
    width = max(each.shape[-1] for each in rows) if rows[0].ndim == 2 else 0
    return [
        each if each.ndim < 2 or each.shape[1] == width else np.full((len(each), width), np.nan)
        for each in rows
    ]


@dataclass(frozen=True, kw_only=True)
class _Table:
    """All things that have a class, with their features."""

    features: Mapping[str, np.ndarray]
    labels: np.ndarray
    control: np.ndarray
    images: np.ndarray
    count: int

    @classmethod
    def of(cls, columns: Mapping[str, np.ndarray], task: str) -> "_Table | None":
        """Of one task; None where fewer than two images have things of two classes."""
        classes = columns[f"class_{task}"]
        known = np.isfinite(classes) & np.isfinite(columns["pixels"]).all(axis=-1)
        images = np.nonzero(known)[0]
        labels = np.unique(classes[known], return_inverse=True)[1]
        if len(np.unique(images)) < 2 or len(np.unique(labels)) < 2:
            return None
        features = {name: each[known] for name, each in columns.items() if each.ndim == 3}
        control = control_labels(features["pixels"], labels)
        return cls(features=features, labels=labels, control=control, images=images, count=len(classes))

    def measure(
        self, name: str, title: str, feature: str, *, layer: int | None = None, method: Method = "ridge"
    ) -> list[Measure]:
        """Its accuracy from one kind of feature beside that of the control task; none where a feature is not there."""
        values = self.features.get(feature)
        if values is None or not np.isfinite(values).all():
            return []
        true, control = (
            balanced_hits(
                out_of_fold(values, labels, self.images, method=method), labels, self.images, self.count
            )
            for labels in (self.labels, self.control)
        )
        return [
            Measure(
                name=name, title=f"{title}: balanced accuracy", layer=layer, columns=true, control=control,
                statistic=ratio("right", "all"), control_title=CONTROL,
            )
        ]  # fmt: skip


def _bars(results: Sequence[Result], task: str, words: str) -> Bars | None:
    names = [*(f"linear.{task}_{name}" for name in BASELINES), f"linear.{task}_logistic"]
    series = []
    for index, result in enumerate(results):
        numbers = [result.one(name) for name in names]
        if all(each is None for each in numbers):
            continue
        value, low, high = (
            [getattr(each.number, end) if each else float("nan") for each in numbers]
            for end in ("value", "low", "high")
        )
        series.append(Series(name=result.model, y=value, low=low, high=high, model=index))
    if not series:
        return None
    return Bars(
        name=f"{task}_beside",
        title=f"Without the model, and by another classifier: {words}",
        x=["raw pixels", "vision encoder", "position", "random weights", "last layer, logistic"],
        y_title="balanced accuracy",
        series=series,
    )
