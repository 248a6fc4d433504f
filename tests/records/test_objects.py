"""Which objects a text names."""

import pytest

from emma_viz.records.coco_words import COCO, WORDS
from emma_viz.records.objects import named_words


@pytest.mark.parametrize(
    ("text", "objects"),
    [
        ("Two women and a policeman ride motorbikes.", ["person", "person", "motorcycle"]),
        ("A hot dog beside a dog", ["hot dog", "dog"]),
        ("a baby elephant and a baby", ["elephant", "person"]),
        ("an adult giraffe, adult polar bears", ["giraffe", "person", "bear"]),
        ("the toilet seat is up", ["toilet"]),
        ("a passenger train passes passengers", ["train", "person"]),
        ("children on a tennis court with tennis rackets", ["person", "tennis racket"]),
        ("knives, wine glasses and teddy bears", ["knife", "wine glass", "teddy bear"]),
        ("a bow tie; neckties", ["tie", "tie"]),
        ("There are a couple of dogs on the couch.", ["dog", "couch"]),
        ("A couple beside a crowd of birds", ["person", "bird"]),
        ("A pitcher of orange juice, a bird house under an orange sky", []),
        ("Gras wächst.", []),
        ("", []),
    ],
)
def test_mentions_of_coco(text, objects):
    assert list(COCO.mentions(text)) == objects


def test_places_are_those_of_the_text_as_it_is_written():
    text = "İstanbul: two DOGS, a hot dog."
    assert [(name, text[start:end]) for name, start, end in COCO.places(text)] == [
        ("dog", "DOGS"),
        ("hot dog", "hot dog"),
    ]


def test_every_coco_object_is_found_by_its_own_name():
    assert len(WORDS) == 80
    assert {name: COCO.mentions(f"There is a {name} here.") for name in WORDS} == {
        name: (name,) for name in WORDS
    }


def test_named_words_counts_plurals_and_each_mention():
    assert named_words("Dogs chase a dog past a beach house; beaches.", ("dog", "beach", "cat")) == (
        "dog",
        "dog",
        "beach",
        "beach",
    )
