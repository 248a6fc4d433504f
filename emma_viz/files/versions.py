"""The version that a file states of its form: one rule for all forms, which docs/file-formats.md lists."""

from collections.abc import Mapping
from typing import Any

from emma_viz.errors import EmmaVizError


def require_version(
    value: Any,
    field: str,
    newest: int,
    *,
    where: str,
    error: type[EmmaVizError],
    absent: int | None = None,
) -> None:
    """Refuse a file of a form that this program does not know; every version from 1 to the newest is read.

    Args:
        value: what JSON held; where that is no object, whoever reads the form says so.
        field: the name under which the version stands in it.
        newest: the version that is written.
        where: the file, for the message.
        error: what is raised.
        absent: the version of a file that states none; None where each must.

    Raises:
        EmmaVizError: of the kind `error`: a newer program wrote the file, or what it states is no version.
    """
    if not isinstance(value, Mapping):
        return
    version = value.get(field, absent)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise error(
            f"{where}: expected a schema version from 1 to {newest} as {field!r}, got {version!r:.40}."
        )
    if version > newest:
        raise error(
            f"{where} was written by a newer emma_viz: its schema version is {version!s:.40}, this one reads up to "
            f"{newest}. Upgrade emma_viz to open it."
        )
