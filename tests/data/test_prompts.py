"""Prompts to the character: the expected texts are what the released prompt builders make."""

import pytest

from emma_viz.data import PROMPT_STYLES, Turn, answer_ids, build_prompt, first_id, prompt_style, wrap_turn
from emma_viz.errors import InputError
from tests.tiny_model import llama_tokenizer, spaced_tokenizer, tiny_tokenizer

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


@pytest.mark.parametrize("tokenizer", [spaced_tokenizer(), llama_tokenizer("Yes")[0]], ids=["bpe", "llama"])
@pytest.mark.parametrize("style", ["zephyr", "vicuna", "tinyllava", "internlm2"])
def test_an_answer_goes_on_as_its_turn_does(style, tokenizer):
    prompt = build_prompt("Is it red?", style)
    turn = wrap_turn(Turn(role="gpt", text="Yes, it is"), 1, style)
    whole = tokenizer.encode(prompt + turn[: turn.index("is") + 2])
    assert tokenizer.encode(prompt) + answer_ids(tokenizer, prompt, "Yes, it is") == whole
    assert answer_ids(tokenizer, prompt, "") == []


def test_the_token_that_an_answer_begins_with():
    phi, (llama, ids) = spaced_tokenizer(), llama_tokenizer("Yes", "No")
    (bare,), (spaced,) = phi.encode("Yes"), phi.encode(" Yes")
    expected = {"zephyr": bare, "in-out": bare, "tinyllava": spaced, "vicuna": spaced, "internlm2": bare}
    prompts = {style: build_prompt("Is it red?", style) for style in PROMPT_STYLES}
    assert {style: first_id(phi, prompt, "Yes") for style, prompt in prompts.items()} == expected
    assert first_id(phi, prompts["tinyllava"], " Yes") == spaced
    assert first_id(llama, prompts["vicuna"], "Yes") == ids["▁Yes"]
    assert llama.encode("Yes") == [ids["▁Yes"]]
    assert first_id(llama, prompts["internlm2"], "Yes") == ids["Y"], "nothing stands before it on its line"


def test_a_space_that_is_a_token_of_its_own_begins_no_answer():
    letters = tiny_tokenizer()
    assert first_id(letters, build_prompt("Is it red?", "tinyllava"), "Yes") == letters.encode("Y")[0]
    for empty in ("", " "):
        with pytest.raises(InputError, match="expected a word to begin an answer with"):
            first_id(letters, "A:", empty)
