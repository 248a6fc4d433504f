"""The families of transformers' vision-language models that there are."""

from emma_viz.models.peers.llava import LLAVA
from emma_viz.models.peers.peer import Peer

PEERS: dict[str, Peer] = {"llava-hf": LLAVA}
"""By the name that traces and pictures hold."""


def peer_of(model_type: str | None) -> str | None:
    """The family of a `model_type`; None where it is of none."""
    return next((name for name, peer in PEERS.items() if model_type in peer.model_types), None)
