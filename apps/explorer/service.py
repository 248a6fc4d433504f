"""What the page can ask of the server, without any widget: every answer is JSON, every refusal a sentence."""

import base64
import json
import logging
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from apps.explorer.payload import payload
from apps.explorer.running import Abandoned, Lenses, News, Question, explain, image_title, read_words, run
from apps.explorer.saving import TYPES, save_view
from apps.explorer.state import Asked, Images, Models, Result, Sessions
from emma_viz.data import read_image
from emma_viz.errors import EmmaVizError, ImageError, InputError
from emma_viz.session import Running, compare_study

logger = logging.getLogger(__name__)

MAX_PIXELS = 40_000_000
"""The largest image that a visitor may bring; beyond it nothing is decoded."""
MAX_BYTES = 25 * 2**20
"""The largest file, 25 MB as the page and Gradio count them."""
EVERY = 0.08
"""Seconds between two pieces of news."""

_FOLDERS = re.compile(r"(?<![\w:./])(?:~|\.{0,2})/(?:[^\s/,;:()'\"]+/)+")
"""Folders of the server, which are nobody's business; the names of files stay."""

METHODS = {
    "gradient": (
        "gradient × input",
        "Estimates, from one backward pass, by how many nats the word's log-probability would fall if an image token "
        "were replaced by the mean token. Blue supports the word, red speaks against it. An estimate, not a proof.",
    ),
    "knockout": (
        "knock-out",
        "By how many nats the word's log-probability falls when an image token is replaced by the mean token, "
        "measured token by token. Blue supports the word, red speaks against it.",
    ),
}
"""Method → what the page calls it, and what it means."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What one server offers."""

    models: Mapping[str, str] = field(default_factory=dict)
    """Label → what `load_model` takes."""
    chosen: tuple[str, ...] = ()
    """Labels that are chosen at first."""
    lenses: Lenses = field(default_factory=lambda: {"ridge": ("ridge",)})
    """Label → kinds of lens or lens files; of several, each model takes the first that it has."""
    running: Running = field(default_factory=Running)
    """How models are loaded."""
    study: Path | None = None
    """Show this study, without models."""
    method: str = "gradient"
    """How words are attributed: a key of `METHODS`."""


class Service:
    """Everything behind the page.

    Args:
        settings: what is offered.
        examples: hash → name and image.

    Raises:
        StudyError: the study cannot be read, or holds no decoded pixels.
    """

    def __init__(self, settings: Settings, examples: Mapping[str, tuple[str, Image.Image]]):
        self.settings = settings
        self.study = compare_study(settings.study) if settings.study else None
        self.models = Models(settings.models, settings.running)
        self.sessions = Sessions()
        self.folder = Path(tempfile.mkdtemp(prefix="emma-viz-explorer-"))
        """Holds all temporary files of this server; `close` removes it."""
        if self.study is not None:
            first = self.study.decodings[0]
            examples = {
                digest: (name, first.images[index])
                for index, (digest, name) in enumerate(
                    zip(first.image_hashes, self.study.image_names, strict=True)
                )
            }
        self.images = Images(examples)
        self.examples = tuple(examples)

    def close(self) -> None:
        """Remove all temporary files."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def file_of(self, digest: str) -> Path | None:
        """A PNG of an image that is known by its hash."""
        found = self.images.get(digest)
        if found is None:
            return None
        name, image = found
        folder = self.folder / "images" / digest[:16]
        path = folder / f"{_safe(name)}.png"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(f".{threading.get_ident()}")
            image.save(partial, format="PNG", compress_level=1)
            partial.replace(path)
            self._tidy()
        return path

    def _tidy(self) -> None:
        """Remove the files of images that are no longer known."""
        known = {digest[:16] for digest in self.images.known()}
        for folder in (self.folder / "images").iterdir():
            if folder.name not in known:
                shutil.rmtree(folder, ignore_errors=True)

    def refusal(self, upload: str | None) -> str | None:
        """Why an upload cannot be shown to the models, or None when it can."""
        try:
            self._upload(upload)
        except Exception as error:
            return self._sentence(error)
        return None

    def thumbnails(self, side: int = 160, most: int = 60) -> list[tuple[Image.Image, str]]:
        """Small pictures of the images on offer, with their names."""
        found = []
        for digest in self.examples[:most]:
            name, image = self.images.get(digest) or ("", Image.new("RGB", (1, 1)))
            small = image.copy()
            small.thumbnail((side, side))
            found.append((small, name))
        return found

    def ask(
        self,
        secret: str,
        upload: str | None,
        prompt: str,
        models: Sequence[str],
        lens: str,
        site: str,
        tokens: int,
    ) -> Iterator[dict[str, Any]]:
        """Run, with news on the way; ends with `ready` or `error`."""
        news, ended = News(), threading.Event()
        outcome: dict[str, Any] = {}

        def work() -> None:
            try:
                image, name = self._upload(upload)
                question = Question(
                    image=image, image_name=name, prompt=prompt, models=tuple(models), lens=lens, site=site,
                    max_new_tokens=int(tokens),
                )  # fmt: skip
                result = run(question, self.models, self.settings.lenses, news)
                self.images.add(result.asked.image_hash, name, image)
                outcome.update(stage="ready", run=self.sessions.store(secret, result))
            except Abandoned:
                outcome.update(stage="error", message="The run was stopped.")
            except Exception as error:
                outcome.update(stage="error", message=self._sentence(error))
            finally:
                ended.set()
                news.changed.set()

        threading.Thread(target=work, daemon=True, name="explorer-run").start()
        try:
            while not ended.is_set():
                news.changed.wait(1.0)
                news.changed.clear()
                if not ended.is_set():
                    yield {"stage": "busy", "session": secret, **json.loads(json.dumps(news.as_json()))}
                    ended.wait(EVERY)
        finally:
            news.left = True
        yield {"session": secret, **outcome}

    def show(self, secret: str, index: int, entries: Sequence[str] = ()) -> dict[str, Any]:
        """Show an image of the study."""
        try:
            if self.study is None or self.settings.study is None:
                raise InputError("No study is open here.")
            comparison = self.study
            if entries:
                comparison = compare_study(self.settings.study, entries=list(entries))
            if not 0 <= index < len(comparison.image_names):
                raise InputError(f"The study has images 0 to {len(comparison.image_names) - 1}; got {index}.")
            first = comparison.decodings[0]
            asked = Asked(
                image_hash=first.image_hashes[index], prompt=first.prompts[index], entries=tuple(entries)
            )
            result = Result(asked=asked, comparison=comparison, sample=index, study=self.settings.study)
            return {"stage": "ready", "session": secret, "run": self.sessions.store(secret, result)}
        except Exception as error:
            return {"stage": "error", "session": secret, "message": self._sentence(error)}

    # What the page's script calls: one JSON object in, one out.

    def payload(self, data: dict) -> dict:
        """The payload of a run: {session, run}."""

        def answer() -> dict:
            result = self._result(data)
            live = bool(result.traces)
            words = [[word.text for word in each] for each in result.words] or None
            found = payload(result.comparison, sample=result.sample, words=words, live=live)
            asked = asdict(result.asked)
            found["asked"] = {key: asked[key] for key in ("models", "lens", "site", "entries", "prompt")}
            found["asked"]["image"] = asked["image_hash"]
            return found

        return self._guarded(answer)

    def words(self, data: dict) -> dict:
        """Logit-lens words: {session, run, places} → {models: [per model, per layer, (text, share)]}."""
        return self._guarded(
            lambda: {"models": read_words(self._result(data), self.models, data.get("places") or [])}
        )

    def attribute(self, data: dict) -> dict:
        """A word's evidence: {session, run, model, word} → {models: [float32 maps as base64], scores,
        method, help}."""

        def answer() -> dict:
            method = self.settings.method
            found = explain(self._result(data), self.models, int(data["model"]), int(data["word"]), method)
            name, meaning = METHODS[method]
            return {
                "models": [base64.b64encode(each.values.astype("<f4").tobytes()).decode() for each in found],
                "scores": [each.score for each in found],
                "method": name,
                "help": meaning,
            }

        return self._guarded(answer)

    def save(self, data: dict) -> dict:
        """A file: {session, run, format, layer, kind, scale, colours, difference, look} → {name, type, data}."""

        def answer() -> dict:
            form = str(data.get("format"))
            name, content = save_view(
                self._result(data),
                form,
                layer=int(data.get("layer", 0)),
                kind=str(data.get("kind", "distance")),
                scale=str(data.get("scale", "shared")),
                colours=str(data.get("colours", "viridis")),
                difference=bool(data.get("difference")),
                look={str(key): str(value) for key, value in dict(data.get("look") or {}).items()},
            )
            return {"name": name, "type": TYPES[form], "data": base64.b64encode(content).decode()}

        return self._guarded(answer)

    def _result(self, data: dict) -> Result:
        return self.sessions.result(data.get("session", ""), data.get("run", -1))

    def _upload(self, upload: str | None) -> tuple[Image.Image, str]:
        """The visitor's image, checked before it is decoded.

        Raises:
            ImageError: it is missing, too large, or no image. The message names no path.
        """
        if not upload:
            raise ImageError(
                "Bring an image first: drop, paste or choose one, use the camera, or take an example."
            )
        path = Path(upload)
        title = image_title(path)
        try:
            if path.stat().st_size > MAX_BYTES:
                raise ImageError(f"{title} has more than {MAX_BYTES / 2**20:.0f} MB; make it smaller.")
            return read_image(path, max_pixels=MAX_PIXELS), title
        except OSError as error:
            raise ImageError(f"{title} cannot be read; bring it again.") from error
        except ImageError as error:
            raise ImageError(str(error).replace(str(path), title)) from None

    def _guarded(self, answer: Callable[[], dict]) -> dict:
        try:
            return answer()
        except Exception as error:
            return {"error": self._sentence(error)}

    def _sentence(self, error: Exception) -> str:
        """What went wrong, for the page; the log has the rest of what was not foreseen."""
        if isinstance(error, EmmaVizError):
            return _FOLDERS.sub("", str(error))
        if isinstance(error, MemoryError):
            return "The server has not enough memory for this; try a smaller model or a shorter answer."
        logger.error("a request failed", exc_info=error)
        return f"Something went wrong on the server ({type(error).__name__}); its log says what."


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_ " else "-" for c in name).strip() or "image"
