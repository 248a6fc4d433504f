"""Answers of photographs and of scenes apart, and the curves of all seeds, from what was kept of the photo pair."""

import matplotlib.pyplot as plt
import pytest

from emma_viz.data.photos import PHOTO_CATEGORIES
from tests.photographs import made_photographs
from training.results.__main__ import CHECKOUT, by_member
from training.results.cells import plain_number, ranged
from training.results.figure import answers
from training.results.measured_files import read_measured
from training.results.numbers import CAPTIONS, all_numbers, parts_of_answers
from training.results.page import answer_table, answers_intro, each_seed, training_curves
from training.results.worlds import PhotoPair, Tabletop


@pytest.fixture(scope="module")
def kept():
    return [read_measured(CHECKOUT / f"docs/measured/photo-seed-{seed}.npz") for seed in (1, 2)]


@pytest.fixture(scope="module")
def members(kept):
    return all_numbers(by_member(kept), (), parts=PhotoPair.parts)["members"]


@pytest.fixture(scope="module")
def rows(members):
    """Name of a row of the table of answers → its cells."""
    lines = answer_table(members).splitlines()[2:]
    return {name: cells for name, *cells in (line.strip("| ").split(" | ") for line in lines)}


def test_the_parts_are_those_of_the_plan(tmp_path):
    confused = tuple(((n + 1) % len(PHOTO_CATEGORIES),) for n in range(len(PHOTO_CATEGORIES)))
    world = PhotoPair(folder=made_photographs(tmp_path, each=2), confused=confused)
    for number in range(6):
        part = world.parts[number % len(world.parts)]
        assert world.plan("test", number).whole == (part == "photographs")


def test_photographs_and_scenes_have_rows_of_their_own_beside_all(members, rows, kept):
    cobra = members["cobra-photo"]["answers"]["existence adversarial"]
    for at, part in enumerate(PhotoPair.parts):
        told = cobra["parts"][part]
        for seed, measured in enumerate(kept):
            columns = measured.members["cobra-photo"].answers["existence adversarial"]
            right, asked = (columns[name][at::2].sum() for name in ("right", "asked"))
            assert told["accuracy"]["seeds"][seed] == pytest.approx(right / asked, abs=1e-5)
            assert told["questions"] == asked == 1000
        assert told["accuracy"]["low"] < told["accuracy"]["value"] < told["accuracy"]["high"]
        assert rows[f"existence adversarial, {part}"][:2] == ["1000", ranged(told["accuracy"])]
        assert rows[f"existence adversarial, {part}, yes-rate"][0] == "1000"
    assert rows["existence adversarial"][0] == "2000"
    photographs, scenes = (cobra["parts"][part]["accuracy"] for part in PhotoPair.parts)
    assert scenes["high"] < 0.88 < photographs["low"]


def test_a_topic_that_one_kind_of_picture_is_asked_has_one_row_that_says_so(rows):
    assert {name: cells[0] for name, cells in rows.items() if "alone" in name} == {
        "count, scenes alone": "500",
        "relation, scenes alone": "289",
        "what, photographs alone": "500",
        "where, scenes alone": "455",
    }
    assert not any(name.startswith("where,") and "alone" not in name for name in rows)


def test_f1_is_said_to_be_of_as_many_pictures_as_were_captioned(members, rows):
    names = ["kinds in captions, F1", *(f"kinds in captions, F1, {part}" for part in PhotoPair.parts)]
    assert [rows[name][0] for name in names] == ["150", "75", "75"]
    f1 = {part: each["value"] for part, each in members["emma-v1-photo"]["captions_f1_parts"].items()}
    assert f1["photographs"] > 0.85 > 0.6 > f1["scenes"]
    assert "the first 150 pictures" in answers_intro(members, PhotoPair.parts)
    assert "photographs and scenes together" in answers_intro(members, PhotoPair.parts)


def test_each_seed_and_the_figure_part_what_the_table_parts(members):
    told = parts_of_answers(members["cobra-photo"])
    assert (CAPTIONS, "scenes") in told
    assert ("what", "") in told
    assert ("existence random", "") not in told
    text = each_seed(members)
    for seed in (0, 1):
        cells = " | ".join(plain_number(each["seeds"][seed]) for each in told.values())
        assert f" | {cells} |" in text
    assert "existence random, photographs | existence random, scenes" in text
    figure, axes = plt.subplots()
    answers(axes, members)
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert {"what", "existence random, scenes", "kinds in captions (F1), photographs"} <= {*shown}
    assert len(shown) == len(told)
    plt.close(figure)


def test_where_all_pictures_are_alike_nothing_is_parted(kept):
    members = all_numbers(by_member(kept), (), parts=Tabletop.parts)["members"]
    assert "," not in "".join(part for _, part in parts_of_answers(members["cobra-photo"]))
    table = answer_table(members)
    assert "photographs" not in table
    assert "scenes" not in table


def test_the_curves_are_of_all_seeds_and_members(kept):
    bundles = [{"name": each.name, "members": each.origins} for each in reversed(kept)]
    text = training_curves({"bundles": bundles}, "pictures")
    runs = [(member, seed) for member in ("cobra-photo", "emma-v1-photo") for seed in (1, 2)]
    places = [text.index(f"{member}, seed {seed}, joint stage") for member, seed in runs]
    assert places == sorted(places)
    for measured in kept:
        for origin in measured.origins.values():
            for each in origin["scores"]:
                cells = (plain_number(each["accuracy"][topic]) for topic in sorted(each["accuracy"]))
                assert f"| {each['step']} | {each['minutes']:.0f} | {' | '.join(cells)} |" in text
