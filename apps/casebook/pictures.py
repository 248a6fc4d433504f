"""Pictures of cases as addresses that hold their own content, so that no path of the server can be asked for."""

import base64

from emma_viz.cases.pictures import CasePicture


def address_of(content: bytes, media_type: str) -> str:
    """A `data:` address."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def framed(picture: CasePicture, box: tuple[int, int, int, int] | None, *, alt: str) -> str:
    """HTML of an image, with the object's box drawn where it is known."""
    shape = ""
    if box is not None:
        left, top, right, bottom = box
        place = (
            f"left:{100 * left / picture.width:.3f}%;top:{100 * top / picture.height:.3f}%;"
            f"width:{100 * (right - left) / picture.width:.3f}%;height:{100 * (bottom - top) / picture.height:.3f}%"
        )
        shape = f'<i class="cb-box" style="{place}"></i>'
    address = address_of(picture.content, picture.media_type)
    return f'<div class="cb-photo"><img alt="{alt}" src="{address}">{shape}</div>'
