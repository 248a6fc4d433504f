"""Evidence of cases, measured one case after another, and kept so that nothing is measured twice."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from emma_viz.cases.case import KNOCK_OUT, KNOCKED_OUT
from emma_viz.checkpoints import LoadedModel
from emma_viz.data import image_hash
from emma_viz.data.image_grid import ImageGrid
from emma_viz.data.provenance import dump_json
from emma_viz.errors import InputError
from emma_viz.evidence.case import Case
from emma_viz.evidence.class_words import TextStates, cosines, word_log_probabilities
from emma_viz.evidence.logit_lens import word_scores
from emma_viz.evidence.mixers.frozen import decompose
from emma_viz.evidence.regions import covered_tokens, places_alike, tokens_showing
from emma_viz.files.atomic import write_file
from emma_viz.files.json_door import TABLE, read_json
from emma_viz.lens import Lens, recording_for
from emma_viz.metrics.quality import r2
from emma_viz.progress import Progress
from emma_viz.records.questions import Question
from emma_viz.session.answering import FIRST_WORDS
from emma_viz.session.evidence.asked import AskedCase
from emma_viz.session.evidence.compared import MEAN_OF, ComparedImages, ComparedTokens, compared_images
from emma_viz.session.evidence.document import CaseCurve, CaseEvidence, CaseNumber, RegionKind, finite
from emma_viz.session.evidence.labelled import COMPARED_WITH, LabelledProbes
from emma_viz.session.evidence.presence import Presence, PresenceProbes, fit_presence, question_states
from emma_viz.session.evidence.references import References
from emma_viz.session.evidence.sentences import sentences_of
from emma_viz.session.loading import marks_beside_weights
from emma_viz.session.options import Asking
from emma_viz.session.road import ask
from emma_viz.shapes import EMBEDDING

_VERSION = 5
"""Of how things are measured: another one measures anew."""


class EvidenceRoom:
    """Measures cases of one model. What all cases share is made when it is first needed.

    Args:
        model: the model.
        references: what cases are compared with.
        lens: decodes pixels, for retention; None measures none.
        kept: a folder of documents; what is there for the same weights, case and recipe is read, not measured.
        progress: called as references are read.

    Raises:
        InputError: the lens belongs to another model.
    """

    def __init__(
        self,
        model: LoadedModel,
        references: References,
        *,
        lens: Lens | None = None,
        kept: Path | None = None,
        progress: Progress | None = None,
    ):
        if lens is not None and (unfit := lens.info.mismatch(model.info)):
            raise InputError(f"The lens does not belong to {model.name}: {'; '.join(unfit)}.")
        self.model, self.references, self.lens = model, references, lens
        self._kept, self._progress = kept, progress
        self._texts = TextStates()
        self._probes: PresenceProbes | None = None
        self._labelled = LabelledProbes(model, progress)
        self.tokens = ComparedTokens(model)
        self._pictures: dict[str, np.ndarray] = {}

    @property
    def recipe(self) -> str:
        """A digest of all that the numbers depend on, beside the weights and the case."""
        lens = None if self.lens is None else self.lens.info.to_json()
        text = json.dumps(
            [_VERSION, COMPARED_WITH, MEAN_OF, self.references.digest, lens], sort_keys=True, default=str
        )
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def recipe_of(self, labels: str) -> str:
        """The same of a case with these `AskedCase.labels`."""
        return f"{self.recipe} {labels}".strip()

    @property
    def probes(self) -> PresenceProbes:
        """The presence probes of the model."""
        if self._probes is None:
            self._probes = fit_presence(self.model, self.references, progress=self._progress)
        return self._probes

    def presence(self, case: AskedCase, states: Float[Tensor, "Y T D"]) -> tuple[Presence | None, list[str]]:
        """What a presence probe says of a case's image, and sentences of what it could not be made of.

        Labels of other images of its own benchmark come first; where they are too few, the references.
        """
        kind, lacking = case.object, []
        if kind and case.labelled is not None:
            found = self._labelled.presence(case.labelled, kind, case.image, states)
            if isinstance(found, Presence):
                return found, lacking
            lacking.append(found)
        if kind and self.probes.knows(kind):
            return self.probes.presence(states, kind, title=self.references.title), lacking
        reason = "is not known" if kind else "is not said"
        lacking.append(
            f"What is asked about {reason} to the presence probe that was fitted on {self.references.title} and knows "
            f"{', '.join(self.references.kinds)} alone."
        )
        return None, lacking

    def evidence(self, cases: Sequence[AskedCase]) -> Iterator[CaseEvidence]:
        """The evidence of each case in turn, measured or read; nothing is measured before it is taken.

        Raises:
            InputError: a case's mask is not of its image's size.
        """
        for case in cases:
            path = None if self._kept is None else self._kept / f"{self._key(case)}.json"
            if path is not None and path.exists():
                record = read_json(path, error=InputError, budget=TABLE)
                yield CaseEvidence.from_json(record, where=str(path))
                continue
            found = self._measured(case)
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                text = dump_json(found.to_json())
                write_file(path, lambda part, text=text: part.write_text(text, encoding="utf-8"))
            yield found

    @cached_property
    def _beside_weights(self) -> str:
        """`marks_beside_weights` as text; made once, for it goes through the whole image encoder."""
        return json.dumps(marks_beside_weights(self.model), sort_keys=True)

    def _key(self, case: AskedCase) -> str:
        place, whence = case.place()
        digest = hashlib.sha256()
        for part in (
            self.model.info.fingerprint,
            self._beside_weights,
            self.recipe_of(case.labels),
            image_hash(case.image),
            case.prompt,
            case.object,
        ):
            digest.update(part.encode() + b"\0")
        digest.update(b"" if place is None else f"{whence}".encode() + np.packbits(place).tobytes())
        return digest.hexdigest()[:32]

    def _measured(self, case: AskedCase) -> CaseEvidence:
        measuring = _Measuring(self, case)
        found = CaseEvidence(
            model=self.model.name,
            fingerprint=self.model.info.fingerprint,
            recipe=self.recipe_of(case.labels),
            image=image_hash(case.image),
            prompt=case.prompt,
            object=case.object,
            grid=measuring.geometry.grid,
            region=tuple(np.flatnonzero(measuring.region.ravel()).tolist())
            if measuring.region is not None
            else (),
            region_from=measuring.whence,
            curves=tuple(measuring.curves()),
            numbers=tuple(measuring.numbers()),
            lacking=tuple(measuring.lacking),
        )
        return replace(found, sentences=sentences_of(found))

    def decoded(self, image: Image.Image) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
        """Decoded patches (Y, T, p, p, 3), the true ones (T, p, p, 3), and the layers, by the lens."""
        assert self.lens is not None
        sites, layers = recording_for(self.lens, self.lens.info.layers)
        ((_, decoding),) = ask(
            self.model, [Question(image=image, prompt="What is there?")], self.lens, asking=Asking(),
            sites=sites, layers=layers, decoded=self.lens.info.layers, generate=False,
        )  # fmt: skip
        assert decoding is not None
        return decoding.patches[:, 0], decoding.true[0], decoding.layers

    def picture_of(self, images: ComparedImages, name: str) -> np.ndarray:
        """Decoded patches of an image that is compared with."""
        if name not in self._pictures:
            self._pictures[name] = self.decoded(images.picture(name))[0].astype(np.float16)
            while len(self._pictures) > 2 * COMPARED_WITH:
                del self._pictures[next(iter(self._pictures))]
        return self._pictures[name]

    def words_at(self, word: str) -> Float[Tensor, "Y D"]:
        """States of texts that name something, at each layer."""
        return self._texts.of(self.model, word, list(range(EMBEDDING, self.model.info.n_layer)))


class _Measuring:
    """One case on its way."""

    def __init__(self, room: EvidenceRoom, case: AskedCase):
        self.room, self.case, self.lacking = room, case, []
        self.geometry, states, count = question_states(
            room.model, Question(image=case.image, prompt=case.prompt)
        )
        self.image, self.last = states[:, :count], states[:, -1]
        self.layers = tuple(range(EMBEDDING, room.model.info.n_layer))
        self.presence, lacking = room.presence(case, self.image)
        self.compared, stood = compared_images(room.references, case, image_hash(case.image))
        self.lacking += [*lacking, *([stood] if stood else [])]
        self.region, self.whence = self._region()
        self.asked = Case.of(room.model, case.image, case.prompt, words=FIRST_WORDS)
        self.score = self.asked.scores([self.asked.tokens[0]])[0]

    def _region(self) -> tuple[Bool[np.ndarray, "R C"] | None, RegionKind | None]:
        place, whence = self.case.place()
        if place is not None:
            found = covered_tokens(place, self.geometry)
            if found is None:
                self.lacking.append(
                    "The object takes up none, or half or more, of what the model sees: no region."
                )
            return found, whence if found is not None else None
        if self.presence is None:
            self.lacking.append(
                "Nobody knows where the object is, and there is no presence probe for it: no region."
            )
            return None, None
        grid = self.geometry.grid
        best = np.zeros(grid, bool)
        best.ravel()[int(self.presence.tokens[-1].argmax())] = True
        return covered_tokens(_pixels_of(best, self.geometry), self.geometry), "probe"

    def curves(self) -> Iterator[CaseCurve]:
        yield from self._presence()
        yield from self._retention()
        yield from self._words()
        yield self._answer()

    def numbers(self) -> Iterator[CaseNumber]:
        yield CaseNumber(
            name="answer difference", title="logit of yes less that of no, where the answer begins", unit="nats",
            value=self.score,
        )  # fmt: skip
        yield from self._parts()
        yield from self._knock_out()
        yield from self._prior()

    def _presence(self) -> Iterator[CaseCurve]:
        if (found := self.presence) is None:
            return
        yield CaseCurve(
            name="presence", title=found.title, unit="", layers=self.layers, values=_numbers(found.values),
            control=_numbers(found.thresholds), control_title=found.control_title,
        )  # fmt: skip
        yield CaseCurve(
            name="presence area", title="area under the ROC curve of the same probe on held-out images", unit="",
            layers=self.layers, values=_numbers(found.areas), control=(0.5,) * len(self.layers),
            control_title="chance",
        )  # fmt: skip

    def _retention(self) -> Iterator[CaseCurve]:
        if self.region is None or self.whence == "probe":
            self.lacking.append("No mask or box says where the object is: no retention inside it.")
            return
        if self.room.lens is None:
            self.lacking.append("No lens was given: no retention.")
            return
        decoded, true, layers = self.room.decoded(self.case.image)
        inside = self.region.ravel()
        pictures = [self.room.picture_of(self.compared, name) for name in self.compared.without]
        others = [each for each in pictures if each.shape == decoded.shape]  # of grids of the same shape
        values = [r2(each[inside], true[inside]) for each in decoded]
        control = [
            max([0.0, *(r2(other[number][inside].astype(np.float32), true[inside]) for other in others)])
            for number in range(len(layers))
        ]
        yield CaseCurve(
            name="retention", title="R² of the decoded pixels inside the object", unit="R²",
            layers=layers, values=_numbers(values), control=_numbers(control),
            control_title=f"the best picture of {len(others)} {self.compared.title} in that place, and of one colour",
        )  # fmt: skip

    def _words(self) -> Iterator[CaseCurve]:
        kinds, kind = self.room.references.kinds, self.case.object
        others = [each for each in kinds if each != kind]
        if self.region is None or not kind or len(others) < 2:
            self.lacking.append("There is no region or no word of the object: no lens of words.")
            return
        rows = torch.from_numpy(np.flatnonzero(self.region.ravel()))
        words = [kind, *others]
        likely = [
            word_log_probabilities(self.room.model, each[rows], words).max(axis=0) for each in self.image
        ]
        bank = torch.stack([self.room.words_at(word) for word in words], dim=1)
        near = [cosines(each, some)[rows].max(axis=0) for each, some in zip(self.image, bank, strict=True)]
        for name, title, unit, found in (
            ("logit lens", f"log-probability of “{kind}” at the region's best token", "nats", likely),
            ("contextual lens", f"cosine with texts that name “{kind}” at the region's best token", "", near),
        ):
            each = np.array(found)
            yield CaseCurve(
                name=name, title=title, unit=unit, layers=self.layers, values=_numbers(each[:, 0]),
                control=_numbers(np.quantile(each[:, 1:], 0.95, axis=1, method="higher")),
                control_title=f"what 5 % of {len(others)} other words exceed there",
            )  # fmt: skip

    def _answer(self) -> CaseCurve:
        logits = word_scores(self.room.model, self.last)
        gap = (logits[:, self.asked.word] - logits[:, self.asked.against]).cpu().numpy()
        return CaseCurve(
            name="answer", title="logit of yes less that of no, read from each layer where the answer begins",
            unit="nats", layers=self.layers, values=_numbers(gap),
        )  # fmt: skip

    def _parts(self) -> Iterator[CaseNumber]:
        case = self.case
        info = self.room.model.info
        if not info.mixers_alone:
            self.lacking.append(
                "A hybrid has MLPs, and attention in places, beside a Mamba's routing: no parts of the score."
                if info.mixer_layers
                else "An attention transformer has no Mamba's routing to hold: no parts of the score."
            )
            return
        found = decompose(
            self.room.model, case.image, case.prompt, word=[self.asked.word], against=[self.asked.against]
        )
        for name, value in (
            ("image", float(found.image.sum())),
            ("text", float(found.text.sum())),
            ("bias", float(found.bias.sum())),
        ):
            yield CaseNumber(
                name=f"{name} part", title=f"of the difference, what comes through {name} with the routing held",
                unit="nats", value=value,
            )  # fmt: skip

    def _knock_out(self) -> Iterator[CaseNumber]:
        if self.region is None:
            return
        mean = self.room.tokens.mean(self.compared, self.case.prompt)
        places = [self.region, *places_alike(self.region, count=COMPARED_WITH, seed=self._seed)]
        runs = [self.asked.with_tokens(tokens_showing(each, self.geometry), mean) for each in places]
        own, *others = self.asked.scores(runs)
        if not others:
            self.lacking.append("No other region of the same shape fits beside the object's: no knock-out.")
            return
        yield CaseNumber(
            name=KNOCKED_OUT, unit="nats", value=own,
            title=f"the difference when the region's tokens are the mean token of {self.compared.title}",
        )  # fmt: skip
        yield CaseNumber(
            name=KNOCK_OUT, title="how far it moves by that, in size", unit="nats", value=abs(own - self.score),
            control=max(abs(each - self.score) for each in others),
            control_title=f"the largest change by {len(others)} other regions of the same shape",
        )  # fmt: skip

    def _prior(self) -> Iterator[CaseNumber]:
        mean = self.room.tokens.mean(self.compared, self.case.prompt).to(self.asked.tokens)
        blind = self.asked.scores([mean.expand(self.asked.count, -1)])[0]
        others = [self._of_other(name) for name in self.compared.without]
        (alone,) = self.asked.scores([self.asked.tokens[0, :0]])
        yield CaseNumber(
            name="prior: mean tokens", title="the difference when every image token is the mean token", unit="nats",
            value=blind,
        )  # fmt: skip
        if others:
            what = f" without “{self.case.object}”" if self.case.object else ""
            yield CaseNumber(
                name="prior: another image", unit="nats", value=float(np.mean(others)),
                title=f"the mean difference with {len(others)} {self.compared.title}{what}",
            )  # fmt: skip
            share = float(np.mean([(each > 0) == (self.score > 0) for each in others]))
            yield CaseNumber(
                name="prior: same answer", title=f"share of these {len(others)} images with the same answer", unit="",
                value=share,
            )  # fmt: skip
        yield CaseNumber(
            name="prior: no image", title="the difference without any image token", unit="nats", value=alone
        )

    def _of_other(self, name: str) -> float:
        """The score when another image stands in this one's place."""
        tokens = self.room.tokens.of(self.compared, name, self.case.prompt)
        if tokens.shape == self.asked.tokens.shape[1:]:
            return self.asked.scores([tokens])[0]
        # Its grids are of other shapes.
        asked = Case.of(self.room.model, self.compared.picture(name), self.case.prompt, words=FIRST_WORDS)
        return asked.scores([asked.tokens[0]])[0]

    @property
    def _seed(self) -> str:
        return f"{image_hash(self.case.image)} {self.case.prompt}"


def _pixels_of(tokens: Bool[np.ndarray, "R C"], geometry: ImageGrid) -> Bool[np.ndarray, "height width"]:
    """The pixels of some tokens, in the original image."""
    return np.nan_to_num(geometry.paste(tokens.astype(np.float32))) > 0


def _numbers(values: Sequence[float] | Float[np.ndarray, " n"]) -> tuple[float | None, ...]:
    return tuple(finite(float(each)) for each in values)
