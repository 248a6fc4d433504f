"""The families of transformers' vision-language models that there are."""

from emma_viz.models.peers.anyres import ANYRES
from emma_viz.models.peers.gemma3 import GEMMA3
from emma_viz.models.peers.idefics3 import IDEFICS3
from emma_viz.models.peers.internvl import INTERNVL
from emma_viz.models.peers.llava import LLAVA_HF
from emma_viz.models.peers.paligemma import PALIGEMMA
from emma_viz.models.peers.peer import Peer
from emma_viz.models.peers.qwen_vl import QWEN_VL

PEERS: dict[str, Peer] = {
    "llava-hf": LLAVA_HF,
    "qwen-vl": QWEN_VL,
    "llava-anyres": ANYRES,
    "idefics3": IDEFICS3,
    "internvl": INTERNVL,
    "paligemma": PALIGEMMA,
    "gemma3": GEMMA3,
}
"""By the name that traces and pictures hold."""


def peer_of(model_type: str | None) -> str | None:
    """The family of a `model_type`; None where it is of none."""
    return next((name for name, peer in PEERS.items() if model_type in peer.model_types), None)
