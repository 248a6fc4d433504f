"""LLaVA and LLaVA-1.5 (arXiv 2310.03744) as transformers has them: one square grid an image."""

from collections.abc import Mapping

import numpy as np

from emma_viz.data.image_grid import Axis
from emma_viz.models.peers.peer import Arrangement, PeerSettings, one_grid, one_tile


class LlavaPeer:
    """See `Peer`."""

    model_types = ("llava", "vipllava")
    image = "one grid"
    marker = ""
    plain = "USER: {image}\n{message} ASSISTANT:"
    note = ""
    missing = "published weights were not tried"
    kinds = (0, 1, 0)
    thumbnail = False

    def grid(self, settings: PeerSettings) -> tuple[int, int]:
        """The encoder's own."""
        vision = settings.config.vision_config
        side = vision.image_size // vision.patch_size
        return side, side

    def arrange(self, image_size: tuple[int, int], settings: PeerSettings) -> Arrangement:
        """Resized by its shorter side and cropped at the centre, or padded to a square first, as the processor says."""
        patch = settings.config.vision_config.patch_size
        return one_grid(image_size, _axes(image_size, settings), self.grid(settings), patch)

    def written(self, arrangement: Arrangement, token: str) -> str:
        """The tokens alone."""
        return token * arrangement.geometry.n_image_tokens

    def canvas(
        self, pixels: Mapping[str, np.ndarray], arrangement: Arrangement, settings: PeerSettings
    ) -> np.ndarray:
        """The one tile."""
        return one_tile(pixels)


def _axes(image_size: tuple[int, int], settings: PeerSettings) -> tuple[Axis, Axis]:
    processor = settings.processor
    height, width = settings.side()
    before = [(max(image_size) - each) // 2 if processor.do_pad else 0 for each in image_size]
    padded = [max(image_size)] * 2 if processor.do_pad else list(image_size)
    if not _squares(processor):
        short = min(padded)
        resized = [int(height * each / short) for each in padded]
    else:
        resized = [width, height]
    crop = [0, 0]
    if processor.do_center_crop:
        target = settings.side("crop_size")[::-1]
        crop = [(each - wanted) // 2 for each, wanted in zip(resized, target, strict=True)]
    axes = []
    for place in range(2):
        scale = resized[place] / padded[place]
        axes.append(
            Axis(
                length=image_size[place],
                pad=0,
                resized=image_size[place] * scale,
                crop=crop[place] - before[place] * scale,
            )
        )
    return axes[0], axes[1]


def _squares(processor) -> bool:
    """Whether the processor resizes to a height and a width."""
    size = processor.size
    return bool(size.get("height") if hasattr(size, "get") else size.height)


LLAVA_HF = LlavaPeer()
"""The family."""
