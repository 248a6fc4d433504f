"""The images that ship: photographs of scikit-image, and scenes of the tabletop world."""

from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from emma_viz.data import image_hash, read_image
from emma_viz.data.tabletop import draw_scene, make_scene

PHOTOGRAPHS = {"coffee": "coffee.png", "cat": "chelsea.png", "astronaut": "astronaut.png"}
_SCENES = {"table 1": 3, "table 2": 7, "table 3": 12}
"""Name → index in the split that no model was trained on."""


def example_images() -> Mapping[str, tuple[str, Image.Image]]:
    """Hash → name and image. A photograph that the installed scikit-image lacks is left out."""
    found = [
        (name, read_image(path)) for name, file in PHOTOGRAPHS.items() if (path := _data() / file).is_file()
    ]
    found += [
        (name, read_image(draw_scene(make_scene("test", index)).image)) for name, index in _SCENES.items()
    ]
    return {image_hash(image): (name, image) for name, image in found}


def _data() -> Path:
    import skimage

    return Path(skimage.__file__).parent / "data"
