"""The named places of an attention transformer.

Names are TransformerLens's. Our own blocks have hook points for them. A block that the transformers package builds has
none, so there a site is the output or the
input of one of its modules, found by what the block is made of: whatever family a model is of, its blocks have norms
before attention and MLP alone (Llama, Mistral, Qwen), behind them alone (OLMo 2), or both (Gemma 2 and 3, GLM-4). What
is behind is part of what is added. Where a block has other norms, or scales what it adds, its parts are not sites.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import nn

from emma_viz.errors import SiteError
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


def _of_hybrid(sites: Mapping[str, Site], mixer: str, inside: Sequence[str]) -> dict[str, Site]:
    """What all blocks have, and what the mixers have that stand in some. `z` is something else in a mixer than in
    attention: Recorder hooks either by module path (`llm.backbone.layers.0.mamba.hook_z`)."""
    every = {name: site for name, site in sites.items() if name != "z"}
    own = {name: replace(SITES[name], path=f"layers.{{i}}.{mixer}.hook_{name}") for name in inside}
    return every | own


HYBRID_SITES = _of_hybrid(PARALLEL_SITES, "mamba", ("x", "conv_pre", "conv", "delta", "B", "C", "scan", "y"))
"""Those of one in some of whose blocks a Mamba-2 takes the place of attention."""


GROUPED_SITES = _of_hybrid(ATTENTION_SITES, "attention", ("conv", "delta", "B", "C", "scan", "y"))
"""Those of a hybrid whose attention, or Mamba-2, and MLP follow one another."""


def sites_of(llm: MambaConfig) -> Mapping[str, Site]:
    """The sites that a language model has."""
    if llm.ssm != "attention":
        return SITES
    if llm.grouped:
        return GROUPED_SITES
    if llm.mamba_layers:
        return HYBRID_SITES
    return PARALLEL_SITES if llm.parallel else ATTENTION_SITES


PARTS = ("attn_out", "resid_mid", "mlp_out")
"""The sites of which it is said that they add up from one end of a block to the other."""

_Places = Mapping[str, tuple[str, SiteSide]]
_ENDS: _Places = {
    "resid_pre": ("", "input"),
    "z": ("self_attn.o_proj", "input"),
    "resid_post": ("", "output"),
}
_PRE_NORM: _Places = {
    "attn_out": ("self_attn", "output"),
    "resid_mid": ("post_attention_layernorm", "input"),
    "mlp_out": ("mlp", "output"),
}
_SANDWICH: _Places = {
    "attn_out": ("post_attention_layernorm", "output"),
    "resid_mid": ("pre_feedforward_layernorm", "input"),
    "mlp_out": ("post_feedforward_layernorm", "output"),
}
_LAYOUTS: Mapping[frozenset[str], _Places] = {
    frozenset({"input_layernorm", "post_attention_layernorm"}): _PRE_NORM,
    frozenset({"input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm",
               "post_feedforward_layernorm"}): _SANDWICH,
    frozenset({"input_layernorm", "post_self_attn_layernorm", "post_attention_layernorm", "post_mlp_layernorm"}): {
        "attn_out": ("post_self_attn_layernorm", "output"),
        "resid_mid": ("post_attention_layernorm", "input"),
        "mlp_out": ("post_mlp_layernorm", "output"),
    },
    frozenset({"post_attention_layernorm", "post_feedforward_layernorm"}): {
        **_SANDWICH, "resid_mid": ("mlp", "input"),
    },
}  # fmt: skip
"""By the names of all that a block has beside attention and MLP: where its parts are."""
_SCALES = ("residual_multiplier",)
"""Numbers of a block by which it multiplies what it adds; 1 changes nothing."""
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
    beside: tuple[str, ...]
    """What a block has beside attention and MLP."""

    def place(self, site: str, layer: int) -> tuple[str, SiteSide]:
        """Module path and side of a site at one layer; the last norm stands beside the blocks.

        Raises:
            SiteError: its blocks are of a kind whose parts are not known.
        """
        if site == "norm_f":
            return f"{self.path.rpartition('.')[0]}.norm".lstrip("."), "output"
        if site not in self.places:
            raise SiteError(
                f"{site!r} is not known of this model: its blocks do not add what their modules give as others do "
                f"(they have {', '.join(self.beside) or 'no norms'}). Its sites: {', '.join(self.places)}, norm_f; or "
                "name modules with Recorder."
            )
        path, side = self.places[site]
        return f"{self.path}.{layer}.{path}".rstrip("."), side


def attention_blocks(module: nn.Module) -> AttentionBlocks | None:
    """Find the blocks of a model of the transformers package; None where it has none of a known kind."""
    for path, blocks in module.named_modules():
        if not (isinstance(blocks, nn.ModuleList) and len(blocks) and _BLOCKS.fullmatch(path)):
            continue
        if not all("self_attn.o_proj" in {name for name, _ in block.named_modules()} for block in blocks):
            continue
        kinds = {_beside(block) for block in blocks}
        parts = _LAYOUTS.get(frozenset(max(kinds)), {}) if len(kinds) == 1 else {}
        return AttentionBlocks(
            path=path,
            n_layer=len(blocks),
            places={**_ENDS, **parts},
            beside=tuple(sorted(set().union(*kinds))),
        )
    return None


def _beside(block: nn.Module) -> tuple[str, ...]:
    """What a block has beside attention and MLP that changes a state: modules with weights, norms, scales."""
    found = [
        name
        for name, each in block.named_children()
        if name not in ("self_attn", "mlp") and ("norm" in name or any(True for _ in each.parameters()))
    ]
    found += [name for name in _SCALES if getattr(block, name, 1) != 1]
    return tuple(sorted(found))
