"""Strangers' words as they are, in HTML or a label, and never as Markdown, which would load pictures."""

import os
import re
from collections.abc import Sequence
from html import escape

from apps.casebook.told import CASEBOOK_PERSON, CASEBOOK_PLACE
from emma_viz.cases.case import CaseAnswer
from emma_viz.cases.casebook import Casebook
from emma_viz.records.coco_words import coco_and

_FOLDERS = re.compile(r"(?<![\w:/\\.~])(?:~|[A-Za-z]:)?(?:[/\\][^\s/\\:'\"<>|]*)*[/\\](?=[^\s/\\])")
"""The folders of a path; an address with :// before it has none."""

_MARKS = re.compile(r"[!-/:-@\[-`{-~]")
"""All that Markdown lets a backslash stand before: the punctuation of ASCII."""


def as_html(text: str) -> str:
    """Text that stands in HTML as it is."""
    return escape(text, quote=True).replace("\n", "<br>")


def as_label(text: str) -> str:
    """Text that stands as it is in a label of Streamlit's buttons, pills and fields, which read labels as Markdown; the
    choices of a list (`st.selectbox`) are plain text and need it not."""
    return _MARKS.sub(r"\\\g<0>", text)


def cut(text: str, longest: int) -> str:
    """Text of so many characters at most, with … for what is cut."""
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def shown_text(text: str) -> str:
    """What went wrong, in words: to others than this machine's own people without the folders that it names."""
    if os.environ.get(CASEBOOK_PERSON):
        return text
    folder = os.path.dirname(os.environ.get(CASEBOOK_PLACE, ""))  # its names may have spaces
    return _FOLDERS.sub("", text.replace(f"{folder}{os.sep}", "") if folder else text)


def marked(text: str, made_up: Sequence[str]) -> str:
    """Text with the words marked that name objects which are not there: the objects' names, and COCO's other words."""
    parts, at = [], 0
    for name, start, end in coco_and(tuple(sorted(set(made_up)))).places(text):
        if name not in made_up:
            continue
        parts += [as_html(text[at:start]), f"<mark>{as_html(text[start:end])}</mark>"]
        at = end
    return "".join([*parts, as_html(text[at:])])


def chip(text: str, look: str = "") -> str:
    """A short fact."""
    return f'<span class="cb-chip {look}">{as_html(text)}</span>'


def judged_chip(answer: CaseAnswer) -> str:
    """Whether an answer is right, as a chip; nothing where it was not scored."""
    if answer.right is None:
        return ""
    return chip("right", "cb-right") if answer.right else chip("wrong", "cb-wrong")


def leaning_bar(answer: CaseAnswer) -> str:
    """P(Yes) against P(No) as a bar with its numbers; nothing where they were not kept, or no yes or no was
    asked for."""
    if not answer.said or answer.leaning is None or answer.p_yes is None or answer.p_no is None:
        return ""
    share = 100 * answer.leaning
    said = f"P(Yes) {answer.p_yes:.3f}, P(No) {answer.p_no:.3f}"
    return (
        f'<div class="cb-lean" role="img" aria-label="{said}"><i style="width:{share:.1f}%"></i></div>'
        f'<p class="cb-small">{said}; of the two, yes has {share:.0f} %</p>'
    )


def scrolled(table: str, name: str) -> str:
    """HTML of a table that may be wider than the page: it is scrolled by itself, by keys, too."""
    return f'<div class="cb-wide" tabindex="0" role="group" aria-label="{as_html(name)}">{table}</div>'


def shown_name(casebook: Casebook) -> str:
    """What visitors see of where a casebook is: the last part, and no folder."""
    return casebook.where.partition("?")[0].replace("\\", "/").rstrip("/").rpartition("/")[2]
