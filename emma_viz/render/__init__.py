"""Pictures from maps: figures for print, one self-contained page for the web, overlays. No torch."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "figure": ["draw"],
        "overlay": ["fit_image", "highlight"],
        "html": ["page"],
        "formats": ["SUFFIXES", "check_suffix", "save"],
        "sidecar": ["read_spec", "write_spec"],
        "spec": ["FigureSpec", "ImageCase", "ModelCase", "grid_extent"],
    },
)
