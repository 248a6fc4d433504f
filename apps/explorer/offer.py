"""What a server offers to its visitors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from apps.explorer.running import Lenses
from emma_viz.session import Running

LENS_METHODS = {
    "gradient": (
        "gradient × input",
        "Estimates, from one backward pass, by how many nats the word's log-probability would fall if an image token "
        "were replaced by the mean token. Blue supports the word, red speaks against it. An estimate, not a proof.",
    ),
    "knockout": (
        "knock-out",
        "By how many nats the word's log-probability falls when an image token is replaced by the mean token, "
        "measured token by token. Blue supports the word, red speaks against it.",
    ),
    "frozen": (
        "frozen decomposition",
        "What of the word's logit, less the mean logit, came through each position of the image, with the routing of "
        "every block held: exact at each layer, and not causal. What came through the text and the biases is below "
        "the map; the comparison with random sets is of the map at the embedding.",
    ),
}
"""Method → what the page calls it, and what it means."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What one server offers."""

    models: Mapping[str, str] = field(default_factory=dict)
    """Label → what `load_model` takes."""
    chosen: tuple[str, ...] = ()
    """Labels that are chosen at first."""
    lenses: Lenses = field(default_factory=lambda: {"ridge": ("ridge",)})
    """Label → kinds of lens or lens files; of several, each model takes the first that it has."""
    running: Running = field(default_factory=Running)
    """How models are loaded."""
    study: Path | None = None
    """Show this study, without models."""
    casebook: str = ""
    """Path or URL of the casebook whose images links may name; "" for none."""
    method: str = "gradient"
    """How words are attributed at first: a key of `LENS_METHODS`."""
