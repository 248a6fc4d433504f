"""A trace as files: one folder with a JSON object and a safetensors file; the images lie in the study, by
hash.

<part>/trace.json             everything but arrays
<part>/tensors.safetensors    views, states/<site>, generated/<site>
images/<hash>.png             the original images, once however many traces show them
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, overload

import msgspec
import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from emma_viz.capture.hooks import HookReport
from emma_viz.capture.interventions import InterventionRecord
from emma_viz.capture.trace import Sampling, TokenKind, Trace
from emma_viz.data.geometry import Geometry
from emma_viz.data.image_grid import ImageGrid
from emma_viz.data.images import MAX_PIXELS
from emma_viz.data.labels import ImageLabel
from emma_viz.data.provenance import ModelInfo
from emma_viz.data.tiles import TileGeometry, grids_of, kept_grids
from emma_viz.errors import InputError, StudyError
from emma_viz.files.json_door import Budget, read_json
from emma_viz.files.schema import Count, shape
from emma_viz.files.tensors import read_header
from emma_viz.files.versions import require_version
from emma_viz.study.files import (
    make_folder,
    own,
    read_png,
    read_tensor,
    write_json,
    write_png,
    write_study_tensors,
)
from emma_viz.study.folders import lock
from emma_viz.study.likeness import likeness, require_alike
from emma_viz.study.trace_shapes import require_consistent, shapes_of

IMAGES = "images"
_TRACE, _TENSORS = "trace.json", "tensors.safetensors"
_BUDGET = Budget(size=32 * 2**20, nodes=1_000_000)
"""For a `trace.json`: tokens and answers of some thousand samples."""
VERSION = 3
"""Of `trace.json`: 1 (and no number) has no `labels`, `interventions` and `notes`, 2 no `tiles`: none."""

Hash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


@dataclass(frozen=True, kw_only=True)
class _TraceFile:
    """What `trace.json` holds."""

    model: dict[str, Any]
    sites: tuple[str, ...]
    layers: tuple[Annotated[int, msgspec.Meta(ge=-1, lt=2**24)], ...]
    token_kind: TokenKind
    states: tuple[str, ...]
    generated: tuple[str, ...]
    geometry: tuple[Geometry, ...]
    """Where images become square grids of a square input."""
    image_hashes: tuple[Hash, ...]
    prompts: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    prompt_ids: tuple[tuple[Count, ...], ...]
    answers: tuple[str, ...]
    answer_ids: tuple[tuple[Count, ...], ...]
    ended: tuple[bool, ...]
    sampling: Sampling | None
    hooks: tuple[HookReport, ...]
    images: tuple[str, ...]
    """Where each image lies; always made of its hash."""
    version: int = 1
    labels: tuple[ImageLabel, ...] = ()
    interventions: tuple[InterventionRecord, ...] = ()
    notes: tuple[str, ...] = ()
    tiles: tuple[TileGeometry, ...] = ()
    """Where they become grids of any shape, or several."""

    @property
    def places(self) -> tuple[ImageGrid, ...]:
        """The grids of all images."""
        return grids_of(self.geometry, self.tiles)

    def __post_init__(self):
        if self.images != tuple(map(_image_path, self.image_hashes)):
            raise InputError("`images` are not the files that a study makes for `image_hashes`")
        for each in self.places:
            width, height = each.image_size
            if width * height > MAX_PIXELS:
                raise InputError(f"an image of {width}×{height} has more than {MAX_PIXELS:,} pixels")


class StoredImages(Sequence[Image.Image]):
    """Images of a study, read each time one is taken, so that thousands cost nothing until they are looked
    at.

    Args:
        root: the study's folder.
        known: of each its `image_hash`, which names its file, and its width and height in pixels; both are checked.
    """

    def __init__(self, root: Path, known: Sequence[tuple[str, tuple[int, int]]]):
        self._root, self._known = root, tuple(known)

    def __len__(self) -> int:
        return len(self._known)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...
    @overload
    def __getitem__(self, index: slice) -> "StoredImages": ...
    def __getitem__(self, index: int | slice) -> "Image.Image | StoredImages":
        if isinstance(index, slice):
            return StoredImages(self._root, self._known[index])
        digest, size = self._known[index]
        return read_png(image_file(self._root, digest), digest, size)


class StoredStates(Mapping[str, Tensor]):
    """States of a study, memory-mapped; of several files (the batches of a stream), joined when they are
    taken.

    With one file nothing is copied. With several, `[site]` copies all layers, and `layer` that layer alone.
    """

    def __init__(self, files: Sequence[Path], kind: str, sites: Sequence[str]):
        self._files, self._kind, self._sites = tuple(files), kind, tuple(sites)

    def __getitem__(self, site: str) -> Float[Tensor, "Y B L *W"]:
        """All layers of a site, "Y B L W"."""
        return join_samples([self._read(file, site) for file in self._files], axis=1)

    def layer(self, site: str, index: int) -> Float[Tensor, "B L *W"]:
        """The layer at one index of a site, "B L W"; the other layers are not read."""
        return join_samples([self._read(file, site)[index] for file in self._files], axis=0)

    def __contains__(self, site: object) -> bool:
        # Mapping's own would read the states to find out.
        return site in self._sites

    def __iter__(self) -> Iterator[str]:
        return iter(self._sites)

    def __len__(self) -> int:
        return len(self._sites)

    def _read(self, file: Path, site: str) -> Tensor:
        if site not in self._sites:
            raise KeyError(site)
        return read_tensor(file, f"{self._kind}/{site}")


def join_samples(tensors: Sequence[Float[Tensor, "..."]], *, axis: int) -> Float[Tensor, "..."]:
    """Join along the axis of samples; the axis of tokens, which comes next, is padded with NaN up to the
    longest."""
    if len(tensors) == 1:
        return tensors[0]
    longest = max(tensor.shape[axis + 1] for tensor in tensors)
    return torch.cat([_padded(tensor, longest, axis + 1) for tensor in tensors], dim=axis)


def _padded(tensor: Tensor, length: int, axis: int) -> Tensor:
    missing = length - tensor.shape[axis]
    if not missing:
        return tensor
    shape = (*tensor.shape[:axis], missing, *tensor.shape[axis + 1 :])
    return torch.cat([tensor, tensor.new_full(shape, torch.nan)], dim=axis)


def write_trace(root: Path, part: Path, trace: Trace) -> None:
    """Write a trace into the folder `part` of the study `root`, `trace.json` last.

    Raises:
        StudyError: its parts contradict one another, or a file cannot be written.
    """
    tensors = {"views": torch.from_numpy(np.ascontiguousarray(trace.views))}
    for kind in ("states", "generated"):
        for site, states in getattr(trace, kind).items():
            tensors[f"{kind}/{site}"] = states
    try:
        require_consistent(trace, shapes_of(tensors))
    except InputError as error:
        raise StudyError(f"This trace cannot be stored: {error}.") from error
    make_folder(part)
    _write_images(root, trace)
    write_study_tensors(own(part, _TENSORS), tensors)
    write_json(own(part, _TRACE), _to_json(trace))


def _write_images(root: Path, trace: Trace) -> None:
    make_folder(own(root, IMAGES, kind="folder"))
    # One image at a time: those of another study are only opened here.
    for digest, index in {digest: index for index, digest in enumerate(trace.image_hashes)}.items():
        with lock(root, "images", f"the images of {root}"):
            write_png(image_file(root, digest), trace.images[index], digest)


def read_trace(root: Path, part: Path, *, samples: int | None = None) -> Trace:
    """Read what `write_trace` wrote; states and views stay on disk until they are used.

    Args:
        root: the study's folder.
        part: the trace's folder in it.
        samples: how many it must hold.

    Raises:
        StudyError: a file is missing, damaged, not of this form, or contradicts another one.
    """
    path, tensors = trace_files(part)
    value = read_json(path, error=StudyError, budget=_BUDGET)
    require_version(value, "version", VERSION, where=str(path), error=StudyError, absent=1)
    known = shape(value, _TraceFile, where=str(path), error=StudyError)
    header = read_header(tensors, error=StudyError)
    names = {
        "views",
        *(f"states/{site}" for site in known.states),
        *(f"generated/{site}" for site in known.generated),
    }
    if names != set(header.tensors):
        odd = sorted(names ^ set(header.tensors))
        raise StudyError(
            f"{tensors} and {path} differ in {odd[0][:100]!r}: one of them was changed or damaged."
        )
    try:
        trace = Trace(
            model=ModelInfo.from_json(known.model),
            states=StoredStates([tensors], "states", known.states),
            generated=StoredStates([tensors], "generated", known.generated),
            views=read_tensor(tensors, "views").numpy(),
            images=StoredImages(root, _known(known.image_hashes, known.places)),
            geometry=known.places,
            **{field: getattr(known, field) for field in _SAME},
        )
        require_consistent(trace, {name: (each.dtype, each.shape) for name, each in header.tensors.items()})
    except InputError as error:
        raise StudyError(f"{path} does not describe a trace: {error}. It was changed or damaged.") from error
    if samples is not None and len(trace) != samples:
        raise StudyError(f"{path}: expected {samples} samples, got {len(trace)}. It was changed or damaged.")
    return trace


def read_traces(root: Path, parts: Sequence[tuple[Path, int]]) -> tuple[Trace, ...]:
    """The batches of one stream, those that follow one another as one trace of all their samples, in order.

    They are one trace all together, but where images become grids of several shapes: there those of each shape that
    follow one another are. States stay on disk until a layer of them is taken, and images until one is; views are read
    (3·S² bytes a sample). The hook reports add up: how often each hook fired, and whether all it kept is finite.

    Args:
        root: the study's folder.
        parts: folders that `write_trace` wrote, of traces recorded alike, and how many samples each holds.

    Raises:
        StudyError: a file is missing, damaged or not of this form, or the traces are not alike.
    """
    read = [(read_trace(root, part, samples=samples), trace_files(part)[1]) for part, samples in parts]
    for trace, _ in read[1:]:
        require_alike(likeness(read[0][0]), likeness(trace))
    alike = groupby(read, key=lambda each: each[0].views.shape[1:])
    return tuple(_in_one(root, *zip(*some, strict=True)) for _, some in alike)


def _in_one(root: Path, traces: Sequence[Trace], files: Sequence[Path]) -> Trace:
    """Traces that were recorded alike, whose tensors lie in these files, as one."""
    first = traces[0]
    if len(traces) == 1:
        return first

    def chain(name: str) -> tuple:
        return tuple(value for trace in traces for value in getattr(trace, name))

    return replace(
        first,
        states=StoredStates(files, "states", list(first.states)),
        generated=StoredStates(files, "generated", list(first.generated)),
        images=StoredImages(root, _known(chain("image_hashes"), chain("geometry"))),
        views=np.concatenate([trace.views for trace in traces]),
        hooks=tuple(_sum(reports) for reports in zip(*(trace.hooks for trace in traces), strict=True)),
        sampling=_common(traces),
        notes=tuple(dict.fromkeys(note for trace in traces for note in trace.notes)),
        **{name: chain(name) for name in _PER_SAMPLE},
    )


def trace_files(part: Path) -> tuple[Path, Path]:
    """The two files of a trace in its folder.

    Raises:
        StudyError: one is a link.
    """
    return own(part, _TRACE), own(part, _TENSORS)


def image_file(root: Path, digest: str) -> Path:
    """The file in which a study keeps the image of that hash.

    Raises:
        StudyError: it is a link, or lies in one.
    """
    return own(root, IMAGES, f"{digest}.png")


def _image_path(digest: str) -> str:
    return f"{IMAGES}/{digest}.png"


def _known(hashes: Sequence[str], geometry: Sequence[ImageGrid]) -> tuple[tuple[str, tuple[int, int]], ...]:
    """Of each image its hash and size; a trace refuses counts that differ."""
    return tuple(zip(hashes, (each.image_size for each in geometry), strict=False))


_SAME = ("sites", "layers", "token_kind", "image_hashes", "prompts", "prompt_ids", "answers", "answer_ids",
         "ended", "sampling", "hooks", "labels", "interventions", "notes")  # fmt: skip
"""What stands in `trace.json` as a trace has it."""
_PER_SAMPLE = (
    "geometry",
    "image_hashes",
    "prompts",
    "prompt_ids",
    "answers",
    "answer_ids",
    "ended",
    "labels",
)


def _common(traces: Sequence[Trace]) -> Sampling | None:
    """The batches' settings; without a seed where they did not draw from one after another."""
    first, done = traces[0].sampling, 0
    if first is None or first.seed is None:
        return first
    for trace in traces:
        if trace.sampling != replace(first, seed=first.seed + done):
            return replace(first, seed=None)
        done += len(trace)
    return first


def _sum(reports: Sequence[HookReport]) -> HookReport:
    kept = [report.finite for report in reports if report.finite is not None]
    return replace(
        reports[0], fired=sum(report.fired for report in reports), finite=all(kept) if kept else None
    )


def _to_json(trace: Trace) -> dict[str, Any]:
    return {
        "version": VERSION,
        "model": trace.model.to_json(),
        "sites": trace.sites,
        "layers": trace.layers,
        "token_kind": trace.token_kind,
        "states": list(trace.states),
        "generated": list(trace.generated),
        **kept_grids(trace.geometry),
        "image_hashes": trace.image_hashes,
        "prompts": trace.prompts,
        "prompt_ids": trace.prompt_ids,
        "answers": trace.answers,
        "answer_ids": trace.answer_ids,
        "ended": trace.ended,
        "sampling": None if trace.sampling is None else asdict(trace.sampling),
        "hooks": [asdict(each) for each in trace.hooks],
        "labels": [asdict(each) for each in trace.labels],
        "interventions": [asdict(each) for each in trace.interventions],
        "notes": trace.notes,
        "images": list(map(_image_path, trace.image_hashes)),
    }
