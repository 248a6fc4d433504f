"""A study from a stranger reaches nothing outside its folder: nothing is read, written or removed there."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emma_viz.errors import StudyError
from emma_viz.study import open_study

pytestmark = pytest.mark.usefixtures(
    "unchecked"
)  # Type checks would look at images, and meet the error first.


@pytest.fixture
def study(study, make_trace):
    """A study with a trace and arrays beside it."""
    study.add_trace(make_trace(batch=2), "photo")
    study.save_arrays("photo", "maps", {"a": np.arange(3)}, {"kind": "distance"})
    return study


@pytest.fixture
def victim(tmp_path, make_trace):
    """A folder of the user's, with a private picture of a size that the trace's image has."""
    folder = tmp_path / "victim"
    (folder / "000000").mkdir(parents=True)
    (folder / "thesis.tex").write_text("years of work")
    (folder / "000000" / "chapter.tex").write_text("one")
    Image.new("RGB", make_trace(batch=2).images[0].size, "red").save(folder / "private.png")
    return folder


def listing(folder):
    """All files below a folder, with what they hold."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def change(file, **fields):
    """Put other values into a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def use(study, make_trace):
    """All that a user does with an entry; errors that are meant are let through."""
    folder = Path(study.path)
    for act in (
        lambda: open_study(folder).entries,
        lambda: open_study(folder).trace("photo").images[0],
        lambda: open_study(folder).trace("photo")["resid_post", 0],
        lambda: open_study(folder).load_arrays("photo", "maps"),
        lambda: list(open_study(folder).files()),
        lambda: open_study(folder).save_arrays("photo", "maps", {"a": np.zeros(1)}, {}, overwrite=True),
        lambda: open_study(folder).add_trace(make_trace(seed=5), "photo", overwrite=True),
        lambda: open_study(folder).sweep(),
    ):
        try:
            act()
        except StudyError:
            continue
        yield act


def read_and_replace(path, make_trace):
    """What the owner of a study does first."""
    study = open_study(path)
    study.trace("photo").images[0]
    study.add_trace(make_trace(seed=3), "photo", overwrite=True)


NAMES = [
    "../../../victim",
    "..",
    ".",
    "",
    "000000/..",
    "data-0000000g",
    "data-00000000\n",
    "data-00000000/..",
]


@pytest.mark.parametrize("name", [*NAMES, "ABSOLUTE"])
def test_data_that_are_elsewhere_are_not_removed(study, victim, make_trace, name):
    before = listing(victim)
    change(study.path / "entries/photo/entry.json", data=str(victim) if name == "ABSOLUTE" else name)
    with pytest.raises(StudyError, match=r"entry\.json"):
        open_study(study.path).add_trace(make_trace(seed=3), "photo", overwrite=True)
    with pytest.raises(StudyError, match=r"entry\.json"):
        open_study(study.path).trace("photo")
    list(use(study, make_trace))
    assert listing(victim) == before


@pytest.mark.parametrize(
    "name",
    ["../../../../victim/thesis.tex", "x.safetensors", "maps.safetensors", "other.00000000.safetensors", ""],
)
def test_arrays_that_are_elsewhere_are_not_removed(study, victim, make_trace, name):
    before = listing(victim)
    change(study.path / "entries/photo/entry.json", arrays={"maps": name})
    for act in (
        lambda: study.save_arrays("photo", "maps", {"a": np.zeros(1)}, {}, overwrite=True),
        lambda: study.load_arrays("photo", "maps"),
    ):
        with pytest.raises(StudyError, match=r"entry\.json"):
            act()
    list(use(study, make_trace))
    assert listing(victim) == before


@pytest.mark.parametrize("field", ["images", "image_hashes"])
@pytest.mark.parametrize("name", ["../victim/private.png", "/etc/passwd", "images/../../victim/private.png"])
def test_a_picture_that_is_elsewhere_is_not_shown(study, victim, make_trace, field, name):
    (file,) = study.path.rglob("trace.json")
    value = json.loads(file.read_text())
    change(file, **{field: [name, value[field][1]]})
    with pytest.raises(StudyError, match=r"trace\.json"):
        open_study(study.path).trace("photo")
    with pytest.raises(StudyError, match=r"trace\.json"):
        list(open_study(study.path).files())


def test_a_picture_in_place_of_the_recorded_one_is_seen(study, victim):
    trace = study.trace("photo")
    shutil.copy(victim / "private.png", study.path / "images" / f"{trace.image_hashes[0]}.png")
    with pytest.raises(StudyError, match="hash that it is named by"):
        open_study(study.path).trace("photo").images[0]
    assert study.trace("photo").images[1].mode == "RGB"


def test_an_image_that_was_damaged_is_mended_when_it_is_recorded_again(study, victim, make_trace):
    trace = make_trace(batch=2)
    shutil.copy(victim / "private.png", study.path / "images" / f"{trace.image_hashes[0]}.png")
    study.add_trace(trace, "again")
    assert study.trace("photo").images[0].tobytes() == trace.images[0].tobytes()


PLACES = ["entries", "entries/photo", "entries/photo/data-00000000", "entries/photo/data-00000000/000000", "images",
          ".locks", "study.json", "entries/photo/entry.json", "entries/photo/data-00000000/000000/trace.json",
          "entries/photo/data-00000000/000000/tensors.safetensors"]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("outside", [True, False], ids=["leads out", "stays inside"])
def test_a_link_is_refused_and_never_followed(study, tmp_path, make_trace, place, outside):
    real = (tmp_path if outside else study.path) / "moved"
    (study.path / place).rename(real)
    (study.path / place).symlink_to(real)
    before = listing(real) if real.is_dir() else real.read_bytes()
    with pytest.raises(StudyError, match="link"):
        read_and_replace(study.path, make_trace)
    list(use(study, make_trace))
    assert (listing(real) if real.is_dir() else real.read_bytes()) == before


def test_links_to_files_are_no_part_of_a_copy(study, victim):
    (study.path / "images" / "more.png").symlink_to(victim / "private.png")
    (study.path / "entries" / "photo" / "notes.txt").symlink_to(victim / "thesis.tex")
    files = list(study.files())
    assert len(files) == len(set(files)) == 7
    assert not any(path.is_symlink() for path in files)
    assert all(path.is_relative_to(study.path) for path in files)


def test_links_in_data_that_are_removed_are_not_followed(study, victim, make_trace):
    before = listing(victim)
    data = study.path / "entries/photo/data-00000000"
    (data / "inner").symlink_to(victim, target_is_directory=True)
    (data.parent / "data-0000000f").symlink_to(victim, target_is_directory=True)
    (data / "000007").symlink_to(victim, target_is_directory=True)
    (data / f".x.{'0' * 12}.part").symlink_to(victim / "thesis.tex")
    study.sweep()
    study.add_trace(make_trace(seed=3), "photo", overwrite=True)
    assert listing(victim) == before
    assert not data.exists()


@pytest.mark.parametrize("kind", ["pipe", "folder"])
@pytest.mark.parametrize("place", [each for each in PLACES if "." in each[1:]])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(study, make_trace, kind, place):
    (study.path / place).unlink()
    (os.mkfifo if kind == "pipe" else os.mkdir)(study.path / place)
    with pytest.raises(StudyError, match=Path(place).name):
        read_and_replace(study.path, make_trace)
    list(use(study, make_trace))


def test_a_folder_with_the_entry_of_another_is_refused(study):
    shutil.copytree(study.path / "entries/photo", study.path / "entries/other")
    with pytest.raises(StudyError, match="says that it is the entry 'photo'"):
        study.trace("other")
