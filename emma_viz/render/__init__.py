"""Pictures from maps: figures for print, one self-contained page for the web, overlays. No torch."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
