"""The instruction in the image's tokens: how much of it the mixer of `emma-text-fusion` takes, and from where."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from emma_viz.models.infusion import Infusion
from probes.charts import Chart, Grids, Lines, Panel, Series
from probes.numbers import joined_parts, mean_measure
from probes.protocol import Batch, Gathered, Measure, Needs, Result, Seen


class InstructionProbe:
    """Column norms of the mixer, and the likeness of image tokens and instruction before and after it."""

    name = "instruction"
    title = "The instruction in the image's tokens"
    question = (
        "How much of the instruction do the refined image tokens hold, and which of its tokens give it?"
    )
    method = (
        "The analysis of the EMMA of arXiv 2410.02080. The norm of the mixer's column of a token says how much that "
        "token can give to all refined tokens; times the token's own length, how much it gives here. Likeness is the "
        "mean cosine of image tokens with the mean of the instruction's tokens, before and after the mixer; its "
        "control is another image's instruction. How far the tokens move is their distance from those that the other "
        "instruction makes, over their length. A cosine says nothing of what the language model uses."
    )

    def needs(self) -> Needs:
        """The model itself, and that it mixes the instruction in."""
        return Needs(live=True, infused=True)

    @torch.no_grad()
    def see(self, batch: Batch) -> Seen:
        """Norms and likenesses of each image."""
        assert batch.model is not None
        vlm = batch.model.vlm
        mixer = vlm.projector.infusion
        prompts = [each.prompt for each in batch.subjects]
        others = [_another(prompt, [*prompts[at:], *(each.prompt for each in batch.others)])
                  for at, prompt in enumerate(prompts)]  # fmt: skip
        pixels = batch.model.transform.pixels([each.image for each in batch.subjects])
        features = vlm.vision([each.to(vlm.device) for each in pixels]).to(mixer.text_projection.weight.dtype)
        own, other = _read(batch, prompts), _read(batch, [each or "" for each in others])
        refined, moved = mixer(features, own[0]), mixer(features, other[0])
        norms = column_norms(mixer)
        rows = []
        for at, there in enumerate(others):
            said, unsaid = (_mean_token(mixer, *each, at) for each in (own, other))
            given = torch.cat([features[at], mixer.instructed(own[0][at : at + 1])[0]]).double().norm(dim=-1)
            weighed = norms * given.detach().cpu().numpy()
            away = float((refined[at] - moved[at]).norm() / refined[at].norm())
            rows.append(
                {
                    "norms": norms,
                    "share": weighed[mixer.n_image :].sum() / weighed.sum(),
                    "before": _cosine(features[at], said),
                    "after": _cosine(refined[at], said),
                    "other": _cosine(refined[at], unsaid) if there else np.nan,
                    "moved": away if there else np.nan,
                }
            )
        lacking = any(each is None for each in others)
        return joined_parts(rows, ["some images have no other with another instruction"] if lacking else [])

    def measures(self, gathered: Gathered) -> Sequence[Measure]:
        """Norms by modality, the share of the instruction, and the likenesses."""
        if not gathered.columns:
            return []
        own, norms = gathered.columns, gathered.columns["norms"]
        count = _image_tokens(gathered)
        return [
            mean_measure(norms[:, :count].mean(1), name="instruction.norm_image",
                         title="mean norm of the mixer's columns of image tokens"),
            mean_measure(norms[:, count:].mean(1), name="instruction.norm_text",
                         title="mean norm of the mixer's columns of instruction tokens"),
            mean_measure(own["share"], name="instruction.share",
                         title="share of the instruction in what all tokens give (column norm times length)"),
            mean_measure(own["before"], name="instruction.before",
                         title="cosine of image tokens with the instruction before the mixer"),
            mean_measure(own["after"], own["other"], name="instruction.after",
                         title="cosine of refined tokens with the instruction", control_title="another instruction"),
            mean_measure(own["moved"], name="instruction.moved",
                         title="how far another instruction moves the refined tokens, over their length"),
        ]  # fmt: skip

    def plots(self, results: Sequence[Result]) -> Sequence[Chart]:
        """The norms by position: instruction tokens as a curve, image tokens as a map."""
        seen = [each for each in results if each.gathered.columns]
        if not seen:
            return []
        texts = [each.gathered.columns["norms"][0][_image_tokens(each.gathered) :] for each in seen]
        longest = max(map(len, texts))
        curve = Lines(
            name="text", title="What each instruction token can give", x_title="place in the instruction",
            x=[str(place) for place in range(longest)], y_title="norm of the mixer's column",
            series=[Series(name=each.model, model=index, y=text.tolist())
                    for index, (each, text) in enumerate(zip(seen, texts, strict=True))],
            caption="A fresh mixer has 0 everywhere.",
        )  # fmt: skip
        panels = [
            Panel(title=each.model, values=norms.reshape(each.gathered.model.grid))
            for each in seen
            if (norms := each.gathered.columns["norms"][0][: _image_tokens(each.gathered)]).size
        ]
        image = Grids(
            name="image", title="What each image token can give", panels=panels, columns=2,
            value_title="norm of the mixer's column",
            caption="At each patch; a fresh mixer has 1 everywhere.",
        )  # fmt: skip
        return [curve, image]

    def summary(self, results: Sequence[Result]) -> str:
        """How much of the refined tokens is the instruction's."""
        said = []
        for result in results:
            share, moved = result.one("instruction.share"), result.one("instruction.moved")
            if share is not None and moved is not None and np.isfinite(moved.number.value):
                said.append(
                    f"In {result.model}, {share.number.value:.0%} of what the mixer takes is the instruction's, and "
                    f"another instruction moves the refined tokens by {moved.number.value:.0%} of their length."
                )
        return " ".join(said)


def column_norms(mixer: Infusion) -> Float[np.ndarray, " X"]:
    """The norm of the mixer's column of each token: image tokens, then the instruction's."""
    return mixer.image_text_infusion.weight.detach().double().norm(dim=0).cpu().numpy()


def _another(prompt: str, prompts: Sequence[str]) -> str | None:
    return next((each for each in prompts if each != prompt), None)


def _read(batch: Batch, prompts: Sequence[str]) -> tuple[Float[Tensor, "B s W"], Int[Tensor, "B Q"]]:
    """The instruction's states, and its ids."""
    assert batch.model is not None
    vlm = batch.model.vlm
    ids = vlm.instruct(prompts)
    states = vlm.vision.read(ids)
    assert states is not None, "able() has made sure of it"
    assert ids is not None, "as of the states"
    return states.to(vlm.projector.infusion.text_projection.weight.dtype), ids


def _mean_token(
    mixer: Infusion, states: Float[Tensor, "B s W"], ids: Int[Tensor, "B Q"], row: int
) -> Float[Tensor, " F"]:
    """The mean of an instruction's own tokens at the image's width; padding behind them is left out."""
    padded = int((ids[row] == 0).sum())
    kept = max(1, states.shape[1] - padded)
    return mixer.instructed(states[row : row + 1])[0, :kept].mean(dim=0)


def _cosine(tokens: Float[Tensor, "T F"], one: Float[Tensor, " F"]) -> float:
    return float(functional.cosine_similarity(tokens.double(), one.double()[None], dim=-1).mean())


def _image_tokens(gathered: Gathered) -> int:
    assert gathered.model.grid is not None
    return gathered.model.grid[0] * gathered.model.grid[1]
