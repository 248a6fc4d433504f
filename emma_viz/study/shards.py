"""Shards: entries that hold one data set together, each written by a process of its own."""

import re
from collections.abc import Iterable

from emma_viz.errors import StudyError

_SHARD = re.compile(r"(?P<name>.+) \[shard (?P<index>[1-9][0-9]{0,5}) of (?P<count>[1-9][0-9]{0,5})\]")


def shard_name(name: str, index: int, count: int) -> str:
    """What the entry of a shard is called; that of the only one as the data set itself.

    Args:
        name: of the data set.
        index: of the shard, from 1.
        count: of shards.

    Examples:
        >>> shard_name("cobra-pocket", 2, 8)
        'cobra-pocket [shard 2 of 8]'
    """
    return name if count == 1 else f"{name} [shard {index} of {count}]"


def data_set(entry: str) -> str:
    """The name of the data set that an entry belongs to: without its shard's number."""
    found = _SHARD.fullmatch(entry)
    return found["name"] if found else entry


def of_other_split(name: str, count: int, entries: Iterable[str]) -> tuple[str, ...]:
    """Those of some entries that hold a data set in another way than split into `count` shards.

    Examples:
        >>> of_other_split("cobra", 2, ["emma", "cobra", "cobra [shard 1 of 2]", "cobra [shard 1 of 3]"])
        ('cobra', 'cobra [shard 1 of 3]')
    """
    return tuple(each for each in entries if data_set(each) == name and _count(each) != count)


def _count(entry: str) -> int:
    found = _SHARD.fullmatch(entry)
    return int(found["count"]) if found else 1


def shards(name: str, entries: Iterable[str], planned: Iterable[str]) -> tuple[str, ...]:
    """The entries of a data set's shards, in order; none where it has no shards.

    Args:
        name: of the data set.
        entries: that are there.
        planned: that are to be there.

    Raises:
        StudyError: a shard lacks, or the data set was split in several ways.
    """
    there = set(entries)
    counts = {_count(each) for each in {*there, *planned} - ({name} - there) if data_set(each) == name}
    if counts <= {1}:
        return ()
    if len(counts) > 1:
        raise StudyError(
            f"The data set {name!r} was split in several ways, into {', '.join(map(str, sorted(counts)))} shards; name "
            "one of several shards, or record it into a study of its own."
        )
    (count,) = counts
    lacks = [number for number in range(1, count + 1) if shard_name(name, number, count) not in there]
    if lacks:
        said = ", ".join(map(str, lacks[:20])) + (" …" if len(lacks) > 20 else "")
        raise StudyError(
            f"The data set {name!r} lacks shard {said} of {count}: record it with --shard i/{count}."
        )
    return tuple(shard_name(name, number, count) for number in range(1, count + 1))
