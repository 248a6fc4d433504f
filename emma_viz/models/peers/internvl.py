"""InternVL (arXiv 2404.16821, 2504.10479): tiles of the image, then its thumbnail, four patches to a token."""

from collections.abc import Mapping

import numpy as np

from emma_viz.errors import CheckpointError
from emma_viz.models.peers.peer import Arrangement, PeerSettings, pair_of, tiles_and_thumbnail, tiles_in_place

_MOST_TILES = 256
"""The processor's function tries every pair of rows and columns; released checkpoints have 12."""


class InternVLPeer:
    """See `Peer`."""

    model_types = ("internvl",)
    image = "tiles and thumbnail, pixels shuffled"
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
        """Resized to as many tiles as the processor's own function chooses.

        Raises:
            CheckpointError: the processor allows more tiles than can be tried.
        """
        from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

        processor, (height, width) = settings.processor, settings.side()
        rows = columns = 1
        if processor.max_patches > _MOST_TILES:
            raise CheckpointError(
                f"expected an image processor of at most {_MOST_TILES} tiles, got max_patches {processor.max_patches}"
            )
        if processor.crop_to_patches and processor.max_patches > 1:
            columns, rows = get_optimal_tiled_canvas(
                image_size[::-1], (height, width), processor.min_patches, processor.max_patches
            )
        patch = round(pair_of(settings.config.vision_config.patch_size)[0] / settings.config.downsample_ratio)
        return tiles_and_thumbnail(image_size, (rows, columns), height // patch, patch, height)

    def written(self, arrangement: Arrangement, token: str) -> str:
        """Between the marks of the released processor."""
        return f"<img>{token * arrangement.geometry.n_image_tokens}</img>"

    def canvas(
        self, pixels: Mapping[str, np.ndarray], arrangement: Arrangement, settings: PeerSettings
    ) -> np.ndarray:
        """The tiles, or the whole image where it is not cut."""
        return tiles_in_place(pixels, arrangement.tiles if min(arrangement.tiles) else (1, 1))


INTERNVL = InternVLPeer()
"""The family."""
