"""Image files of a data set, as training reads them."""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from emma_viz.errors import ImageError
from emma_viz.models import VLM
from training.vision_language.feature_cache import content_hash, feature_cache_of, fill_cache

_DRAWING = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n"


def drawn_outside(*_arguments, **_options):
    pytest.fail("an external program was to draw a data set's file")


def make(kind: str, path: Path) -> Path:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes({"text": b"no picture", "drawing": _DRAWING}[kind])
    return path


@pytest.mark.parametrize("kind", ["text", "drawing", "pipe", "folder"])
def test_what_is_no_picture_is_left_out_and_neither_awaited_nor_executed(llava, tmp_path, monkeypatch, kind):
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", drawn_outside)
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", "gs")
    torch.manual_seed(0)
    vlm = VLM(llava.config())
    good = tmp_path / "good.png"
    Image.new("RGB", (8, 8), "red").save(good)
    cache = feature_cache_of(vlm, tmp_path / "cache")
    assert fill_cache(cache, vlm, [make(kind, tmp_path / "bad.png"), good], progress=False) == 1
    assert cache.read(content_hash(good)).shape == cache.shape


@pytest.mark.parametrize(
    ("kind", "sentence"), [("pipe", "got a pipe"), ("folder", "got a folder"), (None, "no such file")]
)
def test_a_file_without_content_is_named(tmp_path, kind, sentence):
    path = make(kind, tmp_path / "bad.png") if kind else tmp_path / "bad.png"
    with pytest.raises(ImageError, match=sentence) as refused:
        content_hash(path)
    assert str(path) in str(refused.value)
