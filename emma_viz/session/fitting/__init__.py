"""Lenses fitted on the road: which images, the fits, and where a lens is kept."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
