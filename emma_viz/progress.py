"""How long work tells how far it has come."""

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called as progress(done, total, what): images, questions or bytes, as `what` says."""
