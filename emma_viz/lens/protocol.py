"""What every lens can do."""

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from emma_viz.data.provenance import ModelInfo
from emma_viz.errors import LensMismatchError
from emma_viz.lens.info import LensInfo


@runtime_checkable
class Lens(Protocol):
    """Turns the image-token states of one layer into patch pixels."""

    @property
    def info(self) -> LensInfo:
        """What the lens says about itself."""
        ...

    @property
    def default_layers(self) -> tuple[int, ...]:
        """The layers that are decoded when none are named."""
        ...

    def reads(self, layer: int) -> tuple[tuple[str, int], ...]:
        """The (site, layer) of every state that `decode` needs for `layer`: that layer's own at `info.site`, or the
        taps that the lens reads together."""
        ...

    def decode(self, states: Float[Tensor, "*K B T D"], layer: int) -> Float[Tensor, "B T p p c"]:
        """Decode.

        Args:
            states: "B T D" when the lens reads one state, else "K B T D" in the order of `reads(layer)`.
            layer: one of `info.layers`.

        Returns:
            float32 pixels on the scale of [0, 1], not clipped.

        Raises:
            LensMismatchError: the lens has no such layer, or the states have another width.
        """
        ...


PictureForm = Literal["layers", "taps", "one"]


def pictures_of(lens: Lens) -> PictureForm:
    """What a lens makes pictures of.

    Returns:
        `layers`: one picture a layer, from that layer's states alone; only such a lens can be forced on another site.
        `taps`: several pictures, each of states that are read together. `one`: one picture in all, of such states.
    """
    if all(tuple(lens.reads(layer)) == ((lens.info.site, layer),) for layer in lens.info.layers):
        return "layers"
    return "taps" if len(lens.info.layers) > 1 else "one"


def mismatch(lens: Lens, *, model: ModelInfo, sites: Sequence[str]) -> tuple[str, ...]:
    """The reasons why states of this model and these sites do not fit a lens; empty when they do."""
    reasons = list(lens.info.mismatch(model))
    if pictures_of(lens) == "layers" and lens.info.site not in sites:
        reasons.append(f"it reads {lens.info.site}, the states are of {', '.join(sites) or 'no site'}")
    return tuple(reasons)


def require_site(lens: Lens, site: str) -> None:
    """Refuse to decode another site with a lens that reads several states together, even forced.

    Raises:
        LensMismatchError: it is such a lens, and reads other sites than this one.
    """
    needed = dict.fromkeys(name for layer in lens.default_layers for name, _ in lens.reads(layer))
    if pictures_of(lens) != "layers" and set(needed) != {site}:
        raise LensMismatchError(
            f"The {lens.info.kind} lens of {lens.info.model_name} reads {' and '.join(needed)} together and cannot "
            f"decode {site} in their place; leave the site (--site) out, or take a ridge lens."
        )


def recording_for(
    lens: Lens, layers: tuple[int, ...] | None = None
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The sites and layers to record so that a lens can decode.

    Args:
        lens: what will decode.
        layers: the layers to decode; the lens's own choice when None.

    Returns:
        (sites, layers) as `record(model, image, prompt, sites=…, layers=…)` takes them.
    """
    pairs = [
        pair for layer in (lens.default_layers if layers is None else layers) for pair in lens.reads(layer)
    ]
    return tuple(dict.fromkeys(site for site, _ in pairs)), tuple(sorted({layer for _, layer in pairs}))
