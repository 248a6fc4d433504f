"""The record of what was changed in a model while it was recorded, as a trace keeps it."""

from dataclasses import dataclass
from typing import Annotated

import msgspec

from emma_viz.files.schema import Count

Sha = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")]


@dataclass(frozen=True, kw_only=True)
class InterventionRecord:
    """One change, as plain data: what `emma_viz.evidence.interventions` did."""

    kind: str
    """Such as `skip`; the name of the function that changed the values, where it was one of the user's."""
    site: str
    """Hook site or name."""
    tokens: tuple[Count, ...] | None = None
    """Positions, the image tokens first; None: all."""
    layers: tuple[Count, ...] | None = None
    """Blocks; None: every one, or the one that `site` names."""
    readers: tuple[Count, ...] | None = None
    """Positions that no longer read the tokens, where it is about some; None: it is not."""
    source: str = ""
    """Where the value that was put there comes from, in words."""
    value: Sha = ""
    """sha256 of that value, float32; "" where there is none."""
    said: str
    """The whole in one line, as pictures print it."""
