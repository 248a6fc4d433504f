"""Whatever a user hands in leaves as an upright RGB image, or as a clear ImageError."""

import io
import logging
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageOps

from emma_viz.data import ImageTransform, TowerNorm, image_hash, read_image
from emma_viz.data.labels import label_of
from emma_viz.errors import ImageError, InputError

DINO = TowerNorm(name="dinov2", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
SIGLIP = TowerNorm(name="siglip", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def noise(width, height, channels=3, seed=0):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def saved(tmp_path, image, suffix=".png", **options):
    path = tmp_path / f"image{suffix}"
    image.save(path, **options)
    return path


def transform(strategy="resize-naive", size=48, patch=7, towers=(DINO, SIGLIP)):
    return ImageTransform(strategy=strategy, size=size, patch=patch, towers=towers)


class TestRead:
    def test_a_path_a_text_an_image_and_an_array_agree(self, tmp_path):
        pixels = noise(20, 10)
        path = saved(tmp_path, Image.fromarray(pixels))
        for source in (path, str(path), Image.fromarray(pixels), pixels, pixels / np.float32(255)):
            image = read_image(source)
            assert image.mode == "RGB"
            np.testing.assert_array_equal(np.asarray(image), pixels)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_rotation_is_applied(self, tmp_path, orientation):
        upright = Image.fromarray(noise(4, 2)).resize((64, 32), Image.Resampling.NEAREST)
        # How a camera stores it: the inverse of what the orientation asks of the reader.
        inverse = {
            1: None,
            2: Image.Transpose.FLIP_LEFT_RIGHT,
            3: Image.Transpose.ROTATE_180,
            4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE,
            6: Image.Transpose.ROTATE_90,
            7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_270,
        }[orientation]
        stored = upright if inverse is None else upright.transpose(inverse)
        exif = Image.Exif()
        exif[0x0112] = orientation
        image = read_image(saved(tmp_path, stored, exif=exif))
        np.testing.assert_array_equal(np.asarray(image), np.asarray(upright))

    def test_a_rotated_jpeg_is_upright(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6
        path = saved(tmp_path, Image.fromarray(noise(64, 32)), ".jpg", exif=exif)
        assert read_image(path).size == (32, 64)

    def test_grey(self, tmp_path):
        grey = noise(9, 5, 1)
        image = np.asarray(read_image(saved(tmp_path, Image.fromarray(grey))))
        np.testing.assert_array_equal(image, np.repeat(grey[..., None], 3, axis=2))
        np.testing.assert_array_equal(np.asarray(read_image(grey[..., None])), image)

    @pytest.mark.parametrize("suffix", [".png", ".tiff"])
    def test_sixteen_bit_grey_is_scaled_not_clipped(self, tmp_path, suffix):
        deep = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
        expected = np.arange(256).reshape(16, 16)
        for source in (saved(tmp_path, Image.fromarray(deep), suffix), deep):
            image = np.asarray(read_image(source)).astype(int)
            assert np.abs(image - expected[..., None]).max() <= 1

    def test_float_and_integer_modes(self):
        ramp = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
        image = np.asarray(read_image(Image.fromarray(ramp)))
        np.testing.assert_array_equal(image[..., 0], np.rint(ramp * 255))
        integers = Image.fromarray(np.full((3, 3), 32768, dtype=np.int32))
        assert read_image(integers).getpixel((0, 0)) == (128, 128, 128)
        with pytest.raises(ImageError, match=r"from 0 to 70000: expected 0 to 65535"):
            read_image(Image.fromarray(np.array([[0, 70000]], dtype=np.int32)))
        with pytest.raises(ImageError, match=r"from 0 to 255: expected 0 to 1"):
            read_image(Image.fromarray(np.array([[0, 255]], dtype=np.float32)))

    def test_transparent_parts_become_white_and_it_says_so(self, tmp_path, caplog):
        pixels = noise(6, 4, 4)
        pixels[..., 3] = 255
        pixels[0, 0] = (255, 0, 0, 0)
        pixels[0, 1] = (0, 0, 0, 128)
        with caplog.at_level(logging.WARNING):
            image = np.asarray(read_image(saved(tmp_path, Image.fromarray(pixels))))
        np.testing.assert_array_equal(image[0, 0], 255)
        assert np.abs(image[0, 1].astype(int) - 127).max() <= 1
        np.testing.assert_array_equal(image[1:], pixels[1:, :, :3])
        assert "image.png: it has transparent parts: they are laid on white" in caplog.text
        assert label_of(read_image(Image.fromarray(pixels))).notes == (
            "it has transparent parts: they are laid on white",
        )

    def test_an_opaque_alpha_channel_says_nothing(self, caplog):
        pixels = noise(6, 4, 4)
        pixels[..., 3] = 255
        with caplog.at_level(logging.WARNING):
            np.testing.assert_array_equal(np.asarray(read_image(pixels)), pixels[..., :3])
        assert not caplog.records

    @pytest.mark.parametrize("mode", ["LA", "La", "PA", "RGBa"])
    def test_other_modes_with_alpha(self, mode):
        rgba = Image.new("RGBA", (2, 1), (153, 153, 153, 255))
        rgba.putpixel((1, 0), (0, 0, 0, 0))
        chain = {"La": ("LA", "La"), "LA": ("LA",), "PA": ("PA",), "RGBa": ("RGBa",)}[mode]
        image = rgba
        for step in chain:
            image = image.convert(step)
        out = read_image(image)
        assert out.mode == "RGB"
        assert [out.getpixel((x, 0)) for x in (0, 1)] == [(153, 153, 153), (255, 255, 255)]

    def test_a_palette_with_a_transparent_colour(self, tmp_path):
        image = Image.new("P", (2, 1))
        image.putpalette([10, 20, 30, 200, 0, 0])
        image.putpixel((1, 0), 1)
        opaque = read_image(saved(tmp_path, image))
        assert [opaque.getpixel((x, 0)) for x in (0, 1)] == [(10, 20, 30), (200, 0, 0)]
        clear = read_image(saved(tmp_path, image, transparency=1))
        assert [clear.getpixel((x, 0)) for x in (0, 1)] == [(10, 20, 30), (255, 255, 255)]

    def test_cmyk_and_one_bit(self, tmp_path):
        cmyk = read_image(saved(tmp_path, Image.new("CMYK", (8, 8), (0, 255, 255, 0)), ".jpg"))
        red, green, blue = cmyk.getpixel((4, 4))
        assert red > 240
        assert max(green, blue) < 15
        assert read_image(np.array([[True, False]])).getpixel((0, 0)) == (255, 255, 255)
        assert read_image(Image.new("1", (2, 2), 1)).getpixel((0, 0)) == (255, 255, 255)

    def test_the_first_frame_of_an_animation(self, tmp_path):
        frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
        path = tmp_path / "moving.gif"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        assert read_image(path).getpixel((0, 0)) == (255, 0, 0)

    def test_the_result_is_a_copy(self):
        source = Image.new("RGB", (2, 2), "red")
        image = read_image(source)
        source.putpixel((0, 0), (0, 0, 0))
        assert image.getpixel((0, 0)) == (255, 0, 0)

    def test_an_opened_image_stays_as_it_is(self, tmp_path):
        """Its file's profile and resolution too, which `save` would write again."""
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        Image.new("RGB", (2, 2), "red").save(tmp_path / "red.png", icc_profile=profile, dpi=(300, 300))
        with Image.open(tmp_path / "red.png") as source:
            before = dict(source.info)
            image = read_image(source)
            source.putpixel((0, 0), (0, 0, 0))
            assert image is not source
            assert source.info == before
            assert set(before) == {"icc_profile", "dpi"}
            assert image.getpixel((0, 0)) == (255, 0, 0)
            assert image_hash(image) == image_hash(read_image(Image.new("RGB", (2, 2), "red")))


def png_bomb(width, height):
    """A small PNG that claims to be huge."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


class TestRefuse:
    def test_missing_folder_empty_text(self, tmp_path):
        text, empty = tmp_path / "notes.jpg", tmp_path / "empty.png"
        text.write_text("no picture here")
        empty.touch()
        for source, sentence in (
            (tmp_path / "absent.png", "there is no file .*absent.png"),
            (tmp_path, "is a folder"),
            (empty, "is empty"),
            (text, "is not an image"),
            ("https://example.org/cat.jpg", "is a web address"),
        ):
            with pytest.raises(ImageError, match=sentence):
                read_image(source)

    @pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tiff", ".gif"])
    @pytest.mark.parametrize("kept", [0.5, 0.95])
    def test_truncated(self, tmp_path, suffix, kept):
        path = saved(tmp_path, Image.fromarray(noise(200, 100)), suffix)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * kept)])
        with pytest.raises(ImageError, match=r"damaged or truncated|is not an image|cannot be read"):
            read_image(path)

    @pytest.mark.parametrize("side", [11_000, 13_000, 60_000])
    def test_a_bomb_is_refused_before_it_is_decoded(self, tmp_path, side):
        path = tmp_path / "bomb.png"
        path.write_bytes(png_bomb(side, side))
        with pytest.raises(ImageError, match=r"more than the limit of 120,000,000"):
            read_image(path)

    def test_the_limit_is_exact(self, tmp_path):
        path = saved(tmp_path, Image.fromarray(noise(20, 10)))
        assert read_image(path, max_pixels=200).size == (20, 10)
        with Image.open(path) as opened:
            for source in (path, opened, noise(20, 10)):
                with pytest.raises(ImageError, match=r"20×10 pixels, more than the limit of 199"):
                    read_image(source, max_pixels=199)

    @pytest.mark.parametrize("kind", ["zTXt", "iTXt", "iCCP", "long size", "AVIF"])
    def test_a_header_that_a_decoder_gives_up_on(self, tmp_path, kind):
        path = saved(tmp_path, Image.fromarray(noise(20, 10)))
        if kind == "long size":
            path.write_bytes(b"P6 " + b"9" * 5000 + b" 1 255\n")
        elif kind == "AVIF":
            Image.fromarray(noise(20, 10)).save(path, format="AVIF")
            path.write_bytes(path.read_bytes().replace(b"av01", b"av99"))
        else:
            many = (
                b"x\0"
                + {"zTXt": b"\0", "iCCP": b"\0", "iTXt": b"\1\0\0\0"}[kind]
                + zlib.compress(bytes(3 << 20))
            )
            chunk = struct.pack(">I", len(many)) + kind.encode() + many
            chunk += struct.pack(">I", zlib.crc32(kind.encode() + many))
            whole = path.read_bytes()
            path.write_bytes(whole[:33] + chunk + whole[33:])
        with pytest.raises(ImageError, match=str(path)):
            read_image(path)

    @pytest.mark.parametrize(("mode", "fits"), [("RGB", 200), ("L", 249), ("RGBA", 399), ("turned", 399)])
    def test_the_limit_is_of_memory_too(self, tmp_path, mode, fits):
        image, exif = Image.fromarray(noise(20, 10)), Image.Exif()
        if mode == "turned":
            exif[0x0112] = 6
        path = saved(tmp_path, image.convert("RGB" if mode == "turned" else mode), exif=exif)
        assert read_image(path, max_pixels=fits + 1).mode == "RGB"
        with pytest.raises(ImageError, match="more than the limit of"):
            read_image(path, max_pixels=fits if mode != "RGB" else 199)

    def test_a_drawing_that_an_external_program_would_render(self, tmp_path):
        path = saved(tmp_path, Image.fromarray(noise(8, 8)), ".eps")
        with pytest.raises(ImageError, match="EPS drawing"):
            read_image(path)

    @pytest.mark.parametrize(
        ("array", "sentence"),
        [
            (np.zeros((0, 4, 3), np.uint8), "has no pixels"),
            (np.zeros((4, 4, 2), np.uint8), r"expected \(H, W\)"),
            (np.zeros((2, 3, 4, 4), np.uint8), r"expected \(H, W\)"),
            (np.zeros((4, 4), np.int64), "int64"),
            (np.full((4, 4, 3), 255.0), r"from 255 to 255: expected \[0, 1\]"),
            (np.full((4, 4), np.nan), "floats from nan to nan"),
        ],
    )
    def test_arrays_that_are_no_images(self, array, sentence):
        with pytest.raises(ImageError, match=sentence):
            read_image(array)

    def test_an_image_without_pixels(self):
        with pytest.raises(ImageError, match="has no pixels"):
            read_image(Image.new("RGB", (0, 5)))


def test_hash_follows_pixels_and_shape():
    pixels = noise(6, 4)
    base = image_hash(read_image(pixels))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    assert image_hash(read_image(Image.open(buffer))) == base
    changed = pixels.copy()
    changed[3, 5, 2] ^= 1
    assert image_hash(read_image(changed)) != base
    assert image_hash(read_image(pixels.reshape(6, 4, 3))) != base
    assert len(base) == 64


def released(image, strategy, size, tower):
    """The released pipeline, operation by operation: torchvision's semantics, written out in PIL."""
    if strategy == "letterbox":
        width, height = image.size
        longest = max(width, height)
        horizontal, vertical = int((longest - width) / 2), int((longest - height) / 2)
        fill = tuple(int(x * 255) for x in tower.mean)
        image = ImageOps.expand(image, (horizontal, vertical, horizontal, vertical), fill)
    if strategy == "resize-naive":
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    else:
        width, height = image.size
        short, long = min(width, height), max(width, height)
        new_long = int(size * long / short)
        new = (size, new_long) if width <= height else (new_long, size)
        image = image.resize(new, Image.Resampling.BICUBIC)
        left, top = round((new[0] - size) / 2.0), round((new[1] - size) / 2.0)
        image = image.crop((left, top, left + size, top + size))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    return (pixels - torch.tensor(tower.mean)[:, None, None]) / torch.tensor(tower.std)[:, None, None]


SIZES = [(48, 48), (60, 40), (41, 60), (333, 97), (96, 300), (400, 50), (50, 401), (7, 9)]


class TestTransform:
    @pytest.mark.parametrize("strategy", ["resize-naive", "resize-crop", "letterbox"])
    @pytest.mark.parametrize("size", SIZES)
    def test_equals_the_released_pipeline(self, strategy, size):
        image = Image.fromarray(noise(*size))
        towers = transform(strategy).pixels([image, image])
        for pixels, tower in zip(towers, (DINO, SIGLIP), strict=True):
            assert pixels.shape == (2, 3, 48, 48)
            torch.testing.assert_close(pixels[1], released(image, strategy, 48, tower))

    def test_the_view_is_what_is_normalised(self):
        image = Image.fromarray(noise(90, 60))
        for strategy in ("resize-naive", "resize-crop", "letterbox"):
            one = transform(strategy)
            (pixels, _) = one.pixels([image])
            mean, std = (torch.tensor(x)[:, None, None] for x in (DINO.mean, DINO.std))
            back = ((pixels[0] * std + mean) * 255).round().byte().permute(1, 2, 0).numpy()
            np.testing.assert_array_equal(back, np.asarray(one.view(image)))

    @pytest.mark.parametrize("size", [(5000, 300), (300, 5000)])
    def test_long_letterboxes_are_done_in_strips(self, size, monkeypatch):
        monkeypatch.setattr("emma_viz.data.images.MAX_PIXELS", 500_000)
        image = Image.fromarray(noise(*size))
        (pixels,) = transform("letterbox", towers=(DINO,)).pixels([image])
        torch.testing.assert_close(pixels[0], released(image, "letterbox", 48, DINO))

    @pytest.mark.parametrize("strategy", ["resize-crop", "letterbox", "resize-naive"])
    def test_a_line_of_pixels_is_refused(self, strategy):
        image = Image.new("RGB", (1, 3_000_000))
        with pytest.raises(ImageError, match=f"too long and narrow for {strategy}"):
            transform(strategy).view(image)

    @pytest.mark.parametrize("size", [(1, 50_000), (50_000, 1)])
    def test_a_square_of_billions_of_pixels_is_not_padded(self, size):
        with pytest.raises(ImageError, match="too long and narrow for letterbox"):
            transform("letterbox").view(Image.new("RGB", size))

    def test_letterbox_padding_is_near_zero_after_each_norm(self):
        for pixels in transform("letterbox").pixels([Image.new("RGB", (96, 24), "red")]):
            assert pixels[0, :, 0, 0].abs().max() < 0.03

    def test_wrong_settings(self):
        with pytest.raises(InputError, match="unknown resize strategy 'squash'"):
            transform("squash")
        with pytest.raises(InputError, match="at least one vision tower"):
            transform(towers=())
        with pytest.raises(InputError, match="at least one image"):
            transform().pixels([])
        with pytest.raises(ImageError, match="open it with read_image"):
            transform().view(Image.new("L", (8, 8)))
