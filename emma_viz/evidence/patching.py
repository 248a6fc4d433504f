"""Patching: states of one run put into another, to see which of them carry the difference of the two answers.

Between two images, two prompts, or two checkpoints (through a map that was fitted between their states).
`estimated_effects` is attribution patching (Nanda 2023; Syed et al. 2023): the effect of every (site, layer, token)
from one gradient, ⟨∂score/∂a, a' − a⟩. It is exact where the model is affine and fails where a gate, a step or a norm
is far from that, so `verify` puts real patches beside it. The mean gradient at points between the two runs (EAP-IG;
Hanna et al. 2024) mends most of that: of what enters the model it is integrated gradients, whose effects sum to the
whole difference.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emma_viz.capture.sites import Target, resolve_sites
from emma_viz.errors import InputError
from emma_viz.evidence.case import Case
from emma_viz.evidence.intervention import Intervention, require_editable

Place = tuple[str, int]
"""A site and a layer."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Estimates:
    """What putting the source's state in the place of the target's would do, by the gradient at the target."""

    effects: Mapping[Place, Float[np.ndarray, " L"]]
    """Nats that the target's score rises by, for each token."""
    source: float
    """The score of the run that states are taken from."""
    target: float
    """The score of the run that they would be put into."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Agreement:
    """Estimates beside the real effects of the same patches."""

    places: tuple[tuple[str, int, int], ...]
    """Site, layer, token."""
    estimates: Float[np.ndarray, " n"]
    real: Float[np.ndarray, " n"]

    def beside(self, others: Estimates) -> "Agreement":
        """Other estimates of the same runs beside the same real patches."""
        estimates = np.array([others.effects[site, layer][token] for site, layer, token in self.places])
        return Agreement(places=self.places, estimates=estimates, real=self.real)

    @property
    def correlation(self) -> float:
        """Pearson's r; NaN where one does not vary."""
        if self.estimates.std() == 0 or self.real.std() == 0:
            return float("nan")
        return float(np.corrcoef(self.estimates, self.real)[0, 1])


@torch.no_grad()
def states_of(case: Case, sites: Sequence[str], layers: Sequence[int]) -> dict[Place, Float[Tensor, "L W"]]:
    """The states of a case's run, image tokens first.

    Args:
        case: what is run.
        sites: where states are kept.
        layers: zero-based.

    Raises:
        SiteError: a site or layer does not exist, or only looks.
    """
    with _kept(case, sites, layers, with_gradients=False) as kept:
        case.score(case.tokens)
    return {place: value[0].detach() for place, value in kept.items()}


def patches(
    states: Mapping[Place, Float[Tensor, "L W"]],
    into: Sequence[int],
    *,
    source: str,
    taken: Sequence[int] | None = None,
) -> dict[Place, Intervention]:
    """For each site and layer, the intervention that puts some tokens' states there.

    Args:
        states: of the source's run.
        into: positions in the target's run.
        source: what the states are of, in words.
        taken: the positions in the source's run, as many, where they are others.
    """
    rows = list(into if taken is None else taken)
    return {
        (site, layer): Intervention(
            kind="replace",
            site=site,
            tokens=tuple(into),
            layers=(layer,),
            value=np.ascontiguousarray(value[rows].float().cpu().numpy()),
            source=source,
        )
        for (site, layer), value in states.items()
    }


def estimated_effects(
    source: Case, target: Case, sites: Sequence[str], layers: Sequence[int], *, points: int = 1
) -> Estimates:
    """Attribution patching: the effect of every patch, from two forward passes and one backward pass.

    Args:
        source: whose states would be put into the other run; of one length with it.
        target: whose score is asked.
        sites: hook sites.
        layers: blocks.
        points: 1 takes the gradient at the target; of more, that many gradients are taken evenly on the straight way
            of the embeddings from the target to the source, and their mean is the slope (EAP-IG).

    Raises:
        InputError: the two runs have different lengths, or there is no point.
        SiteError: a site or layer does not exist, or only looks.
    """
    if source.length != target.length:
        raise InputError(
            f"expected two runs of one length, token by token, got {source.length} and {target.length}."
        )
    if points < 1:
        raise InputError(f"expected at least one point to take a gradient at, got {points}.")
    given, here = (states_of(each, sites, layers) for each in (source, target))
    sums: dict[Place, Tensor] = {}
    for share in [0.0] if points == 1 else [(index + 0.5) / points for index in range(points)]:
        for place, slope in _slopes(_between(source, target, share), sites, layers).items():
            sums[place] = slope + sums[place] if place in sums else slope
    effects = {
        place: (slope / points * (given[place].double() - here[place].double())).sum(dim=-1).cpu().numpy()
        for place, slope in sums.items()
    }
    first, second = (each.scores([each.tokens[0]])[0] for each in (source, target))
    return Estimates(effects=effects, source=first, target=second)


def _between(source: Case, target: Case, share: float) -> Case:
    """The target's question with its embeddings a share of the way to the source's."""
    if not share:
        return target
    return replace(
        target,
        tokens=torch.lerp(target.tokens, source.tokens, share),
        text=torch.lerp(target.text, source.text, share),
    )


def _slopes(case: Case, sites: Sequence[str], layers: Sequence[int]) -> dict[Place, Float[Tensor, "L W"]]:
    """∂score/∂state of a case's run, float64."""
    with torch.enable_grad(), _kept(case, sites, layers, with_gradients=True) as kept:
        score = case.score(case.tokens.detach().clone().requires_grad_())
        slopes = torch.autograd.grad(score.sum(), list(kept.values()))
    return {place: slope[0].double() for place, slope in zip(kept, slopes, strict=True)}


def verify(
    source: Case, target: Case, found: Estimates, *, top: int = 10, drawn: int = 50, seed: int = 0
) -> Agreement:
    """Really patch the places with the largest estimates, and some at random.

    Args:
        source: as it was given to `estimated_effects`.
        target: the same.
        found: what it gave.
        top: places with the largest sizes.
        drawn: places at random from the rest.
        seed: of the draw.
    """
    every = [(*place, token) for place, effects in found.effects.items() for token in range(len(effects))]
    sizes = np.abs(np.concatenate(list(found.effects.values())))
    order = np.argsort(-sizes, kind="stable")
    rest = order[top:]
    draw = np.random.default_rng(seed).permutation(len(rest))[:drawn]
    chosen = tuple(every[index] for index in (*order[:top], *rest[draw]))
    sites, layers = (tuple(dict.fromkeys(place[axis] for place in chosen)) for axis in (0, 1))
    states = states_of(source, sites, layers)
    runs = [
        [*patches({(site, layer): states[site, layer]}, [token], source="the other run").values()]
        for site, layer, token in chosen
    ]
    return Agreement(
        places=chosen,
        estimates=np.array([found.effects[site, layer][token] for site, layer, token in chosen]),
        real=np.array(target.changed(runs)) - found.target,
    )


@contextmanager
def _kept(
    case: Case, sites: Sequence[str], layers: Sequence[int], *, with_gradients: bool
) -> Generator[dict[Place, Tensor], None, None]:
    """What passes the sites while the block runs, as parts of the run, so that gradients reach them."""
    for site in sites:
        require_editable(site)
    kept: dict[Place, Tensor] = {}

    def keep(target: Target):
        def hook(module, args, value: Tensor) -> Tensor | None:
            if not with_gradients:
                kept[target.site, target.layer or 0] = value
                return None
            # A point that only replaces is passed by what another tensor comes back from, and by no other.
            copy = value * 1
            kept[target.site, target.layer or 0] = copy
            return copy

        return hook

    targets = resolve_sites(case.vlm, list(sites), tuple(layers))
    handles = [case.vlm.get_submodule(each.path).register_forward_hook(keep(each)) for each in targets]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()
