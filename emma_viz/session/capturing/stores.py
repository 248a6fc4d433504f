"""What a capture keeps of each image: all states, their means, or the pixels that a lens decodes of them."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from emma_viz.capture import Trace
from emma_viz.capture.sites import site_layers, site_width
from emma_viz.capture.trace import TokenKind
from emma_viz.errors import InputError, StudyError
from emma_viz.maps import Decoding
from emma_viz.models.config import VLMConfig
from emma_viz.session.options import STORES, Store
from emma_viz.shapes import CHANNELS
from emma_viz.study.stream import Arrays

POOLED = "pooled"
"""Arrays of a batch: of each site `<site>/image`, the mean over the image tokens, and `<site>/last`, the last token of
the text, "Y B W" each."""
DECODING = "decoding"
"""Arrays that hold decoded pixels: of an entry, or of each batch of one."""
LESS = (
    "Keep less (--store pooled, --store maps, --layers, --states-dtype float16), record fewer images, or name another "
    "disk."
)
"""How a capture takes less room."""
_NUMPY = {torch.float32: np.float32, torch.float16: np.float16}


def tokens_of(store: Store) -> TokenKind:
    """Which tokens must be recorded for a store."""
    return "all" if store == "pooled" else "image"


def beside_of(store: Store) -> tuple[str, ...]:
    """Names of the arrays that each batch has beside its trace."""
    return {"states": (), "pooled": (POOLED,), "maps": (DECODING,)}[store]


def require_type(store: Store, dtype: torch.dtype) -> None:
    """Refuse a type that a store cannot be kept in.

    Raises:
        InputError: there is no such store, or the type is none of numpy's.
    """
    if store not in STORES:
        raise InputError(f"expected a store of {', '.join(STORES)}, got {store!r}.")
    if store != "states" and dtype not in _NUMPY:
        raise InputError(
            f"expected float32 or float16 as the type that {store} are kept in, got {str(dtype).split('.')[-1]}."
        )


def kept(
    store: Store, trace: Trace, decoding: Decoding | None, dtype: torch.dtype
) -> tuple[Trace, Mapping[str, Arrays]]:
    """Of a batch what is stored: its trace, with states or without, and the arrays beside it.

    Args:
        store: what is kept.
        trace: as recorded, with the tokens of `tokens_of`.
        decoding: of the trace, for maps.
        dtype: of the arrays.
    """
    if store == "states":
        return trace, {}
    if store == "pooled":
        means = {name: values.to(dtype).numpy() for name, values in _pooled(trace).items()}
        return trace.without_states(), {POOLED: (means, {})}
    if decoding is None:
        raise AssertionError("maps are stored of what was decoded")
    arrays, meta = decoding.to_arrays(with_images=False)
    # The trace has the views already.
    patches = arrays["patches"].astype(_NUMPY[dtype], copy=False)
    return trace.without_states(), {DECODING: ({"patches": patches}, meta)}


def _pooled(trace: Trace) -> dict[str, torch.Tensor]:
    """Per site the mean over the image tokens and the text's last token, "Y B W" each, float32."""
    last = torch.tensor(trace.lengths) - 1
    found = {}
    for site in trace.sites:
        states = trace[site]
        found[f"{site}/image"] = states[:, :, : trace.n_image_tokens].float().mean(dim=2)
        found[f"{site}/last"] = states[:, torch.arange(len(trace)), last].float()
    return found


@dataclass(frozen=True, kw_only=True)
class CaptureSize:
    """How much a capture writes of one model."""

    images: int
    """Images that are still to be recorded."""
    each: int
    """Bytes of each, the photograph not counted."""
    photographs: int
    """Bytes that the photographs take at most; those of several models are stored once."""

    @property
    def total(self) -> int:
        """Bytes of all."""
        return self.images * self.each + self.photographs

    def to_text(self) -> str:
        """One line.

        Examples:
            >>> CaptureSize(images=16, each=2_500_000, photographs=8_000_000).to_text()
            '16 images × 2.5 MB + photographs of at most 8.0 MB = 48.0 MB'
            >>> CaptureSize(images=16, each=2_500_000, photographs=0).to_text()
            '16 images × 2.5 MB = 40.0 MB'
        """
        stored = f" + photographs of at most {_bytes(self.photographs)}" if self.photographs else ""
        return f"{self.images} images × {_bytes(self.each)}{stored} = {_bytes(self.total)}"


def bytes_of_each(
    store: Store, config: VLMConfig, sites: tuple[str, ...], layers: tuple[int, ...], dtype: torch.dtype
) -> int:
    """The bytes that one image takes in a study, its photograph and its texts not counted.

    Args:
        store: what is kept.
        config: the model.
        sites: hook sites.
        layers: of the states; for maps those that are decoded.
        dtype: of what is kept.
    """
    view = config.vision.image_size**2 * CHANNELS
    if store == "maps":
        return view + len(layers) * config.n_image_tokens * config.patch**2 * CHANNELS * dtype.itemsize
    widths = [
        len(site_layers(site, layers, config.llm.n_layer, config.llm.mixer_layers))
        * site_width(site, config.llm)
        for site in sites
    ]
    tokens = 2 if store == "pooled" else config.n_image_tokens
    return view + tokens * sum(widths) * dtype.itemsize


def require_disk(path: Path, wanted: int, *, mend: str = LESS) -> None:
    """Refuse what the disk has no room for.

    Args:
        path: the study.
        wanted: bytes.
        mend: how to do with less.

    Raises:
        StudyError: it has not.
    """
    place = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
    free = shutil.disk_usage(place).free
    if wanted > free:
        raise StudyError(
            f"{path}: expected room for {_bytes(wanted)}, and the disk has {_bytes(free)}. {mend}"
        )


def _bytes(count: int) -> str:
    number, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if number < 1000:
            break
        number, unit = number / 1000, larger
    return f"{count} bytes" if unit == "bytes" else f"{number:.1f} {unit}"
