"""The named places in a Mamba language model that can be hooked, and how names become modules.

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
from emma_viz.models.attention_sites import ALL_SITES, ATTENTION_SITES, SiteSide, attention_blocks
from emma_viz.models.config import MambaConfig
from emma_viz.models.sites import SITES, Site
from emma_viz.shapes import EMBEDDING

Layers = Literal["all"] | Sequence[int | str]
"""Layers as they may be asked for: every block, or numbers and the words first, last and all."""


_ROOTS = ("llm.backbone.", "backbone.", "")
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
    modules = _Modules(module)
    targets: dict[tuple[str, str], Target] = {}
    for name in names:
        for target in modules.find(name, layers):
            targets.setdefault((target.name, target.path), target)
    if not targets:
        raise SiteError("No hook site was asked for. Name at least one, e.g. 'resid_post'.")
    return tuple(targets.values())


def split_site(name: str, sites: Mapping[str, Site] = SITES) -> tuple[str, int | None]:
    """Read a site name or long form: `("resid_post", None)`, or with the layer it fixes.

    Args:
        name: what a user typed.
        sites: those of the kind of model: of a Mamba, or `ATTENTION_SITES`; or of all.

    Raises:
        SiteError: it is neither; the message names the nearest site.
    """
    short, layer = name.removeprefix("hook_"), None
    if match := _LONG.fullmatch(name):
        short = match["site"]
        layer = None if match["layer"] == "*" else int(match["layer"])
    if short not in sites and short in ALL_SITES:
        theirs, ours = "a Mamba", "an attention transformer"
        if sites is SITES:
            theirs, ours = ours, theirs
        elif short in ATTENTION_SITES:
            theirs, ours = "another form of attention transformer", "this one"
        raise SiteError(f"{short!r} is a site of {theirs}; {ours} has none. Its sites: {', '.join(sites)}.")
    if short not in sites or (match and not sites[short].layered):
        raise SiteError(
            f"{name!r} is no hook site. {nearest(short, sites)} Sites: {', '.join(sites)}. "
            "(Module paths such as 'llm.backbone.layers.*.mixer' work with Recorder.)"
        )
    return short, layer


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


def site_layers(site: str, layers: Layers, n_layer: int) -> tuple[int, ...]:
    """The layers at which a model of `n_layer` blocks has `site`, out of those asked for.

    -1 (the embedding) exists for `resid_post` alone and is left out elsewhere; `norm_f` exists once, as layer
    n_layer - 1.

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
    return kept


def choose(
    names: str | Iterable[str], layers: Layers, n_layer: int, sites: Mapping[str, Site] = SITES
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The sites and the layers of one recording, in which every site has the same layers.

    Args:
        names: sites or long forms; a long form such as `blocks.3.hook_resid_post` fixes the layer.
        layers: block indices, or "all", for the names that leave the layer open.
        n_layer: blocks of the model.
        sites: those of the kind of model.

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
    kept = {layer for site in fixed for layer in site_layers(site, chosen, n_layer)}
    return tuple(fixed), tuple(int(layer) for layer in chosen if layer in kept)


def site_width(site: str, llm: MambaConfig) -> int:
    """The numbers that a token has at a site, by the letters of its `shape`."""
    second = llm.ssm == "mamba2"
    groups = llm.ngroups * llm.d_state if second else llm.d_state
    if ALL_SITES[site].shape == "B L D" or llm.ssm == "attention":
        return llm.d_model
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
        self.sites = SITES
        if attends:  # where forms differ, those that all blocks have
            self.sites = {
                name: site for name, site in ATTENTION_SITES.items() if self._everywhere(site, known)
            }

    def _everywhere(self, site: Site, known: set[str]) -> bool:
        return all(f"{self.root}{site.path.format(i=layer)}" in known for layer in range(self.n_layer))

    def find(self, name: str, layers: Layers) -> list[Target]:
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
        chosen = site_layers(short, layers if fixed is None else (fixed,), self.n_layer)
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
