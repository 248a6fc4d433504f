"""How the published scorers read yes or no from an answer, each to the letter; None is neither.

Each was written afresh after the code that its docstring names.
"""

import re
from typing import Literal, TypeAlias

ReadAnswer: TypeAlias = Literal["yes", "no"] | None

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGITS_COMMA = re.compile(r"(\d)(,)(\d)")
_PERIOD = re.compile(r"(?!<=\d)(\.)(?!\d)")
_WORD = re.compile(r"[^\W\d_]+")


def pope(text: str) -> ReadAnswer:
    """AoiDragon/POPE, evaluate.py: the first sentence without commas says no by No, not or no; all else is yes."""
    words = text.partition(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def opera(text: str) -> ReadAnswer:
    """OPERA's and VCD's pope evaluation: the whole text says no by No, not, no, NO or …n't; all else is yes."""
    words = text.replace(".", "").replace(",", "").split(" ")
    said = {"No", "not", "no", "NO"} & set(words) or any(word.endswith("n't") for word in words)
    return "no" if said else "yes"


def lmms_eval(text: str) -> ReadAnswer:
    """lmms-eval, tasks/pope: exactly yes or no, in any case, without white space around; "Yes." is neither."""
    return _exact(text.lower().strip())


def vlmevalkit(text: str) -> ReadAnswer:
    """VLMEvalKit, YOrN_Extraction: one of the words yes and no, and not the other, once punctuation is taken out."""
    words = _without_punctuation(text.lower()).split()
    if ("yes" in words) == ("no" in words):
        return None
    return "yes" if "yes" in words else "no"


def _without_punctuation(text: str) -> str:
    """VLMEvalKit's process_punctuation, where the flag of the last call is a count of 32."""
    found = text
    for sign in _PUNCTUATION:
        apart = f"{sign} " in text or f" {sign}" in text or _DIGITS_COMMA.search(text)
        found = found.replace(sign, "" if apart else " ")
    return _PERIOD.sub("", found, count=int(re.UNICODE))


def mme(text: str) -> ReadAnswer:
    """MME, eval_tool/calculation.py: yes, or else no, within the first four characters: "know" is no."""
    plain = text.lower()
    if plain in ("yes", "no"):
        return _exact(plain)
    return "yes" if "yes" in plain[:4] else "no" if "no" in plain[:4] else None


def lmms_mme(text: str) -> ReadAnswer:
    """lmms-eval, tasks/mme: as MME's own, without white space and full stops; "y" and "n" are read as well."""
    plain = text.lower().strip().replace(".", "")
    return mme({"y": "yes", "n": "no"}.get(plain, plain))


def amber(text: str) -> ReadAnswer:
    """AMBER, inference.py: exactly "Yes" or "No"."""
    return {"Yes": "yes", "No": "no"}.get(text)  # ty: ignore[invalid-explicit-return]


def lmms_amber(text: str) -> ReadAnswer:
    """lmms-eval's AMBER tasks: "yes" anywhere, or else "no" anywhere, in any case."""
    plain = text.lower()
    return "yes" if "yes" in plain else "no" if "no" in plain else None


def first_word(text: str) -> ReadAnswer:
    """Ours: the first word is yes or no, in any case, whatever follows it."""
    found = _WORD.search(text)
    return _exact(found[0].lower()) if found else None


def _exact(text: str) -> ReadAnswer:
    return "yes" if text == "yes" else "no" if text == "no" else None
