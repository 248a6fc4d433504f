"""A trace as files: one folder with a JSON object and a safetensors file; the images lie in the study, by
hash.

<part>/trace.json             everything but arrays
<part>/tensors.safetensors    views, states/<site>, generated/<site>
images/<hash>.png             the original images, once however many traces show them
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from emma_viz.capture.files import (
    make_folder,
    read_json,
    read_png,
    read_tensor,
    write_json,
    write_png,
    write_tensors,
)
from emma_viz.capture.hooks import HookReport
from emma_viz.capture.trace import Sampling, Trace
from emma_viz.data.geometry import Geometry
from emma_viz.data.provenance import ModelInfo
from emma_viz.errors import InputError, StudyError

_TRACE, _TENSORS = "trace.json", "tensors.safetensors"


class StoredImages(Sequence[Image.Image]):
    """Images of a study, read each time one is taken, so that thousands cost nothing until they are looked
    at."""

    def __init__(self, paths: Sequence[Path]):
        self._paths = tuple(paths)

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...
    @overload
    def __getitem__(self, index: slice) -> "StoredImages": ...
    def __getitem__(self, index: int | slice) -> "Image.Image | StoredImages":
        return StoredImages(self._paths[index]) if isinstance(index, slice) else read_png(self._paths[index])


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
        StudyError: a file cannot be written.
    """
    make_folder(part)
    paths = [image_path(name) for name in trace.image_hashes]
    # One image at a time: those of another study are only opened here.
    for path, index in {path: index for index, path in enumerate(paths)}.items():
        make_folder((root / path).parent)
        write_png(root / path, trace.images[index])
    tensors = {"views": torch.from_numpy(np.ascontiguousarray(trace.views))}
    for kind in ("states", "generated"):
        for site, states in getattr(trace, kind).items():
            tensors[f"{kind}/{site}"] = states
    write_tensors(part / _TENSORS, tensors)
    write_json(part / _TRACE, _to_json(trace) | {"images": paths})


def read_trace(root: Path, part: Path) -> Trace:
    """Read what `write_trace` wrote; states and views stay on disk until they are used.

    Raises:
        StudyError: a file is missing, damaged or not of this form.
    """
    value, tensors = read_json(part / _TRACE), part / _TENSORS
    try:
        return Trace(
            model=ModelInfo.from_json(value["model"]),
            sites=tuple(value["sites"]),
            layers=tuple(value["layers"]),
            token_kind=value["token_kind"],
            states=StoredStates([tensors], "states", value["states"]),
            generated=StoredStates([tensors], "generated", value["generated"]),
            geometry=tuple(_geometry(each) for each in value["geometry"]),
            views=read_tensor(tensors, "views").numpy(),
            images=StoredImages([root / path for path in value["images"]]),
            image_hashes=tuple(value["image_hashes"]),
            prompts=tuple(value["prompts"]),
            prompt_ids=tuple(map(tuple, value["prompt_ids"])),
            answers=tuple(value["answers"]),
            answer_ids=tuple(map(tuple, value["answer_ids"])),
            ended=tuple(value["ended"]),
            sampling=None if value["sampling"] is None else Sampling(**value["sampling"]),
            hooks=tuple(_report(each) for each in value["hooks"]),
        )
    except (KeyError, TypeError, InputError) as error:
        raise StudyError(
            f"{part / _TRACE} does not describe a trace: {error!r}. It was changed or damaged."
        ) from error


def read_traces(root: Path, parts: Sequence[Path]) -> Trace:
    """The batches of one stream as one trace of all their samples, in order.

    States stay on disk until a layer of them is taken, and images until one is; views are read (3·S² bytes a
    sample). The hook reports add up: how often each hook fired, and whether all it kept is finite.

    Args:
        root: the study's folder.
        parts: folders that `write_trace` wrote, of traces recorded alike.

    Raises:
        StudyError: a file is missing, damaged or not of this form.
    """
    traces = [read_trace(root, part) for part in parts]
    first, files = traces[0], [part / _TENSORS for part in parts]
    if len(traces) == 1:
        return first

    def chain(name: str) -> tuple:
        return tuple(value for trace in traces for value in getattr(trace, name))

    return replace(
        first,
        states=StoredStates(files, "states", list(first.states)),
        generated=StoredStates(files, "generated", list(first.generated)),
        images=StoredImages([root / image_path(name) for name in chain("image_hashes")]),
        views=np.concatenate([trace.views for trace in traces]),
        hooks=tuple(_sum(reports) for reports in zip(*(trace.hooks for trace in traces), strict=True)),
        sampling=_common([trace.sampling for trace in traces]),
        **{name: chain(name) for name in _PER_SAMPLE},
    )


def image_path(image_hash: str) -> str:
    """Where a study keeps an image, below its own folder."""
    return f"images/{image_hash}.png"


_PER_SAMPLE = ("geometry", "image_hashes", "prompts", "prompt_ids", "answers", "answer_ids", "ended")


def _common(samplings: Sequence[Sampling | None]) -> Sampling | None:
    """The batches' settings; without a seed where each batch drew from its own."""
    first = samplings[0]
    return first if first is None or set(samplings) == {first} else replace(first, seed=None)


def _sum(reports: Sequence[HookReport]) -> HookReport:
    kept = [report.finite for report in reports if report.finite is not None]
    return replace(
        reports[0], fired=sum(report.fired for report in reports), finite=all(kept) if kept else None
    )


def _to_json(trace: Trace) -> dict[str, Any]:
    return {
        "model": trace.model.to_json(),
        "sites": trace.sites,
        "layers": trace.layers,
        "token_kind": trace.token_kind,
        "states": list(trace.states),
        "generated": list(trace.generated),
        "geometry": [asdict(each) for each in trace.geometry],
        "image_hashes": trace.image_hashes,
        "prompts": trace.prompts,
        "prompt_ids": trace.prompt_ids,
        "answers": trace.answers,
        "answer_ids": trace.answer_ids,
        "ended": trace.ended,
        "sampling": None if trace.sampling is None else asdict(trace.sampling),
        "hooks": [asdict(each) for each in trace.hooks],
    }


def _geometry(value: Mapping[str, Any]) -> Geometry:
    fields: dict[str, Any] = {**value, "image_size": tuple(value["image_size"])}
    return Geometry(**fields)


def _report(value: Mapping[str, Any]) -> HookReport:
    shape = value["shape"]
    fields: dict[str, Any] = {**value, "shape": None if shape is None else tuple(shape)}
    return HookReport(**fields)
