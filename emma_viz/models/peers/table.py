"""The families of transformers' vision-language models: ours, and those that installed packages bring."""

import logging
from collections.abc import Iterator

from emma_viz.errors import InputError
from emma_viz.models.peers.anyres import ANYRES
from emma_viz.models.peers.gemma3 import GEMMA3
from emma_viz.models.peers.idefics3 import IDEFICS3
from emma_viz.models.peers.internvl import INTERNVL
from emma_viz.models.peers.llava import LLAVA_HF
from emma_viz.models.peers.paligemma import PALIGEMMA
from emma_viz.models.peers.peer import Peer
from emma_viz.models.peers.qwen_vl import QWEN_VL
from emma_viz.plugins import Plugins

logger = logging.getLogger(__name__)

PEERS: dict[str, Peer] = {
    "llava-hf": LLAVA_HF,
    "qwen-vl": QWEN_VL,
    "llava-anyres": ANYRES,
    "idefics3": IDEFICS3,
    "internvl": INTERNVL,
    "paligemma": PALIGEMMA,
    "gemma3": GEMMA3,
}
"""Our own, by the name that traces and pictures hold."""


_PLUGINS = Plugins(
    group="emma_viz.peers",
    what="family of transformers' models",
    expected=Peer,
    ours=PEERS,
    error=InputError,
)


def peer_names() -> tuple[str, ...]:
    """Names of all families."""
    return _PLUGINS.names()


def peer_named(name: str) -> Peer:
    """One family.

    Raises:
        InputError: there is none of that name, or the package that brings it cannot be imported.
    """
    return PEERS.get(name) or _PLUGINS.bring(name)


def peers() -> Iterator[tuple[str, Peer]]:
    """All families by name; one whose package cannot be imported is passed over, and the log says so."""
    yield from PEERS.items()
    for name in peer_names():
        if name not in PEERS:
            try:
                yield name, _PLUGINS.bring(name)
            except InputError as error:
                logger.warning("%s", error)


def peer_of(model_type: str | None) -> str | None:
    """The family of a `model_type`, ours first; None where it is of none."""
    return next((name for name, peer in peers() if model_type in peer.model_types), None)
