"""Run: an image and a prompt through the chosen models, with news on the way."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from apps.explorer.news import Abandoned, News
from apps.explorer.questions import sentence
from apps.explorer.state import Asked, Models, RunResult
from emma_viz.capture import Trace
from emma_viz.checkpoints import LoadedModel
from emma_viz.data import image_hash
from emma_viz.errors import InputError, LensError
from emma_viz.evidence.attribution import answer_words, attribute
from emma_viz.evidence.logit_lens import logit_lens
from emma_viz.lens import Lens, find_lens, recording_for
from emma_viz.maps import Decoding
from emma_viz.records import questions as records
from emma_viz.session import Asking, Comparison
from emma_viz.session.loading import lens_of
from emma_viz.session.road import ask

STREAM = "resid_post"
"""The site that words are read from."""

LONGEST_PROMPT = 2000
MOST_MODELS = 4
READ_WORDS = 4
"""Words that the logit lens shows of a patch."""
LARGE = 500_000_000
"""Parameters from which a word's map is not compared with random sets on a CPU; the page says so."""


@dataclass(frozen=True, kw_only=True)
class VisitorQuestion:
    """What is asked of which models."""

    image: Image.Image
    image_name: str
    prompt: str
    models: tuple[str, ...]
    lens: str
    """A label of the lenses on offer."""
    site: str = ""
    """The hook site to decode; empty for the lens's own."""
    max_new_tokens: int = 64
    file: str = ""
    """What the image's file was called."""
    converted: bool = False
    """Whether its colour profile, if it has one, was converted."""

    @property
    def asked(self) -> Asked:
        """The question without its pixels."""
        return Asked(
            image_hash=image_hash(self.image),
            prompt=self.prompt,
            models=self.models,
            lens=self.lens,
            site=self.site,
            tokens=self.max_new_tokens,
        )

    def __post_init__(self):
        if not self.prompt.strip():
            raise InputError("Write a prompt: the question that the models are asked about the image.")
        if len(self.prompt) > LONGEST_PROMPT:
            raise InputError(
                f"The prompt has {len(self.prompt)} characters; at most {LONGEST_PROMPT} are taken."
            )
        if not 1 <= len(self.models) <= MOST_MODELS:
            raise InputError(f"Choose one to {MOST_MODELS} models; {len(self.models)} are chosen.")
        if not 1 <= self.max_new_tokens <= 512:
            raise InputError(f"An answer has 1 to 512 tokens; {self.max_new_tokens} were asked for.")


Lenses = Mapping[str, tuple[str, ...]]
"""Label → kinds of lens or lens files; of several, each model takes the first that it has."""


def answer_question(question: VisitorQuestion, models: Models, lenses: Lenses, news: News) -> RunResult:
    """Record and decode every model; one that fails does not take the others' results with it.

    Args:
        question: what is asked.
        models: the models; they are locked until all have answered.
        lenses: what `question.lens` may be.
        news: told what happens.

    Raises:
        Exception: what went wrong with the last model, when none could be used; nothing is kept.
    """
    if question.lens not in lenses:
        raise InputError(f"There is no lens {question.lens!r} here; choose one of {', '.join(lenses)}.")
    news.models = [{"name": name, "answer": "", "busy": False} for name in question.models]
    decodings, traces, words, labels, failed = [], [], [], [], []
    with models.running:
        for index, label in enumerate(question.models):
            try:
                model = models.get(label, news.say)
                lens = _lens_for(lenses[question.lens], model)
                news.models[index] = {"name": model.name, "answer": "", "busy": True}
                trace, decoded = _ask(model, lens, question, news, index)
                news.models[index]["busy"] = False
            except Abandoned:
                raise
            except Exception as error:
                failed.append((label, sentence(error)))
                news.models[index] = {"name": label, "answer": failed[-1][1], "busy": False}
                if len(failed) == len(question.models):
                    raise
                continue
            labels.append(label)
            decodings.append(decoded)
            traces.append(trace)
            words.append(answer_words(model.tokenizer, trace.answer_ids[0]))
    news.say(0, 0, "making maps")
    return RunResult(
        asked=question.asked,
        file=question.file,
        converted=question.converted,
        models=tuple(labels),
        failed=tuple(failed),
        comparison=Comparison(decodings=tuple(decodings), image_names=(question.image_name,)),
        traces=tuple(traces),
        words=tuple(words),
    )


def _lens_for(wanted: Sequence[str], model: LoadedModel) -> Lens:
    """The first of several lenses that a model has.

    Raises:
        LensError: it has none of them.
    """
    for name in wanted[:-1]:
        with suppress(LensError):
            find_lens(model, name)  # only its absence passes on to the next
            chosen = name
            break
    else:
        chosen = wanted[-1]
    return lens_of(chosen, model)


def _ask(
    model: LoadedModel, lens: Lens, question: VisitorQuestion, news: News, index: int
) -> tuple[Trace, Decoding]:
    """Take one model down the road, its answer told token by token."""
    sites, layers = recording_for(lens)
    wanted = (question.site,) if question.site else sites
    heard: list[int] = []

    def hear(_sample: int, token: int) -> None:
        heard.append(token)
        news.models[index]["answer"] = model.tokenizer.answer(heard)
        news.changed.set()

    ((trace, decoding),) = ask(
        model,
        [records.Question(image=question.image, prompt=question.prompt)],
        lens,
        asking=Asking(max_new_tokens=question.max_new_tokens),
        sites=tuple(dict.fromkeys((*wanted, STREAM))),
        layers=tuple(layer for layer in layers if layer < model.info.n_layer),
        decoded_site=question.site,
        on_token=hear,
        progress=news.say,
    )
    assert decoding is not None
    return trace, decoding


def read_words(
    result: RunResult, models: Models, places: Sequence[int | None]
) -> list[list[list[tuple[str, float]]] | None]:
    """The words that the logit lens reads at one patch of each model, per shown layer.

    Args:
        result: of a live run.
        models: the models of the run.
        places: per model, the image token, or None where it has none there.

    Raises:
        InputError: the result comes from a study, or a token does not exist.
    """
    _require_live(result)
    if len(places) != len(result.traces):
        raise InputError(f"Expected one patch for each of the {len(result.traces)} models.")
    found: list[list[list[tuple[str, float]]] | None] = []
    for label, trace, decoding, place in zip(
        result.models, result.traces, result.comparison.decodings, places, strict=True
    ):
        if place is None:
            found.append(None)
            continue
        if not (isinstance(place, int) and 0 <= place < trace.n_image_tokens):
            raise InputError(f"There is no image token {place!r}.")
        model, kept = models.get(label), trace.layers_of(STREAM)
        layers = [layer for layer in decoding.layers if layer in kept]
        if not layers:
            found.append([[] for _ in decoding.layers])
            continue
        rows = trace.states[STREAM][[kept.index(layer) for layer in layers], 0, place]
        readings = dict(zip(layers, logit_lens(model, rows, count=READ_WORDS), strict=True))
        found.append(
            [[(each.text, each.probability) for each in readings.get(layer, ())] for layer in decoding.layers]
        )
    return found


def explain(result: RunResult, models: Models, model: int, word: int, method: str, news: News) -> list:
    """Attribution of one model's word to the image tokens of every model.

    The other models score the same word after the same words before it, though they did not say it.

    Args:
        result: of a live run.
        models: the models of the run.
        model: whose answer the word is in.
        word: its number there.
        method: `gradient` or `knockout`.
        news: told how far it is; between two steps of a measurement others may use the models.

    Returns:
        Per model, an `Attribution`.

    Raises:
        InputError: the result comes from a study, or there is no such word.
    """
    _require_live(result)
    if not (0 <= model < len(result.words) and 0 <= word < len(result.words[model])):
        raise InputError("There is no such word in this answer.")
    chosen, said = result.words[model][word], result.traces[model].answer_ids[0]
    found = []

    def say(done: int, total: int, _message: str) -> None:
        models.running.let_others()
        news.say(index * total + done, len(result.models) * total, "measuring")

    with models.running:
        own = models.get(result.models[model]).tokenizer
        # As it was said: white space around the answer is shown to nobody, but models take it for text.
        text, spoken = own.decode(said[: chosen.start]), own.decode(said[chosen.start : chosen.stop])
        for index, label in enumerate(result.models):
            asked = models.get(label)
            if index == model:
                before, ids = said[: chosen.start], said[chosen.start : chosen.stop]
            else:
                before, ids = asked.tokenizer.encode(text), asked.tokenizer.encode(spoken)
            trace = result.traces[index]
            found.append(
                attribute(
                    asked,
                    trace.images[0],
                    trace.prompts[0],
                    before=before,
                    word=ids,
                    method=method,
                    judged=0 if too_slow(asked) else len(result.models),
                    progress=say,
                )
            )
    return found


def too_slow(model: LoadedModel) -> bool:
    """Whether a comparison with random sets would take minutes a word: a large model without an accelerator."""
    parameters = sum(each.numel() for each in model.vlm.parameters())
    return model.vlm.device.type == "cpu" and parameters > LARGE


def _require_live(result: RunResult) -> None:
    if not result.traces:
        raise InputError("This needs the models, and the study was opened without them.")


def image_title(path: Path) -> str:
    """What an uploaded file is called on the page: its name, without folders and short enough for a line."""
    name = path.stem
    return name if len(name) <= 40 else name[:39] + "…"
