"""The named places in a language model that can be hooked, and how names become modules.

Three ways to name a place:

    resid_post                         a site, at every layer asked for
    blocks.3.hook_resid_post           a site at one layer (`blocks.*.hook_resid_post`: at every layer asked
    for) llm.backbone.layers.*.mixer.conv1d a module path of any `nn.Module`; `*` stands for one part of a
    path

Everything is resolved before the first hook is added, so a wrong name leaves the model untouched.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Literal

from torch import nn

from emma_viz.errors import SiteError
from emma_viz.models.attention_sites import (
    ALL_SITES,
    ATTENTION_SITES,
    GROUPED_SITES,
    HYBRID_SITES,
    SiteSide,
    attention_blocks,
    sites_of,
)
from emma_viz.models.config import MambaConfig
from emma_viz.models.sites import SITES, Site
from emma_viz.shapes import EMBEDDING

Layers = Literal["all"] | Sequence[int | str]
"""Layers as they may be asked for: every block, or numbers and the words first, last and all."""


_ROOTS = ("llm.backbone.", "backbone.", "")
_CALLED = {"ln_final.hook_normalized": "norm_f"}
"""What TransformerLens calls sites whose names here are not its own. There the weight of the last norm is folded into
what follows, or comes behind the hook; here it is in the state."""
_LONG = re.compile(r"blocks\.(?P<layer>\*|-?\d+)\.(?:mixer\.|attn\.)?hook_(?P<site>\w+)")


@dataclass(frozen=True, kw_only=True)
class Target:
    """One module that will be hooked.

    Attributes:
        name: its long form (`blocks.3.hook_resid_post`), or the module path where it is no named site.
        path: the module path in the model that was searched.
        site: name of the site, empty for a raw module path.
        layer: block index (-1 for the embedding), or None for a raw module path.
        side: which of the module's tensors is meant.
    """

    name: str
    path: str
    site: str = ""
    layer: int | None = None
    side: SiteSide = "output"


def resolve_sites(module: nn.Module, names: Iterable[str], layers: Layers = "all") -> tuple[Target, ...]:
    """Find the modules that `names` mean, in the order asked for, each once.

    Args:
        module: a VLM, a Mamba language model, or (for module paths) anything else.
        names: sites, long forms, or module paths with `*`.
        layers: block indices for the names that leave the layer open, or the words first, last and all; -1 is the
            embedding; "all" is every block.

    Raises:
        SiteError: a name or layer does not exist; the message names the nearest that do.
    """
    modules, names = _Modules(module), tuple(names)
    targets: dict[tuple[str, str], Target] = {}
    for name in names:
        for target in modules.find(name, layers):
            targets.setdefault((target.name, target.path), target)
    if not targets:
        raise SiteError("No hook site was asked for. Name at least one, e.g. 'resid_post'.")
    if all(target.site for target in targets.values()) and not any("." in name for name in names):
        sites = dict.fromkeys(target.site for target in targets.values())
        _require_mixers(sites, layers, modules.n_layer, modules.mixer_layers)
    return tuple(targets.values())


def split_site(name: str, sites: Mapping[str, Site] = SITES) -> tuple[str, int | None]:
    """Read a site name or long form: `("resid_post", None)`, or with the layer it fixes.

    Args:
        name: what a user typed.
        sites: those of the kind of model: of a Mamba, or `ATTENTION_SITES`; or of all.

    Raises:
        SiteError: it is neither; the message names the nearest site.
    """
    name = _CALLED.get(name, name)
    short, layer = name.removeprefix("hook_"), None
    if match := _LONG.fullmatch(name):
        short = match["site"]
        layer = None if match["layer"] == "*" else int(match["layer"])
    if short not in sites and short in ALL_SITES:
        raise SiteError(f"{short!r} is {_foreign(short, sites)}. Its sites: {', '.join(sites)}.")
    if short not in sites or (match and not sites[short].layered):
        raise SiteError(
            f"{name!r} is no hook site. {nearest(short, sites)} Sites: {', '.join(sites)}. "
            "(Module paths such as 'llm.backbone.layers.*.mixer' work with Recorder.)"
        )
    return short, layer


def _foreign(site: str, sites: Mapping[str, Site]) -> str:
    """Whose a site is that a model lacks."""
    if sites is SITES:
        return "a site of an attention transformer; a Mamba has none"
    hybrid = any(each.in_mixer for each in sites.values())
    if hybrid and site in ATTENTION_SITES and site in SITES:
        return "a site of a Mamba's mixer and another one of attention: of a hybrid name the module with Recorder"
    if hybrid and site in SITES:
        same = "; attn_out is what its mixers add, too" if site == "mixer_out" else ""
        return f"a site of a Mamba; this hybrid of attention and state-space mixers has none{same}"
    if site in ATTENTION_SITES:
        return "a site of another form of attention transformer; this one has none"
    return "a site of a Mamba; an attention transformer has none"


def numbered_layers(layers: Layers, n_layer: int, *, every: Sequence[int] | None = None) -> tuple[int, ...]:
    """Layers as numbers: "first" is block 0, "last" the block n_layer - 1, "all" every block.

    Args:
        layers: what was asked for; "all" may stand among others, and all are in ascending order then, each once.
        n_layer: blocks of the model.
        every: what "all" is, where it is not every block.

    Raises:
        SiteError: a word is none of these.
    """
    words = {
        "first": (0,),
        "last": (n_layer - 1,),
        "all": tuple(range(n_layer) if every is None else every),
    }
    asked = [layers] if isinstance(layers, str) else layers
    named = [each for each in asked if isinstance(each, str)]
    if unknown := [each for each in named if each not in words]:
        raise SiteError(
            f"expected layers as numbers, 'first', 'last' or 'all', got {unknown[0]!r}; this model has layers 0 to "
            f"{n_layer - 1}."
        )
    found = [layer for each in asked for layer in (words[each] if isinstance(each, str) else (each,))]
    return tuple(sorted(set(found)) if "all" in named else found)


def site_layers(site: str, layers: Layers, n_layer: int, mixer_layers: Sequence[int] = ()) -> tuple[int, ...]:
    """The layers at which a model of `n_layer` blocks has `site`, out of those asked for.

    -1 (the embedding) exists for `resid_post` alone and is left out elsewhere, as are blocks of a hybrid without a
    mixer at the sites inside mixers; `norm_f` exists once, as layer n_layer - 1.

    Args:
        site: its name.
        layers: those asked for.
        n_layer: blocks of the model.
        mixer_layers: those of a hybrid that have a state-space mixer; none or all where blocks are of one kind.

    Raises:
        SiteError: a layer is outside -1 … n_layer - 1, or given twice, or none is left.
    """
    if not ALL_SITES[site].layered:
        return (n_layer - 1,)
    chosen = numbered_layers(layers, n_layer)
    for layer in chosen:
        if isinstance(layer, bool) or not isinstance(layer, Integral) or not EMBEDDING <= layer < n_layer:
            raise SiteError(
                f"Layer {layer!r} does not exist: this model has layers 0 to {n_layer - 1}, and -1 for the "
                f"embedding that enters block 0."
            )
    if len(set(chosen)) != len(chosen):
        raise SiteError(f"Each layer can be asked for once; got {list(chosen)}.")
    kept = tuple(int(layer) for layer in chosen if layer != EMBEDDING or site == "resid_post")
    if not kept:
        why = f"layer -1 exists for 'resid_post' alone, not for {site!r}" if chosen else "no layer was given"
        raise SiteError(f"Nothing to record at {site!r}: {why}.")
    if not (ALL_SITES[site].in_mixer and mixer_layers):
        return kept
    mixers = tuple(layer for layer in kept if layer in mixer_layers)
    if not mixers:
        raise SiteError(f"Nothing to record at {site!r}: {_without_mixer(kept, mixer_layers)}")
    return mixers


def _without_mixer(layers: Sequence[int], mixer_layers: Sequence[int]) -> str:
    asked, known = (", ".join(map(str, each)) for each in (layers, mixer_layers))
    several = "s" * (len(layers) > 1)
    return (
        f"layer{several} {asked} of this hybrid ha{'ve' if several else 's'} attention and no state-space mixer; "
        f"layers that have one: {known}."
    )


def _require_mixers(names: Iterable[str], layers: Layers, n_layer: int, mixer_layers: Sequence[int]) -> None:
    """Refuse layers at which none of some sites exists, where they were named one by one.

    Raises:
        SiteError: all sites are inside mixers, and a named block of a hybrid has none.
    """
    if "all" in ([layers] if isinstance(layers, str) else layers) or not mixer_layers:
        return
    asked = numbered_layers(layers, n_layer)
    lacking = [each for each in asked if each != EMBEDDING and each not in mixer_layers]
    if lacking and all(ALL_SITES[name].in_mixer for name in names):
        raise SiteError(f"Nothing to record at {', '.join(names)}: {_without_mixer(lacking, mixer_layers)}")


def choose(
    names: str | Iterable[str],
    layers: Layers,
    n_layer: int,
    sites: Mapping[str, Site] = SITES,
    mixer_layers: Sequence[int] = (),
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The sites and the layers of one recording, in which every site has the same layers, as far as it exists there.

    Args:
        names: sites or long forms; a long form such as `blocks.3.hook_resid_post` fixes the layer.
        layers: block indices, or "all", for the names that leave the layer open.
        n_layer: blocks of the model.
        sites: those of the kind of model.
        mixer_layers: as in `site_layers`.

    Raises:
        SiteError: a site or layer does not exist, or the names fix different layers.
    """
    fixed: dict[str, list[int]] = {}
    for name in [names] if isinstance(names, str) else names:
        site, layer = split_site(name, sites)
        fixed.setdefault(site, []).extend([] if layer is None else [layer])
    if not fixed:
        raise SiteError("No hook site was asked for. Name at least one, e.g. 'resid_post'.")
    layered = {site: tuple(kept) for site, kept in fixed.items() if sites[site].layered}
    if len(set(layered.values())) > 1:
        raise SiteError(
            f"One recording keeps the same layers at every site; {list(layered)} were given different ones. "
            "Name the sites and give layers=[…], or record once for each."
        )
    own = next(iter(layered.values()), (n_layer - 1,))
    chosen = own or numbered_layers(layers, n_layer)
    kept = {layer for site in fixed for layer in site_layers(site, chosen, n_layer, mixer_layers)}
    _require_mixers(fixed, own or layers, n_layer, mixer_layers)
    return tuple(fixed), tuple(int(layer) for layer in chosen if layer in kept)


def site_width(site: str, llm: MambaConfig) -> int:
    """The numbers that a token has at a site, by the letters of its `shape`."""
    second = llm.ssm == "mamba2"
    groups = llm.ngroups * llm.d_state if second else llm.d_state
    if ALL_SITES[site].shape == "B L D" or not sites_of(llm)[site].in_mixer:
        return llm.d_model
    if llm.grouped:  # values and B are shared by heads, as they were in attention
        shared = llm.kv_heads * (llm.d_model // llm.q_heads)
        return {"conv": shared, "B": shared, "delta": llm.q_heads}.get(site, llm.d_model)
    if llm.ssm == "attention":
        return site_width(site, llm.mixer)
    if site in ("B", "C"):
        return groups
    if site == "delta":
        return llm.n_heads if second else llm.d_inner
    return llm.d_inner + (2 * groups if second and site in ("x", "conv_pre") else 0)


def nearest(name: str, known: Iterable[str]) -> str:
    """Say "Did you mean …?" with the known names most like `name`."""
    found = difflib.get_close_matches(name, list(known), n=3, cutoff=0.0)
    return (
        f"Did you mean {' or '.join(repr(each) for each in found)}?"
        if found
        else "There is none to choose from."
    )


class _Modules:
    """The module paths of one model, searched by name."""

    def __init__(self, module: nn.Module):
        # Tied modules keep all their paths: a name that exists must not be refused for being an alias.
        self.paths = [path for path, _ in module.named_modules(remove_duplicate=False)]
        known = set(self.paths)
        self.root = next((root for root in _ROOTS if f"{root}layers.0.hook_resid_post" in known), None)
        pattern = re.compile(rf"{re.escape(self.root or '')}layers\.\d+")
        self.n_layer = sum(pattern.fullmatch(path) is not None for path in self.paths)
        self.attention = attention_blocks(module) if self.root is None else None
        attends = f"{self.root}layers.0.hook_attn_out" in known
        self.sites, self.mixer_layers = SITES, tuple(range(self.n_layer))
        if attends:  # where forms differ, those that all blocks have, or all that have a mixer
            self.sites, self.mixer_layers = self._of_transformer(known)

    def _of_transformer(self, known: set[str]) -> tuple[Mapping[str, Site], tuple[int, ...]]:
        """Sites, and the blocks with a mixer."""

        def layers(site: Site) -> tuple[int, ...]:
            paths = [f"{self.root}{site.path.format(i=layer)}" for layer in range(self.n_layer)]
            return tuple(layer for layer, path in enumerate(paths) if path in known)

        sites = {name: site for name, site in ATTENTION_SITES.items() if len(layers(site)) == self.n_layer}
        for form in (HYBRID_SITES, GROUPED_SITES):
            if mixers := layers(form["delta"]):
                return sites | {name: site for name, site in form.items() if site.in_mixer}, mixers
        return sites, ()

    def find(self, name: str, layers: Layers) -> list[Target]:
        if name not in self.paths:  # a model of TransformerLens's has modules of these names
            name = _CALLED.get(name, name)
        if name.removeprefix("hook_") in ALL_SITES or name.startswith("blocks."):
            return self._site(name, layers)
        part = re.compile("[^.]+".join(re.escape(text) for text in name.split("*")))
        found = [Target(name=path, path=path) for path in self.paths if part.fullmatch(path)]
        if not found:
            # Block numbers only repeat the same names: fold them before comparing.
            known = dict.fromkeys(re.sub(r"\.\d+(?=\.|$)", ".*", path) for path in self.paths if path)
            sites = tuple(self.sites) if self.root is not None else ()
            raise SiteError(f"No module matches {name!r}. {nearest(name, (*sites, *known))}")
        return found

    def _site(self, name: str, layers: Layers) -> list[Target]:
        if self.attention is not None:
            return self._attention_site(name, layers)
        short, fixed = split_site(name, self.sites)
        if self.root is None:
            raise SiteError(
                f"{name!r} is a site of emma_viz's Mamba models and of transformers' attention models, and this "
                "module is neither. Give module paths instead, e.g. 'backbone.layers.*.mixer'."
            )
        site = self.sites[short]
        chosen = site_layers(short, layers if fixed is None else (fixed,), self.n_layer, self.mixer_layers)
        return [self._target(site, layer) for layer in chosen]

    def _attention_site(self, name: str, layers: Layers) -> list[Target]:
        blocks = self.attention
        assert blocks is not None
        short, fixed = split_site(name, ATTENTION_SITES)
        targets = []
        for layer in site_layers(short, layers if fixed is None else (fixed,), blocks.n_layer):
            path, side = blocks.place("resid_pre" if layer == EMBEDDING else short, max(layer, 0))
            long = ATTENTION_SITES[short].hook_name(layer)
            targets.append(Target(name=long, path=path, site=short, layer=layer, side=side))
        return targets

    def _target(self, site: Site, layer: int) -> Target:
        path = self.sites["resid_pre"].path.format(i=0) if layer == EMBEDDING else site.path.format(i=layer)
        return Target(name=site.hook_name(layer), path=f"{self.root}{path}", site=site.name, layer=layer)
