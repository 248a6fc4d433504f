"""Commands that are killed are finished by themselves: what they end in is what they end in when nobody kills them."""

import re
import resource
import shutil

import pytest
from PIL import Image

from emma_viz.errors import StudyError
from emma_viz.session import Asking, Running, capture, compare_study, decode_study
from emma_viz.study import open_study
from tests.session.killed_studies import start

ASKING = Asking(max_new_tokens=2)
CREATED = re.compile(rb'"created": "[^"]*"')


def content(folder):
    """All that a study holds, but for when it was written and for locks."""
    return {
        str(path.relative_to(folder)): CREATED.sub(b"", path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".locks" not in path.parts
    }


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Three small photographs."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(3):
        Image.effect_noise((40 + number, 30), 60).convert("RGB").save(folder / f"{number}.png")
    return sorted(folder.iterdir())


def recording(images, pair, path, **more):
    """A capture of both models, an image at a time."""
    running = Running(vision_source=str(pair.vision))
    options = {"layers": (-1, 2), "batch_size": 1, "asking": ASKING, "running": running} | more
    return capture(images, pair.models, path, **options)


@pytest.fixture(scope="module")
def whole(images, pair, tmp_path_factory):
    """A capture that nobody disturbed."""
    path = tmp_path_factory.mktemp("whole") / "study"
    recording(images, pair, path)
    return path


def capturing(images, pair, **more):
    """The same as a command for a process of its own."""
    command = {
        "name": "capture",
        "images": list(map(str, images)),
        "models": pair.models,
        "vision": str(pair.vision),
    }
    return command | {"layers": [-1, 2], "batch_size": 1} | more


def kill_at(steps, tmp_path, command, *, begin=None):
    """Kill a command at each of some operations on its study, and give the same command again each time.

    Returns:
        The studies, and after which kills they were finished.
    """
    work, paths = [], [tmp_path / str(step) / "study" for step in steps]
    for step, path in zip(steps, paths, strict=True):
        if begin is not None:
            shutil.copytree(begin, path)
        work += [(command, path, step), (command, path, None)]
    ends = start(work)
    assert ends.count("killed") >= 2
    assert ends[1::2] == ["done"] * len(paths)
    return paths


@pytest.mark.slow
def test_a_killed_capture_is_finished_by_its_own_command(images, pair, whole, tmp_path):
    # The study has no name yet; a half of a sample; one that its entry does not count; a finished entry has not its
    # names; the second model; the last entry. test_forty_images.py tries every kind of moment on what a kill leaves.
    steps = (8, 60, 71, 160, 200, 299)
    for path in kill_at(steps, tmp_path, capturing(images, pair)):
        assert content(path) == content(whole)
        assert not open_study(path).missing


@pytest.mark.slow
def test_a_killed_capture_that_replaces_goes_on_where_it_stopped(images, pair, whole, tmp_path):
    recording(images[:2], pair, tmp_path / "begin", layers=(0,))
    command = capturing(images, pair, overwrite=True)
    steps = (40, 90, 150, 200, 300, 320)
    paths = kill_at(steps, tmp_path, command, begin=tmp_path / "begin")
    shutil.copytree(tmp_path / "begin", tmp_path / "old")
    recording(images, pair, tmp_path / "old", overwrite=True)
    expected = content(tmp_path / "old")
    for path in paths:
        assert content(path) == expected
        found = {name.replace("data-00000001", "data-00000000"): value for name, value in expected.items()}
        assert found.keys() == content(whole).keys()


@pytest.mark.slow
@pytest.mark.parametrize("store", ["maps", "pooled"])
def test_a_killed_capture_of_another_store_is_finished_too(images, pair, tmp_path, store):
    recording(images, pair, tmp_path / "whole", store=store)
    for path in kill_at((60, 110), tmp_path, capturing(images, pair, store=store)):
        assert content(path) == content(tmp_path / "whole")


def test_a_killed_decode_is_finished_by_its_own_command(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "undisturbed")
    decode_study(tmp_path / "undisturbed")
    for path in kill_at((0, 20, 44, 60, 77), tmp_path, {"name": "decode"}, begin=whole):
        assert content(path) == content(tmp_path / "undisturbed")


def test_finished_models_are_not_asked_again(images, pair, whole, monkeypatch):
    before = content(whole)
    monkeypatch.setattr(
        "emma_viz.session.capturing.recording.load", lambda *_: pytest.fail("a model was loaded")
    )
    assert recording(images, pair, whole) == ("cobra", "emma")
    assert recording(images, pair, whole, overwrite=True) == ("cobra", "emma")
    assert content(whole) == before


@pytest.mark.slow
def test_more_images_are_added_to_those_that_are_there(images, pair, whole, tmp_path):
    recording(images[:2], pair, tmp_path / "study")
    decode_study(tmp_path / "study")
    recording(images, pair, tmp_path / "study")
    with pytest.raises(StudyError, match="holds no decoded pixels yet of 'cobra', 'emma'"):
        compare_study(tmp_path / "study")
    decode_study(tmp_path / "study")
    assert compare_study(tmp_path / "study").image_names == ("0.png", "1.png", "2.png")


@pytest.mark.parametrize(
    ("more", "there", "asked"),
    [
        ({"layers": (0,)}, "-1, 2", "0"),
        ({"sites": ("norm_f",), "layers": "all"}, "resid_post", "norm_f"),
        ({"states_dtype": "float16"}, "torch.float32", "torch.float16"),
        ({"asking": Asking(max_new_tokens=3)}, "2, 0.0, 1.0", "3, 0.0, 1.0"),
        ({"asking": Asking(max_new_tokens=2, prompt="Why?")}, "Describe the image in detail.", "Why?"),
        ({"asking": Asking(max_new_tokens=2, temperature=0.5, seed=3)}, "2, 0.0, 1.0", "2, 0.5, 1.0"),
    ],
)
def test_an_entry_that_was_recorded_otherwise_is_refused_before_a_model_is_loaded(
    images, pair, whole, monkeypatch, more, there, asked
):
    monkeypatch.setattr(
        "emma_viz.session.capturing.recording.load", lambda *_: pytest.fail("a model was loaded")
    )
    with pytest.raises(StudyError, match=re.escape(f"({there!r} there, {asked!r} asked for)")):
        recording(images, pair, whole, **more)


def test_other_images_and_other_weights_are_refused(images, pair, whole, tmp_path):
    with pytest.raises(StudyError, match="images"):
        recording(images[::-1], pair, whole)
    with pytest.raises(StudyError, match="images"):
        recording(images[:2], pair, whole)
    other = tmp_path / "cobra"
    other.symlink_to(pair.emma)
    with pytest.raises(StudyError, match="fingerprint of the model"):
        capture(images, [str(other)], whole, layers=(-1, 2), asking=ASKING)


@pytest.mark.slow
def test_what_a_study_lacks_is_said(images, pair, tmp_path):
    path = tmp_path / "study"
    assert start([(capturing(images, pair), path, 100)]) == ["killed"]
    have = {name: entry.n_samples for name, entry in open_study(path).entries.items()}
    assert have == {"cobra": 1}
    lacks = r"lacks 'cobra' \(1 of 3 images\), 'emma' \(0 of 3 images\)"
    for command in (decode_study, compare_study):
        with pytest.raises(StudyError, match=lacks):
            command(path)
    decode_study(path, entries=["cobra"])
    assert len(compare_study(path, entries=["cobra"]).decodings[0]) == 1


def test_models_that_were_not_decoded_are_named(images, pair, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "study")
    decode_study(tmp_path / "study", entries=["cobra"])
    with pytest.raises(StudyError, match=r"no decoded pixels yet of 'emma'; run `emma-viz decode"):
        compare_study(tmp_path / "study")


@pytest.mark.slow
def test_a_full_disk_leaves_no_empty_study_and_keeps_what_is_there(images, pair, whole, tmp_path):
    path = tmp_path / "deep" / "study"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        with pytest.raises(StudyError, match="cannot be written"):
            recording(images, pair, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "deep").exists()
    recording(images, pair, path)
    assert content(path) == content(whole)


@pytest.mark.slow
def test_halves_that_were_left_are_swept(images, pair, whole, tmp_path):
    path = tmp_path / "study"
    recording(images, pair, path)
    data = path / "entries/cobra/data-00000000"
    (path / "entries/cobra/data-0000abcd/000000").mkdir(parents=True)
    (path / "entries/gone/data-00000000/000000").mkdir(parents=True)
    (data / "000003").mkdir()
    for folder in (path, path / "images", path / "entries/cobra", data):
        (folder / f".x.json.{'0' * 12}.part").write_text("half")
    (data / "decoding.0123abcd.safetensors").write_text("of nobody")
    recording(images, pair, path)
    assert content(path) == content(whole)
    assert not (path / "entries/gone").exists()
