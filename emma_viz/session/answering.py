"""Answers alone: any number of questions, with an image or without, and the probabilities of their first tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emma_viz.checkpoints import LoadedModel
from emma_viz.data import image_hash, read_image
from emma_viz.errors import InputError
from emma_viz.models import generate
from emma_viz.records.questions import Question
from emma_viz.records.scorers import Answer
from emma_viz.session.options import BATCH, Asking

FIRST_WORDS = ("Yes", "No")
"""Whose probability as the answer's first token is kept, as Cobra's harness does: without a space before them."""


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
    """Ask a model any number of questions, in the memory that one batch needs; no state is kept.

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
        InputError: a question is empty, or "Yes" and "No" begin with the same token.
    """
    first = _first_tokens(model)
    for start in range(0, len(questions), batch_size):
        found: list[Given] = []
        for shown, some in groupby(
            questions[start : start + batch_size], key=lambda each: each.image is not None
        ):
            part = list(some)
            seed = asking.seed + start + len(found)
            found += _part(model, part, first, asking, seed, shown=shown, convert_profile=convert_profile)
        yield tuple(found)


def _part(
    model: LoadedModel,
    questions: Sequence[Question],
    first: tuple[int, int],
    asking: Asking,
    seed: int,
    *,
    shown: bool,
    convert_profile: bool,
) -> list[Given]:
    """The answers to questions that all have an image, or all have none."""
    features, hashes = None, [None] * len(questions)
    if shown:
        features, hashes = _seen(model, [each.image for each in questions], convert_profile)
    chances: list[Tensor] = []

    def hear(step: int, scores: Tensor) -> None:
        if step == 0:
            chances.append(scores.float().softmax(dim=-1)[:, list(first)].cpu())

    given = generate(
        model.vlm,
        None,
        [model.tokenizer.encode(model.prompt(each.prompt)) for each in questions],
        features=features,
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


def _seen(
    model: LoadedModel, images: Sequence[Any], convert_profile: bool
) -> tuple[Tensor, list[str | None]]:
    """What the encoders see of each image, and its hash; an image that is asked about several times is seen once."""
    places: dict[Any, int] = {}
    different = []
    for image in images:
        key = str(image) if isinstance(image, str | Path) else id(image)
        if key not in places:
            places[key] = len(different)
            different.append(read_image(image, convert_profile=convert_profile))
    which = [places[str(each) if isinstance(each, str | Path) else id(each)] for each in images]
    device = model.vlm.device
    features = model.vlm.vision([each.to(device) for each in model.transform.pixels(different)])
    hashes = [image_hash(each) for each in different]
    return features[which], [hashes[place] for place in which]


def _first_tokens(model: LoadedModel) -> tuple[int, int]:
    """The first tokens of FIRST_WORDS.

    Raises:
        InputError: they are the same.
    """
    yes, no = (model.tokenizer.encode(word)[0] for word in FIRST_WORDS)
    if yes == no:
        raise InputError(
            f"expected a tokenizer in which {' and '.join(FIRST_WORDS)} begin with different tokens, "
            f"got {model.name}'s."
        )
    return yes, no
