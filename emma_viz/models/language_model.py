"""Language models: Mambas with the names of state-spaces/mamba, Cobra and EMMA, and attention transformers."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from emma_viz.errors import CheckpointError
from emma_viz.models.cache import MambaCache
from emma_viz.models.config import MambaConfig
from emma_viz.models.hookpoint import HookPoint
from emma_viz.models.linear import LinearLayer
from emma_viz.models.mixers.attention import AttentionBlock
from emma_viz.models.mixers.grouped import GroupedBlock
from emma_viz.models.mixers.mamba1 import Mamba1Mixer
from emma_viz.models.mixers.mamba2 import Mamba2Mixer
from emma_viz.models.mixers.parallel import ParallelBlock
from emma_viz.models.norms import RMSNorm

MIXERS = {"mamba1": Mamba1Mixer, "mamba2": Mamba2Mixer}
EMBEDDING_STD = 0.02
_WRITING = ("o_proj.weight", "down_proj.weight", "dense.weight", "fc2.weight", "wo.weight", "w2.weight")
"""Layers of attention transformers that write into the residual stream."""
_ATTENTION = (
    "_proj.weight",
    "fc1.weight",
    "wqkv.weight",
    "wvkqgdt.weight",
    "w1.weight",
    "w3.weight",
    *_WRITING,
)


class Block(nn.Module):
    """Add, norm, mix: residual ← hidden + residual; hidden ← mixer(norm(residual)).

    The pair is returned unsummed, as in the official code: the residual stream after the block is their
    sum. Hook points: `hook_resid_pre` (what enters the block's norm), `hook_mixer_in` (after the norm)
    and `hook_mixer_out` are pass-through; `hook_resid_post` (mixer output + residual) is observation only,
    because the sum is the next block's business.

    Args:
        config: sizes.
        layer: the block's index, under which its mixer finds its state in a cache.
        backend: kernel backend of the mixer; "auto" picks by device.
    """

    def __init__(self, config: MambaConfig, *, layer: int, backend: str = "auto"):
        super().__init__()
        self.residual_in_fp32 = config.residual_in_fp32
        self.norm = RMSNorm(config.d_model, eps=config.norm_eps)
        self.mixer = MIXERS[config.ssm](config, layer=layer, backend=backend)
        self.hook_resid_pre, self.hook_mixer_in = HookPoint(), HookPoint()
        self.hook_mixer_out, self.hook_resid_post = HookPoint(), HookPoint()

    def forward(
        self,
        hidden: Float[Tensor, "B L D"],
        residual: Float[Tensor, "B L D"] | None = None,
        cache: MambaCache | None = None,
        lengths: Int[Tensor, " B"] | None = None,
    ) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B L D"]]:
        """The mixer's output and the residual it was computed from.

        Args:
            hidden: the output of the mixer before; the embedding at block 0.
            residual: the stream that it is still to be added to; None at block 0.
            cache: read at the start and updated; None for a plain pass.
            lengths: tokens of each right-padded sample; only the cached states depend on it.
        """
        residual = hidden if residual is None else hidden + residual
        if self.residual_in_fp32:
            residual = residual.float()
        residual = self.hook_resid_pre(residual)
        normed = self.hook_mixer_in(self.norm(residual))
        out = self.hook_mixer_out(self.mixer(normed, cache, lengths))
        self.hook_resid_post.observe(lambda: out + residual)
        return out, residual


class MambaBackbone(nn.Module):
    """Embedding, blocks and final norm.

    Hook points: `hook_embed` (what enters block 0) and `hook_norm_f` (the final state, after the norm),
    both pass-through.
    """

    def __init__(self, config: MambaConfig, *, backend: str = "auto"):
        super().__init__()
        self.embedding = nn.Embedding(config.padded_vocab_size, config.d_model)
        attention = ParallelBlock if config.parallel else GroupedBlock if config.grouped else AttentionBlock
        block = attention if config.ssm == "attention" else Block
        self.layers = nn.ModuleList(
            block(config, layer=layer, backend=backend) for layer in range(config.n_layer)
        )
        norm = nn.LayerNorm if config.parallel else RMSNorm
        self.norm_f = norm(config.d_model, eps=config.norm_eps)
        self.hook_embed, self.hook_norm_f = HookPoint(), HookPoint()
        self.gradient_checkpointing = False
        """Recompute each block in the backward pass instead of keeping its activations."""

    def forward(
        self,
        embeddings: Float[Tensor, "B L D"],
        *,
        cache: MambaCache | None = None,
        lengths: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B L D"]:
        """The final state of every token, after the norm.

        Args:
            embeddings: what enters block 0, image and text tokens alike.
            cache: start from its states and leave the new ones in it.
            lengths: tokens of each right-padded sample. A causal model needs no mask for right padding;
                the lengths only make the cached states those at each sample's own end.
        """
        batch, length, _ = embeddings.shape
        if cache is not None:
            whole = torch.full((batch,), length, device=embeddings.device)
            cache.advance(whole if lengths is None else lengths)
            if lengths is not None and bool((lengths == length).all()):
                lengths = None
        hidden, residual = self.hook_embed(embeddings), None
        recompute = self.gradient_checkpointing and torch.is_grad_enabled() and cache is None
        for block in self.layers:
            if recompute:
                hidden, residual = checkpoint(block, hidden, residual, use_reentrant=False)
            else:
                hidden, residual = block(hidden, residual, cache, lengths)
        return self.hook_norm_f(self.norm_f(hidden + residual))


class MambaLM(nn.Module):
    """A language model; a Mamba's head is its embedding.

    Args:
        config: sizes.
        backend: kernel backend for every mixer and the linear layers; "auto" picks by device.
    """

    def __init__(self, config: MambaConfig, *, backend: str = "auto"):
        super().__init__()
        self.config = config
        self.backbone = MambaBackbone(config, backend=backend)
        # Tied at once, so it needs no memory of its own.
        self.lm_head = LinearLayer(
            config.d_model,
            config.padded_vocab_size,
            bias=config.parallel,
            backend=backend,
            device="meta" if config.tied else None,
        )
        self.reset_parameters()
        if config.tied:
            self.lm_head.weight = self.backbone.embedding.weight
            self.register_load_state_dict_post_hook(_tie_after_loading)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Embedding N(0, 0.02²), out_proj scaled by 1/√n_layer (mamba_ssm); the mixers do the rest.

        An attention transformer: all N(0, 0.02²), what writes into the stream scaled by 1/√(2 n_layer) (GPT-2).
        """
        if self.backbone.embedding.weight.is_meta:
            return
        nn.init.normal_(self.backbone.embedding.weight, std=EMBEDDING_STD)
        for name, parameter in self.named_parameters():
            if name.endswith("mixer.out_proj.weight"):
                nn.init.kaiming_uniform_(parameter, a=math.sqrt(5))
                parameter.div_(math.sqrt(self.config.n_layer))
            if self.config.ssm == "attention" and name.endswith(_ATTENTION):
                writes = name.endswith(_WRITING)
                nn.init.normal_(
                    parameter, std=EMBEDDING_STD / (math.sqrt(2 * self.config.n_layer) if writes else 1)
                )

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether blocks are recomputed in the backward pass."""
        return self.backbone.gradient_checkpointing

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, value: bool) -> None:
        self.backbone.gradient_checkpointing = value

    def new_cache(self) -> MambaCache:
        """An empty cache for this model."""
        return MambaCache(self.config.n_layer)

    def embed(self, ids: Int[Tensor, "B L"]) -> Float[Tensor, "B L D"]:
        """Token embeddings."""
        return self.backbone.embedding(ids)

    def logits(self, hidden: Float[Tensor, "B L D"]) -> Float[Tensor, "B L V"]:
        """Scores over the padded vocabulary from final states."""
        return self.lm_head(hidden)

    def forward(
        self,
        ids: Int[Tensor, "B L"],
        *,
        cache: MambaCache | None = None,
        lengths: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B L V"]:
        """Scores of the next token at every position of a text; `cache` and `lengths` as for `MambaBackbone.forward`.

        Args:
            ids: of the text's tokens.
            cache: start from its states and leave the new ones in it.
            lengths: tokens of each right-padded sample.
        """
        return self.logits(self.backbone(self.embed(ids), cache=cache, lengths=lengths))


def _tie_after_loading(model: MambaLM, incompatible) -> None:
    """Tie head and embedding again: `load_state_dict(assign=True)` gives each its own tensor.

    Raises:
        CheckpointError: both were loaded and they differ.
    """
    head, table = model.lm_head, model.backbone.embedding
    if head.weight is table.weight:
        return
    lacking = {key.rsplit(".", 2)[-2] for key in incompatible.missing_keys if key.endswith(".weight")}
    if "embedding" in lacking:
        table.weight = head.weight
    elif "lm_head" not in lacking and not head.weight.is_meta and not torch.equal(head.weight, table.weight):
        raise CheckpointError(
            "lm_head.weight and backbone.embedding.weight differ in the checkpoint, but this model ties "
            "them. Use a checkpoint of a model with tied weights."
        )
    head.weight = table.weight
