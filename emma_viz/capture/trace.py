"""Trace: what a model held at each depth while it answered, and all that is needed to show it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, Protocol, runtime_checkable

import msgspec
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor

from emma_viz.capture.hooks import HookReport
from emma_viz.capture.interventions import InterventionRecord
from emma_viz.capture.sites import nearest, site_layers
from emma_viz.data.image_grid import ImageGrid
from emma_viz.data.labels import ImageLabel
from emma_viz.data.provenance import ModelInfo
from emma_viz.data.tokenizer import Decodes
from emma_viz.displays import bundle_of
from emma_viz.errors import CaptureError, InputError, SiteError
from emma_viz.files.schema import Size

TokenKind = Literal["image", "text", "all"]
"""Which tokens' states are kept: the T image tokens, the tokens of the prompt, or both, image first."""


@runtime_checkable
class LayerReader(Protocol):
    """States that can give one layer without reading the others (those of a study)."""

    def layer(self, site: str, index: int) -> Float[Tensor, "B L *W"]:
        """The states "B L W" of the layer at `index` of that site's layers."""
        ...


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How answers were chosen; the same settings and seed give the same answers."""

    max_new_tokens: Size
    """Longest answer, tokens."""
    temperature: Annotated[float, msgspec.Meta(ge=0, le=1e6)]
    """0: the best token each time; above: draws."""
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)]
    """Draws are from the likeliest tokens that make up this probability."""
    seed: int | None
    """Sample i drew from seed + i; None where nothing was drawn, or where samples were put together from several
    recordings."""

    def of_samples(self, samples: Sequence[int]) -> "Sampling":
        """The settings of some of the samples; the seed stays where they follow one another."""
        in_order = (
            list(samples) == list(range(samples[0], samples[0] + len(samples))) if len(samples) else False
        )
        return replace(self, seed=self.seed + samples[0] if self.seed is not None and in_order else None)


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """The states of a batch of images and prompts, with the answers and where everything comes from.

    States have the axes "Y B L W": layers, samples, tokens, and the site's own width (one axis or more). L is
    T for image tokens. Prompts of unequal length are padded on the right with NaN up to the longest;
    `lengths` says how many tokens of each sample are real, and `ragged` gives them without padding.

    Examples:
        >>> trace["resid_post", 12]  # Tensor "B L W": one layer
        >>> trace["resid_post"]      # Tensor "Y B L W": all of layers_of("resid_post"), in that order
    """

    model: ModelInfo
    """The model that was recorded."""
    sites: tuple[str, ...]
    """Names of the hook sites."""
    layers: tuple[int, ...]
    """Blocks that were kept, in the order of axis Y; -1 is the embedding. Exceptions: see `layers_of`."""
    token_kind: TokenKind
    """Which tokens axis L holds."""
    states: Mapping[str, Float[Tensor, "Y B L *W"]]
    """The states per site, "Y B L W" each; empty when they were not kept. From a study: memory-mapped."""
    geometry: tuple[ImageGrid, ...]
    """Per sample, where its image tokens lie in the original image; empty without images."""
    views: UInt8[np.ndarray, "b height width 3"]
    """What the model saw of each image, before normalisation; b is B, or 0 without images."""
    images: Sequence[Image.Image]
    """The original images, RGB, upright. From a study: read from disk each time one is taken."""
    image_hashes: tuple[str, ...]
    """`image_hash` of each original image."""
    prompts: tuple[str, ...]
    """The messages as they were given."""
    prompt_ids: tuple[tuple[int, ...], ...] = ()
    """The token ids that the model read beside the image, prompt template included."""
    answers: tuple[str, ...] = ()
    """The answers, without special tokens; empty when none were generated."""
    answer_ids: tuple[tuple[int, ...], ...] = ()
    """The token ids that were generated; empty when none were."""
    ended: tuple[bool, ...] = ()
    """Whether each answer ended by itself rather than at the limit; empty when none were generated."""
    sampling: Sampling | None = None
    """How the answers were chosen; None when none were generated."""
    generated: Mapping[str, Float[Tensor, "Z B A *X"]] = field(default_factory=dict)
    """Per site, the states "Y B A W" at the tokens of `answer_ids`, right-padded with NaN; empty unless asked for."""
    hooks: tuple[HookReport, ...] = ()
    """What each requested hook reported."""
    labels: tuple[ImageLabel, ...] = ()
    """What each image is called, and what was done to it on the way in; empty where that is not known."""
    interventions: tuple[InterventionRecord, ...] = ()
    """What was changed in the model during the recording, on purpose."""
    notes: tuple[str, ...] = ()
    """What a reader of pictures should know: hooks of others that were on the model."""
    tokenizer: Decodes | None = field(default=None, repr=False, compare=False)
    """What gives the text of ids; None for a model without one, and in a study, which holds ids alone."""

    def __post_init__(self):
        batch = len(self.prompts)
        per_sample = {
            "prompt_ids": self.prompt_ids,
            "answers": self.answers,
            "answer_ids": self.answer_ids,
            "ended": self.ended,
            "labels": self.labels,
        }
        per_image = {
            "geometry": self.geometry,
            "images": self.images,
            "image_hashes": self.image_hashes,
            "views": self.views,
        }
        for name, values in {**per_sample, **per_image}.items():
            if len(values) not in (0, batch):
                raise InputError(
                    f"Trace.{name} needs one entry for each of the {batch} prompts, and has {len(values)}."
                )
        if len({len(values) for values in per_image.values()}) > 1:
            counts = ", ".join(f"{name} {len(values)}" for name, values in per_image.items())
            raise InputError(
                f"A trace has all of geometry, images, image_hashes and views, or none; got {counts}."
            )
        for name, values in (("states", self.states), ("generated", self.generated)):
            # States of a study are checked when they are read: a check here would read them all.
            if isinstance(values, dict):
                self._check(name, values)

    def _check(self, name: str, states: Mapping[str, Tensor]) -> None:
        for site, values in states.items():
            if site not in self.sites:
                raise InputError(
                    f"Trace.{name} has the site {site!r}, which is not among its sites {self.sites}."
                )
            expected = (len(self.layers_of(site)), len(self.prompts))
            if values.ndim < 4 or tuple(values.shape[:2]) != expected:
                raise InputError(
                    f"Trace.{name}[{site!r}] needs the axes (layers, samples, tokens, width) with "
                    f"{expected[0]} layers and {expected[1]} samples; got the shape {tuple(values.shape)}."
                )

    def __len__(self) -> int:
        """The number of samples B."""
        return len(self.prompts)

    def __repr__(self) -> str:
        known = "image and text" if self.token_kind == "all" else self.token_kind
        lengths = sorted(set(self.lengths)) if self.prompt_ids or self.token_kind == "image" else []
        tokens = f"{known} tokens {'–'.join(str(each) for each in dict.fromkeys(lengths[:1] + lengths[-1:]))}"
        parts = [self.model.name, f"{len(self)} sample{'s' * (len(self) != 1)}", tokens]
        # A study's states are not read for it: their width and size need no more than the names.
        for site in self.sites:
            kept = self.states.get(site) if isinstance(self.states, dict) else None
            shape = f", {'×'.join(map(str, kept.shape[3:]))} wide" if kept is not None else ""
            parts.append(f"{site} × {len(self.layers_of(site))} layers{shape}")
        held = list(self.states.values()) if isinstance(self.states, dict) else []
        if held:
            size = sum(each.nbytes for each in held)
            parts += [str(held[0].dtype).removeprefix("torch."), f"{size / 1e6:.3g} MB"]
        else:
            parts.append("states on disk" if self.states else "without states")
        return f"Trace({', '.join(parts)})"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return bundle_of(self)

    def __getitem__(self, key: str | tuple[str, int]) -> Float[Tensor, "..."]:
        """The states "B L W" of `[site, layer]`, or "Y B L W" of all layers of `[site]`.

        Raises:
            SiteError: that site or layer was not recorded.
            CaptureError: the trace was stored without states.
        """
        if isinstance(key, str):
            self._require(key)
            return self.states[key]
        site, layer = key
        return self._layer(self.states, site, layer)

    def layers_of(self, site: str) -> tuple[int, ...]:
        """The layers of axis Y at one site.

        They are `layers`, but for -1, which `resid_post` alone has, for `norm_f`, which there is one of (it counts as
        the last block's), and for sites inside mixers, which not every block of a hybrid has.

        Raises:
            SiteError: that site was not recorded.
        """
        if site not in self.sites:
            raise SiteError(
                f"{site!r} was not recorded; this trace has {', '.join(self.sites)}. "
                f"{nearest(site, self.sites)}"
            )
        return site_layers(site, self.layers, self.model.n_layer, self.model.mixer_layers)

    def holds(self, site: str, layer: int) -> bool:
        """Whether the states of one layer at one site are kept here."""
        return site in self.sites and layer in self.layers_of(site)

    @property
    def n_image_tokens(self) -> int:
        """T, the image tokens in front of the text; 0 without images."""
        if not self.geometry:
            return 0
        return math.prod(self.model.grid) if self.model.grid else self.geometry[0].n_image_tokens

    @property
    def lengths(self) -> tuple[int, ...]:
        """Per sample, how many tokens of axis L are real."""
        image = self.n_image_tokens if self.token_kind != "text" else 0
        if self.token_kind == "image":
            return (image,) * len(self)
        return tuple(image + len(ids) for ids in self.prompt_ids)

    def mask(self) -> Bool[Tensor, "B L"]:
        """True at the real tokens of axis L, False at the padding."""
        lengths = torch.tensor(self.lengths)
        return torch.arange(max(self.lengths)) < lengths[:, None]

    def ragged(self, site: str, layer: int) -> tuple[Float[Tensor, "l *W"], ...]:
        """One layer's states, "l W" per sample, without padding."""
        return tuple(states[:length] for states, length in zip(self[site, layer], self.lengths, strict=True))

    def last(self, site: str, layer: int) -> Float[Tensor, "B *W"]:
        """One layer's states at each sample's last real token, "B W"; `[:, -1]` of a layer may be padding.

        Raises:
            SiteError: that site or layer was not recorded.
            CaptureError: the trace was stored without states.
        """
        states = self[site, layer]
        return states[torch.arange(len(self)), torch.tensor(self.lengths) - 1]

    def token_strings(self, sample: int, tokenizer: Decodes | None = None) -> tuple[str, ...]:
        """What stands at each real token of axis L of one sample.

        Args:
            sample: its number.
            tokenizer: the model's (`model.tokenizer`), for a trace that has none: one that was read from a study.

        Returns:
            `<image r,c>` for the image token of row r and column c of the finest grid, and each prompt token's text.

        Raises:
            InputError: that sample does not exist, or there are ids and nothing that gives their text.
        """
        self._require_sample(sample)
        image = self.n_image_tokens if self.token_kind != "text" else 0
        rows, columns = self.model.grid or (self.geometry[sample].grid if image else (0, 1))
        places = tuple(f"<image {n // columns},{n % columns}>" for n in range(image)[: rows * columns])
        places += ("<image>",) * (image - len(places))
        ids = () if self.token_kind == "image" or not self.prompt_ids else self.prompt_ids[sample]
        if not ids:
            return places
        read = tokenizer or self.tokenizer
        if read is None:
            raise InputError(
                f"expected a tokenizer for the prompt's {len(ids)} ids: this trace of {self.model.name} holds none. "
                "Give the model's: token_strings(sample, model.tokenizer)."
            )
        return (*places, *(read.decode([each], skip_special=False) for each in ids))

    def in_box(
        self,
        site: str,
        layer: int,
        box: Sequence[float | int],
        *,
        sample: int = 0,
        at_least: float | int = 0.5,
    ) -> Float[Tensor, "k *W"]:
        """One layer's states at the image tokens that a box covers, "k W".

        Args:
            site: hook site.
            layer: block, or -1 for the embedding.
            box: (left, top, right, bottom) in pixels of the original image.
            sample: whose image the box lies in.
            at_least: share of a token's pixels that the box must cover (`Geometry.tokens_in`).

        Raises:
            SiteError: that site or layer was not recorded.
            CaptureError: there are no states of image tokens.
            InputError: that sample does not exist, or the box or the share is none.
        """
        self._require_sample(sample)
        if self.token_kind == "text" or not self.n_image_tokens:
            raise CaptureError(
                "No states of image tokens were kept; record with images and tokens='image' or 'all'."
            )
        inside = self.geometry[sample].tokens_in(box, at_least=at_least)
        return self[site, layer][sample][torch.from_numpy(inside)]

    def _require_sample(self, sample: int) -> None:
        if not 0 <= sample < len(self):
            raise InputError(f"This trace has the samples 0 to {len(self) - 1}; got {sample}.")

    def answer_states(self, site: str, layer: int) -> tuple[Float[Tensor, "l *W"], ...]:
        """One layer's states at the answer's own tokens, "a W" per sample, without padding.

        Raises:
            CaptureError: they were not recorded (`record(..., generated_states=True)` does).
        """
        if not self.generated:
            raise CaptureError("No states of generated tokens were kept; record with generated_states=True.")
        lengths = [len(ids) for ids in self.answer_ids]
        return tuple(
            states[:length]
            for states, length in zip(self._layer(self.generated, site, layer), lengths, strict=True)
        )

    def select(
        self,
        *,
        layers: Sequence[int] | None = None,
        sites: Sequence[str] | None = None,
        samples: Sequence[int] | None = None,
    ) -> "Trace":
        """A trace of some of the layers, sites or samples, in the order given; what is left out is kept whole.

        Raises:
            SiteError: a layer or site was not recorded.
            InputError: a sample does not exist.
        """
        kept_sites = self.sites if sites is None else tuple(sites)
        kept_layers = self.layers if layers is None else tuple(layers)
        chosen = range(len(self)) if samples is None else tuple(samples)
        if not all(0 <= sample < len(self) for sample in chosen):
            raise InputError(f"This trace has the samples 0 to {len(self) - 1}; got {list(chosen)}.")
        for layer in kept_layers:
            if layer not in self.layers:
                raise SiteError(
                    f"Layer {layer} was not recorded; this trace has {', '.join(map(str, self.layers))}."
                )
        rows = list(chosen)

        def states(source: Mapping[str, Tensor]) -> dict[str, Tensor]:
            # Layer by layer: a study's other layers are not read.
            return {
                site: torch.stack(
                    [self._layer(source, site, layer)[rows] for layer in self._kept(site, kept_layers)]
                )
                for site in kept_sites
                if site in source or site not in self.sites
            }

        def pick(values: Sequence) -> tuple:
            return tuple(values[row] for row in rows) if len(values) else ()

        return replace(
            self,
            sites=kept_sites,
            layers=kept_layers,
            states=states(self.states),
            generated=states(self.generated),
            geometry=pick(self.geometry),
            views=self.views[rows] if len(self.views) else self.views,
            images=pick(self.images),
            image_hashes=pick(self.image_hashes),
            prompts=pick(self.prompts),
            prompt_ids=pick(self.prompt_ids),
            sampling=self.sampling and self.sampling.of_samples(rows),
            answers=pick(self.answers),
            answer_ids=pick(self.answer_ids),
            ended=pick(self.ended),
            labels=pick(self.labels),
        )

    def without_states(self) -> "Trace":
        """The same trace without its states: images, answers and provenance, a few hundred kilobytes."""
        return replace(self, states={}, generated={})

    def _kept(self, site: str, layers: tuple[int, ...]) -> tuple[int, ...]:
        self._require(site)
        return site_layers(site, layers, self.model.n_layer, self.model.mixer_layers)

    def _require(self, site: str) -> None:
        self.layers_of(site)
        if site not in self.states:
            raise CaptureError(
                f"This trace was kept without the states of {site!r}; record it again to have them."
            )

    def _layer(self, source: Mapping[str, Tensor], site: str, layer: int) -> Tensor:
        self._require(site)
        layers = self.layers_of(site)
        if layer not in layers:
            raise SiteError(
                f"Layer {layer} of {site!r} was not recorded; this trace has {', '.join(map(str, layers))}."
            )
        index = layers.index(layer)
        return source.layer(site, index) if isinstance(source, LayerReader) else source[site][index]
