"""Which image tokens a word of an answer depends on.

The word's score is its log-probability, in nats, given the image, the prompt and the answer before it. Two
methods ask how much the score falls when an image token's input embedding is replaced by the mean embedding of
the image's tokens:

`knockout`   replaces each token in turn and runs the model again: the effect itself, T runs.
`gradient`   gradient × (embedding − mean) from one forward and one backward pass: the first-order estimate of
             the same number. Positive values support the word.

Where an image becomes several grids, with a token of the one that is drawn go those of coarser grids that see any of
it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from einops import repeat
from jaxtyping import Float, Float32, Int
from PIL import Image
from torch import Tensor

from emma_viz.capture.questions import RecordableModel, peer_network
from emma_viz.data.image_grid import ImageGrid
from emma_viz.data.images import read_image
from emma_viz.data.tokenizer import Decodes
from emma_viz.errors import InputError
from emma_viz.evidence.verdict import Verdict, judge
from emma_viz.models import VLM
from emma_viz.models.peers.entered import EnteredQuestion
from emma_viz.models.peers.network import PeerNetwork

Method = Literal["gradient", "knockout"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Attribution:
    """How much each image token supports a word."""

    values: Float32[np.ndarray, "R C"]
    """Nats by which the word's log-probability falls without the token (`gradient`: an estimate of it)."""
    score: float
    """The word's log-probability with all tokens in place, nats."""
    method: Method
    """How the values were found."""
    verdict: Verdict | None = None
    """Whether the tokens it ranks highest matter more than random ones; None where that was not asked."""


@dataclass(frozen=True, kw_only=True)
class Word:
    """A piece of an answer made of whole tokens."""

    text: str
    """As it stands in the answer, with the white space before it."""
    start: int
    """Its first token."""
    stop: int
    """One past its last token."""


def attribute(
    model: RecordableModel,
    image: Image.Image,
    prompt: str,
    *,
    before: Sequence[int] = (),
    word: Sequence[int],
    method: str = "gradient",
    batch_size: int = 32,
    judged: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> Attribution:
    """Find the image tokens that a word depends on.

    Args:
        model: from `load_model`.
        image: what the model is shown.
        prompt: the message, without the template.
        before: token ids of the answer before the word.
        word: token ids of the word; more than one are scored together.
        method: `gradient` or `knockout`.
        batch_size: runs at a time, where there are many.
        judged: how many maps, this one included, are compared with random sets together (see
            `emma_viz.evidence.verdict`), 20 runs for each of them; 0: it is not.
        progress: of `knockout`, told (tokens done, of how many, what) between two batches; what it raises stops it.

    Raises:
        InputError: the word has no token, or the method is unknown.
    """
    if method not in get_args(Method):
        raise InputError(f"There is no method {method!r}; choose one of {', '.join(get_args(Method))}.")
    task = _Task.of(model, image, prompt, before, word)
    score, values = task.gradient() if method == "gradient" else task.knockout(batch_size, progress)
    grid = values.float().cpu().numpy().reshape(task.place.grid)
    verdict = None
    if judged:
        verdict = judge(grid, lambda sets: task.falls(sets, score, batch_size, progress), maps=judged)
    return Attribution(
        values=grid,
        score=score,
        method="gradient" if method == "gradient" else "knockout",
        verdict=verdict,
    )


def falls_without(
    model: RecordableModel,
    image: Image.Image,
    prompt: str,
    sets: Sequence[Int[np.ndarray, " n"]],
    *,
    before: Sequence[int] = (),
    word: Sequence[int],
    batch_size: int = 32,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[float]:
    """By how many nats a word's log-probability falls without each of some sets of image tokens.

    Args:
        model: from `load_model`.
        image: what the model is shown.
        prompt: the message, without the template.
        sets: numbers of tokens, each set replaced by the image's mean token in a run of its own.
        before: token ids of the answer before the word.
        word: token ids of the word; more than one are scored together.
        batch_size: runs at a time.
        progress: told (sets done, of how many, what) between two batches; what it raises stops it.

    Raises:
        InputError: the word has no token.
    """
    task = _Task.of(model, image, prompt, before, word)
    with torch.no_grad():
        score = float(task.score(task.tokens))
    return task.falls(sets, score, batch_size, progress)


def answer_words(tokenizer: Decodes, ids: Sequence[int]) -> tuple[Word, ...]:
    """Cut an answer into words, and signs between them, at borders of tokens.

    The texts join to `tokenizer.answer(ids)`: white space around the answer is no part of a word, and tokens that are
    nothing else belong to none. A character that is spread over several tokens is not cut.
    """
    text = tokenizer.decode(list(ids))
    first, last = len(text) - len(text.lstrip()), len(text.rstrip())
    cut, at = [], 0
    for piece in _pieces(tokenizer, ids):
        shown = piece.text[max(first - at, 0) : max(last - at, 0)]
        at += len(piece.text)
        if shown:
            cut.append(replace(piece, text=shown))
    return tuple(cut)


def _pieces(tokenizer: Decodes, ids: Sequence[int]) -> list[Word]:
    """The same with the white space around the answer: the texts join to `tokenizer.decode(ids)`."""
    whole = tokenizer.decode(list(ids))
    pieces: list[Word] = []
    start, done = 0, ""
    for stop in range(1, len(ids) + 1):
        text = whole if stop == len(ids) else tokenizer.decode(list(ids[:stop]))
        if not whole.startswith(text) or text == done:
            continue
        piece = Word(text=text[len(done) :], start=start, stop=stop)
        if pieces and _joined(pieces[-1].text, piece.text):
            last = pieces.pop()
            piece = Word(text=last.text + piece.text, start=last.start, stop=stop)
        pieces.append(piece)
        start, done = stop, text
    return pieces


def _joined(left: str, right: str) -> bool:
    """Whether two pieces belong to one word: letters and digits on both sides of the border."""
    return left[-1:].isalnum() and right[:1].isalnum()


@dataclass(frozen=True)
class _Task:
    """One word to explain: the image's tokens, the word's ids, and what runs the model."""

    tokens: Float[Tensor, "1 T W"]
    """Of all grids of the image, where it becomes several."""
    word: Int[Tensor, "1 w"]
    place: ImageGrid
    """Where the tokens lie."""
    rows: Callable[[Float[Tensor, "k T W"]], Float[Tensor, "k w V"]]
    """Scores at the positions that predict the word, after each variant of the image's tokens."""

    @classmethod
    def of(
        cls,
        model: RecordableModel,
        image: Image.Image,
        prompt: str,
        before: Sequence[int],
        word: Sequence[int],
    ) -> "_Task":
        if not len(word):
            raise InputError("The word has no token; give the ids of at least one.")
        picture, said = read_image(image), (*before, *word[:-1])
        peer = peer_network(model)
        if peer is None:
            tokens, rows = _ours(model, picture, prompt, said, len(word))
        else:
            tokens, rows = _theirs(peer, picture, prompt, said, len(word))
        ids = torch.tensor([list(word)], device=tokens.device)
        return cls(tokens, ids, model.transform.geometry(picture), rows)

    def gradient(self) -> tuple[float, Float[Tensor, " t"]]:
        with torch.enable_grad():
            tokens = self.tokens.detach().clone().requires_grad_()
            score = self.score(tokens)
            (slope,) = torch.autograd.grad(score.sum(), tokens)
        away = self.tokens - self.tokens.mean(dim=1, keepdim=True)
        each = (slope * away).sum(dim=-1)[0].float().cpu()
        return float(score.detach()), torch.stack(
            [each[some].sum() for some in map(self._showing, self._one)]
        )

    @torch.no_grad()
    def knockout(
        self, batch_size: int, progress: Callable[[int, int, str], None] | None
    ) -> tuple[float, Float[Tensor, " t"]]:
        score = float(self.score(self.tokens))
        return score, torch.tensor(self.falls(self._one, score, batch_size, progress))

    @property
    def _one(self) -> list[Int[np.ndarray, " 1"]]:
        """Each token that is drawn, as a set of its own."""
        return [np.array([token]) for token in range(math.prod(self.place.grid))]

    def _showing(self, some: Int[np.ndarray, " n"]) -> Int[Tensor, " m"]:
        """With the tokens of coarser grids that see any of what some see."""
        return torch.from_numpy(self.place.with_coarser(np.asarray(some, np.int64)))

    @torch.no_grad()
    def falls(
        self,
        sets: Sequence[np.ndarray],
        score: float,
        batch_size: int,
        progress: Callable[[int, int, str], None] | None,
    ) -> list[float]:
        """The fall of the score without each set of image tokens, each replaced by their mean."""
        mean, found = self.tokens.mean(dim=1)[0], []
        for start in range(0, len(sets), batch_size):
            if progress is not None:
                progress(start, len(sets), "knocking out image tokens")
            some = sets[start : start + batch_size]
            tokens = repeat(self.tokens, "1 T D -> k T D", k=len(some)).clone()
            for row, missing in zip(tokens, some, strict=True):
                row[self._showing(missing)] = mean
            found += (score - self.score(tokens)).tolist()
        return found

    def score(self, tokens: Float[Tensor, "k T W"]) -> Float[Tensor, " k"]:
        """Log-probability of the word after each variant of the image's tokens."""
        chances = self.rows(tokens).log_softmax(dim=-1)
        picked = chances.gather(-1, repeat(self.word, "1 w -> k w 1", k=len(tokens)))
        return picked[..., 0].sum(dim=-1)


_Found = tuple[Tensor, Callable[[Tensor], Tensor]]
"""The image's tokens, and what scores their variants."""


@torch.no_grad()
def _ours(model: RecordableModel, image: Image.Image, prompt: str, said: Sequence[int], count: int) -> _Found:
    """Of a model of this package."""
    vlm: VLM = model.vlm
    prompt_ids = model.tokenizer.encode(model.prompt(prompt))
    tokens = vlm.embed_image(model.transform.pixels([image]), instruction=vlm.instruct([prompt]))
    text = vlm.llm.embed(torch.tensor([[*prompt_ids, *said]], device=vlm.device)).to(tokens.dtype)
    known = vlm.config.llm.vocab_size

    def rows(tokens: Tensor) -> Tensor:
        hidden = vlm.states(torch.cat([tokens, repeat(text, "1 M D -> k M D", k=len(tokens))], dim=1))
        return vlm.llm.logits(hidden[:, -count:])[..., :known].float()

    return tokens, rows


def _theirs(peer: PeerNetwork, image: Image.Image, prompt: str, said: Sequence[int], count: int) -> _Found:
    """Of a model that transformers' own class runs, one variant at a time."""
    asked = peer.inputs(image, prompt).followed_by(said, kind=peer.family.kinds[2])
    entered = EnteredQuestion(peer, asked)

    def rows(tokens: Tensor) -> Tensor:
        return torch.stack([entered.rows(each, count=count) for each in tokens])

    return entered.tokens[None], rows
