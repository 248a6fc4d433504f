"""Lenses: from the states of image tokens back to pixels, and from pixels to maps.

Names are imported when first used: `import emma_viz.lens` loads no torch.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
