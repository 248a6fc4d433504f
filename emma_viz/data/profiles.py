"""Colour profiles: ignored as the released code does, and said; or converted to sRGB."""

import io

from PIL import Image, ImageCms

_LARGEST = 8 * 2**20
"""Bytes of the largest profile that is looked at; a printer's has about one megabyte."""


def ignored(profile: bytes | None) -> tuple[str, ...]:
    """What to say of a profile that is left out of account; nothing of none, or of sRGB."""
    name = _name_of(profile)
    if name is None or "srgb" in name.lower():
        return ()
    return (
        f"its colour profile ({name}) is ignored, as in the released code, so colours may look off; --convert-profile "
        "converts it to sRGB",
    )


def to_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, tuple[str, ...]]:
    """The image in sRGB, and what was done to it.

    Transparent parts stay; a profile that does not fit the image's mode, or that cannot be read, is ignored.
    """
    name = _name_of(profile)
    if name is None or "srgb" in name.lower() or not profile:
        return image, ()
    try:
        plain = image.convert("RGBA") if image.mode in ("P", "PA") and image.has_transparency_data else image
        plain = plain.convert("RGB") if plain.mode in ("P", "1") else plain
        mode = "RGBA" if plain.mode == "RGBA" else "RGB"
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        found = ImageCms.profileToProfile(plain, source, ImageCms.createProfile("sRGB"), outputMode=mode)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        return image, (f"its colour profile ({name}) could not be converted, and is ignored: {error}",)
    return found or image, (f"its colours were converted from {name} to sRGB",)


def _name_of(profile: bytes | None) -> str | None:
    """A profile's own name; None where there is no profile."""
    if not profile:
        return None
    if len(profile) > _LARGEST:
        return f"one of {len(profile):,} bytes, more than the {_LARGEST:,} that are read"
    try:
        found = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile))).strip()
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return "one that cannot be read"
    printable = "".join(char for char in found if char.isprintable())
    return printable[:80] or "one without a name"
