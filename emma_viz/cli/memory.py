"""How the C library gives freed memory back, for commands that run long."""

import ctypes
import sys

_THRESHOLD = 128 * 2**10
"""Bytes from which on a piece is asked of the system by itself, and given back once it is free: where glibc begins."""
_M_MMAP_THRESHOLD = -3
"""mallopt(3)."""


def give_back_what_is_freed() -> None:
    """Keep glibc's threshold of large pieces where it begins.

    It grows otherwise with the largest piece that was ever freed, and what is smaller is held back: the memory of a
    process grows for some time although the program's does not. Other C libraries are left as they are.
    """
    if sys.platform.startswith("linux"):
        library = ctypes.CDLL(None)
        if hasattr(library, "gnu_get_libc_version"):
            library.mallopt(_M_MMAP_THRESHOLD, _THRESHOLD)
