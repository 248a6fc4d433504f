"""What is to be said of many images alike is said of the first, and at the end with their number."""

import logging
from collections.abc import Generator
from contextlib import contextmanager

about_images = logging.getLogger("emma_viz.data.images")
"""By its name: the module itself is heavy to import."""
MOST = 10_000
"""Names that are kept to count by: a page is served for days, and its images have no end."""


@contextmanager
def said_once() -> Generator[None]:
    """Hold back a note on an image that was said of it, or of another one, before; say of how many at the end."""
    heard: dict[str, dict[str, None]] = {}

    def is_new(record: logging.LogRecord) -> bool:
        if not isinstance(record.args, tuple) or len(record.args) != 2:
            return True
        name, note = map(str, record.args)
        first = note not in heard
        if len(heard) < MOST and (first or sum(map(len, heard.values())) < MOST):
            heard.setdefault(note, {})[name] = None
        return first

    about_images.addFilter(is_new)
    try:
        yield
    finally:
        about_images.removeFilter(is_new)
        for note, names in heard.items():
            if len(names) > 1:
                full = sum(map(len, heard.values())) >= MOST
                more = f"{'at least ' if full else ''}{len(names) - 1}"
                about_images.warning("%s and %s more: %s", next(iter(names)), more, note)
