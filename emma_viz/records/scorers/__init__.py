"""Scorers of benchmarks by name: how each reads yes or no from an answer, and the rows on which they disagree."""

from emma_viz.records.scorers.answer import Answer
from emma_viz.records.scorers.kinds import SCORERS, Disagreement, Scorer, disagreements, scorer
from emma_viz.records.scorers.readings import ReadAnswer

__all__ = ["SCORERS", "Answer", "Disagreement", "ReadAnswer", "Scorer", "disagreements", "scorer"]
