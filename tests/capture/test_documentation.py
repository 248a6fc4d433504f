"""docs/hooks.md lists the sites that there are."""

import re
from pathlib import Path

import emma_viz
from emma_viz.capture import SITES
from emma_viz.models.attention_sites import ATTENTION_SITES


def test_the_tables_of_sites_are_those_of_the_code():
    text = (Path(emma_viz.__file__).parents[1] / "docs" / "hooks.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", text, flags=re.MULTILINE)
    assert rows == [
        (site.name, site.shape, site.meaning) for site in (*SITES.values(), *ATTENTION_SITES.values())
    ]
