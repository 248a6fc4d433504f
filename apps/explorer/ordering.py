"""A result with its models in the order that the page shows them in."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from apps.explorer.state import RunResult
from emma_viz.session import Comparison
from emma_viz.session.studies import compared_entries

_Each = TypeVar("_Each")


def ordered(result: RunResult, look: Mapping[str, str]) -> RunResult:
    """The result with its models as `look["order"]` names them, the first first; as it is where that is no order."""
    count = len(result.comparison.decodings)
    text = look.get("order", "")
    order = [int(each) for each in text.split(",")] if re.fullmatch(r"\d(,\d)*", text, re.ASCII) else []
    if sorted(order) != list(range(count)) or order == sorted(order):
        return result

    def moved(values: Sequence[_Each]) -> tuple[_Each, ...]:
        return tuple(values[index] for index in order) if len(values) == count else tuple(values)

    entries = result.asked.entries
    if result.study is not None and not entries:
        entries = compared_entries(result.study)
    comparison = Comparison(
        decodings=moved(result.comparison.decodings), image_names=result.comparison.image_names
    )
    return replace(
        result,
        asked=replace(result.asked, entries=moved(entries)),
        comparison=comparison,
        traces=moved(result.traces),
        words=moved(result.words),
        rows=moved(result.rows),
        evidence={
            (order.index(row), *phrase): _reply(reply, order)
            for (row, *phrase), reply in result.evidence.items()
        },
    )


def _reply(reply: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
    """A word's evidence, of every model in the new order."""
    found = dict(reply)
    for name in {"models", "scores", "judged", "beats", "parts"} & {*reply}:
        found[name] = [reply[name][index] for index in order]
    return found
