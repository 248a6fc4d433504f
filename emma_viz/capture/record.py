"""record(model, images, prompts) → Trace: run a model, and keep what its tokens hold on the way."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import torch
from torch import Tensor

from emma_viz.capture.buffers import OnStates, StateBuffers
from emma_viz.capture.hooks import Hooks, foreign_hooks
from emma_viz.capture.peers import PeerPass, peer_inputs, positions, require_parts
from emma_viz.capture.questions import (
    LanguageModel,
    PromptsOrIds,
    Questions,
    RecordableModel,
    TextModel,
    known_sites,
    network_of,
    peer_network,
    read_questions,
    recordable,
)
from emma_viz.capture.sites import Layers, Target, choose, resolve_sites
from emma_viz.capture.trace import Sampling, TokenKind, Trace
from emma_viz.data.images import ImageSource
from emma_viz.errors import InputError
from emma_viz.models import Generation, pad_prompts
from emma_viz.models import generate as generate_answers
from emma_viz.models.attention_sites import PARTS
from emma_viz.progress import Progress

_log = logging.getLogger(__name__)


OnToken = Callable[[int, int], None]
"""Called as on_token(sample, token_id) for each token of an answer as it comes."""


def record(
    model: RecordableModel | LanguageModel,
    images: ImageSource | Sequence[ImageSource] | None,
    prompts: PromptsOrIds,
    *,
    sites: str | Sequence[str] = ("resid_post",),
    layers: Layers = "all",
    tokens: TokenKind | None = None,
    generate: bool = True,
    max_new_tokens: int = 64,
    generated_states: bool = False,
    dtype: torch.dtype = torch.float32,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int | None = None,
    batch_size: int = 8,
    on_token: OnToken | None = None,
    on_states: OnStates | None = None,
    progress: Progress | None = None,
) -> Trace:
    """Show images to a model, ask, and keep the states of its tokens at each layer.

    One prompt goes with every image, and one image with every prompt; otherwise there must be as many of each. The
    states are copied to the CPU inside the hooks, the wanted tokens alone: memory grows by what the trace holds.

    Args:
        model: from `load_model`, or, for text alone, from `load_language_model`.
        images: paths, PIL images or arrays; None to ask without an image.
        prompts: messages, without the prompt template; or token ids, one list or tensor of them for each prompt, which
            are read as they are: a language model then needs no tokenizer, and a model of transformers' takes none.
        sites: hook sites (`emma_viz.capture.SITES`), also in the long form `blocks.{i}.hook_resid_post`.
        layers: block indices, "first" or "last", -1 for the embedding that enters block 0 (`resid_post` alone has it);
            or "all" blocks.
        tokens: keep the states of the "image" tokens, of the prompt's "text" tokens, or of "all", image first; None
            keeps those of the image, or of the text where there is none.
        generate: answer, too; otherwise the prompt is only read.
        max_new_tokens: longest answer.
        generated_states: keep the states at the answer's own tokens, too.
        dtype: of the states, a float type.
        temperature: 0 answers greedily.
        top_p: draw from the likeliest tokens that make up this probability.
        seed: of the draws; sample i draws from seed + i, whatever the batch size.
        batch_size: samples that go through the model at a time; of a model that transformers' own class runs, those
            that are only read (`generate=False`) and become sequences of one shape.
        on_token: called with the sample's number and the token's id as the answers come.
        on_states: called as on_states(site, layer, samples, states "b L W") as each layer is read; the states are then
            not kept. For models whose states do not fit in memory.
        progress: called as progress(done, total, what); a step is a hook that fired or a token.

    Raises:
        SiteError: a site or layer does not exist; nothing was run.
        InputError: the model is none of `load_model` or `load_language_model`, or images, prompts or settings do not
            fit.
        ImageError: an image cannot be read.
        CaptureError: a hook did not fire.
    """
    asked = recordable(model, images=images is not None)
    kept = tokens or ("text" if images is None else "image")
    wanted = _Wanted.of(asked, sites, layers, tokens=kept, dtype=dtype)
    limit = max_new_tokens if generate else None
    _check(batch_size, limit, generated_states)
    sampling = None
    if limit is not None:
        sampling = Sampling(max_new_tokens=limit, temperature=temperature, top_p=top_p, seed=seed)
    run = _Run(asked, read_questions(asked, images, prompts), wanted, sampling, generated_states, on_token)
    return run.trace(batch_size, on_states, progress)


class _Clock:
    """Counts hooks and tokens for a progress bar."""

    def __init__(self, progress: Progress | None, *, steps: int, samples: int, batch_size: int, what: str):
        self._progress, self._steps, self._what = progress, steps, what
        self._total = -(-samples // batch_size) * steps
        self._begun = self._done = 0

    def tick(self) -> None:
        """One more step."""
        self._reach(self._done + 1)

    def end_batch(self) -> None:
        """The steps that were left of this batch were not needed: its answers were short."""
        self._begun += self._steps
        self._reach(self._begun)

    def _reach(self, done: int) -> None:
        if done == self._done:
            return
        self._done = done
        if self._progress is not None:
            self._progress(done, self._total, self._what)


@dataclass(frozen=True)
class _Wanted:
    """The states that are asked for."""

    sites: tuple[str, ...]
    layers: tuple[int, ...]
    targets: tuple[Target, ...]
    tokens: TokenKind
    dtype: torch.dtype

    @classmethod
    def of(
        cls,
        model: RecordableModel | TextModel,
        sites: str | Sequence[str],
        layers: Layers,
        *,
        tokens: TokenKind,
        dtype: torch.dtype,
    ) -> "_Wanted":
        """Find the sites in a model, and check the rest."""
        peer = peer_network(model)
        names, kept_layers = choose(
            sites, layers, model.info.n_layer, known_sites(model), model.info.mixer_layers
        )
        targets = resolve_sites(network_of(model), names, kept_layers)
        if peer is not None and {*names} & {*PARTS}:
            require_parts(peer)
        if dtype not in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
            raise InputError(f"dtype must be float16, bfloat16, float32 or float64, got {dtype}.")
        if tokens not in get_args(TokenKind):
            raise InputError(f"tokens must be one of {', '.join(get_args(TokenKind))}; got {tokens!r}.")
        return cls(names, kept_layers, targets, tokens, dtype)

    def positions(self, n_image: int, questions: Questions) -> tuple[slice, list[int]]:
        """The positions of the sequence to keep, and how many of them are real in each sample."""
        if self.tokens == "image":
            self.require_tokens(n_image)
            return slice(0, n_image), [n_image] * len(questions)
        if self.tokens == "text":
            return slice(n_image, None), [len(ids) for ids in questions.ids]
        return slice(None), [n_image + len(ids) for ids in questions.ids]

    def require_tokens(self, count: int) -> None:
        """Refuse to record tokens that there are none of."""
        if not count:
            raise InputError(
                "Without an image there are no image tokens; give images, or record tokens='text'."
            )


@dataclass(frozen=True)
class _Run:
    """One recording."""

    model: RecordableModel | TextModel
    questions: Questions
    wanted: _Wanted
    sampling: Sampling | None
    """None where the prompt is only read."""
    generated_states: bool
    on_token: OnToken | None

    def trace(self, batch_size: int, on_states: OnStates | None, progress: Progress | None) -> Trace:
        """Run the model with hooks, and gather what they saw."""
        questions, wanted, model, peer = self.questions, self.wanted, self.model, peer_network(self.model)
        asked = () if peer is None else peer_inputs(peer, questions)
        if peer is None:
            kept, lengths = wanted.positions(model.vlm.n_image_tokens if questions.images else 0, questions)
        else:
            kept, lengths = None, [len(positions(each, wanted.tokens)) for each in asked]
            wanted.require_tokens(min(lengths))
            questions = replace(questions, ids=tuple(each.text_ids for each in asked))
        limit = self.sampling.max_new_tokens if self.sampling else 0
        clock = _Clock(progress, steps=len(wanted.targets) + limit, samples=len(questions),
                       batch_size=batch_size if peer is None else 1, what=f"recording {model.info.name}")  # fmt: skip
        buffers = StateBuffers(
            wanted.targets, lengths=lengths, tokens=kept, dtype=wanted.dtype,
            answers=limit if self.generated_states else 0, on_states=on_states, on_prefill=clock.tick,
        )  # fmt: skip
        notes = _foreign(model)
        with Hooks(network_of(model), wanted.targets, buffers.receive) as hooks:
            if peer is None:
                answers = _Pass(model, questions, buffers, clock, self.on_token).all(
                    batch_size, self.sampling
                )
            else:
                road = PeerPass(
                    peer,
                    asked,
                    wanted.tokens,
                    buffers,
                    clock.tick,
                    clock.end_batch,
                    self.on_token,
                    batch_size,
                )
                answers = road.all(self.sampling)
                said = dict.fromkeys([*peer.notes, *(each.said for each in questions.geometry)])
                notes += tuple(each for each in said if each)
        return Trace(
            model=model.info,
            sites=wanted.sites,
            layers=wanted.layers,
            token_kind=wanted.tokens,
            states=buffers.states(),
            geometry=questions.geometry,
            views=questions.views,
            images=questions.images,
            image_hashes=questions.image_hashes,
            prompts=questions.messages,
            prompt_ids=questions.ids,
            answers=tuple(map(model.tokenizer.answer, answers.ids)) if model.tokenizer else (),
            answer_ids=answers.ids,
            ended=answers.ended,
            sampling=self.sampling and replace(self.sampling, seed=answers.seed),
            generated=buffers.generated(max(map(len, answers.ids))) if self.generated_states else {},
            hooks=hooks.reports,
            labels=questions.labels,
            interventions=() if peer else model.vlm.interventions,
            notes=notes,
            tokenizer=model.tokenizer,
        )


@dataclass(frozen=True)
class _Pass:
    """All samples through the model, a batch at a time, with the hooks in place."""

    model: RecordableModel | TextModel
    questions: Questions
    buffers: StateBuffers
    clock: _Clock
    on_token: OnToken | None

    def all(self, batch_size: int, sampling: Sampling | None) -> Generation:
        """Run all samples, a batch at a time; the answers of all, or none where `sampling` is None."""
        seed = None if sampling is None else sampling.seed
        ids, ended = [], []
        for start in range(0, len(self.questions), batch_size):
            samples = range(start, min(start + batch_size, len(self.questions)))
            self.buffers.begin_batch(samples)
            if sampling is None:
                self._read(samples)
            else:
                answers = self._answer(samples, sampling, None if seed is None else seed + start)
                # Without a seed the first batch draws one, and the others go on from it.
                seed = answers.seed if seed is None else seed
                short = [len(each) < sampling.max_new_tokens for each in answers.ids]
                ids += [each[: sampling.max_new_tokens] for each in answers.ids]
                ended += [end and below for end, below in zip(answers.ended, short, strict=True)]
            self.buffers.end_batch()
            self.clock.end_batch()
        drawn = seed if sampling is not None and sampling.temperature else None
        return Generation(ids=tuple(ids), ended=tuple(ended), seed=drawn)

    @torch.no_grad()
    def _read(self, samples: range) -> None:
        ids, _ = pad_prompts(self._of(self.questions.ids, samples))
        self.model.vlm(
            self._pixels(samples),
            ids if ids.shape[1] else None,
            instruction=self._instruction(samples),
            logits="none",
        )

    def _answer(self, samples: range, sampling: Sampling, seed: int | None) -> Generation:
        limit, longest = sampling.max_new_tokens, 0

        def hear(sample: int, token: int) -> None:
            nonlocal longest
            length = self.buffers.note_token(sample)
            if length > limit:
                return
            if length > longest:
                longest = length
                self.clock.tick()
            if self.on_token is not None:
                self.on_token(samples.start + sample, token)

        return generate_answers(
            self.model.vlm,
            self._pixels(samples),
            self._of(self.questions.ids, samples),
            # The last token of an answer is only read, and its states seen, if one more could follow.
            max_new_tokens=limit + self.buffers.keeps_answers,
            eos_id=self.model.tokenizer.eos_id if self.model.tokenizer else None,
            instruction=self._instruction(samples),
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=seed,
            on_token=hear,
        )

    def _pixels(self, samples: range) -> tuple[Tensor, ...] | None:
        images = self._of(self.questions.images, samples)
        if not images or isinstance(self.model, TextModel):
            return None
        return self.model.transform.pixels(images)

    def _instruction(self, samples: range) -> Tensor | None:
        if not self.questions.images or isinstance(self.model, TextModel):
            return None
        return self.model.vlm.instruct(self._of(self.questions.messages, samples))

    def _of(self, values: tuple, samples: range) -> tuple:
        return values[samples.start : samples.stop]


def _foreign(model: RecordableModel | TextModel) -> tuple[str, ...]:
    """A note, also logged, where hooks of others may make the model compute something else than its weights say."""
    meant = () if peer_network(model) else model.vlm.intervened
    paths = [path for path in foreign_hooks(network_of(model)) if path not in meant]
    if not paths:
        return ()
    shown = ", ".join(paths[:4]) + (f" and {len(paths) - 4} more" if len(paths) > 4 else "")
    note = f"forward hooks of others were on {shown} during the recording, so the model may have been altered"
    _log.warning("%s: %s", model.info.name, note)
    return (note,)


def _check(batch_size: int, limit: int | None, generated_states: bool) -> None:
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}.")
    if limit is not None and limit < 1:
        raise InputError(
            f"max_new_tokens must be at least 1, got {limit}; pass generate=False for no answer."
        )
    if generated_states and limit is None:
        raise InputError(
            "generated_states needs generate=True: without an answer there are no generated tokens."
        )
