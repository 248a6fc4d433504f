"""What each patch is asked, the true answers, and the spaces of states that answers are read from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emma_viz.capture import record
from emma_viz.capture.questions import network_of, peer_network
from emma_viz.data.image_grid import ImageGrid
from emma_viz.data.tabletop import COLOUR_INDEX, COLOURS, KIND_INDEX, KINDS
from emma_viz.evidence.shuffled_weights import shuffled_weights
from emma_viz.metrics import mask_on_grid
from emma_viz.metrics.pseudo_labels import CONTRASTS, control_label, edge, patch_type, tint
from emma_viz.metrics.readouts.folded_discriminant import UNKNOWN, one_hot
from probes.protocol import Batch, Subject

WIDEST = 128
"""Wider states are projected to this many random directions."""
_ASKED = 8
"""Patches of each image whose class is asked for; all are learnt from. Half of them lie on objects, if so many do."""
_COVERED = 0.5
"""A patch is an object's when it covers so much of it."""
SEED = 16


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a patch is asked."""

    said: str
    classes: int
    controls: bool = False
    """Whether the same is asked of labels that mean nothing."""


TASKS = {
    "place": Task(said="in which ninth of the image a patch lies", classes=9),
    "tint": Task(said="the colour nearest to the patch's mean", classes=len(COLOURS), controls=True),
    "edge": Task(said="whether a patch is flat, textured or an edge", classes=len(CONTRASTS) + 1, controls=True),
    "object": Task(said="whether a patch shows an object", classes=2),
    "kind": Task(said="which kind of object a patch shows, or none", classes=len(KINDS) + 1, controls=True),
    "colour": Task(said="which colour the object at a patch has, or none", classes=len(COLOURS) + 2, controls=True),
}  # fmt: skip
"""By name; the first three ask about pixels alone and need no label."""
LABELLED = ("object", "kind", "colour")
PALETTE = np.array(list(COLOURS.values())) / 255


def spaces(batch: Batch) -> Mapping[str, np.ndarray]:
    """States (B, T, D) by the name of where they were found."""
    model = batch.model
    assert model is not None
    rows, tokens = batch.patches.shape[:2]
    found = {
        f"layer {each}": batch.trace["resid_post", each][:, :tokens].double().numpy() for each in batch.layers
    }
    with shuffled_weights([network_of(model)], seed=SEED):
        random = untrained_states(batch)
    found |= {f"random {layer}": each.double().numpy() for layer, each in random.items()}
    if peer_network(model) is None:  # transformers' classes name no place where the encoder ends
        pixels = model.transform.pixels([subject.image for subject in batch.subjects])
        with torch.no_grad():
            features = model.vlm.vision([each.to(model.vlm.device) for each in pixels])
        if features.shape[1] == tokens:
            found["tower"] = features.double().cpu().numpy()
    height, width = batch.trace.geometry[0].grid
    index = np.arange(tokens)
    place = np.concatenate([one_hot(index // width, height), one_hot(index % width, width)], axis=1)
    return found | {
        "pixels": batch.patches.reshape(rows, tokens, -1).astype(np.float64),
        "position": np.broadcast_to(place, (rows, *place.shape)),
    }


def untrained_states(batch: Batch) -> dict[int, Float[Tensor, "B T D"]]:
    """States of the image tokens at each layer, as the model's weights are now."""
    assert batch.model is not None
    images, prompts = ([getattr(each, name) for each in batch.subjects] for name in ("image", "prompt"))
    trace = record(
        batch.model, images, prompts, layers=batch.layers, generate=False, batch_size=len(batch.subjects)
    )
    return {layer: trace["resid_post", layer][:, : batch.patches.shape[1]] for layer in batch.layers}


def narrow(states: np.ndarray) -> np.ndarray:
    """States (…, D) in at most `WIDEST` dimensions: a random projection, the same for all of one width."""
    width = states.shape[-1]
    if width <= WIDEST:
        return states
    return states @ np.random.default_rng(width).standard_normal((width, WIDEST)) / np.sqrt(width)


def classes_of(name: str) -> int:
    """How many classes the task of a name has; what stands behind a space in it is a variant."""
    return TASKS[name.split(" ")[0]].classes


def patch_labels(batch: Batch) -> dict[str, np.ndarray]:
    """Classes (B, T) by the name of the question, and those that mean nothing."""
    rows, tokens = batch.patches.shape[:2]
    height, width = batch.trace.geometry[0].grid
    index = np.arange(tokens)
    ninth = index // width * 3 // height * 3 + index % width * 3 // width
    found = {
        "place": np.broadcast_to(ninth, (rows, tokens)),
        "tint": tint(batch.patches.astype(np.float64), PALETTE),
        "edge": edge(batch.patches.astype(np.float64)),
    }
    seen = [_seen(*pair) for pair in zip(batch.subjects, batch.trace.geometry, strict=True)]
    found |= {name: np.stack([each[at] for each in seen]) for at, name in enumerate(LABELLED)}
    types = patch_type(batch.patches.astype(np.float64))
    for number, (name, task) in enumerate(TASKS.items()):
        if task.controls:
            drawn = [
                np.random.default_rng([SEED, subject.number, number]).integers(0, task.classes, tokens)
                for subject in batch.subjects
            ]
            found[f"{name} by_look"] = control_label(types, task.classes, seed=SEED)
            found[f"{name} by_patch"] = np.stack(drawn)
    return found


def _seen(subject: Subject, geometry: ImageGrid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Object or not, kind, and colour at each patch; 0 is none, the last colour is a kind's own fixed look."""
    tokens = geometry.grid[0] * geometry.grid[1]
    if subject.mask is None:
        nobody = np.full(tokens, UNKNOWN)
        return nobody, nobody, nobody
    kind, colour = np.zeros(tokens, int), np.zeros(tokens, int)
    for number, (name, hue) in enumerate(zip(subject.kinds, subject.colours, strict=True), start=1):
        there = np.nan_to_num(mask_on_grid(subject.mask == number, geometry)).ravel() >= _COVERED
        kind[there] = KIND_INDEX[name] + 1
        colour[there] = COLOUR_INDEX[hue] + 1 if hue else len(COLOURS) + 1
    return (kind > 0).astype(int), kind, colour


def asked(objects: np.ndarray, subject: Subject) -> np.ndarray:
    """The patches of an image whose class is asked for, half of them on objects where there are so many."""
    draw = np.random.default_rng([SEED, subject.number])
    order = draw.permutation(len(objects))
    on, off = order[objects[order] == 1], order[objects[order] != 1]
    size = min(_ASKED, len(objects))
    most = min(len(on), max(size // 2, size - len(off)))
    return np.concatenate([on[:most], off[: size - most]])


def image_labels(subjects: Sequence[Subject]) -> dict[str, np.ndarray]:
    """What is known of whole images: `present` (images, kinds), and `count` (images,) of objects, 5 for more."""
    there = [[kind.name in subject.kinds for kind in KINDS] for subject in subjects]
    count = [min(len(subject.kinds), 5) if subject.mask is not None else UNKNOWN for subject in subjects]
    return {"present": np.array(there, np.int8), "count": np.array(count)}
