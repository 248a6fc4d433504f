"""How values show themselves in notebooks and draw themselves into figures: a registry of what is above them.

Values stand below the rooms that make pictures of them, and cannot import those. So they ask here, and the room that
answers is looked up by its address and imported then: see docs/decisions/0024-notebooks.md.
"""

from pkgutil import resolve_name
from typing import Any

BUNDLES = "emma_viz.session.notebook:bundle"
"""Address of what a notebook shows of a comparison, maps, a decoding, a trace, a study or a finding."""
PANELS = "emma_viz.session.picture:draw_panel"
"""Address of what draws one panel of maps into matplotlib's axes."""


def bundle_of(value: Any) -> dict[str, str]:
    """What a notebook shows of a value, by MIME type: see `BUNDLES`."""
    return resolve_name(BUNDLES)(value)


def panel_of(value: Any, *args: Any, **options: Any) -> Any:
    """One panel of maps, drawn into axes: see `PANELS`, whose errors it has.

    Args:
        value: the maps.
        args: as that takes them.
        options: likewise.
    """
    return resolve_name(PANELS)(value, *args, **options)
