"""Words at patches: does the model's own vocabulary name an object where it is?"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from emma_viz.capture.questions import network_of
from emma_viz.evidence.class_words import TextStates, cosines, word_log_probabilities
from emma_viz.evidence.shuffled_weights import shuffled_weights
from emma_viz.metrics import auroc, mask_on_grid
from probes.charts import Chart
from probes.content.patch_labels import SEED, untrained_states
from probes.numbers import averaged, layer_chart, layer_word
from probes.protocol import Batch, Finding, Gathered, Measure, Needs, Result, Seen, Subject

LENSES = {"logit": "logit lens", "context": "contextual lens"}
_NUMBERS = ("area", "area_control", "area_shuffled", "sure", "sure_control")
_COVERED = 0.5


class Words:
    """Two lenses that read words from image tokens, scored against the objects' masks."""

    name = "words"
    title = "Words at patches"
    question = "Do image tokens of an object name it, in the model's own vocabulary, where it is?"
    method = (
        "The logit lens reads each image token with the model's norm and output layer; the contextual lens takes the "
        "cosine with states of short texts that name the class, at the same layer, both about their mean. For each "
        "object of an image: the area under the ROC curve of its word's map against its mask. Three controls: the map "
        "of a word for something that is not in the image; the same vocabulary with its labels shuffled, which is the "
        "mean over all other words; and the same model with the numbers of each weight in a random order. Internal "
        "confidence, as an area under the ROC curve within each image: how often the word of an object that is "
        "there is likelier, at its best token, than that of one that is not; control: two words that are not. "
        "Image positions were never trained to predict a word, so a low number says little about what they hold."
    )

    def __init__(self):
        self._texts, self._random_texts = TextStates(), TextStates()

    def needs(self) -> Needs:
        """The residual stream, the model, masks and kinds."""
        return Needs(sites=("resid_post",), live=True, labels=True)

    def see(self, batch: Batch) -> Seen:
        """Areas and confidences of each image, by layer."""
        known = tuple(dict.fromkeys(kind for each in (*batch.subjects, *batch.others) for kind in each.kinds))
        assert batch.model is not None
        own = {
            layer: batch.trace["resid_post", layer][:, : batch.patches.shape[1]].float()
            for layer in batch.layers
        }
        asked = [_asked(subject, known) for subject in batch.subjects]
        columns = self._scored(batch, own, known, asked, self._texts)
        with shuffled_weights([network_of(batch.model)], seed=SEED):
            random = self._scored(batch, untrained_states(batch), known, asked, self._random_texts)
        columns |= {f"{lens}_area_random": random[f"{lens}_area"] for lens in LENSES}
        notes = () if all(asked) else ("an image was left out: no two kinds are known that it lacks",)
        return Seen(columns=columns, notes=notes)

    def _scored(
        self,
        batch: Batch,
        states: Mapping[int, torch.Tensor],
        known: Sequence[str],
        asked: Sequence[tuple[str, ...]],
        texts: TextStates,
    ) -> dict[str, np.ndarray]:
        """(B, Y) of each number; NaN where it is not defined."""
        model, shape = batch.model, (len(batch.subjects), len(batch.layers))
        assert model is not None
        columns = {f"{lens}_{what}": np.full(shape, np.nan) for lens in LENSES for what in _NUMBERS}
        bank = [texts.of(model, word, batch.layers) for word in known] if any(asked) else []
        for row, (subject, words) in enumerate(zip(batch.subjects, asked, strict=True)):
            places = _places(subject, batch, row) if words else {}
            for at, layer in enumerate(batch.layers):
                if not words or not torch.isfinite(states[layer][row]).all():
                    continue
                maps = {
                    "logit": word_log_probabilities(model, states[layer][row], known),
                    "context": cosines(states[layer][row], torch.stack([each[at] for each in bank])),
                }
                for lens, values in maps.items():
                    for name, number in _scores(values, known, words, places).items():
                        columns[f"{lens}_{name}"][row, at] = number
        return columns

    def measures(self, gathered: Gathered) -> Sequence[Measure]:
        """Both numbers of both lenses, by layer."""
        found = []
        for at, layer in enumerate(gathered.layers if gathered.columns else ()):
            for lens, words in LENSES.items():
                area = f"area under the ROC curve of an object's word against its mask ({words})"
                sure = f"how often the word that is there is likelier than one that is not ({words})"
                for what, end, title, control in (
                    ("area", "", area, "the map of a word that is not in the image"),
                    ("area", "_shuffled", area, "the same vocabulary with its labels shuffled"),
                    ("area", "_random", area, "the same model with random weights"),
                    ("sure", "", sure, "two words that are not there"),
                ):
                    columns, mean = averaged(gathered.columns[f"{lens}_{what}"][:, at])
                    beside, _ = averaged(gathered.columns[f"{lens}_{what}{end or '_control'}"][:, at])
                    found.append(
                        Measure(
                            name=f"words.{lens}_{what}{end}", title=title, layer=layer, columns=columns, statistic=mean,
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
                curves = [result.curve(f"words.{lens}_area{end}") for end in ("", "_shuffled", "_random")]
                sure = [each[0] for each in zip(*curves, strict=True) if all(one.beats for one in each)]
                if sure:
                    best: Finding = max(sure, key=lambda each: each.number.value)
                    said.append(
                        f"The {words} finds objects of {result.model} by their words best at layer "
                        f"{layer_word(best.measure.layer)} (area {best.number.value:.2f})."
                    )
                elif result.curve(f"words.{lens}_area"):
                    said.append(
                        f"The {words} is not shown to find objects of {result.model} better than its controls do."
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
            covered = (share >= _COVERED) | (share == share.max())
            found[kind] = found[kind] | covered if kind in found else covered
    return found


def _asked(subject: Subject, known: Sequence[str]) -> tuple[str, ...]:
    """The kinds in an image, and two of those known that are not; () where there are no such."""
    absent = [kind for kind in known if kind not in subject.kinds]
    if len(absent) < 2 or not subject.kinds or subject.mask is None:
        return ()
    first, second = np.random.default_rng(subject.number).choice(len(absent), 2, replace=False)
    return (*dict.fromkeys(subject.kinds), absent[first], absent[second])


def _scores(
    values: np.ndarray, known: Sequence[str], words: Sequence[str], places: dict[str, np.ndarray]
) -> dict[str, float]:
    """The numbers of one image and layer from values (T, W) of all known words; the last two of `words` are absent."""
    *present, absent, other = (known.index(word) for word in words)
    found: dict[str, list[float]] = {name: [] for name in ("area", "area_control", "area_shuffled")}
    for at in present:
        if (inside := places.get(known[at])) is not None:
            areas = [auroc(values[:, each], inside) for each in range(len(known))]
            found["area"].append(areas[at])
            found["area_control"].append(areas[absent])
            found["area_shuffled"].append(float(np.mean(areas[:at] + areas[at + 1 :])))
    best = values.max(axis=0)
    found["sure"] = [_wins(best[at], best[absent]) for at in present]
    found["sure_control"] = [_wins(best[other], best[absent])]
    return {name: float(np.mean(each)) if each else float("nan") for name, each in found.items()}


def _wins(one: float, other: float) -> float:
    return float("nan") if not np.isfinite(one - other) else float(one > other) + 0.5 * float(one == other)
