"""Image files as training reads them."""

from pathlib import Path

import pytest

from emma_viz.errors import ImageError
from training.vision_language.feature_cache import decoded


def test_a_broken_picture_is_named_by_its_file():
    with pytest.raises(ImageError, match=r"^photo.jpg is no image") as error:
        decoded(b"no picture", Path("photo.jpg"))
    assert "BytesIO" not in str(error.value)
