"""Capturing: what is asked, what is kept of it, and the batches that go into a study."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
