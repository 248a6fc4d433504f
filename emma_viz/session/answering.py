"""Answers alone: any number of questions, with an image or without, and the probabilities of their first tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from emma_viz.checkpoints import LoadedModel
from emma_viz.checkpoints.peers import PeerModel
from emma_viz.data import first_id, image_hash, read_image
from emma_viz.errors import InputError
from emma_viz.models import MambaCache, generate, seen_images
from emma_viz.records.questions import Question
from emma_viz.records.scorers import Answer
from emma_viz.session.options import BATCH, Asking

FIRST_WORDS = ("Yes", "No")
"""Whose probability as the answer's first token is kept, as Cobra's harness does. What stands before them is what the
model's prompt style, or the chat template of a model that transformers' class runs, writes there."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """One answer, and the image that it was given to."""

    answer: Answer
    """What was said."""
    image_sha256: str | None
    """`image_hash` of the image; None without one."""


@torch.no_grad()
def given_answers(
    model: LoadedModel,
    questions: Sequence[Question],
    *,
    asking: Asking,
    batch_size: int = BATCH,
    convert_profile: bool = False,
) -> Iterator[tuple[Given, ...]]:
    """Ask a model any number of questions, in the memory that one batch needs.

    An image is looked at once for as long as batch after batch asks about it: questions go on from what is behind it.

    Args:
        model: the model.
        questions: whose image may be None: these are asked of the language model alone.
        asking: how answers are drawn; question i draws from `seed` + i. Its prompt is not used.
        batch_size: questions at a time.
        convert_profile: convert images with a colour profile to sRGB.

    Returns:
        The answers of one batch after another.

    Raises:
        ImageError: an image cannot be read.
        InputError: a question is empty, "Yes" and "No" begin with the same token, or the scores of an answer's first
            token are no numbers.
    """
    first, seen = _first_tokens(model), _SeenImages(model, convert_profile)
    for start in range(0, len(questions), batch_size):
        found: list[Given] = []
        for shown, some in groupby(
            questions[start : start + batch_size], key=lambda each: each.image is not None
        ):
            part = list(some)
            seed = asking.seed + start + len(found)
            if isinstance(model, PeerModel):
                found += _each(model, part, first, asking, seed, seen)
            else:
                found += _part(model, part, first, asking, seed, seen if shown else None)
        yield tuple(found)


def _each(
    model: PeerModel,
    questions: Sequence[Question],
    first: tuple[int, int],
    asking: Asking,
    seed: int,
    seen: "_SeenImages",
) -> list[Given]:
    """The answers of a model that transformers' class runs: it reads one question after another, image and all."""
    found = []
    heard: list[Tensor] = []

    def hear(question: Question, scores: Tensor) -> None:
        heard.append(_chances(model, [question], scores[None], first))

    for number, question in enumerate(questions):
        image = None if question.image is None else seen.read(question.image)
        ids, _ = model.peer.answer(
            model.peer.inputs(image, question.prompt),
            max_new_tokens=asking.max_new_tokens,
            temperature=asking.temperature,
            top_p=asking.top_p,
            seed=seed + number,
            on_first=partial(hear, question),
        )
        yes, no = heard[-1][0].tolist()
        found.append(
            Given(
                answer=Answer(text=model.tokenizer.answer(ids), p_yes=yes, p_no=no),
                image_sha256=None if image is None else image_hash(image),
            )
        )
    return found


def _part(
    model: LoadedModel,
    questions: Sequence[Question],
    first: tuple[int, int],
    asking: Asking,
    seed: int,
    seen: "_SeenImages | None",
) -> list[Given]:
    """The answers to questions that all have an image, or all have none."""
    prefix: MambaCache | None = None
    pixels: tuple[Tensor, ...] | None = None
    instruction: Tensor | None = None
    hashes: list[str | None] = [None] * len(questions)
    if seen is not None and model.config.vision.text is None:
        prefix, hashes = seen.of([each.image for each in questions])
    elif seen is not None:  # Image tokens depend on the question: no two questions share them.
        images = [seen.read(each.image) for each in questions]
        pixels = model.transform.pixels(images)
        hashes = [*map(image_hash, images)]
        instruction = model.vlm.instruct([each.prompt for each in questions])
    chances: list[Tensor] = []

    def hear(step: int, scores: Tensor) -> None:
        if step == 0:
            chances.append(_chances(model, questions, scores, first))

    given = generate(
        model.vlm,
        pixels,
        [model.tokenizer.encode(model.prompt(each.prompt)) for each in questions],
        prefix=prefix,
        instruction=instruction,
        max_new_tokens=asking.max_new_tokens,
        eos_id=model.tokenizer.eos_id,
        temperature=asking.temperature,
        top_p=asking.top_p,
        seed=seed,
        on_scores=hear,
    )
    return [
        Given(
            answer=Answer(text=model.tokenizer.answer(ids), p_yes=chance[0], p_no=chance[1]),
            image_sha256=digest,
        )
        for ids, chance, digest in zip(given.ids, chances[0].tolist(), hashes, strict=True)
    ]


def _chances(
    model: LoadedModel, questions: Sequence[Question], scores: Float[Tensor, "B V"], first: tuple[int, int]
) -> Float[Tensor, "B 2"]:
    """The probabilities of the two first tokens; heard before a token is chosen, which cannot be drawn from NaN.

    Raises:
        InputError: the scores of a question are no numbers.
    """
    found = scores.float().softmax(dim=-1)[:, list(first)].cpu()
    if bad := [
        each for each, known in zip(questions, found.isfinite().all(dim=-1), strict=True) if not known
    ]:
        image = "" if not isinstance(bad[0].image, str | Path) else f" about {bad[0].image}"
        raise InputError(
            f"expected scores that are numbers, got others from {model.name} in {model.info.dtype} for the answer to "
            f"{bad[0].prompt!r:.80}{image}; run it with another --dtype."
        )
    return found


class _SeenImages:
    """The states after the images of the last batch: one that is asked about again is not looked at again.

    Each image is looked at alone, so that an answer does not depend on which others were asked about, or when.
    """

    def __init__(self, model: LoadedModel, convert_profile: bool):
        self._model, self._convert_profile = model, convert_profile
        self._kept: dict[Any, tuple[str, MambaCache]] = {}

    def of(self, images: Sequence[Any]) -> tuple[MambaCache, list[str | None]]:
        """A cache for a question about each image, and the image's hash; images that are not among these are let go."""
        # A path by its text; an image that is in memory by itself, which the questions hold on to.
        keys = [str(each) if isinstance(each, str | Path) else id(each) for each in images]
        wanted = dict(zip(keys, images, strict=True))
        self._kept = {
            key: self._kept[key] if key in self._kept else self._looked_at(image)
            for key, image in wanted.items()
        }
        found = [self._kept[key] for key in keys]
        return MambaCache.joined([cache for _, cache in found]), [digest for digest, _ in found]

    def read(self, source: Any) -> Image.Image:
        """An image as it is shown."""
        return read_image(source, convert_profile=self._convert_profile)

    @torch.no_grad()
    def _looked_at(self, source: Any) -> tuple[str, MambaCache]:
        image, vlm = self.read(source), self._model.vlm
        features = vlm.vision([each.to(vlm.device) for each in self._model.transform.pixels([image])])
        return image_hash(image), seen_images(vlm, features)


def _first_tokens(model: LoadedModel) -> tuple[int, int]:
    """The first tokens of FIRST_WORDS.

    Raises:
        InputError: they are the same.
    """
    if isinstance(model, PeerModel):
        yes, no = map(model.peer.first_id, FIRST_WORDS)
    else:
        yes, no = (first_id(model.tokenizer, model.prompt("?"), word) for word in FIRST_WORDS)
    if yes == no:
        raise InputError(
            f"expected a tokenizer in which {' and '.join(FIRST_WORDS)} begin with different tokens, "
            f"got {model.name}'s."
        )
    return yes, no
