"""What a picture of a comparison would be refused for in the end, seen before any model runs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from emma_viz.checkpoints import FoundModel, LoadedModel
from emma_viz.data.image_grid import ImageGrid
from emma_viz.errors import InputError
from emma_viz.lens import Lens
from emma_viz.maps.joining import require_one_shape
from emma_viz.models.config import VLMConfig
from emma_viz.models.peers.table import peer_named
from emma_viz.render.spec import FIGURE_MODELS
from emma_viz.session.layers import shown_layers
from emma_viz.session.options import View


@dataclass(frozen=True, kw_only=True)
class ForeseenModel:
    """A model of a comparison that did not run yet."""

    config: VLMConfig | None
    """None of one that transformers' own class runs."""
    model: LoadedModel | FoundModel

    @property
    def name(self) -> str:
        """What a picture calls it."""
        return self.model.info.name

    @property
    def reads_prompt(self) -> bool:
        """Whether its image tokens depend on what is asked."""
        if self.config is not None:
            return self.config.projector.infused
        text, image, _ = peer_named(self.model.info.family).kinds
        return text == image  # which then see one another

    def geometry(self, picture: Image.Image) -> ImageGrid | None:
        """Where the tokens of an image will lie; None where that is not known."""
        if isinstance(self.model, LoadedModel):
            return self.model.transform.geometry(picture)
        return None if self.model.geometry is None else self.model.geometry(picture)


def require_count(views: Sequence[View], count: int) -> None:
    """Refuse as many models as no figure shows, or as have no difference.

    Raises:
        InputError: there are more than `FIGURE_MODELS`, or fewer than a difference needs.
    """
    if views and count > FIGURE_MODELS:
        raise InputError(
            f"expected 1 to {FIGURE_MODELS} models in a figure, got {count}; draw several figures."
        )
    if count < 2 and any(view.difference for view in views):
        raise InputError(
            f"expected two models for a difference (--difference), got {count}; name another, or leave it out."
        )


def require_pictured(
    rows: Sequence[ForeseenModel],
    pictures: Sequence[Image.Image],
    prompts: Sequence[str],
    *,
    difference: bool,
    film: bool,
) -> None:
    """Refuse what pictures could not show of these models, whatever their lenses are.

    Args:
        rows: the models.
        pictures: the images that they will see.
        prompts: what is asked about each image.
        difference: whether that of the first two is shown.
        film: whether one of the pictures is a film.

    Raises:
        InputError: a model makes grids of several shapes of the images; models of a difference have no grid in common;
            or a film would be of several maps of an image.
    """
    for row in rows:
        places = [] if row.model.info.grid else [row.geometry(picture) for picture in pictures]
        require_one_shape(row.name, [(place.grid, place.patch) for place in places if place is not None])
    if difference:
        for picture in pictures:
            _require_one_grid(rows[0], rows[1], picture)
    if film and len(set(prompts)) > 1 and (mixed := next((row for row in rows if row.reads_prompt), None)):
        raise InputError(
            f"expected one prompt (--prompt) for a film of {mixed.name}, whose image tokens depend on what is asked, "
            f"got {len(set(prompts))}; draw a film of each."
        )


def require_layers(views: Sequence[View], lenses: Sequence[Lens]) -> None:
    """Refuse layers that lenses do not decode, and a difference of models that show none in common.

    Raises:
        InputError: there are such.
    """
    names = [lens.info.model_name for lens in lenses]
    for view in views:
        layers = [shown_layers(lens.default_layers, view.layers, lens.info.model_name) for lens in lenses]
        if view.difference and not set(layers[0]) & set(layers[1]):
            raise InputError(
                f"expected a layer that {names[0]} and {names[1]} both show for a difference (--difference), got "
                f"{', '.join(map(str, layers[0]))} and {', '.join(map(str, layers[1]))}; name some with --layers."
            )


def _require_one_grid(first: ForeseenModel, second: ForeseenModel, picture: Image.Image) -> None:
    one, other = first.geometry(picture), second.geometry(picture)
    if one is None or other is None:
        return
    if one.grid != other.grid or not np.allclose(one.token_boxes(), other.token_boxes(), atol=1e-3):
        raise InputError(
            f"expected models whose tokens lie alike over the image for a difference (--difference), got {first.name} "
            f"with {one.grid[0]}×{one.grid[1]} and {second.name} with {other.grid[0]}×{other.grid[1]}; take two "
            "others, or leave it out."
        )
