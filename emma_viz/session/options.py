"""What can be chosen: how models run, what they are asked, what a picture shows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import msgspec

from emma_viz.errors import InputError, TrainingError
from emma_viz.files.schema import Count, Positive, Seed, Size, require_ranges
from emma_viz.lens.fitting.tuned_settings import TunedSettings

BATCH = 8
"""Questions that go through a model, and are held in memory, at a time."""
BROKEN_LIMIT = 100
"""Images and records that may be left out because they cannot be used."""
Store = Literal["states", "pooled", "maps"]
"""What a capture keeps of each image: all states, their means, or the pixels that a lens decodes of them."""
STORES = get_args(Store)
StatesType = Literal["float32", "bfloat16", "float16"]
"""Number types that states are kept in."""
DEFAULT_MODELS = ("cobra-photo", "emma-v1-photo")
"""Models that are compared when none is named."""
DEFAULT_LENSES = ("ridge",)
"""The lens of each model when none is named: its kind."""
FittedKind = Literal["ridge", "tuned"]
"""Kinds of lenses that can be fitted for a model that came without one."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """How models are loaded and run."""

    device: str = "cpu"
    """Where they run."""
    dtype: str | None = None
    """Of the weights: float32, bfloat16 or float16; None is as stored, but float16 becomes float32 on a CPU."""
    backend: str = "auto"
    """Kernels of the state-space layers."""
    vision_source: str | Mapping[str, str] | None = None
    """A file with the image encoders' weights, or tower → folder or hub id; None is their usual place."""
    tokenizer_source: str | None = None
    """A tokenizer.json, for checkpoints that lack one."""
    llm_source: str | None = None
    """The language model, in the layout of state-spaces or transformers, of checkpoints that hold a projector alone."""
    part: Literal["thumbnail"] | None = None
    """Of models that cut an image into tiles: the tokens of the whole image are drawn; None: those of the tiles."""


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What the models are asked, and how they answer."""

    prompt: str = "Describe the image in detail."
    """The message of the user's turn."""
    max_new_tokens: Size = 64
    """The longest answer."""
    temperature: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """0 takes the likeliest token each time."""
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    """Share of the probability that sampling draws from."""
    seed: Seed = 0
    """Of the sampling."""

    def __post_init__(self):
        require_ranges(self, error=InputError, options={})


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """What a capture keeps, and in what parts it goes."""

    store: Store = "states"
    """Keep all states; or, pooled, their mean over the image tokens and those of the last text token; or the maps that
    --lens decodes. What each takes is said before anything is run."""
    states_dtype: StatesType = "float32"
    """Of what is kept; bfloat16 for states alone."""
    overwrite: bool = False
    """Replace entries that were recorded with other options."""
    batch_size: Size = BATCH
    """Images that go through a model, and are held in memory, at a time."""
    broken_limit: Count = BROKEN_LIMIT
    """Images found in folders, by patterns or in lists, and records, that may be left out because they cannot be
    used."""


@dataclass(frozen=True, kw_only=True)
class View:
    """What a picture shows, and how."""

    layers: tuple[int | str, ...] | None = None
    """Zero-based layers, "first", "last", -1 for the embedding, "all" for every one; None spreads five over each
    model's depth."""
    map_kind: str | None = None
    """One of `emma_viz.lens.MapKind`; None is distance, and magnitude in the paper's style."""
    scale: str | None = None
    """shared, per_row, per_map, or "MIN:MAX" for a fixed one; None is shared, or what given maps have."""
    colormap: str | None = None
    """None is viridis, and jet in the paper's style."""
    style: str = "default"
    """default or paper."""
    difference: bool = False
    """Also show the difference of the first two models' maps."""

    @property
    def kind(self) -> str:
        """The kind of map that is drawn."""
        return self.map_kind or ("magnitude" if self.style == "paper" else "distance")

    def __post_init__(self):
        self.scale_and_limits()
        if self.colormap is not None:
            from emma_viz.render.colours import require_colormap  # a command line's help can do without

            require_colormap(self.colormap)

    def scale_and_limits(self) -> tuple[str, tuple[float, float] | None]:
        """The name of the scale, and its limits when they are fixed.

        Raises:
            InputError: `scale` is neither a known name nor MIN:MAX, two finite numbers with the smaller first.
        """
        if self.scale is None or self.scale in ("shared", "per_row", "per_map"):
            return self.scale or "shared", None
        low, colon, high = self.scale.partition(":")
        try:
            limits = (float(low), float(high))
        except ValueError:
            limits = (math.nan, math.nan)
        if not colon or not (math.isfinite(limits[0]) and math.isfinite(limits[1]) and limits[0] < limits[1]):
            raise InputError(
                f"expected a scale of shared, per_row, per_map or MIN:MAX (two numbers, the smaller first), got "
                f"{self.scale!r}."
            )
        return "fixed", limits


@dataclass(frozen=True, kw_only=True)
class LensRecipe:
    """What a lens is fitted on, and how. Lenses that stand side by side must have been given the same."""

    kind: FittedKind = "ridge"
    """`ridge`: closed form, a layer by itself. `tuned`: fusion and decoder trained on the frozen model."""
    fit: Size = 400
    """Images to fit on."""
    held_out: Size = 150
    """Other images, to measure the quality on."""
    site: str = "resid_post"
    """Hook site."""
    layers: tuple[int, ...] | None = None
    """Blocks, -1 for the embedding; None: all."""
    batch_size: Size = BATCH
    """Images recorded at once; tuned: images of a step, a part of its budget."""
    layers_per_pass: Size | None = None
    """Ridge: fit only so many layers at a time, which bounds the memory of the sums; None: all."""
    rank: Size | None = None
    """Tuned: rank of the translators; None: full."""
    decoder_layers: Size | None = None
    """Tuned: Mamba layers of the decoder; None: the paper's four."""
    steps: Size = TunedSettings.steps
    """Tuned: optimizer steps."""
    layers_per_step: Size = TunedSettings.layers_per_step
    """Tuned: layers a step."""
    lr: Positive = TunedSettings.lr
    """Tuned: peak learning rate."""
    seed: Seed = TunedSettings.seed
    """Of the choice of images and, tuned, of fresh weights."""
    broken_limit: Count = BROKEN_LIMIT
    """Images or records that may be skipped because they cannot be used."""
    half: bool = False
    """Keep the lens in half precision; its quality is that of the rounded lens."""

    def __post_init__(self):
        require_ranges(self, error=TrainingError, options={"fit": "--fit-images"})
        from emma_viz.capture.sites import split_site  # torch, which a command line's help can do without
        from emma_viz.models.attention_sites import ALL_SITES

        _, fixed = split_site(self.site, ALL_SITES)
        if fixed is not None:
            raise TrainingError(f"LensRecipe.site (--site): expected a site's name alone, got {self.site!r}.")
        sizes = {"rank": self.rank, "decoder_layers": self.decoder_layers}
        given = [name for name, size in sizes.items() if size is not None]
        if given and self.kind == "ridge":
            raise TrainingError(
                f"A ridge lens has no {' and no '.join(given)}; fit a tuned one (--kind tuned)."
            )
