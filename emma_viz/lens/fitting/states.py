"""Where the states of a frozen model come from that a lens is trained on or decodes."""

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from emma_viz.capture.trace import Trace
from emma_viz.data.geometry import true_patches
from emma_viz.errors import LensError
from emma_viz.models.config import VLMConfig

StateBatch = tuple[Float[Tensor, "Y B T D"], Float[Tensor, "B T p p c"]]
"""States of the layers asked for, and the true patches (pixels in [0, 1]) of the same images."""


@runtime_checkable
class StateSource(Protocol):
    """Images whose states can be had by number, so that a batch is a function of the step alone."""

    def __len__(self) -> int:
        """The number of images."""
        ...

    def read(self, samples: Sequence[int], layers: Sequence[int]) -> StateBatch:
        """States of some images at some layers, image tokens alone, with the true patches."""
        ...


class TraceStates:
    """States that were recorded before: one trace, or the batches of a study, which stay on disk.

    Examples:
        >>> TraceStates(list(open_study("states").traces("train")))

    Args:
        traces: of one model; their samples are numbered through.
        site: hook site.

    Raises:
        LensError: there is no trace, or one holds no image tokens at that site.
    """

    def __init__(self, traces: Sequence[Trace], *, site: str = "resid_post"):
        if not traces or not all(
            trace.geometry and site in trace.sites and trace.token_kind != "text" for trace in traces
        ):
            raise LensError(
                f"A lens is trained on the states of image tokens at {site}; "
                f"{'these traces do not all hold them' if traces else 'no trace was given'}. Record with images, "
                f"sites=({site!r},) and tokens='image'."
            )
        self.traces, self.site = tuple(traces), site
        self._places = [(trace, row) for trace in self.traces for row in range(len(trace))]

    @property
    def image_hashes(self) -> tuple[str, ...]:
        """The hash of each sample's image."""
        return tuple(trace.image_hashes[row] for trace, row in self._places)

    def __len__(self) -> int:
        return len(self._places)

    def read(self, samples: Sequence[int], layers: Sequence[int]) -> StateBatch:
        """Read those samples alone."""
        parts = []
        for sample in samples:
            trace, row = self._places[sample]
            states = torch.stack([image_states(trace, self.site, layer)[row : row + 1] for layer in layers])
            patches = true_patches(trace.views[row : row + 1], trace.geometry[row : row + 1])
            parts.append((states, torch.from_numpy(patches)))
        states, patches = zip(*parts, strict=True)
        return torch.cat(states, dim=1), torch.cat(patches)


def read_trace_states(trace: Trace, site: str, layers: Sequence[int]) -> StateBatch:
    """All samples of a trace, layers in the order given."""
    states = torch.stack([image_states(trace, site, layer) for layer in layers])
    return states, torch.from_numpy(true_patches(trace.views, trace.geometry))


def in_batches(source: StateSource, layers: Sequence[int], size: int) -> Iterator[StateBatch]:
    """All images of a source, in order, `size` at a time."""
    for start in range(0, len(source), size):
        yield source.read(range(start, min(start + size, len(source))), layers)


def require_patches(name: str, *, patches: int, tokens: int) -> None:
    """Refuse a model whose image tokens are pooled unevenly: of none is it known which pixels it stands for.

    Args:
        name: of the model.
        patches: that the model's square is cut into; several of the encoder's in one where they are pooled evenly.
        tokens: image tokens.

    Raises:
        LensError: there are not as many of both.
    """
    if patches != tokens:
        raise LensError(
            f"{name} pools its {patches} patches to {tokens} image tokens; a lens gives each token the pixels of one "
            "patch, so such a projector cannot be decoded."
        )


def require_patches_of(config: VLMConfig | None, name: str) -> None:
    """`require_patches` of a model that is not loaded; one without a description has a patch for each token.

    Raises:
        LensError: its tokens are pooled unevenly.
    """
    if config is not None:
        side = config.vision.image_size // config.patch
        require_patches(name, patches=side**2, tokens=config.n_image_tokens)


def require_patches_of_trace(trace: Trace) -> None:
    """`require_patches` of what was recorded of image tokens.

    Raises:
        LensError: they are pooled unevenly.
    """
    if trace.model.grid:
        require_patches(trace.model.name, patches=trace.geometry[0].n_tokens, tokens=trace.n_image_tokens)


def image_states(trace: Trace, site: str, layer: int) -> Float[Tensor, "B T D"]:
    """The states of the image tokens that are decoded, which stand first: those of the finest grid.

    Args:
        trace: of image tokens, alone or among all.
        site: a hook site that was recorded.
        layer: a block, -1 for the embedding.

    Raises:
        SiteError: the site or layer was not recorded.
        LensError: the tokens are pooled unevenly.
    """
    require_patches_of_trace(trace)
    count = trace.n_image_tokens if trace.model.grid else trace.geometry[0].n_tokens
    return trace[site, layer][:, :count]
