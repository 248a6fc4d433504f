"""Presence probes from labels alone: other images of a benchmark, of which its records say whether an object is there.

Nobody knows where in them it is, so that a probe reads the mean of an image's tokens: at each layer a linear
discriminant between images with the object and without. Images are dealt into folds. An image is scored by the
discriminant of the other folds, the case's image like the others, so that its score is held against scores that were
made in the same way; the threshold is what 5 % of those without the object exceed.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from emma_viz.cases.case import CaseRecord
from emma_viz.cases.casebook import Casebook
from emma_viz.cases.filters import CaseFilter
from emma_viz.checkpoints import LoadedModel
from emma_viz.data import image_hash
from emma_viz.errors import InputError
from emma_viz.metrics import auroc
from emma_viz.metrics.readouts.folded_discriminant import discriminant, one_hot
from emma_viz.metrics.readouts.folded_ridge import FOLDS
from emma_viz.progress import Progress
from emma_viz.records.benchmarks.record import CONTRADICTORY, DISPUTED
from emma_viz.session.evidence.presence import Presence, mean_tokens, probe_rows, score_exceeded

FEWEST_WITH, FEWEST_WITHOUT = 10, 20
"""Other images with the object, and without it, that a probe takes: with fewer than 20 there is no 5 %."""
COMPARED_WITH = 19
"""Other images, and other regions, that a number is compared with: one that beats all of them has p ≤ 1/20. Where there
are fewer (`places_alike`), of n it is p ≤ 1/(n + 1), and n is said."""
LABELLED_SHRINKAGE = 0.5
"""Of the discriminants: they have far fewer images than directions."""
_AT_ONCE = 32
"""Images that are opened at the same time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledImages:
    """Images of one benchmark, and of which objects it is known whether they are there."""

    benchmark: str
    """Its name, for texts."""
    labels: Mapping[str, Mapping[str, bool]]
    """Object → hash of an image → whether it is there."""
    picture: Callable[[str], Image.Image]
    """The image of a hash."""

    def others(self, kind: str, image: str) -> dict[str, bool]:
        """The labels of a kind on all images but one, by their hashes."""
        known = self.labels.get(kind, {})
        return {each: known[each] for each in sorted(known) if each != image}

    def digest(self, kind: str) -> str:
        """Names what a probe of a kind is made of, and what a case about it is compared with."""
        known = sorted(self.labels.get(kind, {}).items())
        parts = [FEWEST_WITH, FEWEST_WITHOUT, COMPARED_WITH, FOLDS, LABELLED_SHRINKAGE, known]
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def lack(self, kind: str, image: str) -> str:
        """Why there is no probe for a kind, as a sentence; "" where there is one."""
        there = list(self.others(kind, image).values())
        if sum(there) >= FEWEST_WITH and len(there) - sum(there) >= FEWEST_WITHOUT:
            return ""
        return (
            f"Of the other images of {self.benchmark}, {sum(there)} are known to have “{kind}” and "
            f"{len(there) - sum(there)} not to; a presence probe takes {FEWEST_WITH} and {FEWEST_WITHOUT}."
        )

    def lack_of_others(self, kind: str, image: str) -> str:
        """Why a case is not compared with these images, as a sentence; "" where it is."""
        if not kind:
            return f"It is not said what is asked about, nor which other images of {self.benchmark} are without it."
        without = list(self.others(kind, image).values()).count(False)
        if without >= COMPARED_WITH:
            return ""
        return (
            f"Of the other images of {self.benchmark}, {without} are known not to have “{kind}”; a comparison takes "
            f"{COMPARED_WITH}."
        )


def labelled_images(casebook: Casebook, benchmark: str) -> LabelledImages:
    """What the records of a benchmark say of their images, cases or not.

    Questions whether an object is there say it of that one; lists of what is there, and is not, of theirs. Labels that
    are disputed, or contradict one another, are left out.

    Args:
        casebook: holds the records, and their images.
        benchmark: the name of the benchmark.
    """
    found: dict[str, dict[str, set[bool]]] = {}
    kept: dict[str, bool] = {}
    for record in casebook.records(CaseFilter(benchmark=benchmark)):
        if record.benchmark != benchmark or not record.image or {DISPUTED, CONTRADICTORY} & set(record.flags):
            continue
        if record.image not in kept:
            kept[record.image] = bool(casebook.thumbnails([record.image]))
        for kind, there in _labels(record) if kept[record.image] else ():
            found.setdefault(kind, {}).setdefault(record.image, set()).add(there)

    def picture(image: str) -> Image.Image:
        kept = casebook.picture(image)
        if kept is None:
            raise InputError(f"the casebook no longer has the image {image:.12}.")
        return kept.image()

    agreed = {
        kind: {image: True in said for image, said in images.items() if len(said) == 1}
        for kind, images in found.items()
    }
    return LabelledImages(benchmark=benchmark or "no benchmark", labels=agreed, picture=picture)


def _labels(record: CaseRecord) -> list[tuple[str, bool]]:
    if record.asked == "yes-no":
        return [(record.object, record.truth == "yes")] if _asks_presence(record) else []
    return [(each, True) for each in record.present] + [(each, False) for each in record.absent]


def _asks_presence(record: CaseRecord) -> bool:
    """Whether the object itself is asked for: of "Is the dog black?", no does not say that there is no dog."""
    wanted = rf"\b(?:is|are) there (?:an? |any |some )? *{re.escape(record.object)}(?:e?s)? in (?:the|this) "
    return bool(record.object) and re.search(wanted, record.prompt, re.IGNORECASE) is not None


class LabelledProbes:
    """Fits probes of one model from labels; reads each image once.

    Args:
        model: the model.
        progress: called as images are read.
    """

    def __init__(self, model: LoadedModel, progress: Progress | None = None):
        self._model, self._progress = model, progress
        self._means: dict[str, Float[np.ndarray, "Y e"]] = {}

    def presence(
        self, labelled: LabelledImages, kind: str, image: Image.Image, states: Float[Tensor, "Y T D"]
    ) -> Presence | str:
        """What the probe of a kind says of an image with these states; a sentence where labels are too few."""
        own = image_hash(image)
        if lack := labelled.lack(kind, own):
            return lack
        there = labelled.others(kind, own)
        self._read(labelled, [each for each in there if each not in self._means])
        return labelled_presence(
            kind,
            labelled.benchmark,
            np.array(list(there.values())),
            np.stack([self._means[each] for each in there]),
            probe_rows(states),
            image=own,
        )

    def _read(self, labelled: LabelledImages, images: Sequence[str]) -> None:
        for start in range(0, len(images), _AT_ONCE):
            some = images[start : start + _AT_ONCE]
            found = mean_tokens(self._model, [labelled.picture(each) for each in some])
            self._means.update(zip(some, found, strict=True))
            if self._progress is not None:
                self._progress(start + len(some), len(images), f"{self._model.name}: reading labelled images")


def labelled_presence(
    kind: str,
    benchmark: str,
    there: Bool[np.ndarray, " n"],
    others: Float[np.ndarray, "n Y e"],
    tokens: Float[np.ndarray, "Y T e"],
    *,
    image: str,
) -> Presence:
    """The probe of a kind, asked about one image.

    Args:
        kind: the object.
        benchmark: whose images they are, for texts.
        there: whether it is in each other image.
        others: mean tokens of the other images at each layer, a one behind each, in an order of no meaning.
        tokens: the tokens of the case's image, a one behind each.
        image: hash of that image; decides its fold.
    """
    folds = np.empty(len(there), int)
    for which in (there, ~there):
        folds[which] = np.arange(which.sum()) % FOLDS
    truth = one_hot(there.astype(int), 2)
    held_out = np.empty(others.shape[:2])
    own = int(image[:8] or "0", 16) % FOLDS
    scores = np.empty(tokens.shape[:2])
    for layer in range(others.shape[1]):
        for fold in range(FOLDS):
            rows = others[folds != fold, layer]
            weights = discriminant(rows.T @ rows, rows.T @ truth[folds != fold], shrinkage=LABELLED_SHRINKAGE)
            direction = weights[:, 1] - weights[:, 0]
            held_out[folds == fold, layer] = others[folds == fold, layer] @ direction
            if fold == own:
                scores[layer] = tokens[layer] @ direction
    what = f"{len(there)} other images of {benchmark}"
    return Presence(
        title=f"presence probe for “{kind}”, fitted on labels of {what}: score of the mean token",
        tokens=scores,
        values=scores.mean(axis=1),
        thresholds=score_exceeded(held_out[~there]),
        areas=np.array([auroc(column, there) for column in held_out.T]),
        control_title=f"what 5 % of the {(~there).sum()} without it exceed",
    )
