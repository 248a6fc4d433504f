"""Words at patches: does the model's own vocabulary name an object where it is?"""

from collections.abc import Sequence

import numpy as np
import torch

from emma_viz.evidence.class_words import TextStates, cosines, word_log_probabilities
from emma_viz.metrics import auroc, mask_on_grid
from probes.charts import Chart
from probes.numbers import averaged, layer_chart, layer_word
from probes.protocol import Batch, Finding, Gathered, Measure, Needs, Result, Seen, Subject

LENSES = {"logit": "logit lens", "context": "contextual lens"}
COVERED = 0.5


class Words:
    """Two lenses that read words from image tokens, scored against the objects' masks."""

    name = "words"
    title = "Words at patches"
    question = "Do image tokens of an object name it, in the model's own vocabulary, where it is?"
    method = (
        "The logit lens reads each image token with the model's norm and output layer; the contextual lens takes the "
        "cosine with states of short texts that name the class, at the same layer, both about their mean. For each "
        "object of an image: the area under the ROC curve of its word's map against its mask. The control is the map "
        "of a word for something that is not in the image. Internal confidence: how often the word of an object that "
        "is there is likelier, at its best token, than that of one that is not; control: two words that are not. "
        "Image positions were never trained to predict a word, so a low number says little about what they hold."
    )

    def __init__(self):
        self._texts = TextStates()

    def needs(self) -> Needs:
        """The residual stream, the model, masks and kinds."""
        return Needs(sites=("resid_post",), live=True, labels=True)

    def see(self, batch: Batch) -> Seen:
        """Areas and confidences of each image, by layer."""
        known = tuple(dict.fromkeys(kind for each in (*batch.subjects, *batch.others) for kind in each.kinds))
        columns: dict[str, list[np.ndarray]] = {}
        notes = []
        for row, subject in enumerate(batch.subjects):
            absent = [kind for kind in known if kind not in subject.kinds]
            if len(absent) < 2 or not subject.kinds:
                notes.append("an image was left out: no two kinds are known that it lacks")
            for name, values in self._one(batch, row, subject, absent).items():
                columns.setdefault(name, []).append(values)
        return Seen(columns={name: np.stack(each) for name, each in columns.items()}, notes=tuple(notes))

    def _one(self, batch: Batch, row: int, subject: Subject, absent: Sequence[str]) -> dict[str, np.ndarray]:
        """(Y,) of each number; NaN where it is not defined."""
        names = [
            f"{lens}_{what}" for lens in LENSES for what in ("area", "area_control", "sure", "sure_control")
        ]
        found = {name: np.full(len(batch.layers), np.nan) for name in names}
        if len(absent) < 2 or batch.model is None or subject.mask is None:
            return found
        draw = np.random.default_rng(subject.number)
        first, second = draw.choice(len(absent), 2, replace=False)
        words = [*dict.fromkeys(subject.kinds), absent[first], absent[second]]
        places = _places(subject, batch, row)
        texts = [self._texts.of(batch.model, word, batch.layers) for word in words]
        for at, layer in enumerate(batch.layers):
            states = batch.trace["resid_post", layer][row, : batch.patches.shape[1]].float()
            if not torch.isfinite(states).all():
                continue
            maps = {
                "logit": word_log_probabilities(batch.model, states, words),
                "context": cosines(states, torch.stack([each[at] for each in texts])),
            }
            for lens, values in maps.items():
                for name, number in _scores(values, words, places).items():
                    found[f"{lens}_{name}"][at] = number
        return found

    def measures(self, gathered: Gathered) -> Sequence[Measure]:
        """Both numbers of both lenses, by layer."""
        found = []
        for at, layer in enumerate(gathered.layers if gathered.columns else ()):
            for lens, words in LENSES.items():
                for what, title, control in (
                    ("area", f"area under the ROC curve of an object's word against its mask ({words})",
                     "the map of a word that is not in the image"),
                    ("sure", f"how often the word that is there is likelier than one that is not ({words})",
                     "two words that are not there"),
                ):  # fmt: skip
                    columns, mean = averaged(gathered.columns[f"{lens}_{what}"][:, at])
                    beside, _ = averaged(gathered.columns[f"{lens}_{what}_control"][:, at])
                    found.append(
                        Measure(
                            name=f"words.{lens}_{what}", title=title, layer=layer, columns=columns, statistic=mean,
                            control=beside, control_title=control,
                        )
                    )  # fmt: skip
        return found

    def plots(self, results: Sequence[Result]) -> Sequence[Chart]:
        """Both areas and both confidences by layer."""
        drawn = [
            layer_chart(
                results, f"words.{lens}_{what}", name=f"{lens}_{what}", title=f"{title}: {words}", y_title=axis,
                caption="0.5 is chance. " + caption,
            )
            for lens, words in LENSES.items()
            for what, title, axis, caption in (
                ("area", "An object's word on its patches", "area under the ROC curve",
                 "Dashed: the map of a word that is not in the image."),
                ("sure", "A word that is there against one that is not", "share of images",
                 "Dashed: two words that are not there."),
            )
        ]  # fmt: skip
        return [each for each in drawn if each is not None]

    def summary(self, results: Sequence[Result]) -> str:
        """Where each lens reads best, if anywhere."""
        said = []
        for result in results:
            for lens, words in LENSES.items():
                sure = [each for each in result.curve(f"words.{lens}_area") if each.beats]
                if sure:
                    best: Finding = max(sure, key=lambda each: each.number.value)
                    said.append(
                        f"The {words} finds objects of {result.model} by their words best at layer "
                        f"{layer_word(best.measure.layer)} (area {best.number.value:.2f})."
                    )
                elif result.curve(f"words.{lens}_area"):
                    said.append(
                        f"The {words} finds no object of {result.model} better than an absent word's map."
                    )
        return " ".join(said)


def _places(subject: Subject, batch: Batch, row: int) -> dict[str, np.ndarray]:
    """Kind → the tokens, (T,) bool, that its objects cover."""
    geometry = batch.trace.geometry[row]
    found: dict[str, np.ndarray] = {}
    assert subject.mask is not None
    for number, kind in enumerate(subject.kinds, start=1):
        share = np.nan_to_num(mask_on_grid(subject.mask == number, geometry)).ravel()
        if share.max() > 0:
            covered = (share >= COVERED) | (share == share.max())
            found[kind] = found[kind] | covered if kind in found else covered
    return found


def _scores(values: np.ndarray, words: Sequence[str], places: dict[str, np.ndarray]) -> dict[str, float]:
    """The numbers of one image and layer from (T, W) values; the last two words are absent."""
    absent = len(words) - 2
    areas = [(auroc(values[:, at], places[word]), auroc(values[:, absent], places[word])) for at, word in
             enumerate(words[:absent]) if word in places]  # fmt: skip
    best = values.max(axis=0)
    present = [_wins(best[at], best[absent]) for at in range(absent)]
    means = np.mean(areas, axis=0) if areas else (float("nan"),) * 2
    return {
        "area": float(means[0]),
        "area_control": float(means[1]),
        "sure": float(np.mean(present)) if present else float("nan"),
        "sure_control": _wins(best[absent + 1], best[absent]),
    }


def _wins(one: float, other: float) -> float:
    return float("nan") if not np.isfinite(one - other) else float(one > other) + 0.5 * float(one == other)
