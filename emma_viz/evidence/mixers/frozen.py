"""The frozen decomposition: an answer's logit split exactly over image tokens, text tokens and biases.

With the routing of every mixer held (see `emma_viz.evidence.mixers.routing`) and the root mean square of every norm,
a logit is an affine function of the embeddings, so that one forward and one backward pass give

    logit = Σ_m ⟨∂logit/∂e_m, e_m⟩ + Σ_{layer, position} ⟨∂logit/∂c, b⟩

exactly: e_m is the embedding of token m, c what a convolution gives before its SiLU and b its bias, the only constants
in the network. It answers "through which tokens did this answer's content come, routed as it was?". It is not causal:
take a token away and the routing changes too. Where a knock-out disagrees, the image acts through the routing.

With `gate="half"` the gates are not held; half of what passes a gate is given to either factor (the rule of MambaLRP,
Jafari et al. 2024, here for Mamba-2 too).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from emma_viz.capture.questions import RecordableModel
from emma_viz.data.images import read_image
from emma_viz.errors import InputError
from emma_viz.evidence.mixers.routing import (
    Mixer,
    carried,
    convolution_bias,
    convolved,
    norm_scale,
    output_scale,
    project_in,
    require_mixers,
    routing_of,
    wide,
)
from emma_viz.models import Block, MambaLM

_Gate = Literal["frozen", "half"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Decomposition:
    """A score and the parts that it is the sum of. All in the units of logits."""

    score: float
    """The word's logits, less those of what it is compared with; summed over the word's tokens."""
    image: Float[np.ndarray, "R C"]
    """Contribution of each image token's embedding."""
    text: Float[np.ndarray, " M"]
    """Contribution of each text token's embedding: prompt, answer before the word, the word but for its last token."""
    bias: Float[np.ndarray, "Y L"]
    """Contribution of the convolution's bias, by layer and position; the T image positions come first."""
    content: Float[np.ndarray, "stages L"]
    """Contribution of what each position of the residual stream holds before block y; one stage more than there are
    layers, the last before the final norm. `content[y].sum() + bias[y:].sum()` is the score, for every y."""
    slope: Float[np.ndarray, "T D"]
    """∂score/∂e of each image token with the routing held: ⟨slope, e − e'⟩ is what e' in its place would take away, and
    `image` is that for e' = 0."""
    gate: _Gate
    """Whether gates were held, or given half."""

    @property
    def remainder(self) -> float:
        """What the parts leave of the score: rounding."""
        return self.score - float(self.image.sum() + self.text.sum() + self.bias.sum())

    def shares(self, layer: int = 0) -> dict[str, float]:
        """Shares of the score that come from image positions, text positions and biases, as seen before block `layer`.

        They sum to 1; one may be negative or above 1. NaN where the score is 0.
        """
        tokens = self.image.size
        parts = {
            "image": self.content[layer, :tokens].sum(),
            "text": self.content[layer, tokens:].sum(),
            "bias": self.bias[layer:].sum(),
        }
        return {
            name: float(part / self.score) if self.score else float("nan") for name, part in parts.items()
        }


def decompose(
    model: RecordableModel,
    image: Image.Image,
    prompt: str,
    *,
    before: Sequence[int] = (),
    word: Sequence[int],
    against: Sequence[int] | None = None,
    gate: _Gate = "frozen",
) -> Decomposition:
    """Split the logit of a word, or of one word against another, over tokens and biases.

    Args:
        model: from `load_model`.
        image: what the model is shown.
        prompt: the message, without the template.
        before: token ids of the answer before the word.
        word: token ids of the word; of more than one the logits are added.
        against: as many ids, whose logits are taken off, such as those of "No" for "Yes"; the mean logit of the
            vocabulary is taken off when None.
        gate: hold gates, or give half to either factor.

    Raises:
        InputError: the word has no token, `against` has another number of them, or the gate rule is unknown.
    """
    if not len(word) or (against is not None and len(against) != len(word)):
        raise InputError(
            "expected the ids of at least one token for the word, and as many for what it is compared with; got "
            f"{len(word)} and {'none' if against is None else len(against)}."
        )
    if gate not in get_args(_Gate):
        raise InputError(f"There is no gate rule {gate!r}; choose one of {', '.join(get_args(_Gate))}.")
    vlm = model.vlm
    ids = [*model.tokenizer.encode(model.prompt(prompt)), *before, *word[:-1]]
    with torch.no_grad():
        tokens = vlm.embed_image(
            model.transform.pixels([read_image(image)]), instruction=vlm.instruct([prompt])
        )
        text = vlm.llm.embed(torch.tensor([ids], device=vlm.device))
        direction = _direction(vlm.llm, vlm.config.llm.vocab_size, word, against)
    embeddings = torch.cat([wide(tokens), wide(text)], dim=1)
    score, content, bias, slope = _split(vlm.llm, embeddings, direction, gate)
    first = content[0]
    count = tokens.shape[1]
    return Decomposition(
        score=score,
        image=rearrange(first[:count], "(R C) -> R C", R=vlm.grid[0]),
        text=first[count:],
        bias=bias,
        content=content,
        slope=slope[0, :count].float().cpu().numpy(),
        gate=gate,
    )


def decompose_states(
    llm: MambaLM,
    embeddings: Float[Tensor, "1 L D"],
    direction: Float[Tensor, "w D"],
    *,
    gate: _Gate = "frozen",
) -> tuple[float, Float[np.ndarray, "stages L"], Float[np.ndarray, "Y L"]]:
    """Split Σ_k ⟨direction_k, final state of position L − w + k⟩, the core of `decompose`.

    Each block is computed again in the backward pass, so that memory holds one residual stream a layer.

    Args:
        llm: the language model.
        embeddings: of one sample's L positions, (1, L, D).
        direction: (w, D): one vector for each of the last w positions.
        gate: as in `decompose`.

    Returns:
        The score, and the contributions of the residual stream's positions and of the biases; see `Decomposition`.
    """
    return _split(llm, embeddings, direction, gate)[:3]


def _split(
    llm: MambaLM, embeddings: Float[Tensor, "1 L D"], direction: Float[Tensor, "w D"], gate: _Gate
) -> tuple[float, np.ndarray, np.ndarray, Float[Tensor, "1 L D"]]:
    """`decompose_states`, and the score's slope at the embeddings."""
    require_mixers(llm.backbone.layers)
    layers = llm.backbone.layers
    content = np.zeros((len(layers) + 1, embeddings.shape[1]))
    bias = np.zeros((len(layers), embeddings.shape[1]))
    with torch.enable_grad():
        stream = start = embeddings.detach().clone().requires_grad_()
        for number, block in enumerate(layers):
            if number:
                _note(stream, stream, content[number])
            stream = _Again.apply(stream, block, gate, bias[number])
        _note(stream, stream, content[-1])
        final = llm.backbone.norm_f
        hidden = stream * norm_scale(stream, final.weight, final.eps)
        score = (hidden[0, -len(direction) :] * direction).sum()
        (slope,) = torch.autograd.grad(score, start)
    content[0] = _per_position(slope, start)
    return float(score.detach()), content, bias, slope


def held_stream(llm: MambaLM, embeddings: Float[Tensor, "1 L D"]) -> Float[Tensor, "1 L D"]:
    """The residual stream after the last block with the routing held: its gradients are content's alone."""
    require_mixers(llm.backbone.layers)
    stream = embeddings
    for block in llm.backbone.layers:
        unused = np.zeros(embeddings.shape[1])
        stream = _Again.apply(stream, block, "frozen", unused)
    return stream


def _direction(
    llm: MambaLM, known: int, word: Sequence[int], against: Sequence[int] | None
) -> Float[Tensor, "w D"]:
    table = llm.lm_head.weight
    picked = wide(table[torch.tensor(list(word), device=table.device)])
    if against is None:
        return picked - wide(table[:known]).mean(dim=0)
    return picked - wide(table[torch.tensor(list(against), device=table.device)])


def _note(at: Tensor, value: Tensor, row: np.ndarray) -> None:
    """When the gradient at a tensor is known, write ⟨gradient, value⟩ of each position."""

    def take(gradient: Tensor) -> None:
        row[:] = _per_position(gradient, value)

    at.register_hook(take)


def _per_position(gradient: Float[Tensor, "1 L W"], value: Float[Tensor, "1 L W"]) -> np.ndarray:
    return (gradient * value.detach()).sum(dim=-1)[0].double().cpu().numpy()


class _Again(torch.autograd.Function):
    """`_frozen_block`, computed again in the backward pass.

    As `torch.utils.checkpoint`, whose first call takes seconds to import PyTorch's compiler.
    """

    @staticmethod
    def forward(ctx, stream: Tensor, block: Block, gate: _Gate, bias: np.ndarray) -> Tensor:
        ctx.save_for_backward(stream)
        ctx.rest = (block, gate, bias)
        return _frozen_block(block, stream, gate, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (stream,) = ctx.saved_tensors
        block, gate, bias = ctx.rest
        with torch.enable_grad():
            entered = stream.detach().requires_grad_()
            (slope,) = torch.autograd.grad(_frozen_block(block, entered, gate, bias), entered, gradient)
        return slope, None, None, None


def _frozen_block(block: Block, stream: Float[Tensor, "1 L D"], gate: _Gate, bias: np.ndarray) -> Tensor:
    """The residual stream after a block whose routing is held."""
    normed = stream * norm_scale(stream, block.norm.weight, block.norm.eps)
    return stream + _frozen_mixer(block.mixer, normed, gate, bias)


def _frozen_mixer(mixer: Mixer, normed: Float[Tensor, "1 L D"], gate: _Gate, bias: np.ndarray) -> Tensor:
    inputs = project_in(mixer, normed)
    constant = convolution_bias(mixer)
    c = convolved(mixer, inputs.x) + constant
    held = routing_of(mixer, c.detach(), inputs.dt)
    inner = c[..., : mixer.config.d_inner]
    # Under a held routing, B and C of Mamba-2 pass no gradient: their share of the bias is no content.
    if inner.requires_grad:
        _note(inner, constant[: mixer.config.d_inner].expand_as(inner), bias)
    y = carried(mixer, held.secant * inner, held)
    gated = y * _gate(inputs.z, gate)
    if gate == "half":
        gated = 0.5 * gated + (0.5 * gated).detach()
    scale = output_scale(mixer, gated)
    return functional.linear(gated if scale is None else gated * scale, wide(mixer.out_proj.weight))


def _gate(z: Float[Tensor, "1 L E"], gate: _Gate) -> Float[Tensor, "1 L E"]:
    if gate == "frozen":
        return functional.silu(z.detach())
    return z.sigmoid().detach() * z
