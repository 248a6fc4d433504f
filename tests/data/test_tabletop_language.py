from collections import Counter

import pytest

from emma_viz.data.tabletop import (
    KIND_INDEX,
    Scene,
    Thing,
    caption,
    described_questions,
    description,
    make_scene,
    named_kinds,
    questions,
    stream,
)
from emma_viz.data.tabletop.language import (
    absent_kind,
    color,
    count,
    existence,
    relation,
    where,
)
from emma_viz.errors import InputError


def thing(kind, colour, x=20, y=20):
    return Thing(kind=kind, colour=colour, x=x, y=y, size=30, angle=0)


def scene_of(*things, surface="wood"):
    return Scene(split="test", index=0, surface=surface, things=things)


TABLE = scene_of(thing("fork", "red"), thing("cup", "red", 100, 30), thing("fork", "blue", 30, 100))


def test_caption_reads_like_english():
    assert caption(TABLE) == "A red cup at the top right and two forks on a wooden table."
    assert (
        caption(scene_of(thing("apple", "green"), surface="checker"))
        == "A green apple at the top left on a checked cloth."
    )
    three = scene_of(thing("key", "white"), thing("pizza", ""), thing("key", "white"), thing("apple", "red"))
    assert caption(three) == (
        "A pizza at the top left, a red apple at the top left and two white keys on a wooden table."
    )
    orange = scene_of(thing("cup", "orange"), thing("hat", "orange"), surface="photo")
    assert caption(orange) == "An orange cup at the top left and an orange hat at the top left in a photo."


def test_answers_are_true():
    cup, fork = TABLE.things[1], TABLE.things[0]
    assert existence(TABLE, "cup").answer == "Yes."
    assert existence(TABLE, "spoon").answer == "No."
    assert existence(TABLE, "apple").question == "Is there an apple in the image?"
    assert count(TABLE, "fork").answer == "Two."
    assert count(TABLE, "fork").question == "How many forks are there?"
    assert color(cup).answer == "Red."
    assert where(cup).answer == "Top right."
    assert relation(fork, cup, word="left of").answer == "Yes."
    assert relation(fork, cup, word="right of").answer == "No."
    assert relation(cup, TABLE.things[2], word="above").answer == "Yes."
    assert relation(cup, TABLE.things[2], word="below").answer == "No."


def test_kinds_are_found_in_captions():
    assert named_kinds("Two knives, a red cupcake and a Plate on a wooden table.") == {"knife", "plate"}
    for index in range(50):
        scene = make_scene("val", index)
        assert named_kinds(caption(scene)) == set(scene.kinds)


def test_adversarial_absent_kinds_are_companions():
    rng = stream("test", 0, purpose=9)
    plate = scene_of(thing("plate", "red"))
    chosen = {absent_kind(plate, rng, mode="adversarial") for _ in range(60)}
    assert chosen == {"fork", "knife", "spoon", "pizza"}
    assert len({absent_kind(plate, rng) for _ in range(200)}) > 15


def test_popular_absent_kinds_are_the_most_frequent_that_are_not_there():
    rng = stream("test", 0, purpose=9)
    chosen = {absent_kind(TABLE, rng, mode="popular") for _ in range(100)}
    assert chosen == {"plate", "book", "phone", "spoon", "lamp"}
    with pytest.raises(InputError, match="random, popular, adversarial; got 'frequent'"):
        absent_kind(TABLE, rng, mode="frequent")


def test_existence_questions_are_fair_coins_and_every_topic_is_asked():
    answers, topics = Counter(), Counter()
    for index in range(1000):
        scene = make_scene("train", index)
        turns = questions(scene, stream("train", index, purpose=8))
        asked = [turn for turn in turns if turn.topic == "existence"]
        assert len(asked) == 4
        answers.update(turn.answer for turn in asked)
        topics.update(turn.topic for turn in turns)
    assert answers["Yes."] / answers.total() == pytest.approx(0.5, abs=0.03)
    assert topics["caption"] == 1000
    assert all(1000 < topics[topic] <= 3000 for topic in ("color", "count", "where", "relation"))
    assert set(topics) == {"existence", "color", "count", "where", "relation", "caption"}


def test_a_description_says_everything_that_its_questions_ask():
    for index in range(200):
        scene = make_scene("train", index)
        text = description(scene, stream("train", index, purpose=2))
        for turn in described_questions(scene, stream("train", index, purpose=3)):
            assert turn.topic != "relation"
            if turn.topic == "where":
                thing_asked = turn.question.removeprefix("Where is the ").rstrip("?")
                place = turn.answer.lower()
                assert f"{thing_asked} {place}" in text
        if not scene.chart:
            for one in scene.things:
                assert f"{one.colour} {one.kind} {one.quarter}.".strip().lower() in text.lower()


def test_kinds_are_named_in_one_order():
    scene = scene_of(thing("ball", "red"), thing("cup", "blue"), thing("lamp", "red"))
    assert scene.kinds == tuple(sorted(scene.kinds, key=KIND_INDEX.__getitem__)) == ("cup", "lamp", "ball")
