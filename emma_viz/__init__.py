"""See what a Mamba vision-language model's image tokens still hold, layer by layer."""

import lazy_loader as _lazy

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
