"""Pictures that were made to do harm: bombs, lies in headers, files of formats that draw or run."""

import io
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.hostile.inputs.samples import drawing

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def hostile_images(folder: Path, seed: int) -> Iterator[tuple[str, Path]]:
    """Write hostile pictures one after another.

    Args:
        folder: an empty folder.
        seed: of the pixels; what is wrong with a picture does not depend on it.

    Yields:
        (what is wrong, its path).
    """
    for number, (name, suffix, data) in enumerate(_files(seed)):
        path = folder / str(number) / f"picture.{suffix}"
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        yield name, path
    for number, (name, make) in enumerate(_PLACES.items()):
        path = folder / f"place-{number}" / "picture.png"
        path.parent.mkdir(parents=True)
        make(path)
        yield name, path


def png(
    width: int, height: int, *, pixels: bytes = b"", chunks: bytes = b"", depth: int = 8, colour: int = 2
) -> bytes:
    """A PNG file of any claims: its pixels need not be as many as its size says."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        SIGNATURE
        + _chunk(b"IHDR", header)
        + chunks
        + _chunk(b"IDAT", zlib.compress(pixels, 9))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _zeros(size: int) -> bytes:
    """A deflated run of zeros that unpacks to at least `size` bytes, made of one block that is repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block, count = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH), -(-size >> 20)
    check = ((count << 20) % 65521) << 16 | 1  # Adler-32 of zeros
    return b"\x78\x9c" + block * count + b"\x03\x00" + struct.pack(">I", check)


def _files(seed: int) -> Iterator[tuple[str, str, bytes]]:
    small = bytes(4 * (1 + 3 * 4))
    bomb = _zeros(1 << 30)
    for width, height in (
        (40_000, 40_000),
        (2**31 - 1, 2**31 - 1),
        (2**31 - 1, 1),
        (1, 2**31 - 1),
        (0, 4),
        (4, 0),
    ):
        yield f"a PNG that claims {width} × {height}", "png", png(width, height, pixels=small)
    yield (
        "a PNG of 10,000 × 11,900 zeros",
        "png",
        SIGNATURE
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", 10_000, 11_900, 8, 0, 0, 0, 0))
        + _chunk(b"IDAT", _zeros(119_011_900))
        + _chunk(b"IEND", b""),
    )
    yield (
        "a PNG whose pixels unpack to 1 GB",
        "png",
        SIGNATURE
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0))
        + _chunk(b"IDAT", bomb)
        + _chunk(b"IEND", b""),
    )
    for name, chunk in (
        ("zTXt", _chunk(b"zTXt", b"x\0\0" + bomb)),
        ("iTXt", _chunk(b"iTXt", b"x\0\1\0\0\0" + bomb)),
        ("iCCP", _chunk(b"iCCP", b"x\0\0" + bomb)),
        ("many zTXt", _chunk(b"zTXt", b"x\0\0" + _zeros(1 << 20)) * 600),
        ("many tEXt", _chunk(b"tEXt", b"k\0" + b"v" * 100) * 200_000),
        ("eXIf of noise", _chunk(b"eXIf", np.random.default_rng(seed).bytes(4096))),
        (
            "eXIf that points at itself",
            _chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\1\x87\x69\0\4\0\0\0\1\0\0\0\x08\0\0\0\x08"),
        ),
        ("PLTE of 5 bytes", _chunk(b"PLTE", b"12345")),
        ("acTL of 2^31 frames", _chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))),
        ("a chunk of 2^31 bytes", struct.pack(">I", 2**31 - 1) + b"teXt"),
    ):
        yield f"a PNG with {name}", "png", png(4, 4, pixels=small, chunks=chunk)
    for depth, colour in ((16, 3), (1, 2), (7, 0), (255, 255)):
        yield (
            f"a PNG of depth {depth}, colour {colour}",
            "png",
            png(4, 4, pixels=small, depth=depth, colour=colour),
        )
    yield from _no_pictures()
    yield from _other_formats()
    yield from _jpegs(seed)


def _no_pictures() -> Iterator[tuple[str, str, bytes]]:
    """Programs, documents and archives under the names of pictures."""
    yield (
        "EPS that deletes",
        "eps",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/tmp/x) deletefile\n%%EOF\n",
    )
    yield (
        "EPS called PNG",
        "png",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99999 99999\nshowpage\n%%EOF\n",
    )
    yield (
        "SVG with a foreign file",
        "svg",
        b'<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>',
    )
    yield (
        "XML that doubles itself",
        "svg",
        b'<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><svg>&b;</svg>',
    )
    yield "a pickle", "png", b"\x80\x04cos\nsystem\n(S'touch executed'\ntR."
    yield "an archive", "png", b"PK\x03\x04" + bytes(100)
    yield "HTML", "jpg", b"<html><script>alert(1)</script></html>"


def _other_formats() -> Iterator[tuple[str, str, bytes]]:
    """Formats beside PNG and JPEG whose sizes and counts are lies."""
    yield "PPM that claims 10^9 pixels", "ppm", b"P6 32000 32000 255\n" + bytes(99)
    yield "PPM with a size of 5000 digits", "ppm", b"P6 " + b"9" * 5000 + b" 1 255\n"
    yield "PGM of text values without end", "pgm", b"P2 4 4 255\n" + b"1 " * 3_000_000
    yield (
        "BMP of negative size",
        "bmp",
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, -4, -(2**31), 1, 24, *[0] * 6),
    )
    yield (
        "BMP in runs without end",
        "bmp",
        b"BM"
        + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 30_000, 3000, 1, 8, 1, 0, 0, 0, 256, 0)
        + bytes(1024)
        + b"\xff\0" * 1000,
    )
    yield (
        "GIF of 65535 × 65535",
        "gif",
        b"GIF89a"
        + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0)
        + b","
        + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0)
        + b"\x08\x01\x00\x00;",
    )
    yield "GIF with frames without end", "gif", _gif(20_000)
    yield "ICO with 65535 pictures", "ico", struct.pack("<HHH", 0, 1, 65535) + bytes(range(256)) * 64
    yield (
        "TIFF whose folders go round",
        "tif",
        b"II*\0\x08\0\0\0" + struct.pack("<H", 0) + struct.pack("<I", 8),
    )
    yield (
        "TIFF that claims 2^32 strips",
        "tif",
        _tiff({256: 4, 257: 4, 258: 8, 259: 1, 262: 1, 273: 8, 279: 2**32 - 1}),
    )
    yield (
        "TIFF of 60000 × 60000",
        "tif",
        _tiff({256: 60_000, 257: 60_000, 258: 8, 259: 1, 262: 1, 273: 8, 279: 9}),
    )
    yield (
        "ICNS that holds itself",
        "icns",
        b"icns" + struct.pack(">I", 64) + b"ic09" + struct.pack(">I", 0) + bytes(48),
    )
    yield "FLI of no frames", "fli", struct.pack("<IHHHHH", 128, 0xAF11, 0, 8, 8, 8) + bytes(114)
    yield (
        "PSD of 30000 layers",
        "psd",
        b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 56, 30_000, 30_000, 8, 3) + bytes(99),
    )


def _jpegs(seed: int) -> Iterator[tuple[str, str, bytes]]:
    """JPEGs that claim, repeat and turn."""
    jpeg = io.BytesIO()
    drawing(seed).save(jpeg, "JPEG")
    whole = jpeg.getvalue()
    start = whole.index(b"\xff\xc0")
    for height, width in ((65535, 65535), (0, 0), (65500, 1)):
        claim = whole[: start + 5] + struct.pack(">HH", height, width) + whole[start + 9 :]
        yield f"JPEG that claims {width} × {height}", "jpg", claim
    yield (
        "JPEG with 60 MB of comments",
        "jpg",
        whole[:2] + (b"\xff\xfe\xff\xff" + bytes(65533)) * 900 + whole[2:],
    )
    yield "JPEG of scans without end", "jpg", whole[:-2] + whole[whole.index(b"\xff\xda") : -2] * 2000
    yield "JPEG turned 99 times", "jpg", _turned(99)
    text = b"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0\x1b[2J" + bytes(4)
    yield "JPEG turned by text", "jpg", whole[:2] + b"\xff\xe1\0\x22Exif\0\0" + text + whole[2:]


def _gif(frames: int) -> bytes:
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6) + frame * frames + b";"


def _tiff(tags: dict[int, int]) -> bytes:
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)


def _turned(how: int) -> bytes:
    exif, stream = Image.Exif(), io.BytesIO()
    exif[0x0112] = how
    drawing(0).save(stream, "JPEG", exif=exif)
    return stream.getvalue()


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.write(SIGNATURE)
        file.truncate(20 << 30)


_PLACES = {
    "a folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to nothing": lambda path: path.symlink_to(path.with_name("nowhere")),
    "20 GB of nothing": _sparse,
    "an empty file": Path.touch,
}
