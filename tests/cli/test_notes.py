"""What is to be said of many images alike is said of the first, and at the end with their number."""

import logging

from PIL import Image

from emma_viz.cli.main import main
from emma_viz.cli.notes import about_images, said_once
from emma_viz.data import read_image
from tests.data.test_image_files import wide_profile


def test_a_note_of_several_images_is_said_of_the_first_and_with_their_number(tmp_path, caplog):
    profile = wide_profile()
    for name in "abc":
        Image.new("RGB", (8, 8), "red").save(tmp_path / f"{name}.png", icc_profile=profile)
    Image.new("RGBA", (8, 8)).save(tmp_path / "clear.png")
    with caplog.at_level(logging.WARNING), said_once():
        for name in ("a", "b", "a", "clear", "c", "clear"):
            read_image(tmp_path / f"{name}.png")
    first, clear, all_ = caplog.messages
    assert first.startswith(f"{tmp_path / 'a.png'}: its colour profile (Wide")
    assert clear.startswith(f"{tmp_path / 'clear.png'}: it has transparent parts")
    assert all_.startswith(f"{tmp_path / 'a.png'} and 2 more: its colour profile (Wide")
    with caplog.at_level(logging.WARNING):
        for name in "aa":
            read_image(tmp_path / f"{name}.png")
    assert len(caplog.messages) == 5  # in Python each time, as before


def test_a_command_says_it_once(pair, tmp_path, caplog):
    for name in "abc":
        Image.new("RGB", (40, 40), "red").save(tmp_path / f"{name}.png", icc_profile=wide_profile())
    argv = [
        "capture",
        str(tmp_path),
        "--models",
        str(pair.cobra),
        "--vision",
        str(pair.vision),
        "--store",
        "pooled",
        "--out",
        str(tmp_path / "study"),
    ]
    assert main(argv) == 0
    said = [message for message in caplog.messages if "colour profile" in message]
    assert len(said) == 2
    assert "a.png and 2 more:" in said[1]


def test_names_are_kept_up_to_a_bound(monkeypatch, caplog):
    monkeypatch.setattr("emma_viz.cli.notes.MOST", 3)
    with caplog.at_level(logging.WARNING), said_once():
        for number in range(9):
            about_images.warning("%s: %s", f"{number}.png", "it is transparent")
        for _ in range(2):
            about_images.warning("%s: %s", "late.png", "it has another profile")
    assert (
        caplog.messages
        == [
            "0.png: it is transparent",
            "late.png: it has another profile",  # a kind of note is known by its first name, whatever names are kept
            "0.png and at least 2 more: it is transparent",
        ]
    )
