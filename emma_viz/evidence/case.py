"""One question about one image, ready to be run again with something changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from emma_viz.capture.questions import RecordableModel, peer_network
from emma_viz.data.images import ImageSource, read_image
from emma_viz.data.prompts import first_id
from emma_viz.errors import InputError
from emma_viz.evidence.intervention import Intervention
from emma_viz.evidence.interventions import first_block, intervene_each
from emma_viz.models import VLM
from emma_viz.models.peers.entered import EnteredQuestion
from emma_viz.models.peers.network import PeerNetwork


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """An image's tokens, the text after them, and two words, the logits of which are told apart.

    The score of a run is logit(word) − logit(against) at the place where the answer begins, in nats of odds.
    """

    vlm: VLM
    tokens: Float[Tensor, "1 T D"]
    """Embeddings of the image tokens."""
    text: Float[Tensor, "1 M D"]
    """Embeddings of the prompt's tokens, template included."""
    word: int
    """Token id."""
    against: int
    """Token id."""
    words: tuple[str, str]
    """Both, as text."""

    @classmethod
    @torch.no_grad()
    def of(
        cls, model: RecordableModel, image: ImageSource, prompt: str, *, words: Sequence[str] | None = None
    ) -> "Case":
        """Read an image and a prompt.

        Args:
            model: from `load_model`.
            image: what the model is shown.
            prompt: the message, without the template.
            words: two words, by their first tokens; when None, the two likeliest tokens to begin the answer with.

        Raises:
            InputError: the words begin with the same token, or transformers' class scales its scores.
        """
        peer = peer_network(model)
        if peer is not None:
            return _of_peer(model, peer, read_image(image), prompt, words)
        vlm, tokenizer = model.vlm, model.tokenizer
        pixels = model.transform.pixels([read_image(image)])
        tokens = vlm.embed_image(pixels, instruction=vlm.instruct([prompt]))
        asked = model.prompt(prompt)
        ids = tokenizer.encode(asked)
        text = vlm.llm.embed(torch.tensor([ids], dtype=torch.long, device=vlm.device)).to(tokens.dtype)
        if words is None:
            logits = _logits(vlm, torch.cat([tokens, text], dim=1))[0]
            first, second = logits.topk(2).indices.tolist()
        else:
            first, second = _told_apart(words, [first_id(tokenizer, asked, word) for word in words])
        named = (tokenizer.decode([first]), tokenizer.decode([second]))
        return cls(vlm=vlm, tokens=tokens, text=text, word=first, against=second, words=named)

    @property
    def count(self) -> int:
        """T, the number of image tokens."""
        return self.tokens.shape[1]

    @property
    def length(self) -> int:
        """T + M."""
        return self.tokens.shape[1] + self.text.shape[1]

    def score(self, tokens: Float[Tensor, "k T D"]) -> Float[Tensor, " k"]:
        """The score of each variant of the image's tokens; with gradients where they are on."""
        text = self.text.expand(len(tokens), -1, -1)
        logits = _logits(self.vlm, torch.cat([tokens.to(text.dtype), text], dim=1))
        return logits[:, self.word] - logits[:, self.against]

    @torch.no_grad()
    def scores(self, variants: Sequence[Float[Tensor, "T D"]], *, batch_size: int = 16) -> list[float]:
        """The score of each variant, some at a time."""
        found: list[float] = []
        for start in range(0, len(variants), batch_size):
            found += self.score(torch.stack(list(variants[start : start + batch_size]))).tolist()
        return found

    @torch.no_grad()
    def changed(self, runs: Sequence[Sequence[Intervention]], *, batch_size: int = 16) -> list[float]:
        """The score of each run of the same image and text, with what is changed in it; none changed is the clean run.

        Runs that change later blocks alone share what comes before.

        Raises:
            SiteError: a site or layer does not exist.
            InputError: a token is behind the end.
        """
        if far := [
            place for run in runs for each in run for place in each.tokens or () if place >= self.length
        ]:
            raise InputError(f"The sequence has {self.length} positions; token {max(far)} is not in it.")
        depth = self.vlm.config.llm.n_layer
        order = sorted(range(len(runs)), key=lambda index: first_block(runs[index], depth))
        found = [0.0] * len(runs)
        for start in range(0, len(runs), batch_size):
            some = order[start : start + batch_size]
            with intervene_each(self.vlm, [runs[index] for index in some]):
                scores = self.score(self.tokens.expand(len(some), -1, -1)).tolist()
            for index, score in zip(some, scores, strict=True):
                found[index] = score
        return found

    def with_tokens(self, places: Sequence[int], values: Float[Tensor, "*n D"]) -> Float[Tensor, "T D"]:
        """The image's tokens with others in some places: one vector for all, or one each."""
        changed = self.tokens[0].clone()
        changed[list(places)] = values.to(changed)
        return changed


@dataclass(frozen=True, kw_only=True, eq=False)
class PeerCase(Case):
    """The same of a model that transformers' class runs: only its image tokens can be changed.

    An image token is as wide as all that enters of it: some families add features behind the first blocks, too.
    """

    vlm: Any
    """Refuses whatever is asked of it: the network is not one of this package."""
    text: Float[Tensor, "1 M E"]
    """Embeddings of the other tokens."""
    entered: EnteredQuestion
    """The question."""
    blind: Float[Tensor, " V"]
    """Scores of the answer's first token without the image."""

    def score(self, tokens: Float[Tensor, "k T D"]) -> Float[Tensor, " k"]:
        """The score of each variant of the image's tokens, or, of none of them, of the question without the image; with
        gradients where they are on."""
        if not tokens.shape[1]:
            found = self.blind.expand(len(tokens), -1)
        else:
            found = torch.stack([self.entered.rows(each)[-1] for each in tokens])
        return found[:, self.word] - found[:, self.against]

    def changed(self, runs: Sequence[Sequence[Intervention]], *, batch_size: int = 16) -> list[float]:
        """The score of the clean run, for each run in which nothing is changed.

        Raises:
            InputError: something is to be changed.
        """
        if any(runs):
            raise InputError(
                "A model that transformers' own class runs is changed at its image tokens alone (Case.scores); got an "
                "intervention."
            )
        return self.scores([self.tokens[0]]) * len(runs)


def _of_peer(
    model: RecordableModel,
    peer: PeerNetwork,
    image: Image.Image,
    prompt: str,
    words: Sequence[str] | None,
) -> PeerCase:
    entered = EnteredQuestion(peer, peer.inputs(image, prompt))
    tokens = entered.tokens
    if words is None:
        first, second = entered.scores(tokens).topk(2).indices.tolist()
    else:
        first, second = _told_apart(words, [peer.first_id(word) for word in words if word])
    return PeerCase(
        vlm=model.vlm, tokens=tokens[None], text=entered.text[None], word=first, against=second,
        words=(model.tokenizer.decode([first]), model.tokenizer.decode([second])), entered=entered,
        blind=peer.network(**peer.inputs(None, prompt).given).logits[0, -1].float(),
    )  # fmt: skip


def _told_apart(words: Sequence[str], ids: Sequence[int]) -> tuple[int, int]:
    """The first tokens of two words.

    Raises:
        InputError: they are the same, or there are not two.
    """
    if len(ids) != 2 or ids[0] == ids[1]:
        raise InputError(
            f"expected two words that begin with different tokens, got {', '.join(map(repr, words))}."
        )
    return ids[0], ids[1]


def _logits(vlm: VLM, embeddings: Float[Tensor, "k L D"]) -> Float[Tensor, "k V"]:
    """Scores of the next token after the last, of the known vocabulary, in fp32."""
    hidden = vlm.states(embeddings)
    return vlm.llm.logits(hidden[:, -1:])[:, 0, : vlm.config.llm.vocab_size].float()
