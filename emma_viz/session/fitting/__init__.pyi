from .awaited import AwaitedLens as AwaitedLens
from .awaited import fit_awaited as fit_awaited
from .awaited import lenses_for as lenses_for
from .fits import HALF as HALF
from .fits import AskedStates as AskedStates
from .fits import fit_lens as fit_lens
from .fits import fit_ridge as fit_ridge
from .fits import fit_tuned as fit_tuned
from .images import FEWEST as FEWEST
from .images import FitImages as FitImages
from .images import choose_images as choose_images
from .keeping import fit_and_keep as fit_and_keep
from .keeping import fit_for as fit_for
from .keeping import lens_place as lens_place
from .keeping import passes as passes
from .keeping import place_of as place_of
from .keeping import quality_table as quality_table

__all__ = [
    "FEWEST",
    "HALF",
    "AskedStates",
    "AwaitedLens",
    "FitImages",
    "choose_images",
    "fit_and_keep",
    "fit_awaited",
    "fit_for",
    "fit_lens",
    "fit_ridge",
    "fit_tuned",
    "lens_place",
    "lenses_for",
    "passes",
    "place_of",
    "quality_table",
]
