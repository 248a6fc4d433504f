"""Numbers, ranges and rows as docs/results.md writes them."""

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


def ranged(found: Mapping[str, Any], digits: int = 3) -> str:
    """ "0.912 [0.901, 0.923]", with the seeds' interval where there is one."""
    if found["value"] is None:
        return "—"
    text = f"{found['value']:.{digits}f} [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"
    if "seed_low" in found:
        text += f"; seeds [{found['seed_low']:.{digits}f}, {found['seed_high']:.{digits}f}]"
    return text


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
