"""Hooks that look at a model while it runs, and the trace of what they saw."""

from emma_viz.capture.hooks import HookReport
from emma_viz.capture.interventions import InterventionRecord
from emma_viz.capture.record import record
from emma_viz.capture.recorder import Recorder
from emma_viz.capture.sites import SITES, Site, Target, resolve_sites
from emma_viz.capture.trace import Trace

__all__ = [
    "SITES",
    "HookReport",
    "InterventionRecord",
    "Recorder",
    "Site",
    "Target",
    "Trace",
    "record",
    "resolve_sites",
]
