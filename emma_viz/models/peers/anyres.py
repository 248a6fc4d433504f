"""LLaVA-NeXT and LLaVA-OneVision (arXiv 2408.03326): a thumbnail, then tiles as one grid, a token at each row's end."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from emma_viz.data.image_grid import Axis
from emma_viz.data.tiles import MOST_IMAGE_TOKENS, TileGeometry, TokenAxis, TokenGrid
from emma_viz.errors import InputError
from emma_viz.models.peers.peer import Arrangement, PeerSettings, squashed, tiles_in_place, token_grid


class AnyresPeer:
    """See `Peer`."""

    model_types = ("llava_next", "llava_onevision")
    image = "thumbnail, tiles, a token at the end of each row"
    marker = ""
    plain = "USER: {image}\n{message} ASSISTANT:"
    note = ""
    missing = "published weights were not tried; tuned lenses, as grids differ from image to image"
    kinds = (0, 1, 0)
    thumbnail = True

    def grid(self, settings: PeerSettings) -> None:
        """Each image has its own."""
        return

    def arrange(self, image_size: tuple[int, int], settings: PeerSettings) -> Arrangement:
        """Resized into the best of the processor's shapes and padded; rows and columns of padding are dropped."""
        vision = settings.config.vision_config
        side = vision.image_size // vision.patch_size
        small = token_grid(
            squashed(image_size, vision.image_size, vision.image_size), (side, side), vision.patch_size
        )
        whole = _resampled(_unpadded(image_size, settings, side), settings, side)
        rows, columns = whole.y.count, whole.x.count
        geometry = TileGeometry(image_size=image_size, grids=(whole, small), spare=rows)
        places = side * side + np.arange(rows * (columns + 1)).reshape(rows, columns + 1)
        order = np.concatenate([places[:, :-1].ravel(), np.arange(side * side), places[:, -1]])
        return Arrangement(
            geometry=geometry, order=order, tiles=_tiles(_canvas(image_size, settings), settings)
        )

    def written(self, arrangement: Arrangement, token: str) -> str:
        """The tokens alone."""
        return token * arrangement.geometry.n_image_tokens

    def canvas(
        self, pixels: Mapping[str, np.ndarray], arrangement: Arrangement, settings: PeerSettings
    ) -> np.ndarray:
        """The tiles, which come behind the thumbnail."""
        return tiles_in_place(pixels, arrangement.tiles, first=1)


def _canvas(image_size: tuple[int, int], settings: PeerSettings) -> tuple[int, int]:
    """(height, width) of all tiles."""
    from transformers.image_processing_utils import select_best_resolution

    return select_best_resolution(image_size[::-1], settings.processor.image_grid_pinpoints)


def _tiles(canvas: tuple[int, int], settings: PeerSettings) -> tuple[int, int]:
    """Their rows and columns."""
    side = settings.config.vision_config.image_size
    return canvas[0] // side, canvas[1] // side


def _unpadded(image_size: tuple[int, int], settings: PeerSettings, side: int) -> TokenGrid:
    """The grid of all tiles without what sees padding alone, by transformers' own functions."""
    import torch
    from transformers.image_processing_utils import get_patch_output_size
    from transformers.image_utils import ChannelDimension
    from transformers.models.llava_next.modeling_llava_next import unpad_image

    vision, (width, height) = settings.config.vision_config, image_size
    canvas = _canvas(image_size, settings)
    resized = get_patch_output_size(
        np.broadcast_to(np.uint8(0), (1, height, width)), canvas, input_data_format=ChannelDimension.FIRST
    )
    tiles = _tiles(canvas, settings)
    if (count := math.prod(tiles) * side**2) > MOST_IMAGE_TOKENS:
        raise InputError(
            f"expected at most {MOST_IMAGE_TOKENS} image tokens, got {count}: image_grid_pinpoints of the checkpoint's "
            f"preprocessor_config.json have {canvas[1]}×{canvas[0]} pixels."
        )
    full = torch.arange(tiles[0] * tiles[1] * side * side).view(1, tiles[0] * side, tiles[1] * side)
    kept = unpad_image(full, (height, width))[0]
    skip = divmod(int(kept[0, 0]), full.shape[2])
    y, x = (
        TokenAxis(
            count=kept.shape[place],
            patch=vision.patch_size,
            axis=Axis(
                length=length, pad=0, resized=resized[place], crop=-((canvas[place] - resized[place]) // 2)
            ),
            tile=side,
            pitch=vision.image_size,
            skip=skip[place],
        )
        for place, length in enumerate((height, width))
    )
    return TokenGrid(x=x, y=y)


def _resampled(grid: TokenGrid, settings: PeerSettings, side: int) -> TokenGrid:
    """LLaVA-OneVision brings large grids down to as many tokens as `vision_aspect_ratio` allows."""
    most = re.fullmatch(r"anyres_max_(\d+)", getattr(settings.config, "vision_aspect_ratio", ""))
    if most is None:
        return grid
    ratio = math.sqrt(grid.n_tokens / (int(most[1]) * side**2))
    if ratio <= 1.1:
        return grid
    x, y = (
        replace(line, count=int(line.count // ratio), step=line.count / int(line.count // ratio))
        for line in (grid.x, grid.y)
    )
    return TokenGrid(x=x, y=y)


ANYRES = AnyresPeer()
"""The family."""
