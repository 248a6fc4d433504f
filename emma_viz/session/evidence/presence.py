"""Presence probes: does a model hold, somewhere in its image tokens, that an object of a kind is there?

At each layer a linear discriminant among the kinds and the background, with equal priors, is fitted on tokens of half
of the references. A token's score for a kind is the log-odds of the kind against all others. An image's is that of its
best token, so that what must be exceeded is known of images without the object: the threshold is the score that 5 % of
the held-out references without it exceed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from scipy.special import logsumexp
from torch import Tensor

from emma_viz.checkpoints import LoadedModel
from emma_viz.data.image_grid import ImageGrid
from emma_viz.evidence.regions import covered_tokens
from emma_viz.metrics import auroc
from emma_viz.metrics.readouts.folded_discriminant import discriminant, one_hot
from emma_viz.progress import Progress
from emma_viz.records.questions import Question
from emma_viz.session.evidence.references import ReferenceImage, References
from emma_viz.session.options import Asking
from emma_viz.session.road import ask
from emma_viz.shapes import EMBEDDING

FALSE_POSITIVES = 0.05
"""Share of the images without the object that exceed the threshold."""
PROBE_WIDTH = 256
"""Wider states are projected to so many random directions, the same at every layer."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Presence:
    """What a presence probe says of one image."""

    title: str
    """What was measured."""
    tokens: Float[np.ndarray, "Y T"]
    """The score of each token, at each layer."""
    values: Float[np.ndarray, " Y"]
    """The image's score at each layer."""
    thresholds: Float[np.ndarray, " Y"]
    """What FALSE_POSITIVES of other images without the object exceed."""
    areas: Float[np.ndarray, " Y"]
    """Area under the ROC curve on images that the probe was not fitted on."""
    control_title: str
    """What the threshold is."""


def score_exceeded(without: Float[np.ndarray, "n *axes"]) -> Float[np.ndarray, "*axes"]:
    """The score that FALSE_POSITIVES of the images without an object exceed: no more of them, however few there are."""
    return np.quantile(without, 1 - FALSE_POSITIVES, axis=0, method="higher")


@dataclass(frozen=True, kw_only=True, eq=False)
class PresenceProbes:
    """Probes of one model for all kinds of the references."""

    kinds: tuple[str, ...]
    layers: tuple[int, ...]
    weights: Float[np.ndarray, "Y e C"]
    """Of the discriminants at each layer, that of the background last."""
    held_out: Float[np.ndarray, "n Y K"]
    """The best token's score of each held-out reference."""
    there: np.ndarray
    """Which kinds are in each held-out reference, bool (n, K)."""

    def scores(self, states: Float[Tensor, "Y T D"], kind: str) -> Float[np.ndarray, "Y T"]:
        """The score of each token for a kind, at each layer."""
        number = self.kinds.index(kind)
        found = [
            token_scores(each, weights)[:, number] for each, weights in zip(states, self.weights, strict=True)
        ]
        return np.stack(found)

    def knows(self, kind: str) -> bool:
        """Whether there were examples of a kind to learn from, and images without it to set a threshold by."""
        if kind not in self.kinds:
            return False
        number = self.kinds.index(kind)
        return bool(np.isfinite(self.weights[:, -1, number]).all() and (~self.there[:, number]).any())

    def thresholds(self, kind: str) -> Float[np.ndarray, " Y"]:
        """The score, at each layer, that FALSE_POSITIVES of the held-out references without the kind exceed."""
        number = self.kinds.index(kind)
        return score_exceeded(self.held_out[~self.there[:, number], :, number])

    def areas(self, kind: str) -> Float[np.ndarray, " Y"]:
        """Area under the ROC curve, at each layer, of held-out references with the kind against those without."""
        number = self.kinds.index(kind)
        inside = self.there[:, number]
        return np.array([auroc(column, inside) for column in self.held_out[:, :, number].T])

    def presence(self, states: Float[Tensor, "Y T D"], kind: str, *, title: str) -> Presence:
        """What the probe of a kind that it knows says of an image; `title` says what the references are."""
        tokens = self.scores(states, kind)
        return Presence(
            title=f"presence probe for “{kind}”, fitted on {title}: score of the best token",
            tokens=tokens,
            values=tokens.max(axis=1),
            thresholds=self.thresholds(kind),
            areas=self.areas(kind),
            control_title="what 5 % of those without it exceed",
        )


def fit_presence(
    model: LoadedModel, references: References, *, progress: Progress | None = None
) -> PresenceProbes:
    """Fit and calibrate the probes of a model: each reference is read once, at every layer."""
    layers = tuple(range(EMBEDDING, model.info.n_layer))
    kinds = references.kinds
    sums: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    fitted = _read(model, [each.image for each in references.fitted], layers, progress, "learning presence")
    for reference, (geometry, states) in zip(references.fitted, fitted, strict=True):
        labels = _labels(reference, kinds, geometry)
        known = labels >= 0
        truth = one_hot(labels[known], len(kinds) + 1)
        for number, each in enumerate(states):
            rows = _with_one(each)[known]
            xx, xy = rows.T @ rows, rows.T @ truth
            before = sums.get(number)
            sums[number] = (xx, xy) if before is None else (before[0] + xx, before[1] + xy)
    weights = np.stack([discriminant(*sums[number]) for number in range(len(layers))])
    held_out, there = [], []
    others = _read(
        model, [each.image for each in references.held_out], layers, progress, "setting thresholds"
    )
    for reference, (_, states) in zip(references.held_out, others, strict=True):
        best = [token_scores(each, some).max(axis=0) for each, some in zip(states, weights, strict=True)]
        held_out.append(np.stack(best)[:, :-1])
        there.append([kind in reference.kinds for kind in kinds])
    return PresenceProbes(
        kinds=kinds, layers=layers, weights=weights, held_out=np.stack(held_out), there=np.array(there)
    )


def token_scores(states: Float[Tensor, "T D"], weights: Float[np.ndarray, "e K"]) -> Float[np.ndarray, "T K"]:
    """Log-odds of each class against all others, at each token; −∞ for a class that was not learnt."""
    scores = _with_one(states)[:, :-1] @ np.nan_to_num(weights[:-1]) + weights[-1]
    found = np.full(scores.shape, -np.inf)
    for number in np.flatnonzero(np.isfinite(weights[-1])):
        found[:, number] = scores[:, number] - logsumexp(np.delete(scores, number, axis=1), axis=1)
    return found


def _read(
    model: LoadedModel,
    images: Sequence[Image.Image],
    layers: Sequence[int],
    progress: Progress | None,
    what: str,
):
    """Of each image its geometry and the states (Y, T, D) of its tokens."""
    questions = [Question(image=each, prompt="What is there?") for each in images]
    done = 0
    for trace, _ in ask(
        model, questions, asking=Asking(), sites=("resid_post",), layers=list(layers), generate=False
    ):
        states = trace["resid_post"]
        for sample in range(states.shape[1]):
            # Of several grids those of the finest, which come first.
            place = trace.geometry[sample]
            yield place, states[:, sample, : place.n_tokens]
            done += 1
        if progress is not None:
            progress(done, len(images), f"{model.name}: {what}")


def _labels(reference: ReferenceImage, kinds: Sequence[str], geometry: ImageGrid) -> np.ndarray:
    """The kind of each token, the background last; −1 for tokens beside an object, which may be either."""
    tokens = geometry.n_tokens
    labels = np.full(tokens, len(kinds))
    near = np.zeros(tokens, bool)
    for kind in dict.fromkeys(reference.kinds):
        mask = reference.where(kind)
        inside = covered_tokens(mask, geometry, beside=False)
        around = covered_tokens(mask, geometry)
        if inside is not None:
            labels[inside.ravel()] = kinds.index(kind)
        if around is not None and inside is not None:
            near |= (around & ~inside).ravel()
    labels[near & (labels == len(kinds))] = -1
    return labels


def _with_one(states: Float[Tensor, "T D"]) -> Float[np.ndarray, "T e"]:
    """States in at most PROBE_WIDTH directions, a one behind each."""
    whole = states.double().cpu().numpy()
    width = whole.shape[-1]
    if width > PROBE_WIDTH:
        whole = whole @ np.random.default_rng(width).standard_normal((width, PROBE_WIDTH)) / np.sqrt(width)
    return np.concatenate([whole, np.ones((len(whole), 1))], axis=1)


def mean_tokens(model: LoadedModel, images: Sequence[Image.Image]) -> list[Float[np.ndarray, "Y e"]]:
    """The mean token of each image at every layer, in the directions of the probes, a one behind each."""
    layers = tuple(range(EMBEDDING, model.info.n_layer))
    read = _read(model, images, layers, None, "")
    return [probe_rows(states).mean(axis=1) for _, states in read]


def probe_rows(states: Float[Tensor, "Y T D"]) -> Float[np.ndarray, "Y T e"]:
    """States of every layer in the directions of the probes, a one behind each."""
    return np.stack([_with_one(each) for each in states])


def question_states(model: LoadedModel, question: Question) -> tuple[ImageGrid, Float[Tensor, "Y L D"], int]:
    """One question: where its image tokens lie, `resid_post` of all its tokens at every layer, and T, of the finest
    grid where there are several."""
    layers = list(range(EMBEDDING, model.info.n_layer))
    ((trace, _),) = ask(
        model, [question], asking=Asking(), sites=("resid_post",), layers=layers, tokens="all", generate=False
    )
    states = torch.stack([trace["resid_post", layer][0] for layer in layers])
    return trace.geometry[0], states, trace.geometry[0].n_tokens
