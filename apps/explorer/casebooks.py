"""Images of a casebook, which the links of its cases name."""

from collections.abc import Callable
from pathlib import Path

from PIL import Image

from apps.explorer.uploads import image_title
from emma_viz.cli.commands.cases import require_databases
from emma_viz.data import image_hash
from emma_viz.errors import InputError
from emma_viz.files.named import named_path


def casebook_images(where: str) -> Callable[[str], tuple[str, Image.Image] | None]:
    """What finds the images of a casebook: hash → name and pixels, or None where it is not known.

    Args:
        where: the path of an SQLite file, or the URL of a database.

    Raises:
        CasebookError: it cannot be opened.
        InputError: there is no such file.
        MissingDependencyError: what reads it is not installed.
    """
    require_databases()
    from emma_viz.cases.casebook import Casebook

    if "://" not in where and not named_path(where).exists():
        raise InputError(
            f"--casebook: there is no file {where}; expected a casebook, as emma-viz cases makes it."
        )
    casebook = Casebook.open(where)

    def find(digest: str) -> tuple[str, Image.Image] | None:
        picture = casebook.picture(digest)
        image = None if picture is None else picture.image()
        if image is None or image_hash(image) != digest:  # a stranger's casebook may call an image anything
            return None
        return image_title(Path(casebook.picture_name(digest))) or digest[:12], image

    return find
