"""Maps: what a lens decoded of an image, the maps drawn from it, their scores, and the one rule for their colours.

Names are imported when first used: `import emma_viz.maps` loads no torch.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
