"""Hooks that look at a model while it runs, and the study folders that keep what they saw."""

from emma_viz.capture.entries import Entry
from emma_viz.capture.hooks import HookReport
from emma_viz.capture.record import record
from emma_viz.capture.recorder import Recorder
from emma_viz.capture.sites import SITES, Site, Target, resolve
from emma_viz.capture.stream import StudyWriter
from emma_viz.capture.study import Study, open_study
from emma_viz.capture.trace import Trace

__all__ = [
    "SITES",
    "Entry",
    "HookReport",
    "Recorder",
    "Site",
    "Study",
    "StudyWriter",
    "Target",
    "Trace",
    "open_study",
    "record",
    "resolve",
]
