"""What is asked of a case before anything is measured."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from PIL import Image

from emma_viz.session.evidence.document import RegionKind
from emma_viz.session.evidence.labelled import LabelledImages


@dataclass(frozen=True, kw_only=True, eq=False)
class AskedCase:
    """What is asked of a case, and what is known of it."""

    image: Image.Image
    """RGB, upright."""
    prompt: str
    """What was asked, without the model's template."""
    object: str = ""
    """What it asks about."""
    mask: Bool[np.ndarray, "height width"] | None = None
    """Where that is, in pixels of the image; None where it is not there or not known."""
    box: tuple[int, int, int, int] | None = None
    """The same as left, top, right, bottom, where there is no mask."""
    labelled: LabelledImages | None = None
    """Images of the same benchmark, with labels of what is in them; None where there are none, or masks are better."""

    @property
    def labels(self) -> str:
        """Names what is known of the object in other images; "" where there are none."""
        return "" if self.labelled is None else self.labelled.digest(self.object)

    def place(self) -> tuple[Bool[np.ndarray, "height width"] | None, RegionKind | None]:
        """Mask or box as pixels, and which it was."""
        if self.mask is not None:
            return self.mask, "mask"
        if self.box is None:
            return None, None
        left, top, right, bottom = self.box
        found = np.zeros((self.image.height, self.image.width), bool)
        found[top:bottom, left:right] = True
        return found, "box"
