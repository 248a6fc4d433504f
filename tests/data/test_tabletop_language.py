from collections import Counter

import pytest

from emma_viz.data.tabletop import (
    DESCRIBE,
    KIND_INDEX,
    Scene,
    Thing,
    caption,
    conversation,
    make_scene,
    named_kinds,
    stream,
)
from emma_viz.data.tabletop.language import (
    absent_kind,
    color,
    count,
    existence,
    existence_turns,
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
    assert caption(TABLE) == "A red cup and two forks on a wooden table."
    assert (
        caption(scene_of(thing("apple", "green"), surface="checker")) == "A green apple on a checked cloth."
    )
    three = scene_of(thing("key", "white"), thing("pizza", ""), thing("key", "white"), thing("apple", "red"))
    assert caption(three) == "A pizza, a red apple and two white keys on a wooden table."
    orange = scene_of(thing("cup", "orange"), thing("hat", "orange"), surface="photo")
    assert caption(orange) == "An orange cup and an orange hat in a photo."


def test_answers_are_true():
    cup, fork = TABLE.things[1], TABLE.things[0]
    assert existence(TABLE, "cup").answer == "Yes."
    assert existence(TABLE, "spoon").answer == "No."
    assert existence(TABLE, "apple").question == "Is there an apple in the image?"
    assert count(TABLE, "fork").answer == "Two."
    assert count(TABLE, "fork").question == "How many forks are there?"
    assert color(cup).answer == "The cup is red."
    assert where(cup).answer == "At the top right."
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
    left = {absent_kind(TABLE, rng, mode="popular", asked=frozenset({"plate"})) for _ in range(100)}
    assert left == {"book", "phone", "spoon", "lamp", "apple"}
    with pytest.raises(InputError, match="random, popular, adversarial; got 'frequent'"):
        absent_kind(TABLE, rng, mode="frequent")


def test_existence_is_a_fair_coin_that_ends_with_the_last_present_kind():
    answers = Counter()
    for index in range(1500):
        scene = make_scene("train", index)
        turns = existence_turns(scene, stream("train", index, purpose=8), most=4)
        answers.update((place, turn.answer) for place, turn in enumerate(turns))
        assert len({turn.question for turn in turns}) == len(turns)
        present = [place for place, turn in enumerate(turns) if turn.answer == "Yes."]
        if len(present) == len(scene.kinds):
            assert present[-1] == len(turns) - 1
    for place in range(4):
        yes = answers[place, "Yes."] / (answers[place, "Yes."] + answers[place, "No."])
        assert yes == pytest.approx(0.5, abs=0.05), f"question {place}: {yes:.3f} of the answers are yes"


def test_nothing_in_a_conversation_gives_a_later_answer_away():
    order = {"existence": 0, "color": 1, "count": 1, "where": 1, "relation": 1, "caption": 2}
    firsts = Counter()
    for index in range(400):
        scene = make_scene("train", index)
        turns = conversation(scene, stream("train", index, purpose=2))
        stages = [order[turn.topic] for turn in turns]
        assert stages == sorted(stages)
        assert len({turn.question for turn in turns}) == len(turns)
        firsts[turns[0].topic] += 1
        for turn in turns:
            if turn.question == DESCRIBE:
                assert all(kind in turn.answer or kind == "knife" for kind in scene.kinds)
    assert set(firsts) == set(order), "every topic must also be met as a first question"


def test_kinds_are_named_in_one_order():
    scene = scene_of(thing("ball", "red"), thing("cup", "blue"), thing("lamp", "red"))
    assert scene.kinds == tuple(sorted(scene.kinds, key=KIND_INDEX.__getitem__)) == ("cup", "lamp", "ball")
