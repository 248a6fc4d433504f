"""What a link asks of the server: which image, of which models, how."""

import re
from collections.abc import Collection
from typing import Any
from urllib.parse import unquote

from apps.explorer.service import Service

LINKED_SITES = ("resid_pre", "mixer_in", "mixer_out", "attn_out", "resid_mid", "mlp_out", "resid_post")
"""Hook sites of the model's width, which a lens can be used on: those of a Mamba's blocks and of attention's. A model
is shown at those that it has."""

Link = dict[str, str]


def read_link(address: str | None) -> Link:
    """The parts of a link that the server needs; what is damaged is left out."""
    found: Link = {}
    for part in (address or "").removeprefix("#").split("&")[:32]:
        key, equals, value = part.partition("=")
        if equals and len(value) < 8000:
            found[key] = unquote(value)
    return found


def among(text: str, offered: Collection[str]) -> tuple[list[str], list[str]]:
    """The names that a text lists, and what in it is none of those on offer; a name may have commas of its own."""
    parts, known, unknown = text.split(","), [], []
    longest = 1 + max((name.count(",") for name in offered), default=0)
    while parts:
        for count in range(min(longest, len(parts)), 0, -1):
            if (name := ",".join(parts[:count])) in offered:
                known.append(name)
                parts = parts[count:]
                break
        else:
            unknown.append(parts.pop(0))
    return list(dict.fromkeys(known)), unknown


def restored(gr, service: Service, link: Link) -> dict[str, Any]:
    """Whether a link names all that a run needs, and new values of the widgets; the others are left alone."""
    settings, keep = service.settings, gr.skip()
    file = service.file_of(link.get("image", "")) if link.get("image") else None
    names, unknown = among(link.get("models", ""), settings.models)
    tokens = int(link["tokens"]) if re.fullmatch(r"\d{1,3}", link.get("tokens", "")) else 0
    lost = [f"the model {name[:60]}" for name in unknown if name]
    lenses, unknown = among(link.get("lens", ""), settings.lenses)
    lost += [f"the lens {name[:60]}" for name in unknown if name]
    sites, unknown = among(link.get("site", ""), ("", *LINKED_SITES))
    lost += [f"the hook site {name[:60]}" for name in unknown]
    return {
        "lost": lost,
        "runs": file is not None,
        "image": str(file) if file else keep,
        "models": names or keep,
        "prompt": link.get("prompt", "")[:2000] or keep,
        "lens": lenses or keep,
        "site": sites if link.get("site") and sites else keep,
        "tokens": tokens if 8 <= tokens <= 256 else keep,
    }
