"""Text of several rows in which names from files stand."""

from collections.abc import Iterable


def rows(lines: Iterable[str]) -> str:
    r"""Lines as one text; a name in one of them begins no line of its own, and overwrites none.

    Examples:
        >>> print(rows(["model  layer", "a\nb    1"]))
        model  layer
        a\nb    1
    """
    return "\n".join(line.replace("\n", "\\n").replace("\r", "\\r") for line in lines)
