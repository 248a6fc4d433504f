"""Gemma 3 (arXiv 2503.19786): one square grid, pooled, between marks of its begin and end."""

import math
from collections.abc import Mapping

import numpy as np

from emma_viz.errors import CheckpointError
from emma_viz.models.peers.peer import Arrangement, PeerSettings, one_grid, one_tile, squashed


class Gemma3Peer:
    """See `Peer`."""

    model_types = ("gemma3",)
    image = "one grid, pooled"
    marker = "<start_of_image>"
    plain = "USER: {image}\n{message} ASSISTANT:"
    note = ""
    missing = "published weights were not tried; pan and scan"
    kinds = (0, 1, 0)
    thumbnail = False

    def grid(self, settings: PeerSettings) -> tuple[int, int]:
        """The pooled one."""
        side = math.isqrt(settings.config.mm_tokens_per_image)
        return side, side

    def arrange(self, image_size: tuple[int, int], settings: PeerSettings) -> Arrangement:
        """Squashed to the encoder's input, whose patches are pooled to squares.

        Raises:
            CheckpointError: the processor cuts further crops out of long images, which is not supported.
        """
        if settings.processor.do_pan_and_scan:
            raise CheckpointError(
                "expected an image processor with do_pan_and_scan off; its crops are not supported."
            )
        vision, grid = settings.config.vision_config, self.grid(settings)
        pooled = vision.image_size // vision.patch_size // grid[0]
        return one_grid(image_size, squashed(image_size, *settings.side()), grid, vision.patch_size * pooled)

    def written(self, arrangement: Arrangement, token: str) -> str:
        """Between the marks of the released processor."""
        return f"\n\n<start_of_image>{token * arrangement.geometry.n_image_tokens}<end_of_image>\n\n"

    def canvas(
        self, pixels: Mapping[str, np.ndarray], arrangement: Arrangement, settings: PeerSettings
    ) -> np.ndarray:
        """The one tile."""
        return one_tile(pixels)


GEMMA3 = Gemma3Peer()
"""The family."""
