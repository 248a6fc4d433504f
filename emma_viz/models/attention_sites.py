"""The named places of an attention transformer.

Names are TransformerLens's. Our own blocks have hook points for them. A block that the transformers package builds has
none, so there a site is the output or the
input of one of its modules, found by what the block is made of: whatever family a model is of, its blocks have norms
before attention and MLP alone (Llama, Mistral, Qwen), or behind them as well (Gemma 2 and 3).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import nn

from emma_viz.models.config import MambaConfig
from emma_viz.models.sites import SITES, Site

SiteSide = Literal["output", "input"]
"""Which of a module's tensors a site is."""


def _site(name: str, shape: str, meaning: str, *, layered: bool = True) -> Site:
    place = "self_attn.hook_z" if name == "z" else f"hook_{name}"
    return Site(name=name, path=f"layers.{{i}}.{place}" if layered else place, shape=shape, meaning=meaning)


ATTENTION_SITES = {
    "resid_pre": _site("resid_pre", "B L D", "the residual stream that enters the block"),
    "z": _site("z", "B L H·P", "the heads' outputs, side by side, before the output projection"),
    "attn_out": _site("attn_out", "B L D", "what attention adds to the residual stream"),
    "resid_mid": _site(
        "resid_mid", "B L D", "the residual stream between attention and MLP: resid_pre + attn_out"
    ),
    "mlp_out": _site("mlp_out", "B L D", "what the MLP adds to the residual stream"),
    "resid_post": _site("resid_post", "B L D", "the residual stream after the block: resid_mid + mlp_out"),
    "norm_f": _site(
        "norm_f",
        "B L D",
        "the final hidden state, after the last norm; kept under the last block's index",
        layered=False,
    ),
}
"""The sites of an attention transformer, by name; paths are those of our own blocks."""

ALL_SITES = {**ATTENTION_SITES, **SITES}
"""The sites of every kind of model."""


PARALLEL_SITES = {name: site for name, site in ATTENTION_SITES.items() if name != "resid_mid"}
"""Those of a transformer whose attention and MLP stand side by side: no stream is between them."""


def sites_of(llm: MambaConfig) -> Mapping[str, Site]:
    """The sites that a language model has."""
    if llm.ssm != "attention":
        return SITES
    return PARALLEL_SITES if llm.parallel else ATTENTION_SITES


_Places = Mapping[str, tuple[str, SiteSide]]
_PRE_NORM: _Places = {
    "resid_pre": ("", "input"),
    "z": ("self_attn.o_proj", "input"),
    "attn_out": ("self_attn", "output"),
    "resid_mid": ("post_attention_layernorm", "input"),
    "mlp_out": ("mlp", "output"),
    "resid_post": ("", "output"),
}
_SANDWICH: _Places = {
    **_PRE_NORM,
    "attn_out": ("post_attention_layernorm", "output"),
    "resid_mid": ("pre_feedforward_layernorm", "input"),
    "mlp_out": ("post_feedforward_layernorm", "output"),
}
_BLOCKS = re.compile(r"(?:.*\.)?(?:language_model|text_model)\.layers|(?:model\.)?layers")
"""Where the blocks of a language model are; those of an image encoder are elsewhere."""


@dataclass(frozen=True, kw_only=True)
class AttentionBlocks:
    """The blocks of one model."""

    path: str
    """Module path of their list."""
    n_layer: int
    """How many there are."""
    places: _Places
    """Per site, the module below a block and its side."""

    def place(self, site: str, layer: int) -> tuple[str, SiteSide]:
        """Module path and side of a site at one layer; the last norm stands beside the blocks."""
        if site == "norm_f":
            return f"{self.path.rpartition('.')[0]}.norm".lstrip("."), "output"
        path, side = self.places[site]
        return f"{self.path}.{layer}.{path}".rstrip("."), side


def attention_blocks(module: nn.Module) -> AttentionBlocks | None:
    """Find the blocks of a model of the transformers package; None where it has none of a known kind."""
    for path, blocks in module.named_modules():
        if not (isinstance(blocks, nn.ModuleList) and len(blocks) and _BLOCKS.fullmatch(path)):
            continue
        below = {name for name, _ in blocks[0].named_modules()}
        for places in (_SANDWICH, _PRE_NORM):
            if {name for name, _ in places.values()} <= below:
                return AttentionBlocks(path=path, n_layer=len(blocks), places=places)
    return None
