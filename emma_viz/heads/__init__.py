"""The networks that EMMA trains beside its language model: feature fusion and decoder, as in the paper and as released.

Names are imported when first used: `import emma_viz.heads` loads no torch.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
