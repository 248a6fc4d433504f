"""What all errors of the package have in common."""

import pytest

from emma_viz import errors

KINDS = [
    each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.EmmaVizError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_that_quotes_a_whole_file_is_cut(kind):
    long = "x" * 100_000
    arguments = (long, long, long) if kind is errors.MissingDependencyError else (f"a.lens: {long}",)
    error = kind(*arguments)
    assert len(str(error)) < 10_000
    assert "characters left out" in str(error)
    assert str(error)[:5] in ("a.len", "xxxxx")


def test_a_long_key_does_not_hide_what_is_wrong():
    error = errors.KeyMismatchError(
        "a.safetensors", missing=["k" * 10**6], unknown=["u"], hint="Use another preset."
    )
    assert str(error).startswith("a.safetensors: the checkpoint does not fit")
    assert str(error).endswith("Use another preset.")
    assert len(str(error)) < 10_000


def test_short_messages_are_as_they_were():
    assert str(errors.LensError("a.lens: no lens.")) == "a.lens: no lens."
    assert errors.LensError(7).args == (7,)


def test_control_characters_of_a_file_are_said_in_words():
    error = errors.KeyMismatchError(
        "a\x1b[2J.safetensors", unknown=["\x07\x1b]0;owned\x07", "a\nb\t"], hint="x\x9b"
    )
    text = str(error)
    assert not [sign for sign in text if (ord(sign) < 32 and sign not in "\n\t") or 127 <= ord(sign) < 160]
    assert "a\\x1b[2J.safetensors" in text
    assert "\\x07\\x1b]0;owned\\x07" in text
