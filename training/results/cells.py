"""Numbers, ranges and rows as docs/results.md writes them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def short(commit: str) -> str:
    """A commit as the page shows it; what follows the hash stays."""
    name, _, rest = str(commit).partition(" ")
    return " ".join([name[:12], rest]).strip() if len(name) == 40 else str(commit)


def results_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def plain_number(found: Mapping[str, Any] | float | None, digits: int = 2) -> str:
    """A value without its interval."""
    value = found["value"] if isinstance(found, Mapping) else found
    return "—" if value is None else f"{value:.{digits}f}"


def ends(found: Mapping[str, Any]) -> tuple[float, float, float]:
    """Value, low and high of `Estimate.to_json`; NaN for what is not known, as the interval of one image."""
    value, low, high = (math.nan if found[name] is None else found[name] for name in ("value", "low", "high"))
    return value, low, high


def ranged(found: Mapping[str, Any], *, sign: str = "") -> str:
    """ "0.912 [0.901, 0.923]", with the seeds' interval where there is one; a number alone without intervals.

    Args:
        found: an `Estimate.to_json`.
        sign: "+" writes the sign of positive numbers too, as of differences.
    """
    if found["value"] is None:
        return "—"
    text = f"{found['value']:{sign}.3f}"
    for said, low, high in ((" ", "low", "high"), ("; seeds ", "seed_low", "seed_high")):
        if found.get(low) is not None and found.get(high) is not None:
            text += f"{said}[{found[low]:{sign}.3f}, {found[high]:{sign}.3f}]"
    return text


def signed_range(found: Mapping[str, Any]) -> str:
    """A difference as `ranged` writes it: "+0.012 [+0.010, +0.014]"."""
    return ranged(found, sign="+")


def widest(cells: Sequence[Mapping[str, Any] | None], digits: int = 3) -> list[str]:
    """The widest half interval over images, and the widest over seeds; a dash where there is none."""
    out = []
    for ends in (("low", "high"), ("seed_low", "seed_high")):
        found = [[each[end] for end in ends if each.get(end) is not None] for each in cells if each]
        half = max((abs(each[1] - each[0]) / 2 for each in found if len(each) == 2), default=None)
        out.append("—" if half is None else f"{half:.{digits}f}")
    return out


def quoted(said: str) -> str:
    """An answer in a cell of a table."""
    return "“" + " ".join(said.replace("|", "\\|").split()) + "”"
