"""Prompts to the character: the expected texts are what the released prompt builders make."""

import pytest

from emma_viz.data import Turn, build_prompt, prompt_style, wrap_turn
from emma_viz.errors import InputError

TALK = (
    Turn(role="human", text="<image>\nWhat is this?"),
    Turn(role="gpt", text="A cup.\n"),
    Turn(role="human", text="  What colour? "),
)


def test_one_question():
    assert build_prompt("Describe the image.", "zephyr") == (
        "<|user|>\nDescribe the image.<|endoftext|>\n<|assistant|>\n"
    )
    assert build_prompt("Describe the image.", "in-out") == "In: Describe the image.\nOut: "


def test_several_turns():
    assert build_prompt(TALK, "zephyr") == (
        "<|user|>\nWhat is this?<|endoftext|>\n<|assistant|>\nA cup.<|endoftext|>"
        "\n<|user|>\nWhat colour?<|endoftext|>\n<|assistant|>\n"
    )
    assert build_prompt(TALK, "in-out") == (
        "In: What is this?\nOut: A cup.<|endoftext|>\nIn: What colour?\nOut: "
    )


def test_an_empty_answer_is_a_space():
    assert wrap_turn(Turn(role="gpt", text=" "), 1, "zephyr") == " <|endoftext|>"


@pytest.mark.parametrize(
    ("identifier", "style"),
    [
        ("mamba-2.8b-zephyr", "zephyr"),
        ("xiuyul/mamba-2.8b-zephyr", "zephyr"),
        ("mamba-2.8b", "in-out"),
        ("mamba-2.8b-slimpj", "in-out"),
        ("mamba-2.7b-v2", "in-out"),
        ("v2-2.7b", "in-out"),
    ],
)
def test_style_of_an_official_id(identifier, style):
    assert prompt_style(identifier) == style


def test_wrong_turns():
    with pytest.raises(InputError, match="no prompt style is known for the language model 'vicuna'"):
        prompt_style("vicuna")
    with pytest.raises(InputError, match="turn 1 is from 'human'"):
        build_prompt([TALK[0], TALK[0], TALK[1]], "zephyr")
    with pytest.raises(InputError, match="must end with a human turn"):
        build_prompt(TALK[:2], "zephyr")
    with pytest.raises(InputError, match="must end with a human turn"):
        build_prompt([], "in-out")
