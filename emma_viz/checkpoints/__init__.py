"""Checkpoints: safe readers, key tables, sources, and the models that ship with the package."""

from emma_viz.checkpoints.fingerprint import fingerprint
from emma_viz.checkpoints.inspection import Component, Inspection, inspect
from emma_viz.checkpoints.load import load_language_model, load_model, require_model
from emma_viz.checkpoints.loaded import FoundModel, LoadedLanguageModel, LoadedModel
from emma_viz.checkpoints.save import save_run_directory, save_vision_encoder
from emma_viz.checkpoints.sources import BUNDLED, bundled_names, known_names

__all__ = [
    "BUNDLED",
    "Component",
    "FoundModel",
    "Inspection",
    "LoadedLanguageModel",
    "LoadedModel",
    "bundled_names",
    "fingerprint",
    "inspect",
    "known_names",
    "load_language_model",
    "load_model",
    "require_model",
    "save_run_directory",
    "save_vision_encoder",
]
