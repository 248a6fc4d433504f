"""The way from a case to the explorer: a link that opens the same image, question, models and lens there."""

import json
import os
import shlex
from urllib.parse import quote, urlencode

from apps.casebook.shared import case_maps
from apps.casebook.text import as_html
from apps.casebook.told import CASEBOOK_EXPLORER
from apps.explorer.command import by_label
from apps.explorer.running import LONGEST_PROMPT, MOST_MODELS
from emma_viz.cases.case import CaseRecord

_LONGEST_PART = 8000
"""Signs of one part of a link that the explorer reads."""


def explorer_part(record: CaseRecord) -> str:
    """HTML of the way to the explorer; nothing for a case that it cannot open, or where nobody knows an explorer."""
    told = json.loads(os.environ.get(CASEBOOK_EXPLORER, "{}"))
    sources = list(case_maps().sources_of(record).values())[:MOST_MODELS]
    link = explorer_link(record, list(by_label(sources)))
    if not (told.get("address") and link):
        return ""
    anchor = (
        f'<a class="cb-explore" target="_blank" href="{as_html(told["address"])}/#{as_html(link)}">'
        "Open in the explorer</a>"
    )
    if not told.get("start"):
        return f'<p class="cb-small">{anchor}</p>'
    command = f"{told['start']} --models {shlex.join(sources)}"
    return (
        f'<details class="cb-start"><summary>Open in the explorer</summary><p class="cb-small">The explorer is a '
        f"server of its own. Start it, once, beside this one:</p><pre>{as_html(command)}</pre>"
        f'<p class="cb-small">Then: {anchor}, with this image, question and models. '
        "<code>emma-viz casebook --explorer ADDRESS</code> names one that runs elsewhere.</p></details>"
    )


def explorer_link(record: CaseRecord, models: list[str]) -> str:
    """The fragment of the explorer's address; "" where it cannot open the case.

    Args:
        record: the case.
        models: what the explorer calls them, `MOST_MODELS` at most.
    """
    prompt = quote(record.prompt)
    fits = len(record.prompt) <= LONGEST_PROMPT and len(prompt) < _LONGEST_PART
    if not (record.image and models and record.prompt and fits):
        return ""
    parts = {"image": record.image, "models": ",".join(models), "prompt": record.prompt}
    return urlencode({**parts, "lens": case_maps().lens}, quote_via=quote)
