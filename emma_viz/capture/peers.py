"""A recording of a model that transformers' own classes run, with the hooks in place."""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from emma_viz.capture.buffers import StateBuffers
from emma_viz.capture.questions import Questions
from emma_viz.capture.recorder import Recorder
from emma_viz.capture.trace import Sampling
from emma_viz.errors import SiteError
from emma_viz.models import Generation
from emma_viz.models.attention_sites import PARTS
from emma_viz.models.peers.network import PeerInputs, PeerNetwork


def peer_inputs(peer: PeerNetwork, questions: Questions) -> tuple[PeerInputs, ...]:
    """What the model reads of each question."""
    images = questions.images or [None] * len(questions)
    return tuple(peer.inputs(*pair) for pair in zip(images, questions.messages, strict=True))


def positions(inputs: PeerInputs, kind: str) -> Tensor:
    """The positions of the sequence to keep: those of the image in the order of its geometry, then the others."""
    return {"image": inputs.image, "text": inputs.text}.get(kind, torch.cat([inputs.image, inputs.text]))


def require_parts(peer: PeerNetwork) -> None:
    """Refuse to record the parts of blocks that do not add up, which a text of one word shows.

    Raises:
        SiteError: they do not, at the layer that is named.
    """
    with Recorder(peer.network, ("resid_pre", *PARTS, "resid_post")) as seen:
        peer.read(peer.inputs(None, "?"))
    for layer in range(len(seen) // (len(PARTS) + 2)):
        for before, part, after in (
            ("resid_pre", "attn_out", "resid_mid"),
            ("resid_mid", "mlp_out", "resid_post"),
        ):
            total, added = seen[after, layer].float(), seen[part, layer]
            apart = (seen[before, layer] + added - total).norm()
            if not apart <= 0.01 * added.float().norm() + torch.finfo(added.dtype).eps * total.norm():
                raise SiteError(
                    f"{before} and {part} of block {layer} do not add up to its {after}: what its modules give is not "
                    f"what it adds. {', '.join(PARTS)} are not recorded of this model; its other sites are."
                )


@dataclass(frozen=True)
class PeerPass:
    """All samples through the model with the hooks in place: one at a time, or, where they are only read and of one
    shape, some at a time."""

    peer: PeerNetwork
    asked: tuple[PeerInputs, ...]
    kind: str
    """Which tokens are kept."""
    buffers: StateBuffers
    tick: Callable[[], None]
    """One more token of the longest answer."""
    end_batch: Callable[[], None]
    """A sample is done."""
    on_token: Callable[[int, int], None] | None
    batch_size: int = 1
    """Samples that are read at a time, at most."""

    def all(self, sampling: Sampling | None) -> Generation:
        """Run all samples; their answers, or none where `sampling` is None."""
        drawn = sampling is not None and bool(sampling.temperature)
        seed = sampling.seed if sampling is not None and drawn else None
        seed = secrets.randbits(31) if drawn and seed is None else seed
        ids, ended = [], []
        for samples in self._batches(self.batch_size if sampling is None else 1):
            sample, inputs = samples.start, self.asked[samples.start]
            self.buffers.begin_batch(samples, positions(inputs, self.kind))
            if sampling is None:
                self.peer.read(PeerInputs.together(self.asked[samples.start : samples.stop]))
            else:
                found, end = self._answer(sample, inputs, sampling, None if seed is None else seed + sample)
                ids.append(found[: sampling.max_new_tokens])
                ended.append(end and len(found) < sampling.max_new_tokens)
            self.buffers.end_batch()
            for _ in samples:
                self.end_batch()
        return Generation(ids=tuple(ids), ended=tuple(ended), seed=seed)

    def _batches(self, size: int) -> Iterator[range]:
        """Neighbours of one shape, at most so many."""
        start = 0
        for _, alike in groupby(self.asked, key=lambda each: each.shapes):
            end = start + len(list(alike))
            yield from (range(first, min(first + size, end)) for first in range(start, end, size))
            start = end

    def _answer(self, sample: int, inputs: PeerInputs, sampling: Sampling, seed: int | None):
        def hear(token: int) -> None:
            if self.buffers.note_token(0) > sampling.max_new_tokens:
                return
            self.tick()
            if self.on_token is not None:
                self.on_token(sample, token)

        return self.peer.answer(
            inputs,
            # The last token of an answer is only read, and its states seen, if one more could follow.
            max_new_tokens=sampling.max_new_tokens + self.buffers.keeps_answers,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=seed,
            on_token=hear,
        )
