"""What stands in a token's place when it is knocked out, and what a knock-out must be compared with.

A mean token of other images is far from any image; tokens of another image (`resampled`) and of the same image without
detail (`blurred`) are not. A placebo changes as much, in a direction that says nothing.
"""

import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageFilter
from torch import Tensor

from emma_viz.capture.questions import RecordableModel, peer_network
from emma_viz.capture.sites import resolve_sites
from emma_viz.data.images import ImageSource, read_image
from emma_viz.errors import InputError
from emma_viz.evidence.case import Case
from emma_viz.evidence.intervention import WHOLE, Intervention
from emma_viz.evidence.interventions import intervene_each
from emma_viz.models.attention_sites import ALL_SITES, sites_of
from emma_viz.models.peers.entered import EnteredQuestion


@torch.no_grad()
def image_tokens(
    model: RecordableModel, image: ImageSource, prompt: str | None = None
) -> Float[Tensor, "T D"]:
    """An image's tokens, as they enter the language model; those of all its grids, where it becomes several.

    Args:
        model: from `load_model`.
        image: what the model is shown.
        prompt: what is asked, for a model whose image tokens depend on it.

    Raises:
        InputError: they do, and there is no prompt.
    """
    peer = peer_network(model)
    if peer is not None:
        return EnteredQuestion(peer, peer.inputs(read_image(image), prompt or "")).tokens
    told = None if prompt is None else model.vlm.instruct([prompt])
    return model.vlm.embed_image(model.transform.pixels([read_image(image)]), instruction=told)[0]


def blurred(model: RecordableModel, image: Image.Image, prompt: str | None = None) -> Float[Tensor, "T D"]:
    """The tokens of the image without detail: a Gaussian as wide as a patch was laid over it.

    Args:
        model: the model.
        image: its image.
        prompt: the question, for models whose image tokens depend on it.
    """
    radius = max(image.size) / max(model.transform.geometry(image).grid)
    return image_tokens(model, image.convert("RGB").filter(ImageFilter.GaussianBlur(radius)), prompt)


def random_like(away: Float[Tensor, "n W"], *, seed: str) -> Float[Tensor, "n W"]:
    """For each vector one of the same length in a random direction; the same for the same seed."""
    draw = torch.Generator().manual_seed(zlib.crc32(seed.encode()))
    noise = torch.randn(away.shape, generator=draw).to(away)
    return noise * (away.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True))


@torch.no_grad()
def placebo(case: Case, change: Intervention, *, seed: str, batch_size: int = 16) -> tuple[Intervention, ...]:
    """As large a change of each mixer's output, token by token, as an intervention makes there, in a random direction.

    How large is measured layer by layer, with the change in that layer alone, so that what one layer's change does to
    the next does not count twice.

    Args:
        case: whose run is changed.
        change: of a mixer: at a site inside it, or `edge`, `cut`, `delete`.
        seed: tells the directions.
        batch_size: layers at a time.

    Raises:
        InputError: the change is at another site, or the model has no state-space mixer.
    """
    if change.kind not in WHOLE and change.site != "mixer_in" and not ALL_SITES[change.site].in_mixer:
        raise InputError(f"expected a change inside a mixer, got one at {change.site!r}.")
    if not (known := case.vlm.config.llm.mixer_layers):
        raise InputError(
            "expected a model with state-space mixers; an attention transformer has none. Choose a Mamba or a hybrid, "
            "or replace the image's tokens by others of the same length (`random_like`)."
        )
    layers = known if change.layers is None else sorted(change.layers)
    found = []
    for start in range(0, len(layers), batch_size):
        some = layers[start : start + batch_size]
        found += _at_each(case, change, some, seed)
    return tuple(found)


def _at_each(case: Case, change: Intervention, layers: Sequence[int], seed: str) -> list[Intervention]:
    """The placebo of each of some layers, from one pass: a sample a layer, and one without change."""
    outputs: dict[int, Float[Tensor, "2 L D"]] = {}
    out = "mixer_out" if "mixer_out" in sites_of(case.vlm.config.llm) else "attn_out"
    points = [case.vlm.get_submodule(each.path) for each in resolve_sites(case.vlm, [out], tuple(layers))]
    runs = [*([replace(change, layers=(layer,))] for layer in layers), []]
    with intervene_each(case.vlm, runs):
        # Hooks are called in turn, so that these see what the intervention left.
        handles = [
            point.register_forward_hook(
                lambda module, args, value, at=index: outputs.update({at: value[[at, -1]]})
            )
            for index, point in enumerate(points)
        ]
        try:
            case.score(case.tokens.expand(len(runs), -1, -1))
        finally:
            for handle in handles:
                handle.remove()
    found = []
    for index, layer in enumerate(layers):
        away = outputs[index][0] - outputs[index][1]
        places = away.norm(dim=-1).nonzero()[:, 0]
        value = random_like(away[places], seed=f"{seed} {layer}").float().cpu().numpy()
        found.append(
            Intervention(
                kind="add",
                site=out,
                tokens=tuple(places.tolist()),
                layers=(layer,),
                value=np.ascontiguousarray(value),
                source=f"a random direction, as long as what {change.kind} changes",
            )
        )
    return found
