"""Qwen2-VL (arXiv 2409.12191), Qwen2.5-VL and Qwen3-VL: one grid of the image's own shape, patches merged."""

from collections.abc import Mapping

import numpy as np
from einops import rearrange

from emma_viz.models.peers.peer import Arrangement, PeerSettings, one_grid, squashed


class QwenVLPeer:
    """See `Peer`."""

    model_types = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
    image = "one grid of the image's own shape"
    marker = ""
    plain = "<|vision_start|>{image}<|vision_end|>{message}\n"
    note = ""
    missing = "published weights were not tried; tuned lenses, as grids differ from image to image; videos"
    kinds = (0, 1, 0)
    thumbnail = False

    def grid(self, settings: PeerSettings) -> None:
        """Each image has its own."""
        return

    def arrange(self, image_size: tuple[int, int], settings: PeerSettings) -> Arrangement:
        """Resized, by the processor's own function, to whole squares of merged patches."""
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

        processor = settings.processor
        side = processor.patch_size * processor.merge_size
        height, width = smart_resize(
            image_size[1],
            image_size[0],
            factor=side,
            min_pixels=processor.size["shortest_edge"],
            max_pixels=processor.size["longest_edge"],
        )
        return one_grid(
            image_size, squashed(image_size, height, width), (height // side, width // side), side
        )

    def written(self, arrangement: Arrangement, token: str) -> str:
        """The tokens alone: the chat template writes what stands round them."""
        return token * arrangement.geometry.n_image_tokens

    def canvas(
        self, pixels: Mapping[str, np.ndarray], arrangement: Arrangement, settings: PeerSettings
    ) -> np.ndarray:
        """Patches in their places: they come merged square by merged square, each for two frames alike."""
        _, rows, columns = pixels["image_grid_thw"][0].tolist()
        processor = settings.processor
        return rearrange(
            pixels["pixel_values"],
            "(R C i j) (c t h w) -> t (R i h) (C j w) c",
            R=rows // processor.merge_size,
            C=columns // processor.merge_size,
            i=processor.merge_size,
            j=processor.merge_size,
            t=processor.temporal_patch_size,
            h=processor.patch_size,
            w=processor.patch_size,
        )[0]


QWEN_VL = QwenVLPeer()
"""The family."""
