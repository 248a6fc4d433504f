"""The photo world: splits by photograph, scenes with exact masks, and answers that are true of them."""

import shutil

import numpy as np
import pytest

from emma_viz.data.photos import (
    CATEGORY_INDEX,
    PHOTO_CATEGORIES,
    PHOTO_SIDE,
    PhotoLibrary,
    Rivals,
    draw_photos,
    held_out_questions,
    make_single,
    named_categories,
    photo_questions,
    plan_scene,
)
from emma_viz.errors import InputError
from tests.photographs import made_photographs

SCENES = 50
RIVALS = Rivals(
    popular=tuple(range(len(PHOTO_CATEGORIES))),
    confused=tuple(((n + 1) % 99, (n + 2) % 99) for n in range(len(PHOTO_CATEGORIES))),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return made_photographs(tmp_path_factory.mktemp("photographs") / "all", each=5)


@pytest.fixture(scope="module")
def library(folder):
    return PhotoLibrary.open(folder)


@pytest.fixture(scope="module")
def scenes(library):
    return [plan_scene(library.split("train"), "train", index) for index in range(SCENES)]


def test_every_photograph_is_in_one_split(library):
    parts = {name: {photo.digest for photo in library.split(name)} for name in ("train", "val", "test")}
    assert sum(map(len, parts.values())) == len(library.photos) == 5 * len(PHOTO_CATEGORIES)
    assert len(set.union(*parts.values())) == len(library.photos)
    assert len(parts["train"]) > len(parts["test"]) > len(parts["val"]) > 0


def test_a_copy_is_no_second_photograph(folder, library, tmp_path):
    copied = tmp_path / "copied"
    shutil.copytree(folder, copied)
    for photo in library.split("test")[:20]:
        shutil.copy(photo.path, copied / "yin_yang" / f"again-{photo.digest[:8]}.png")
    again = PhotoLibrary.open(copied)
    assert [photo.digest for photo in again.photos] == [photo.digest for photo in library.photos]
    assert again.digest == library.digest


def test_a_folder_without_a_category_is_refused(folder, tmp_path):
    lacking = tmp_path / "lacking"
    shutil.copytree(folder, lacking)
    shutil.rmtree(lacking / "grand_piano")
    with pytest.raises(InputError, match=r"grand piano.*grand_piano.*--photos"):
        PhotoLibrary.open(lacking)


def test_names_are_natural():
    said = {category.folder: (category.one, category.plural) for category in PHOTO_CATEGORIES}
    assert len({category.name for category in PHOTO_CATEGORIES}) == 99
    assert said["grand_piano"] == ("a grand piano", "grand pianos")
    assert said["euphonium"][0] == "a euphonium"
    assert said["emu"][0] == "an emu"
    assert said["scissors"] == ("a pair of scissors", "pairs of scissors")
    assert said["butterfly"][1] == "butterflies"
    assert said["watch"][1] == "watches"


def test_photographs_of_a_scene_lie_apart_and_inside(library, scenes):
    for scene in scenes:
        taken = np.zeros((PHOTO_SIDE, PHOTO_SIDE), dtype=int)
        for thing in scene.things:
            assert thing.left >= 0
            assert thing.top >= 0
            assert thing.left + thing.width <= PHOTO_SIDE
            assert thing.top + thing.height <= PHOTO_SIDE
            taken[thing.top : thing.top + thing.height, thing.left : thing.left + thing.width] += 1
        assert taken.max() == 1
        assert len({thing.photo for thing in scene.things}) == len(scene.things)
    assert {len(scene.things) for scene in scenes} == {1, 2, 3, 4, 5}


def test_the_mask_is_exact(library, scenes):
    photos = library.split("train")
    for scene in scenes[:10]:
        drawn = draw_photos(scene, photos)
        for number, thing in enumerate(scene.things, start=1):
            rows, columns = np.nonzero(drawn.mask == number)
            assert (rows.min(), columns.min()) == (thing.top, thing.left)
            assert len(rows) == thing.width * thing.height
            shown = photos[thing.photo].open().resize((thing.width, thing.height), 3)
            shown = np.asarray(shown)[:, ::-1] if thing.mirrored else np.asarray(shown)
            assert np.array_equal(drawn.image[drawn.mask == number], shown.reshape(-1, 3))
        assert np.array_equal(draw_photos(scene, photos).image, drawn.image)


def test_splits_have_other_scenes(library):
    photos = library.split("train")
    assert plan_scene(photos, "train", 3) == plan_scene(photos, "train", 3)
    assert plan_scene(photos, "train", 3).things != plan_scene(photos, "val", 3).things
    with pytest.raises(InputError, match="train, val, test"):
        plan_scene(photos, "other", 3)


def test_one_photograph_fills_the_picture(library):
    scene = make_single(library.split("test"), 4)
    drawn = draw_photos(scene, library.split("test"))
    assert scene.whole
    assert (drawn.mask == 1).all()
    topics = {turn.topic for turn in photo_questions(scene, RIVALS, np.random.default_rng(0))}
    assert topics == {"existence", "what", "caption"}


def _related(scene, question):
    """The two photographs of "Is the A left of the B?"."""
    words = question.removeprefix("Is the ").rstrip("?")
    word = next(w for w in (" left of the ", " right of the ", " above the ", " below the ") if w in words)
    by_name = {PHOTO_CATEGORIES[thing.category].name: thing for thing in scene.things}
    return [by_name[name] for name in words.split(word)]


def test_answers_are_true(scenes):
    """Judged from the plan alone, by reading question and answer."""
    asked = 0
    for number, scene in enumerate(scenes):
        names = [PHOTO_CATEGORIES[thing.category].name for thing in scene.things]
        turns = photo_questions(scene, RIVALS, np.random.default_rng(number))
        turns += [turn for _, turn in held_out_questions(scene, RIVALS, np.random.default_rng(number))]
        for turn in turns:
            named = [PHOTO_CATEGORIES[n].name for n in named_categories(turn.question)]
            if turn.topic == "existence":
                assert (turn.answer == "Yes.") == (named[0] in names)
            elif turn.topic == "count":
                assert (
                    turn.answer == ("No.", "One.", "Two.", "Three.", "Four.", "Five.")[names.count(named[0])]
                )
            elif turn.topic == "where":
                (thing,) = (t for t in scene.things if PHOTO_CATEGORIES[t.category].name == named[0])
                rows, columns = turn.answer.rstrip(".").lower().split()
                assert (rows == "top") == (thing.top + thing.height / 2 < PHOTO_SIDE / 2)
                assert (columns == "left") == (thing.left + thing.width / 2 < PHOTO_SIDE / 2)
            elif turn.topic == "relation":
                first, second = _related(scene, turn.question)
                word = next(w for w in ("left of", "right of", "above", "below") if w in turn.question)
                gap = second.x - first.x if "of" in word else second.y - first.y
                assert (turn.answer == "Yes.") == (gap > 0 if word in ("left of", "above") else gap < 0)
            elif turn.topic == "caption":
                assert named_categories(turn.answer) == set(scene.categories)
            asked += 1
    assert asked > 10 * SCENES


def test_absent_categories_are_chosen_as_said(scenes):
    yes = 0
    for number, scene in enumerate(scenes):
        rng = np.random.default_rng(number)
        for topic, turn in held_out_questions(scene, RIVALS, rng):
            if turn.topic != "existence":
                continue
            yes += 1 if turn.answer == "Yes." else -1
            (named,) = named_categories(turn.question)
            if turn.answer == "No." and topic == "existence adversarial":
                assert any(named in RIVALS.confused[there] for there in scene.categories)
            if turn.answer == "No." and topic == "existence popular":
                assert named < 5 + len(scene.categories)
    assert yes == 0


def test_a_crocodile_head_is_no_crocodile():
    assert named_categories("A crocodile head and two chairs.") == {
        CATEGORY_INDEX["crocodile head"],
        CATEGORY_INDEX["chair"],
    }
    assert named_categories("A Windsor chair.") == {CATEGORY_INDEX["Windsor chair"]}
