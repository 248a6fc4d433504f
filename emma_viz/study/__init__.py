"""Studies: folders that hold what models were shown, what their tokens held, and what they answered."""

from emma_viz.study.entries import Entry
from emma_viz.study.opening import open_study
from emma_viz.study.stream import StudyWriter
from emma_viz.study.study import Study

__all__ = ["Entry", "Study", "StudyWriter", "open_study"]
