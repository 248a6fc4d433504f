"""What the canvas shows of a case: maps from the study behind it, or made now by the models themselves."""

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from emma_viz.cases.case import CaseAnswer, CaseRecord
from emma_viz.checkpoints import LoadedModel, bundled_names
from emma_viz.errors import EmmaVizError
from emma_viz.maps import Decoding
from emma_viz.session.comparison import Comparison, compare
from emma_viz.session.loading import load, named_marks, one_mark
from emma_viz.session.options import DEFAULT_LENSES, Asking, Running
from emma_viz.session.payload import payload
from emma_viz.session.studies import decoded_sample

KEPT_MAPS = 16
"""Cases whose maps stay in memory."""


@dataclass(frozen=True, kw_only=True)
class CaseView:
    """What can be shown of one case."""

    payload: dict[str, Any] | None
    """For the canvas; None where no model's maps are to be had."""
    notes: tuple[str, ...]
    """A sentence for each model whose maps lack, or are not of what answered."""


@dataclass
class _Made:
    """What was made of one case."""

    decodings: dict[str, tuple[Decoding, list[str]]] = field(default_factory=dict)
    """Name of a model → its maps, and what is to be said of them; while others lack, and no other case is looked at:
    those of a large model take a hundred megabytes."""
    models: int = 0
    """Of how many models the view shows maps."""
    view: CaseView | None = None
    with_image: bool = False
    """Whether there was an image at the last attempt."""
    tried: float = 0.0
    """When that ended, on the monotonic clock."""


class CaseMaps:
    """Makes and keeps the maps of cases; one thread at a time makes some, the others wait. Maps that could not be made
    are tried again when they are asked for later: an image, a study or a lens may be there by then.

    Args:
        sources: name of a model, as in the cases → what `load_model` takes. Bundled models are found by their names.
        lens: of all models.
        running: how models are loaded.
        keep: cases whose maps stay in memory.
        again: seconds until maps that could not be made are tried again, unless an image has come meanwhile: a page
            asks at every press of a key, and a source that cannot be reached takes its time to say so.
    """

    def __init__(
        self,
        sources: Mapping[str, str] | None = None,
        *,
        lens: str = DEFAULT_LENSES[0],
        running: Running = Running(),
        keep: int = KEPT_MAPS,
        again: float = 15.0,
    ):
        self._sources = dict(sources or {})
        self.lens, self._running, self._keep, self._again = lens, running, keep, again
        self._loaded: dict[str, LoadedModel] = {}
        self._beside: dict[str, str] = {}
        self._made: OrderedDict[tuple[str, tuple[CaseAnswer, ...]], _Made] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, record: CaseRecord, image: Image.Image | None) -> CaseView:
        """The maps of a case.

        Args:
            record: the case.
            image: what was asked about; None where the casebook does not have it.
        """
        key = (record.identity, record.answers)
        with self._lock:
            made = self._made.setdefault(key, _Made())
            self._made.move_to_end(key)
            while len(self._made) > self._keep:
                self._made.popitem(last=False)
            for other in self._made.values():
                if other is not made:
                    other.decodings.clear()
            lately = time.monotonic() < made.tried + self._again and made.with_image == (image is not None)
            if made.view is not None and (lately or made.models == len(record.answers)):
                return made.view
            notes = self._decode(record, image, made.decodings)
            models = len(made.decodings)
            # Of fewer than before, where a source is lost again, what was drawn stays.
            if made.view is None or (
                models >= made.models and (models, notes) != (made.models, made.view.notes)
            ):
                made.view, made.models = _view(record, made.decodings, notes), models
            if models == len(record.answers):
                made.decodings.clear()
            made.with_image, made.tried = image is not None, time.monotonic()
            return made.view

    def sources_of(self, record: CaseRecord) -> dict[str, str]:
        """Name → what `load_model` takes, of each model that answered and whose weights are known here."""
        known = {answer.model: self._source(answer.model) for answer in record.answers}
        return {name: source for name, source in known.items() if source is not None}

    def _source(self, name: str) -> str | None:
        return self._sources.get(name, name if name in bundled_names() else None)

    def _decode(
        self, record: CaseRecord, image: Image.Image | None, made: dict[str, tuple[Decoding, list[str]]]
    ) -> tuple[str, ...]:
        """Make the maps that lack; returns what is to be said of all."""
        notes: list[str] = []
        for answer in record.answers:
            if answer.model in made:
                notes += made[answer.model][1]
                continue
            said: list[str] = []
            try:
                decoding = self._decoding(record, answer, image, said)
                if decoding is not None:
                    if made:
                        first, _ = next(iter(made.values()))
                        Comparison(decodings=(first, decoding))  # refuses another image
                    made[answer.model] = decoding, said
            except EmmaVizError as error:
                said.append(f"{answer.model}: {error}")
            notes += said
        return tuple(notes)

    def _decoding(
        self, record: CaseRecord, answer: CaseAnswer, image: Image.Image | None, notes: list[str]
    ) -> Decoding | None:
        if answer.study:
            try:
                return self._from_study(record, answer)
            except EmmaVizError as error:
                notes.append(f"{answer.model}: the study behind it cannot be shown ({error})")
        if image is None:
            notes.append(f"{answer.model}: no maps, because the casebook does not have the image.")
            return None
        model = self._model(answer, notes)
        if model is None:
            return None
        asking = Asking(
            prompt=record.prompt, max_new_tokens=1
        )  # what follows an image does not change its states
        (decoding,) = compare(image, [model], lenses=[self.lens], asking=asking).decodings
        return replace(decoding, answers=(answer.text,))

    def _from_study(self, record: CaseRecord, answer: CaseAnswer) -> Decoding:
        decoding, _ = decoded_sample(Path(answer.study), answer.entry, answer.sample)
        if record.image and decoding.image_hashes[0] != record.image:
            raise EmmaVizError("it is of another image")
        return decoding

    def _model(self, answer: CaseAnswer, notes: list[str]) -> LoadedModel | None:
        """The model that answered, loaded once; a note where it lacks or is another."""
        name = answer.model
        source = self._source(name)
        if source is None:
            notes.append(f"{name}: no maps without its weights; name them with --models {name}=PATH.")
            return None
        model = self._loaded.get(name)
        if model is None:
            self._beside[name] = one_mark(named_marks(source, self._running))
            model = self._loaded[name] = load(source, self._running)
        if answer.fingerprint and answer.fingerprint != model.info.fingerprint:
            notes.append(
                f"{name}: the maps are of other weights ({model.info.fingerprint[:8]}) than answered "
                f"({answer.fingerprint[:8]})."
            )
        elif (beside := self._beside[name]) and answer.beside not in ("", beside):
            notes.append(f"{name}: the maps are of another image encoder or tokenizer than answered.")
        return model


def _view(
    record: CaseRecord, made: Mapping[str, tuple[Decoding, list[str]]], notes: tuple[str, ...]
) -> CaseView:
    decodings = tuple(made[answer.model][0] for answer in record.answers if answer.model in made)
    if not decodings:
        return CaseView(payload=None, notes=notes)
    names = (Path(record.image_name).name,) if record.image_name else ()
    comparison = Comparison(decodings=decodings, image_names=names)
    return CaseView(payload=payload(comparison, live=False), notes=notes)
