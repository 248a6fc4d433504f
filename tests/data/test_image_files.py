"""What image files say beside their pixels, read by the tag: deep grey, colour profiles, names, and hostile headers."""

import io
import logging
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emma_viz.data import read_image
from emma_viz.data.labels import label_of, told_apart
from emma_viz.errors import ImageError


def noise(width, height, channels=3, seed=0):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def saved(tmp_path, image, suffix=".png", **options):
    path = tmp_path / f"image{suffix}"
    image.save(path, **options)
    return path


def png_bomb(width, height):
    """A small PNG that claims to be huge."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def tiff(values, *, white_is_zero=False, signed=False, largest=None, samples=1):
    """A little-endian TIFF of one strip, by hand: its tags are what these tests are about."""
    data = values.astype(values.dtype.newbyteorder("<")).tobytes()
    height, width = values.shape[:2]
    kind = 3 if values.dtype.kind == "f" else 2 if signed else 1
    bits, colours = values.dtype.itemsize * 8, 2 if samples == 3 else int(not white_is_zero)
    tags = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, colours),
            (273, 4, 0), (277, 3, samples), (278, 4, height), (279, 4, len(data))]  # fmt: skip
    tags += [(281, 3, largest)] if largest is not None else []
    tags.append((339, 3, kind))
    offset = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(
        struct.pack("<HHI", tag, form, 1) + struct.pack("<I", offset if tag == 273 else value)
        for tag, form, value in tags
    )
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + data


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks, depth=8, colour=2, rows=b"\0\1\2\3"):
    """A PNG of one pixel by hand, with these chunks before its pixels."""
    header = struct.pack(">IIBBBBB", 1, 1, depth, colour, 0, 0, 0)
    parts = (chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def wide_profile():
    """A colour profile that is not sRGB: its red is another one."""
    from PIL import ImageCms

    plain = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    place = plain.index(b"s\0R\0G\0B") if b"s\0R\0G\0B" in plain else plain.index(b"sRGB")
    step = 2 if b"s\0R\0G\0B" in plain else 1
    for index, letter in enumerate(b"Wide"):
        plain[place + index * step] = letter
    red = next(12 * n + 132 for n in range(40) if plain[12 * n + 132 : 12 * n + 136] == b"rXYZ")
    start = struct.unpack(">I", plain[red + 4 : red + 8])[0] + 8
    plain[start : start + 4] = struct.pack(">i", int(0.6 * 65536))
    return bytes(plain)


class TestDeepGrey:
    """Fails on a reader that takes every deep grey for 0 to 65535 with 0 as black."""

    def read(self, tmp_path, content, suffix=".tiff"):
        path = tmp_path / f"grey{suffix}"
        path.write_bytes(content)
        return read_image(path)

    def test_white_is_zero(self, tmp_path):
        deep = np.array([[0, 65535, 32768]], np.uint16)
        found = np.asarray(self.read(tmp_path, tiff(deep, white_is_zero=True)))[..., 0]
        assert found.tolist() == [[255, 0, 127]]

    def test_signed_sixteen_bits_have_their_own_white(self, tmp_path):
        found = self.read(tmp_path, tiff(np.array([[0, 16384, 32767]], np.int16), signed=True))
        assert np.asarray(found)[0, :, 0].tolist() == [0, 128, 255]
        with pytest.raises(ImageError, match="from -5 to 0: expected 0 to 32767"):
            self.read(tmp_path, tiff(np.array([[0, -5]], np.int16), signed=True))

    def test_integers_of_thirty_two_bits_up_to_255(self, tmp_path):
        for source in (
            Image.fromarray(np.array([[0, 100, 255]], np.int32)),
            Image.open(io.BytesIO(tiff(np.array([[0, 100, 255]], np.int32), signed=True))),
        ):
            image = read_image(source)
            assert np.asarray(image)[0, :, 0].tolist() == [0, 100, 255]
            assert "255 is taken for white" in " ".join(label_of(image).notes)

    def test_the_largest_sample_that_a_tiff_names_is_white(self, tmp_path):
        image = self.read(tmp_path, tiff(np.array([[0, 2048, 4095]], np.uint16), largest=4095))
        assert np.asarray(image)[0, :, 0].tolist() == [0, 128, 255]
        assert not label_of(image).notes

    @pytest.mark.parametrize("form", ["tiff", "array"])
    def test_twelve_bits_in_sixteen_are_said(self, tmp_path, form, caplog):
        deep = np.array([[0, 2048, 4095]], np.uint16)
        with caplog.at_level(logging.WARNING):
            image = read_image(deep) if form == "array" else self.read(tmp_path, tiff(deep))
        assert np.asarray(image)[0, 2, 0] == 16
        assert "end at 4095 of 65535 (12 of 16 bits)" in " ".join(label_of(image).notes)
        assert "12 of 16 bits" in caplog.text

    def test_the_transparent_grey_of_a_deep_png_is_white(self, tmp_path):
        key = chunk(b"tRNS", struct.pack(">H", 300))
        image = self.read(tmp_path, png(key, depth=16, colour=0, rows=b"\0" + struct.pack(">H", 300)), ".png")
        assert image.getpixel((0, 0)) == (255, 255, 255)
        assert "transparent" in " ".join(label_of(image).notes)
        other = self.read(tmp_path, png(key, depth=16, colour=0, rows=b"\0\xff\xff"), ".png")
        assert not label_of(other).notes


class TestProfiles:
    def test_a_foreign_profile_is_ignored_and_said(self, tmp_path, caplog):
        pixels = noise(8, 8)
        with caplog.at_level(logging.WARNING):
            image = read_image(saved(tmp_path, Image.fromarray(pixels), icc_profile=wide_profile()))
        np.testing.assert_array_equal(np.asarray(image), pixels)
        (note,) = label_of(image).notes
        assert "colour profile (Wide" in note
        assert "--convert-profile" in note
        assert "colour profile" in caplog.text

    def test_and_converted_where_that_is_asked_for(self, tmp_path):
        pixels = noise(8, 8)
        for mode in ("RGB", "RGBA", "P"):
            path = saved(tmp_path, Image.fromarray(pixels).convert(mode), icc_profile=wide_profile())
            image = read_image(path, convert_profile=True)
            assert image.mode == "RGB"
            assert np.abs(np.asarray(image).astype(int) - np.asarray(read_image(path))).max() > 5
            assert "were converted from Wide" in label_of(image).notes[0]

    def test_srgb_and_no_profile_say_nothing(self, tmp_path):
        from PIL import ImageCms

        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        for options in ({}, {"icc_profile": srgb}):
            path = saved(tmp_path, Image.fromarray(noise(8, 8)), **options)
            assert not label_of(read_image(path)).notes
            assert not label_of(read_image(path, convert_profile=True)).notes

    @pytest.mark.parametrize("convert_profile", [False, True])
    def test_a_damaged_profile_is_ignored(self, tmp_path, convert_profile):
        path = saved(tmp_path, Image.fromarray(noise(8, 8)), icc_profile=b"no profile at all")
        image = read_image(path, convert_profile=convert_profile)
        assert "cannot be read" in label_of(image).notes[0]


class TestNames:
    def test_a_read_image_keeps_its_name(self, tmp_path):
        path = saved(tmp_path, Image.fromarray(noise(8, 8)))
        assert label_of(read_image(path)).name == "image.png"
        assert label_of(read_image(read_image(path))).name == "image.png"
        assert label_of(read_image(Image.open(path))).name == "image.png"
        assert label_of(read_image(noise(8, 8))).name == ""

    def test_images_of_one_name_are_told_apart(self):
        paths = [Path("/a/x/cat.png"), Path("/a/y/cat.png"), None, Path("/b/dog.png"), Path("/b/dog.png")]
        assert told_apart(paths) == ("x/cat.png", "y/cat.png", "image 3", "dog.png (1)", "dog.png (2)")


class TestHostile:
    @pytest.mark.parametrize("kind", [b"zTXt", b"iCCP", b"iTXt"])
    @pytest.mark.parametrize("times", [1, 90])
    def test_a_bomb_of_compressed_text(self, tmp_path, kind, times):
        """One chunk beyond the limit of a chunk, or many below it that together go beyond that of a file."""
        body = zlib.compress(b"x" * (3_000_000 if times == 1 else 900_000))
        head = {b"zTXt": b"%d\0\0", b"iCCP": b"%d\0\0", b"iTXt": b"%d\0\1\0\0\0"}[kind]
        chunks = [chunk(kind, head % index + body) for index in range(1 if kind == b"iCCP" else times)]
        path = tmp_path / "bomb.png"
        path.write_bytes(png(*chunks))
        if kind == b"iCCP" and times == 90:
            assert "cannot be read" in label_of(read_image(path)).notes[0]
            return
        with pytest.raises(ImageError, match="more than 1 MB"):
            read_image(path)

    def test_a_billion_pixels_are_refused_by_the_header(self, tmp_path):
        path = tmp_path / "bomb.png"
        path.write_bytes(png_bomb(40_000, 40_000))
        with pytest.raises(ImageError, match="more than the limit of 120,000,000 pixels"):
            read_image(path)

    def test_a_file_of_many_bytes_is_refused(self, tmp_path):
        path = tmp_path / "sparse.png"
        with path.open("wb") as stream:
            stream.write(png())
            stream.truncate(2**30 + 1)
        with pytest.raises(ImageError, match="more than the limit of 1,073,741,824"):
            read_image(path)

    def test_no_message_speaks_of_parameters_to_a_visitor(self, tmp_path):
        path = saved(tmp_path, Image.fromarray(noise(20, 10)))
        with pytest.raises(ImageError) as refused:
            read_image(path, max_pixels=10)
        assert "max_pixels" not in str(refused.value)

    def test_heic_says_how_to_convert(self, tmp_path):
        path = tmp_path / "photo.heic"
        path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 40)
        with pytest.raises(ImageError, match=r"HEIC.*JPEG"):
            read_image(path)

    def test_a_tiff_of_floating_colours_says_what_it_holds(self, tmp_path):
        path = tmp_path / "deep.tiff"
        path.write_bytes(tiff(np.zeros((2, 2, 3), np.float32), samples=3))
        with pytest.raises(ImageError, match=r"3 samples of 32-bit floats.*8 bits a channel"):
            read_image(path)

    @pytest.mark.parametrize("seed", range(40))
    def test_mutated_files_are_read_or_refused(self, tmp_path, seed):
        draw = np.random.default_rng(seed)
        whole = [tiff(np.zeros((4, 4), np.uint16), largest=9), png(chunk(b"tEXt", b"a\0b"))][seed % 2]
        content = bytearray(whole)
        for place in draw.integers(0, len(content), 6):
            content[place] = draw.integers(0, 256)
        path = tmp_path / "mutated"
        path.write_bytes(content[: draw.integers(1, len(content) + 1)])
        try:
            found = read_image(path).mode
        except ImageError as error:
            found = str(error)
        assert found == "RGB" or found.startswith(str(path))
