"""Answers about validation images while a model is trained: lines in its run's folder."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from emma_viz.errors import TrainingError
from emma_viz.files.atomic import write_file
from emma_viz.files.json_door import TABLE, parse_json, read_bytes
from emma_viz.files.schema import Count, shape

SCORES = "scores.jsonl"
"""In a run's folder: a line each time that questions were asked."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A line of SCORES."""

    step: Count
    minutes: float
    accuracy: dict[str, float]
    """Topic → share of right answers."""


def add_scores(folder: Path, step: int, minutes: float, found: Mapping[str, Mapping[str, float]]) -> None:
    """Write the answers of a step (from `answer_scores`) to a run's scores, in place of those from that step on."""
    accuracy = {topic: round(each["accuracy"], 4) for topic, each in found.items()}
    line = {"step": step, "minutes": round(minutes, 2), "accuracy": accuracy}
    lines = [*(each for each in read_scores(folder) if each["step"] < step), line]
    text = "".join(json.dumps(each) + "\n" for each in lines)
    write_file(folder / SCORES, lambda part: part.write_text(text, encoding="utf-8"))


def read_scores(folder: Path) -> list[dict[str, Any]]:
    """Share of right answers about validation scenes during a run: {"step", "minutes", "accuracy": topic → share}.

    In the order of the steps; none for a run that asked no questions.
    """
    path = folder / SCORES
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(
        read_bytes(path, limit=TABLE.size, error=TrainingError).splitlines(), start=1
    ):
        where = f"{path}, line {number}"
        value = parse_json(line, where=where, error=TrainingError)
        found.append(asdict(shape(value, Scored, where=where, error=TrainingError)))
    return found
