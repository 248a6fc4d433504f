"""The names under which lmms-eval finds models here."""

AVAILABLE_MODELS = {"emma_viz": "EmmaViz"}
"""Name, which is the module's too → class."""
