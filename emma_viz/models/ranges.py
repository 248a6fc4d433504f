"""What fields of the descriptions of models may be, for Python and for files alike."""

from typing import Annotated

import msgspec

DEEPEST = 1024
"""Layers of the deepest model that is read; published ones have at most 128."""
BROADEST = 2**17
"""Channels of the widest model that is read; published ones have at most 2**15."""

Depth = Annotated[int, msgspec.Meta(ge=1, le=DEEPEST)]
Width = Annotated[int, msgspec.Meta(ge=1, le=BROADEST)]
Factor = Annotated[int, msgspec.Meta(ge=1, le=64)]
"""How many times wider an inner layer is, or how long a convolution."""
Side = Annotated[int, msgspec.Meta(ge=1, le=8192)]
"""A length on an image, pixels or patches."""
Epsilon = Annotated[float, msgspec.Meta(gt=0, le=1)]
Label = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
"""A name that is printed."""
Spread = Annotated[float, msgspec.Meta(gt=0, le=100)]
HubId = Annotated[str, msgspec.Meta(pattern=r"^[\w.-]+/[\w.-]+$", max_length=200)]
Grid = tuple[int, int]
