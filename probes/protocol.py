"""What a probe is: what it needs, what it sees of each batch, and the numbers and plots made of all that was seen.

A probe keeps nothing. `see` gives back arrays for one batch; the engine adds sums up, joins columns, keeps them on
disk, goes on after a kill and merges shards, the same way for every probe. `measures` then says which numbers the
arrays hold, and the engine puts an interval, a control and a paired difference beside each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from emma_viz.capture import Trace
from emma_viz.capture.trace import TokenKind
from emma_viz.checkpoints import LoadedModel
from emma_viz.data.provenance import ModelInfo
from emma_viz.metrics.intervals import Columns, Statistic
from probes.charts import Chart


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a probe must be given."""

    sites: tuple[str, ...] = ()
    """Hook sites whose states it reads, at every layer that is examined."""
    tokens: TokenKind = "image"
    """Whose states: one probe that needs "all" makes them all be kept, the T image tokens first."""
    live: bool = False
    """Whether it runs the model itself."""
    labels: bool = False
    """Whether it needs `Subject.mask` and `Subject.kinds`; it is left out where images have none."""
    pairs: bool = False
    """Whether it needs `Subject.twin`; it is left out where images have none."""
    scan: tuple[str, ...] = ()
    """Sites of state-space mixers that it looks at, changes or holds, in the blocks that have one; it is left out where
    a model has none."""
    apart: bool = False
    """Whether it takes every block apart as a norm and a mixer; left out of a hybrid, whose blocks are not made so."""
    between: bool = False
    """Whether it changes states between the blocks; left out of a model that transformers' own class runs."""
    infused: bool = False
    """Whether it looks at how the instruction is mixed into the image; left out where a model does not do so."""
    other: bool = False
    """Whether it needs the other checkpoint of a comparison too, both held at once; left out where there is one."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One image, what is asked of it, and what is known of it."""

    number: int
    """Its place among all images of the run."""
    name: str
    """What it is called."""
    image: Image.Image
    prompt: str
    """The message of the user's turn."""
    words: tuple[str, str] | None = None
    """The first word of the true answer and of its opposite, ("Yes", "No"); None where nobody knows."""
    mask: UInt8[np.ndarray, "height width"] | None = None
    """0 is background, n the nth object; None where nobody knows."""
    kinds: tuple[str, ...] = ()
    """What each object is; object n of the mask is `kinds[n - 1]`."""
    colours: tuple[str, ...] = ()
    """The colour of each object; "" where it has none of its own."""
    target: int = 0
    """The object that the prompt asks about, as a number in the mask; 0 where there is none."""
    absent: str = ""
    """The same question about what is not there, of which the answer is the other word; "" where nobody knows one."""
    twin: Image.Image | None = None
    """The same image without the target."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some images as a model saw them."""

    trace: Trace
    """States of the sites and layers that were asked for (other probes' too), answers and geometry."""
    subjects: tuple[Subject, ...]
    """One for each sample of the trace."""
    patches: Float[np.ndarray, "B T p p c"]
    """The true pixels of each image token, in [0, 1]."""
    layers: tuple[int, ...]
    """The layers that are examined, −1 (the embedding) first: of `resid_post`; other sites have no −1."""
    group: int
    """The images are parted into groups once and for all; all images of a batch are in one."""
    first: bool
    """Whether it is the first batch of its group."""
    others: tuple[Subject, ...]
    """Some images that are not in the batch, the next ones: to take means and controls of."""
    model: LoadedModel | None = None
    """The model, for a probe that needs it live."""
    other: LoadedModel | None = None
    """The other checkpoint, for a probe that needs both."""
    quick: bool = False
    """Fewer draws and points, where a probe has some to spare."""

    def spares(self, index: int, every: int) -> bool:
        """Whether an image of the batch is left out of something dear: with --quick, all but every so manieth are."""
        return self.quick and self.subjects[index].number % every != 0

    def said(self, what: str, every: int) -> str:
        """The note of that."""
        return f"{what}: of one of {every} images (--quick)"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a probe keeps of a batch."""

    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    """One row for each image of the batch, (B, …)."""
    sums: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Arrays that are added up over the batches of a group; any shape, the same in every batch."""
    notes: tuple[str, ...] = ()
    """What a reader should know; the same note twice is kept once."""


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """All that a probe has seen of one model."""

    model: ModelInfo
    layers: tuple[int, ...]
    """As in `Batch`."""
    columns: Mapping[str, np.ndarray]
    """(images, …), in the order of the images."""
    sums: Mapping[str, np.ndarray]
    """(groups, …): of each group that has images."""
    images: int
    groups: int
    names: tuple[str, ...] = ()
    """What the images are called."""
    notes: tuple[str, ...] = ()
    quick: bool = False


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One number, as what it is made of; the engine estimates it and draws images for its interval."""

    name: str
    """What it is, the same in every run and at every layer: "retention.r2"."""
    title: str
    """The same in words: "share of the pixels' variance that a linear lens reads"."""
    columns: Columns
    """Sums for each image or group: name → (n,)."""
    statistic: Statistic
    """From the columns summed over images to the number."""
    unit: str = ""
    layer: int | None = None
    """The layer it is about, −1 for the embedding; None where it is about the model."""
    control: Columns | None = None
    """The same columns of what must be beaten; None where the number claims nothing."""
    control_title: str = ""
    """What the control is: "a lens that knows the position alone"."""
    higher: bool = True
    """Whether the number beats its control by being higher."""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Result:
    """A probe's numbers of one model, as plots and the report take them."""

    gathered: Gathered
    findings: tuple["Finding", ...]

    @property
    def model(self) -> str:
        """Its name."""
        return self.gathered.model.name

    def curve(self, name: str) -> list["Finding"]:
        """The findings of one name by layer, in order."""
        found = [
            each for each in self.findings if each.measure.name == name and each.measure.layer is not None
        ]
        return sorted(found, key=lambda each: each.measure.layer or 0)

    def one(self, name: str) -> "Finding | None":
        """The finding of that name that is about no layer."""
        return next(
            (each for each in self.findings if each.measure.name == name and each.measure.layer is None), None
        )


@dataclass(frozen=True, kw_only=True)
class Number:
    """A value and its 95 % interval; NaN where it is not defined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One number with what belongs beside it."""

    measure: Measure
    number: Number
    control: Number | None
    over: Number | None
    """The number less its control, images drawn for both at once."""
    beats: bool | None
    """Whether the interval of `over` lies on the better side of 0 and `p` below .05; None without control."""
    p: float | None
    """Holm's p of that, one-sided, over all of the probe's numbers that have a control."""
    family: int
    """How many those are."""
    sentence: str

    def __repr__(self) -> str:
        where = "" if self.measure.layer is None else f", layer {self.measure.layer}"
        return f"Finding({self.measure.name}{where}: {self.sentence})"

    def _repr_html_(self) -> str:
        from emma_viz.session.notebook import (
            html_table,
        )  # only a notebook asks, and what it imports is slow to load

        shown = {
            "value": self.number,
            self.measure.control_title or "control": self.control,
            "over it": self.over,
        }
        rows = [
            [escape(name), *(f"{each:.4g}" for each in (one.value, one.low, one.high))]
            for name, one in shown.items()
            if one
        ]
        unit = f" ({self.measure.unit})" if self.measure.unit else ""
        heads = ["", f"number{unit}", "low, 95 %", "high, 95 %"]
        return html_table(f"{self.measure.title}: {self.sentence}", heads, rows, len(rows))


@runtime_checkable
class Reported(Protocol):
    """What a report needs of a probe: its words, and the numbers in what it kept."""

    name: str
    """As `--probes` takes it."""
    title: str
    question: str
    """What it answers, in one sentence."""
    method: str
    """How, and what the number does not say, in a few sentences."""

    def measures(self, gathered: Gathered) -> Sequence[Measure]:
        """The numbers in what was kept; none where it was too little, with a note in `Seen` saying why."""
        ...

    def plots(self, results: Sequence[Result]) -> Sequence[Chart]:
        """Charts of one model's numbers, or of two side by side."""
        ...

    def summary(self, results: Sequence[Result]) -> str:
        """One or two sentences for the top of the report, made of findings alone; "" for nothing to say."""
        ...


@runtime_checkable
class Probe(Reported, Protocol):
    """One way of examining a model. Its file is all there is of it."""

    def needs(self) -> Needs:
        """What it must be given."""
        ...

    def see(self, batch: Batch) -> Seen:
        """What is kept of a batch.

        It is a function of the batch alone. A NaN in a column says that the number is not defined for that image.
        """
        ...
