"""PaliGemma (arXiv 2407.07726): one square grid, which stands first; image and question see one another."""

from collections.abc import Mapping

import numpy as np

from emma_viz.models.peers.peer import Arrangement, PeerSettings, one_grid, one_tile, squashed


class PaliGemmaPeer:
    """See `Peer`."""

    model_types = ("paligemma",)
    image = "one grid"
    marker = ""
    plain = "{image}{bos}{message}\n"
    note = "image and question see one another: what the image's tokens hold depends on the question"
    missing = "published weights were not tried"
    kinds = (0, 0, 1)
    thumbnail = False

    def grid(self, settings: PeerSettings) -> tuple[int, int]:
        """The encoder's own."""
        vision = settings.config.vision_config
        side = vision.image_size // vision.patch_size
        return side, side

    def arrange(self, image_size: tuple[int, int], settings: PeerSettings) -> Arrangement:
        """Squashed to the encoder's input."""
        axes = squashed(image_size, *settings.side())
        return one_grid(image_size, axes, self.grid(settings), settings.config.vision_config.patch_size)

    def written(self, arrangement: Arrangement, token: str) -> str:
        """The tokens alone."""
        return token * arrangement.geometry.n_image_tokens

    def canvas(
        self, pixels: Mapping[str, np.ndarray], arrangement: Arrangement, settings: PeerSettings
    ) -> np.ndarray:
        """The one tile."""
        return one_tile(pixels)


PALIGEMMA = PaliGemmaPeer()
"""The family."""
