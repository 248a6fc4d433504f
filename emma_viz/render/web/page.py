"""Pages that open offline from one file: the canvas's script inside, and every request to outside forbidden."""

import base64
import hashlib
from html import escape
from typing import Any

from emma_viz.render.script import canvas_script, canvas_style
from emma_viz.render.web.data import script_json

_OPEN = "\nEmmaCanvas.open(document);\n"


def _head(title: str, style: str, policy: str) -> list[str]:
    """What every page begins with."""
    return [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="referrer" content="no-referrer">',
        f"<title>{escape(title)}</title>",
        f"<style>\n{style}</style></head>",
    ]


def document(*, title: str, style: str, body: str, data: str) -> str:
    """A whole page.

    Args:
        title: words.
        style: CSS.
        body: HTML, escaped by who made it.
        data: what the script draws, as `script_json`.

    Returns:
        HTML whose content security policy allows no script but the canvas's, and no request at all.
    """
    script = canvas_script() + _OPEN
    allowed = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'; "
        "base-uri 'none'; form-action 'none'"
    )
    lines = [
        *_head(title, style, policy),
        f"<body>{body}",
        f'<script type="application/json" id="data">{data}</script>',
        f"<script>{script}</script>",
        "</body></html>",
    ]
    return "\n".join(lines) + "\n"


def scriptless(*, title: str, style: str, body: str) -> str:
    """A whole page that runs no script and makes no request.

    Args:
        title: words.
        style: CSS.
        body: HTML, escaped by who made it.
    """
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    )
    lines = [
        *_head(title, style, policy),
        f"<body>{body}</body></html>",
    ]
    return "\n".join(lines) + "\n"


def canvas_page(payload: dict[str, Any], view: dict[str, Any], *, provenance: list[str]) -> str:
    """The canvas on one image, as a page that needs no server: every layer, map kind and patch of it.

    Args:
        payload: what the canvas shows (docs/explorer.md has the contract).
        view: how it looks at first, by the names that links use.
        provenance: lines for the foot of the page.
    """
    own = (
        "body { margin: 0; background: #ffffff; } body.dark { background: #141518; }\n"
        "h1 { position: absolute; width: 1px; height: 1px; margin: 0; overflow: hidden; clip-path: inset(50%); }\n"
        "#canvas { padding: 12px 18px 0; }\n"
        "#canvas > .ev:not(.ev-narrow) { height: calc(100vh - 44px); }\n"
        "footer { padding: 6px 18px 8px; font: 11px/1.5 system-ui, sans-serif; color: #5b5d63; }\n"
        "footer { overflow-wrap: anywhere; }\n"
        "body.dark footer { color: #a9a9a6; }\n"
    )
    facts = "".join(f"<div>{escape(line)}</div>" for line in provenance)
    title = f"{payload['image']['name']}: what the image tokens hold"
    return document(
        title=title,
        style=canvas_style() + own,
        body=f'<main><h1>{escape(title)}</h1><div id="canvas"></div></main><footer>{facts}</footer>',
        data=script_json({"payload": payload, "view": {key: str(value) for key, value in view.items()}}),
    )
