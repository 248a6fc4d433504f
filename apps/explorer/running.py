"""Run: an image and a prompt through the chosen models, with news on the way."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from PIL import Image

from apps.explorer.news import Abandoned, News
from apps.explorer.questions import sentence
from apps.explorer.state import Asked, Models, RunResult, ShownRow
from emma_viz.capture import Trace
from emma_viz.capture.questions import known_sites
from emma_viz.capture.sites import split_site
from emma_viz.checkpoints import LoadedModel
from emma_viz.data import image_hash
from emma_viz.errors import EmmaVizError, InputError, LensError, SiteError
from emma_viz.evidence.attribution import answer_words
from emma_viz.evidence.logit_lens import logit_lens
from emma_viz.lens import Lens, find_lens, recording_for
from emma_viz.maps import Decoding
from emma_viz.records import questions as records
from emma_viz.session import Asking, Comparison
from emma_viz.session.loading import lens_of
from emma_viz.session.road import ask, decode_at

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
    lenses: tuple[str, ...]
    """Labels of the lenses on offer; each model is shown under each."""
    sites: tuple[str, ...] = ("",)
    """The hook sites to decode, "" for the lens's own; each model is shown at each."""
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
            lens=self.lenses,
            site=self.sites,
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
        if not self.lenses or not self.sites:
            raise InputError("Choose a lens and a hook site.")
        if (rows := len(self.models) * len(self.lenses) * len(self.sites)) > MOST_MODELS:
            raise InputError(
                f"{len(self.models)} models under {len(self.lenses)} lenses at {len(self.sites)} sites are {rows} "
                f"rows; at most {MOST_MODELS} are shown. Choose fewer."
            )
        if not 1 <= self.max_new_tokens <= 512:
            raise InputError(f"An answer has 1 to 512 tokens; {self.max_new_tokens} were asked for.")


Lenses = Mapping[str, tuple[str, ...]]
"""Label → kinds of lens or lens files; of several, each model takes the first that it has."""


def answer_question(question: VisitorQuestion, models: Models, lenses: Lenses, news: News) -> RunResult:
    """Record every model once, and decode it under each lens at each site.

    What fails does not take the others' results with it.

    Args:
        question: what is asked.
        models: the models; they are locked until all have answered.
        lenses: what `question.lenses` may be.
        news: told what happens.

    Raises:
        Exception: what went wrong with the last model, when none could be used; nothing is kept.
    """
    if unknown := [each for each in question.lenses if each not in lenses]:
        raise InputError(f"There is no lens {unknown[0]!r} here; choose one of {', '.join(lenses)}.")
    news.models = [{"name": name, "answer": "", "busy": False} for name in question.models]
    decodings, traces, words, rows, failed = [], [], [], [], []
    with models.running:
        for index, label in enumerate(question.models):
            try:
                model = models.get(label, news.say)
                ways, wrong = _ways(question, lenses, model)
                news.models[index] = {"name": model.name, "answer": "", "busy": True}
                trace = _ask(model, ways, question, news, index)
                news.models[index]["busy"] = False
                found, worse = _decoded(trace, ways)
            except Abandoned:
                raise
            except Exception as error:
                failed.append((label, sentence(error)))
                news.models[index] = {"name": label, "answer": failed[-1][1], "busy": False}
                if len(failed) == len(question.models):
                    raise
                continue
            failed += [(f"{label}, {lens}", said) for lens, said in (*wrong, *worse)]
            said = answer_words(model.tokenizer, trace.answer_ids[0])
            for lens, site, decoding in found:
                rows.append(ShownRow(model=label, lens=lens, site=site, name=_name(question, lens, decoding)))
                decodings.append(decoding)
                traces.append(trace)
                words.append(said)
    news.say(0, 0, "making maps")
    return RunResult(
        asked=question.asked,
        file=question.file,
        converted=question.converted,
        rows=tuple(rows),
        failed=tuple(failed),
        comparison=Comparison(decodings=tuple(decodings), image_names=(question.image_name,)),
        traces=tuple(traces),
        words=tuple(words),
    )


_Way = tuple[str, Lens, str]
"""A lens's label, the lens, and a site."""


def _ways(
    question: VisitorQuestion, lenses: Lenses, model: LoadedModel
) -> tuple[list[_Way], list[tuple[str, str]]]:
    """The lenses and sites that a model can be decoded with, and (label or site, sentence) of those that it has not.

    Raises:
        LensError: it has none of the lenses.
        SiteError: it has none of the sites.
    """
    sites, lacking = _sites(question, model)
    ways, wrong = [], []
    for label in question.lenses:
        try:
            lens = _lens_for(lenses[label], model)
        except LensError as error:
            wrong.append((label, sentence(error)))
            if len(wrong) == len(question.lenses):
                raise
            continue
        ways += [(label, lens, site) for site in sites]
    return ways, [*lacking, *wrong]


def _sites(question: VisitorQuestion, model: LoadedModel) -> tuple[list[str], list[tuple[str, str]]]:
    """The sites that a model has of those asked for, and (site, sentence) of the others.

    Raises:
        SiteError: it has none of them.
    """
    found, lacking = [], []
    for site in question.sites:
        try:
            if site:
                split_site(site, known_sites(model))
        except SiteError as error:
            lacking.append((site, sentence(error)))
            if len(lacking) == len(question.sites):
                raise
            continue
        found.append(site)
    return found, lacking


def _decoded(
    trace: Trace, ways: Sequence[_Way]
) -> tuple[list[tuple[str, str, Decoding]], list[tuple[str, str]]]:
    """The same trace decoded in several ways: (lens, site, decoding), and (lens, sentence) of what cannot be.

    Raises:
        EmmaVizError: none can be.
    """
    found, wrong = [], []
    for label, lens, site in ways:
        try:
            found.append((label, site, decode_at(trace, lens, site)))
        except EmmaVizError as error:
            wrong.append((label, sentence(error)))
            if len(wrong) == len(ways):
                raise
    return found, wrong


def _name(question: VisitorQuestion, lens: str, decoding: Decoding) -> str:
    """What a row is called: its model, and what tells it from that model's other rows."""
    parts = [decoding.model.name]
    if len(question.lenses) > 1:
        parts.append(decoding.lens.kind if ", else " in lens else lens)
    if len(question.sites) > 1:
        parts.append(decoding.site)
    return ", ".join(parts)


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
    model: LoadedModel, ways: Sequence[_Way], question: VisitorQuestion, news: News, index: int
) -> Trace:
    """Record one model for all lenses and sites, its answer told token by token."""
    recorded, wanted = [recording_for(lens) for _, lens, _ in ways], [site for _, _, site in ways]
    own = [site for sites, _ in recorded for site in sites] if "" in wanted else []
    layers = sorted({layer for _, layers in recorded for layer in layers})
    heard: list[int] = []

    def hear(_sample: int, token: int) -> None:
        heard.append(token)
        news.models[index]["answer"] = model.tokenizer.answer(heard)
        news.changed.set()

    ((trace, _),) = ask(
        model,
        [records.Question(image=question.image, prompt=question.prompt)],
        asking=Asking(max_new_tokens=question.max_new_tokens),
        sites=tuple(dict.fromkeys((*own, *filter(None, wanted), STREAM))),
        layers=tuple(layer for layer in layers if layer < model.info.n_layer),
        on_token=hear,
        progress=news.say,
    )
    return trace


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
    require_live(result)
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


def too_slow(model: LoadedModel) -> bool:
    """Whether a comparison with random sets would take minutes a word: a large model without an accelerator."""
    weights = list(model.network.parameters())
    return weights[0].device.type == "cpu" and sum(each.numel() for each in weights) > LARGE


def require_live(result: RunResult) -> None:
    """Refuse a question that needs the models.

    Raises:
        InputError: the result comes from a study.
    """
    if not result.traces:
        raise InputError("This needs the models, and the study was opened without them.")
