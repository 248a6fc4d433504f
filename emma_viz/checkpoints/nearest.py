"""What a model that is not loaded is nearest to, and what is missing: by the fields of its `config.json`, by what the
keys of its weights begin with, and by the letters of its name where nothing else tells."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emma_viz.checkpoints.unsupported import unsupported
from emma_viz.models.families.layout import Layout
from emma_viz.models.families.official import OfficialFamily
from emma_viz.models.families.table import OUR_FAMILIES, family_named, family_names
from emma_viz.models.peers.table import peer_named, peer_names, peer_of, peers

_ALIKE, _BEGIN = 0.7, 5
"""Share of letters that two names must have in common, in order, and how many must be the same where they begin, for
one to hint at the other: llama is not llava."""
_ONE_FILE = "a family of its own is one file (docs/extending/add-a-model.md)"
_OTHERWISE = (
    "Without it, build the model with transformers' AutoModelForImageTextToText and hook it with Recorder "
    "(docs/hooks.md)"
)


@dataclass(frozen=True, kw_only=True)
class _Sign:
    """A form that is known by some of its fields or keys."""

    has: tuple[str, ...]
    """All of these fields must be there, or of each of these beginnings a key."""
    said: str
    """What it is, what it is nearest to and what is missing, as sentences."""
    lacks: tuple[str, ...] = ()
    """None of these may be there."""

    def fits(self, found: Iterable[str]) -> bool:
        """Whether keys have such beginnings."""
        names = tuple(found)
        there = all(any(name.startswith(begin) for name in names) for begin in self.has)
        return there and not any(name.startswith(self.lacks) for name in names if self.lacks)


_LLAVA = (
    "It is in LLaVA's original layout (mm_vision_tower), of which mobilevlm-v2 (mm_projector_type ldpnet…) and "
    "emma-text-fusion (encoder_version) are loaded. The nearest family is {family}, which takes the same weights in "
    "transformers' layout, {published}; what is missing here is that form of config.json (vision_config, text_config)."
)
_HYBRID = (
    "It is a hybrid language model of attention and state-space mixers. The nearest families are matvlm and mmmamba, "
    "hybrids too, in layouts of their own; what is missing is the form of these blocks and their keys: "
    + _ONE_FILE
    + "."
)
_WITH_IMAGES = (
    _Sign(
        has=("mm_vision_tower", "image_grid_pinpoints"),
        said=_LLAVA.format(
            family="llava-anyres",
            published="such as llava-hf/llava-v1.6-vicuna-7b-hf or llava-hf/llava-onevision-qwen2-7b-ov-hf",
        ),
    ),
    _Sign(
        has=("mm_vision_tower",),
        said=_LLAVA.format(family="llava-hf", published="such as llava-hf/llava-1.5-7b-hf"),
    ),
    _Sign(
        has=("vision_config", "llm_config", "downsample_ratio"),
        said="It is in InternVL's original layout (llm_config). The nearest family is internvl, which takes the same "
        "weights in transformers' layout, such as OpenGVLab/InternVL3-1B-hf; what is missing here is that form of "
        "config.json (text_config).",
    ),
)
"""Vision-language models by their fields, those of parts among them; the first that fits counts."""
_ALONE = (
    _Sign(
        has=("hybrid_override_pattern",),
        said="It is a Nemotron-H, a hybrid language model whose blocks are a Mamba-2, attention, an MLP or experts "
        "alone. The nearest families are matvlm and mmmamba, hybrids too, whose blocks have a mixer and an MLP; what "
        "is missing is the form of these blocks and their keys: " + _ONE_FILE + ".",
    ),
    *(
        _Sign(has=(field,), said=_HYBRID)
        for field in (
            "hybrid_layer_ids",
            "attn_layer_period",
            "attn_layer_indices",
            "mamba_d_state",
            "mamba_d_ssm",
        )
    ),
    _Sign(
        has=("state_size", "conv_kernel"),
        said="It is a Mamba in transformers' form of another class. The nearest are the language models of model_type "
        "mamba and mamba2; what is missing is what its blocks do otherwise (Falcon Mamba's norm Δ, B and C).",
    ),
)
"""Language models by their own fields."""
_ATTENTION = ("num_attention_heads", "n_head", "num_heads", "encoder_attention_heads")
_PEER_FIELDS = {
    "image_grid_pinpoints": "llava-anyres",
    "mm_tokens_per_image": "gemma3",
    "downsample_ratio": "internvl",
    "scale_factor": "idefics3",
    "vision_start_token_id": "qwen-vl",
    "vision_feature_layer": "llava-hf",
}
"""What `config.json` of one family of transformers' has and of others has not."""

_KEYS = (
    *(
        _Sign(
            has=(f"{root}multi_modal_projector.",),
            said="They are of transformers' layout of LLaVA or of its kin (llava-hf, llava-anyres, internvl, "
            "paligemma, gemma3): what is missing is their config.json, which says which.",
        )
        for root in ("", "model.")
    ),
    *(
        _Sign(
            has=(f"{root}visual.",),
            said="They are of Qwen-VL's layout (the family qwen-vl): what is missing is their config.json.",
        )
        for root in ("", "model.")
    ),
    _Sign(
        has=("vision_model.", "mlp1."),
        said="They are of InternVL's original layout. The nearest family is internvl, which takes the same weights in "
        "transformers' layout, such as OpenGVLab/InternVL3-1B-hf.",
    ),
    _Sign(
        has=("llm_backbone.llm.model.",),
        said="They are of the layout of Prismatic, Cobra's parent, with an attention language model of transformers'. "
        "The nearest family is cobra; what is missing is that language model: " + _ONE_FILE + ".",
    ),
    _Sign(
        has=("model.vision_tower.", "model.mm_projector."),
        lacks=("model.vision_tower.image_text_infusion.", "model.mm_projector.mlp."),
        said="They are of LLaVA's original layout. The nearest family is llava-hf, which takes the same weights in "
        "transformers' layout, such as llava-hf/llava-1.5-7b-hf; mobilevlm-v2 and emma-text-fusion have this layout, "
        "and are told by their config.json, which is missing.",
    ),
    _Sign(
        has=("model.layers.", "model.embed_tokens."),
        lacks=("model.mm_projector.",),
        said="They are a language model of attention alone: no family is near. Build it with transformers' AutoModel "
        "and hook it with Recorder (docs/hooks.md).",
    ),
)
"""By what keys begin with; the first that fits counts."""


def nearest_of_config(values: Mapping[str, Any]) -> str:
    """What a `config.json` that no family takes is nearest to and what it lacks, as sentences.

    Args:
        values: its content.
    """
    if (known := unsupported(values)) is not None:
        return f"It {known.said}"
    fields = {*values, *(name for each in values.values() if isinstance(each, Mapping) for name in each)}
    kind = str(values.get("model_type") or "")[:60]
    if "mm_vision_tower" not in values and (family := peer_of(kind)) is not None:
        return f"It is a vision-language model of the family {family}: load it with load_model."
    for sign in _WITH_IMAGES:
        if fields.issuperset(sign.has):
            return sign.said
    if "vision_config" in fields:
        return _nearest_peer(kind, fields)
    for sign in _ALONE:
        if values.keys() >= {*sign.has}:
            return sign.said
    if fields & {*_ATTENTION}:
        return (
            "It is a language model of attention, or an encoder, alone: no family is near. A language model alone is a "
            "Mamba here; build this one with transformers' AutoModel and hook it with Recorder (docs/hooks.md)."
        )
    return _by_letters(kind)


def _nearest_peer(kind: str, fields: set[str]) -> str:
    """A vision-language model in the form of transformers, of none of its families here."""
    types = [each for _, peer in peers() for each in peer.model_types]
    near = next((family for field, family in _PEER_FIELDS.items() if field in fields), None)
    alike = _alike(kind, types)
    if near:
        field = next(field for field in _PEER_FIELDS if field in fields)
        said = (
            f"by its {field} the nearest is {near} (model_type {' or '.join(peer_named(near).model_types)})"
        )
    elif alike:
        said = f"by its name alone it is nearest to {alike[0]}, of the family {peer_of(alike[0])}"
    else:
        said = f"none of {', '.join(peer_names())} is near"
    lacks = "its model_type, which tells the family, and " if not kind else ""
    return (
        f"It is a vision-language model in the form of transformers ({kind or 'of an unnamed type'}), of no family "
        f"here; {said}. What is missing is {lacks}where its image's tokens lie, over the image and in the "
        f"sequence, which is one file (docs/extending/add-a-model.md). {_OTHERWISE}."
    )


def _alike(kind: str, names: Iterable[str]) -> list[str]:
    """The name that is most alike, where one is alike enough."""
    near = [name for name in names if kind and name[:_BEGIN] == kind[:_BEGIN]]
    return difflib.get_close_matches(kind, near, n=1, cutoff=_ALIKE)


def _by_letters(kind: str) -> str:
    """The last hint: the name of its type."""
    alike = _alike(kind, family_names())
    if not alike:
        what = (
            f"neither its fields nor the name {kind!r}"
            if kind
            else "none of its fields (it has no model_type)"
        )
        return f"No family is near: {what} is a sign of {', '.join((*family_names(), *peer_names()))}; {_ONE_FILE}."
    family = family_named(alike[0])
    if isinstance(family, OfficialFamily):
        told = "have an object `model` with model_id, arch_specifier, vision_backbone_id and llm_backbone_id"
    else:
        told = f"are told by another config.json, and whose weights begin with {', '.join(family.layout.signature)}"
    return (
        f"By its name alone, {kind!r}, it is nearest to {alike[0]} ({family.title}), whose files {told}; "
        f"{_ONE_FILE}."
    )


def nearest_of_keys(keys: Iterable[str], layouts: Sequence[Layout]) -> str:
    """What weights are of, by what their keys begin with, and what is missing, as sentences.

    Args:
        keys: all of a file.
        layouts: that are known.
    """
    keys = tuple(keys)
    for sign in _KEYS:
        if sign.fits(keys):
            return sign.said
    fitting = [layout for layout in layouts if any(key.startswith(layout.signature) for key in keys)]
    if fitting:
        layout = max(fitting, key=lambda each: _fit(each, keys))
        if layout.components == ("llm",):
            return (
                f"They are a language model in the layout {layout.name}: what is missing is its config.json."
            )
        families = [name for name, family in OUR_FAMILIES.items() if family.layout == layout]
        return (
            f"They are of the layout {layout.name} (the families {', '.join(families)}): what is missing is the "
            "config.json, which says which."
        )
    begins = sorted({".".join(key.split(".")[:2]) for key in keys})[:8]
    known = "; ".join(f"{layout.name}: {', '.join(f'{s}*' for s in layout.signature)}" for layout in layouts)
    return (
        f"No family is near: the keys begin with {', '.join(begins) or 'nothing'}. Known: {known}. A family with keys "
        "of its own is one file (docs/extending/add-a-model.md)."
    )


def _fit(layout: Layout, keys: Sequence[str]) -> tuple[int, int]:
    """How many keys a layout has a place for, and how much of one its signature is."""
    signs = [sign for sign in layout.signature if any(key.startswith(sign) for key in keys)]
    return sum(layout.model_key(key) is not None for key in keys), max(map(len, signs))
