"""Idefics3 (arXiv 2408.12637) and SmolVLM (arXiv 2504.05299): tiles of the image, then all of it, pixels shuffled."""

from collections.abc import Mapping

import numpy as np

from emma_viz.models.peers.peer import Arrangement, PeerSettings, tiles_and_thumbnail, tiles_in_place


class Idefics3Peer:
    """See `Peer`."""

    model_types = ("idefics3", "smolvlm")
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
        """Resized by its longer side, then to whole tiles, by the processor's own functions.

        Two resizes after one another are one map of the whole image, as neither crops.
        """
        processor = settings.processor
        pitch = processor.max_image_size["longest_edge"]
        rows = columns = 0
        if processor.do_image_splitting:
            height, width = _canvas(image_size, processor, pitch)
            rows, columns = height // pitch, width // pitch
        patch = settings.config.vision_config.patch_size * settings.config.scale_factor
        # A single tile is not cut: the processor gives it as the whole image.
        tiles = (rows, columns) if rows * columns > 1 else (0, 0)
        return tiles_and_thumbnail(image_size, tiles, pitch // patch, patch, pitch)

    def written(self, arrangement: Arrangement, token: str) -> str:
        """Each tile behind its row and column, then the whole, as the released processor writes them."""
        rows, columns = arrangement.tiles
        count = arrangement.geometry.n_image_tokens // (rows * columns + 1)
        around, tile = "<fake_token_around_image>", token * count
        lines = [
            "".join(f"{around}<row_{row + 1}_col_{column + 1}>{tile}" for column in range(columns)) + "\n"
            for row in range(rows)
        ]
        return "".join(lines) + f"{chr(10) if lines else ''}{around}<global-img>{tile}{around}"

    def canvas(
        self, pixels: Mapping[str, np.ndarray], arrangement: Arrangement, settings: PeerSettings
    ) -> np.ndarray:
        """The tiles, or the whole image where it is not cut."""
        return tiles_in_place(pixels, arrangement.tiles if min(arrangement.tiles) else (1, 1))


def _canvas(image_size: tuple[int, int], processor, pitch: int) -> tuple[int, int]:
    """(height, width) of all tiles."""
    from transformers.image_utils import SizeDict

    width, height = image_size
    empty = np.broadcast_to(np.uint8(0), (3, height, width))
    resize = _Sizes(processor)
    if processor.do_resize:
        empty = resize(empty, SizeDict(longest_edge=processor.size["longest_edge"]))
    return type(processor).resize_for_vision_encoder(resize, empty, pitch).shape[1:]


class _Sizes:
    """In place of the processor: its arithmetic of sizes, on images of which nothing but the size is there."""

    def __init__(self, processor):
        self._module = type(processor).__module__

    def __call__(self, image: np.ndarray, size) -> np.ndarray:
        import importlib

        if size.longest_edge:
            target = importlib.import_module(self._module).get_resize_output_image_size(
                image, size.longest_edge
            )
        else:
            target = (size.height, size.width)
        return np.broadcast_to(np.uint8(0), (3, *target))

    def resize(self, image: np.ndarray, size, resample=None) -> np.ndarray:
        """The resized image."""
        return self(image, size)


IDEFICS3 = Idefics3Peer()
"""The family."""
