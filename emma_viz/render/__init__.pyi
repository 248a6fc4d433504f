from .figures.figure import draw as draw
from .formats import SUFFIXES as SUFFIXES
from .formats import check_suffix as check_suffix
from .formats import encode as encode
from .formats import save as save
from .overlay import fit_image as fit_image
from .overlay import highlight as highlight
from .recipe import recipe_of as recipe_of
from .recipe import with_recipe as with_recipe
from .sidecar import read_spec as read_spec
from .sidecar import write_spec as write_spec
from .spans import GridSpans as GridSpans
from .spec import (
    FigureSpec as FigureSpec,
)
from .spec import (
    ImageCase as ImageCase,
)
from .spec import (
    ModelCase as ModelCase,
)
from .web.html import page as page

__all__ = [
    "SUFFIXES",
    "FigureSpec",
    "GridSpans",
    "ImageCase",
    "ModelCase",
    "check_suffix",
    "draw",
    "encode",
    "fit_image",
    "highlight",
    "page",
    "read_spec",
    "recipe_of",
    "save",
    "with_recipe",
    "write_spec",
]
