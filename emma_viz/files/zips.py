"""What a damaged zip file brings Python's own reader to."""

import lzma
import struct
import zipfile
import zlib

ZIP_DAMAGE = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    UnicodeDecodeError,
    OSError,
)
"""What is raised when it is opened and when its members are unpacked; beside these, RuntimeError by an encrypted one.
OSError is raised by bzip2, too."""
