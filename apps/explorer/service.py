"""What the page can ask of the server, without any widget: every answer is JSON, every refusal a sentence."""

import base64
import secrets
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from apps.explorer.evidence import without_place, word_evidence
from apps.explorer.masking import Masked, mask, said_of, with_mask
from apps.explorer.news import Abandoned, News
from apps.explorer.offer import Settings
from apps.explorer.questions import (
    OfPin,
    OfPlaceOfWord,
    OfPlaces,
    OfRegion,
    OfRun,
    OfTicket,
    OfView,
    OfWord,
    read,
    sentence,
)
from apps.explorer.running import VisitorQuestion, answer_question, read_words
from apps.explorer.saving import FILE_TYPES, save_view
from apps.explorer.scratch import Scratch
from apps.explorer.sessions import Session, Sessions
from apps.explorer.shown_study import ShownStudy
from apps.explorer.state import KEPT_IMAGES, Asked, Images, Models, Recent, RunResult
from apps.explorer.uploads import Uploads, read_upload
from emma_viz.data import image_hash
from emma_viz.errors import ImageError, InputError
from emma_viz.session.payload import payload

CONVERT = "“Convert the colour profile”"
"""What the page calls the command line's --convert-profile."""
MOST_PICTURES = 1000
"""Pictures to choose from: each is made when the server starts, and stands on the page of every visitor."""


class Service:
    """Everything behind the page.

    Args:
        settings: what is offered.
        examples: hash → name and image.
        others: where images are looked for that links name, as in a casebook.

    Raises:
        StudyError: the study cannot be read, or holds no decoded pixels.
    """

    def __init__(
        self,
        settings: Settings,
        examples: Mapping[str, tuple[str, Image.Image]],
        *,
        others: Callable[[str], tuple[str, Image.Image] | None] | None = None,
    ):
        self.settings = settings
        self.study = ShownStudy(settings.study) if settings.study else None
        """The study that is shown."""
        self.models = Models(settings.models, settings.running)
        self.sessions = Sessions()
        self._scratch = Scratch()
        self.folder = self._scratch.path
        """Holds all temporary files of this server; `close` removes it."""
        self.uploads = Uploads(self.folder / "gradio")
        self.cookie = f"emma-viz-{secrets.token_hex(4)}"
        """Name of the cookie that holds a visitor's token; one for each server, as cookies know no ports."""
        self._ending, self._work = threading.Event(), 0
        self._rest = threading.Condition()
        if self.study:
            examples = self.study.images()
        self.images = Images(examples, others=others)
        self._masked: Recent[Masked] = Recent(KEPT_IMAGES)
        self.examples = tuple(digest for digest, _ in self.study.questions) if self.study else tuple(examples)

    def close(self, patience: float = 3.0) -> None:
        """Stop what runs at its next step, and remove all temporary files.

        Args:
            patience: seconds that runs are waited for.
        """
        self._ending.set()
        with self._rest:
            self._rest.wait_for(lambda: not self._work, patience)
        self._scratch.close()

    @contextmanager
    def _at_work(self) -> Generator[None, None, None]:
        """Count as work that `close` waits for."""
        with self._rest:
            self._work += 1
        try:
            yield
        finally:
            with self._rest:
                self._work -= 1
                self._rest.notify_all()

    def file_of(self, digest: str) -> Path | None:
        """A PNG of an image that is known by its hash."""
        found = self.images.get(digest)
        if found is None:
            return None
        return self.uploads.picture(digest, *found, known=self.images.known)

    def refusal(self, secret: str, upload: object) -> str | None:
        """Why an upload cannot be shown to the models, or None when it can."""
        try:
            self._upload(secret, upload)
        except Exception as error:
            return sentence(error)
        return None

    def thumbnails(self, side: int = 160) -> list[tuple[Image.Image, str]]:
        """Small pictures of what is on offer, with their names: of a study one a question, at most `MOST_PICTURES`."""
        captions, found = self.study.captions() if self.study else [], []
        for index, digest in enumerate(self.examples[:MOST_PICTURES]):
            name, image = self.images.get(digest) or ("", Image.new("RGB", (1, 1)))
            small = image.copy()
            small.thumbnail((side, side))
            found.append((small, captions[index] if captions else name))
        return found

    def ask(
        self,
        secret: str,
        upload: str | None,
        prompt: str,
        models: Sequence[str],
        lens: str | Sequence[str],
        site: str | Sequence[str],
        tokens: int,
        ticket: int = 0,
        *,
        convert: bool = False,
        linked: bool = False,
    ) -> Iterator[dict[str, Any]]:
        """Run, with news on the way; ends with `ready`, `error`, or `none` when it was stopped.

        Args:
            lens: one lens or several; each model is shown under each.
            site: one hook site or several, "" for the lens's own.
            ticket: the page's number of this question, by which it is stopped; all news have it as `ask`.
            convert: whether an image with a colour profile is converted to sRGB.
            linked: whether a link asks, and not a person: a result that is kept and answers the same is taken again.
        """
        about = {"session": secret, "ask": ticket}
        news, ended = News(ending=self._ending), threading.Event()
        outcome: dict[str, Any] = {}
        try:
            session = self.sessions.get(secret)
        except InputError as error:
            yield about | {"stage": "error", "message": sentence(error)}
            return

        def work() -> None:
            try:
                image, name = self._upload(secret, upload, convert=convert)
                question = VisitorQuestion(
                    image=image, image_name=name, prompt=prompt, models=tuple(models),
                    lenses=_several(lens), sites=_several(site), max_new_tokens=int(tokens),
                    file=Path(str(upload)).name, converted=convert,
                )  # fmt: skip
                result = self._answered(question, session, news, linked=linked)
                with session.changing:
                    news.say(0, 0, "ready")  # a run that was stopped leaves the page's result where it is
                    outcome.update(stage="ready", run=self.sessions.store(secret, result))
            except Abandoned:
                pass
            except Exception as error:
                outcome.update(stage="error", message=sentence(error))
            finally:
                ended.set()
                news.changed.set()

        def counted() -> None:
            with self._at_work():
                work()

        if not session.begin(ticket, news):
            yield about | {"stage": "none"}
            return
        threading.Thread(target=counted, daemon=True, name="explorer-run").start()
        try:
            yield from news.told(ended, about)
        finally:
            news.left = True
            if session.news is news:
                session.news = None
        yield {"stage": "none", **about, **outcome}

    def _answered(
        self, question: VisitorQuestion, session: Session, news: News, *, linked: bool
    ) -> RunResult:
        """The result of a question, whose image is kept; as `ask` says."""
        result = self.sessions.alike(question.asked) if linked else None
        if result is None:
            result = answer_question(question, self.models, self.settings.lenses, news)
        digest = result.asked.image_hash
        result = with_mask(result, self._masked.get(digest))
        self.images.add(digest, question.image_name, question.image)
        if session.masked == digest:
            session.masked = ""
        return result

    def show(self, secret: str, index: int, entries: Sequence[str] = ()) -> dict[str, Any]:
        """Show a question of the study, by its number from 0."""
        try:
            if self.study is None:
                raise InputError("No study is open here.")
            comparison, sample = self.study.find(index, tuple(entries))
            first = comparison.decodings[0]
            asked = Asked(
                image_hash=first.image_hashes[sample], prompt=first.prompts[sample], entries=tuple(entries)
            )
            result = RunResult(
                asked=asked,
                comparison=comparison,
                sample=sample,
                study=self.study.path,
                number=index,
            )
            return {"stage": "ready", "session": secret, "run": self.sessions.store(secret, result)}
        except Exception as error:
            return {"stage": "error", "session": secret, "message": sentence(error)}

    # What the page's script calls: one JSON object in, one out.

    def payload(self, data: dict) -> dict:
        """The payload of a run: {session, run}."""

        def answer() -> dict:
            result = self._result(read(data, OfRun))
            live = bool(result.traces)
            words = [[word.text for word in each] for each in result.words] or None
            found = payload(
                result.comparison, sample=result.sample, names=result.names, words=words, live=live
            )
            found["notes"] = [text.replace("--convert-profile", CONVERT) for text in found["notes"]]
            found["notes"] += said_of(result)
            found["failed"] = [{"name": name, "message": message} for name, message in result.failed]
            found["asked"] = result.asked.as_json()
            return found

        return self._guarded(answer)

    def words(self, data: dict) -> dict:
        """Logit-lens words: {session, run, places} → {models: [per model, per layer, (text, share)]}."""

        def answer() -> dict:
            asked = read(data, OfPlaces)
            return {"models": read_words(self._result(asked), self.models, asked.places)}

        return self._guarded(answer)

    def attribute(self, data: dict) -> dict:
        """The evidence of words: {session, run, model, word, last, method} → what `word_evidence` gives."""
        return self._guarded(lambda: self._measured(read(data, OfWord), word_evidence))

    def without(self, data: dict) -> dict:
        """What words lose without a place: {session, run, model, word, last, row, region} → as `without_place`."""
        return self._guarded(lambda: self._measured(read(data, OfPlaceOfWord), without_place))

    def _measured(self, asked: OfWord, measure: Callable[..., dict[str, Any]]) -> dict[str, Any]:
        """Measure something of words; of a page one thing at a time."""
        result, session = self._result(asked), self.sessions.get(asked.session)
        if session.evidence is not None:
            session.evidence.leave()
        news = session.evidence = News(ending=self._ending)
        try:
            return measure(result, self.models, asked, self.settings.method, news)
        except Abandoned:
            raise InputError("The measurement was stopped.") from None
        finally:
            if session.evidence is news:
                session.evidence = None

    def progress(self, data: dict) -> dict:
        """How far the evidence of a word is: {session} → {done, total}."""

        def answer() -> dict:
            news = self.sessions.get(read(data, OfRun).session).evidence
            return {"done": news.done, "total": news.total} if news else {"done": 0, "total": 0}

        return self._guarded(answer)

    def cancel(self, data: dict) -> dict:
        """Stop the evidence that is being found: {session} → {}."""

        def answer() -> dict:
            news = self.sessions.get(read(data, OfRun).session).evidence
            if news is not None:
                news.leave()
            return {}

        return self._guarded(answer)

    def pin(self, data: dict) -> dict:
        """Keep a run when newer ones come, or no longer: {session, run, pinned} → {}."""

        def answer() -> dict:
            asked = read(data, OfPin)
            self.sessions.pin(asked.session, asked.run, pinned=asked.pinned)
            return {}

        return self._guarded(answer)

    def mask(self, data: dict) -> dict:
        """Paint a place over: {session, run, model, region} → {image}, the hash by which a link names it.

        Of a page one such image is kept that no run has asked about.
        """

        def answer() -> dict:
            asked = read(data, OfRegion)
            image, name, done = mask(self._result(asked), asked.model, asked.region)
            digest, session = image_hash(image), self.sessions.get(asked.session)
            if session.masked and session.masked != digest:
                self.images.forget(session.masked)
            session.masked = digest
            self.images.add(digest, name, image)
            self._masked.put(digest, done)
            return {"image": digest}

        return self._guarded(answer)

    def stop(self, data: dict) -> dict:
        """Stop a page's runs at their next word, and those that wait before they begin: {session, ask} → {}."""

        def answer() -> dict:
            asked = read(data, OfTicket)
            self.sessions.get(asked.session).stop(asked.ask)
            return {}

        return self._guarded(answer)

    def save(self, data: dict) -> dict:
        """A file: {session, run, format, layer, kind, scale, colours, difference, look} → {name, type, data}."""

        def answer() -> dict:
            asked = read(data, OfView)
            result = self._result(asked)
            name, content = save_view(result, asked, settings=self.settings, place=self.folder)
            return {
                "name": name,
                "type": FILE_TYPES[asked.format],
                "data": base64.b64encode(content).decode(),
            }

        return self._guarded(answer)

    def _result(self, asked: OfRun) -> RunResult:
        return self.sessions.result(asked.session, asked.run)

    def _upload(self, secret: str, upload: object, *, convert: bool = False) -> tuple[Image.Image, str]:
        """The visitor's image, checked before it is decoded; one that is known by its hash is the same again.

        Raises:
            InputError: there is no such session.
            ImageError: it is missing, not the visitor's own, too large, or no image. The message names no path.
        """
        visitor = self.sessions.get(secret).visitor
        if not upload:
            raise ImageError(
                "Bring an image first: drop, paste or choose one, use the camera, or take an example."
            )
        path = self.uploads.find(visitor, upload)
        if path.is_relative_to(self.uploads.images) and (kept := self.images.get(path.parent.name)):
            return kept[1], kept[0]
        return read_upload(path, convert=convert)

    def _guarded(self, answer: Callable[[], dict]) -> dict:
        try:
            with self._at_work():
                return answer()
        except Exception as error:
            return {"error": sentence(error)}


def _several(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)
