"""Calls without the check of their types and shapes, as in a user's program."""

from collections.abc import Iterator
from contextlib import contextmanager

import jaxtyping


@contextmanager
def types_unchecked() -> Iterator[None]:
    """Values of a wrong type meet our own messages, and stubs stand for what they are not."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)
