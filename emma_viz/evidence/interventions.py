"""Interventions: what is changed in a running model, by name, at which tokens and layers.

    with intervene(model, [Intervention(kind="skip", tokens=cup, layers=(4, 5))]):
        trace = record(model, image, prompt)

    with intervene(model, {"blocks.5.hook_mixer_out": zero}):
        ...

`replace`, `mean` and `zero` put a value where a token's was, at a site. In a state-space model, "knocking a token out"
has several meanings, which are kinds of their own:

`write`   B := 0: nothing of the token enters the state, which decays as it did; the skip path stays.
`skip`    Δ := 0: the state passes the token unchanged, as if it were not in the scan; older memory lives longer.

Neither cuts the convolution, through which a token also reaches the d_conv − 1 behind it: cut `x` for that.
"""

import hashlib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from emma_viz.capture.sites import SITES, Layers, resolve, split_site
from emma_viz.errors import InputError, SiteError
from emma_viz.models import VLM, MambaCache

Kind = Literal["replace", "mean", "zero", "write", "skip"]
Edit = Callable[[Float[Tensor, "n W"]], Float[Tensor, "n W"]]
"""From the values of the tokens touched to those put in their place."""

OBSERVED = ("resid_post", "conv_pre", "scan")
"""Sites that only look: what is put there reaches nothing."""
SITE_OF: dict[Kind, str] = {"write": "B", "skip": "delta"}
"""Kinds that say themselves where they act."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Intervention:
    """One change, as plain data.

    Raises:
        InputError: the fields do not fit one another.
        SiteError: the site does not exist, or only looks.
    """

    kind: Kind
    """What is done; see the module."""
    tokens: tuple[int, ...] | None = None
    """Positions in the sequence, from 0, the T image tokens first; None: all, those of the answer too."""
    layers: tuple[int, ...] | None = None
    """Blocks; None: every one."""
    site: str = ""
    """Hook site of `replace`, `mean` and `zero`; empty for the kinds that say themselves where they act."""
    value: Float[np.ndarray, "*n W"] | None = None
    """What `replace` puts there: one vector for all tokens, or one each."""
    source: str = ""
    """Where the value comes from, in words, such as "mean token of 32 other images"."""

    def __post_init__(self):
        if self.kind not in get_args(Kind):
            raise InputError(f"There is no kind {self.kind!r}; choose one of {', '.join(get_args(Kind))}.")
        if own := SITE_OF.get(self.kind):
            if self.site not in ("", own):
                raise InputError(
                    f"The kind {self.kind!r} acts at {own!r}; leave the site out, got {self.site!r}."
                )
            object.__setattr__(self, "site", own)
        _require_editable(self.site)
        if (self.kind == "replace") != (self.value is not None):
            raise InputError(
                f"A value is given for 'replace' and for no other kind; got the kind {self.kind!r}."
            )
        if self.value is not None:
            many = self.value.ndim == 2 and (self.tokens is None or len(self.tokens) != len(self.value))
            if self.value.ndim not in (1, 2) or many:
                raise InputError(
                    "expected one vector for all tokens, or one for each that is named; got values of shape "
                    f"{self.value.shape}."
                )
        if self.tokens is not None and (
            len(set(self.tokens)) < len(self.tokens) or min(self.tokens, default=0) < 0
        ):
            raise InputError(f"Tokens are positions from 0, each once; got {list(self.tokens)[:20]}.")

    def describe(self) -> str:
        """One line for a picture, such as `skip at delta, 12 tokens, layers 4, 5`."""
        tokens = "all tokens" if self.tokens is None else f"{len(self.tokens)} tokens"
        layers = "all layers" if self.layers is None else f"layers {', '.join(map(str, self.layers))}"
        by = f" by {self.source or 'a given value'}" if self.kind == "replace" else ""
        return f"{self.kind}{by} at {self.site}, {tokens}, {layers}"

    def to_json(self) -> dict[str, Any]:
        """A plain dict that JSON can hold. Of the value it keeps shape and hash: enough to tell, not to repeat."""
        value = None
        if self.value is not None:
            data = np.ascontiguousarray(self.value, dtype=np.float32)
            value = {"shape": list(data.shape), "sha256": hashlib.sha256(data.tobytes()).hexdigest()}
        plain = {name: getattr(self, name) for name in ("kind", "site", "source")}
        lists = {
            name: None if (each := getattr(self, name)) is None else list(each)
            for name in ("tokens", "layers")
        }
        return {**plain, **lists, "value": value}

    def edit(self) -> Edit:
        """What it does to the values of its tokens."""
        if self.kind == "mean":
            return mean
        return zero if self.value is None else replace(torch.from_numpy(self.value))


def zero(values: Float[Tensor, "n W"]) -> Float[Tensor, "n W"]:
    """Nothing."""
    return torch.zeros_like(values)


def mean(values: Float[Tensor, "n W"]) -> Float[Tensor, "n W"]:
    """The mean of the tokens touched, for each of them."""
    return values.mean(dim=0, keepdim=True).expand_as(values)


def replace(value: Float[Tensor, "*n W"]) -> Edit:
    """A given vector for every token touched, or one for each."""

    def put(values: Float[Tensor, "n W"]) -> Float[Tensor, "n W"]:
        if value.shape[-1] != values.shape[-1]:
            raise InputError(
                f"expected values of width {values.shape[-1]} at this site, got {value.shape[-1]}."
            )
        return value.to(values).expand_as(values)

    return put


@contextmanager
def intervene(
    model: Any, changes: Mapping[str, Edit] | Sequence[Intervention]
) -> Generator[None, None, None]:
    """Change a model while the block runs; hooks of others stay where they are, ours are gone afterwards.

    Everything is resolved before the first hook is in place. Positions count from the first token of a text, also
    where a cache goes on with one, so that an answer's own tokens are not taken for those of the image.

    Args:
        model: from `load_model`, or its network.
        changes: interventions; or hook names (`blocks.5.hook_mixer_out`, `mixer_out` for every layer) → what to do with
            the values of all tokens: `zero`, `mean`, `replace(vector)` or a function of your own.

    Raises:
        SiteError: a site or layer does not exist, or only looks.
        InputError: when the model runs: a position behind the end of a text, or a value of another width.
    """
    vlm: VLM = getattr(model, "vlm", model)
    if isinstance(changes, Mapping):
        wanted = [_resolved(vlm, name, None, None, edit) for name, edit in changes.items()]
    else:
        wanted = [_resolved(vlm, each.site, each.layers, each.tokens, each.edit()) for each in changes]
    place = _Place()
    with ExitStack() as hooks:
        handle = vlm.llm.backbone.register_forward_pre_hook(place.note, with_kwargs=True)
        hooks.callback(handle.remove)
        for point, tokens, edit in (found for each in wanted for found in each):
            hooks.callback(point.register_forward_hook(_hook(place, tokens, edit)).remove)
        yield


class _Place:
    """Where in its text each sample of the present pass begins."""

    def __init__(self) -> None:
        self.starts: Tensor | None = None
        self.whole = True

    def note(self, module: nn.Module, args: tuple, given: dict[str, Any]) -> None:
        cache: MambaCache | None = given.get("cache")
        self.whole = cache is None
        self.starts = None if cache is None or cache.offset is None else cache.offset

    def mask(self, values: Float[Tensor, "B L W"], tokens: Sequence[int]) -> Bool[Tensor, "B L"]:
        """Which positions of this pass are among the tokens."""
        batch, length = values.shape[:2]
        starts = torch.zeros(batch, dtype=torch.long) if self.starts is None else self.starts.cpu()
        if self.whole and max(tokens, default=0) >= length:
            raise InputError(f"The sequence has {length} positions; token {max(tokens)} is not in it.")
        positions = starts[:, None] + torch.arange(length)
        return torch.isin(positions, torch.tensor(list(tokens), dtype=torch.long)).to(values.device)


def _hook(place: _Place, tokens: Sequence[int] | None, edit: Edit) -> Callable[..., Tensor | None]:
    def change(module: nn.Module, args: tuple, values: Tensor) -> Tensor | None:
        if tokens is None:
            return torch.stack([edit(sample) for sample in values])
        touched = place.mask(values, tokens)
        if not touched.any():
            return None
        changed = values.clone()
        for sample, rows in zip(changed, touched, strict=True):
            if rows.any():
                sample[rows] = edit(sample[rows])
        return changed

    return change


def _resolved(
    vlm: VLM, name: str, layers: Layers | None, tokens: Sequence[int] | None, edit: Edit
) -> list[tuple[nn.Module, Sequence[int] | None, Edit]]:
    _require_editable(split_site(name)[0])
    found = resolve(vlm, [name], "all" if layers is None else layers)
    return [(vlm.get_submodule(target.path), tokens, edit) for target in found]


def _require_editable(site: str) -> None:
    if site not in SITES:
        raise SiteError(f"{site!r} is no hook site. Sites: {', '.join(SITES)}.")
    if site in OBSERVED:
        raise SiteError(
            f"What is put at {site!r} reaches nothing: the model shows it and goes on with its own. "
            f"Use one of {', '.join(each for each in SITES if each not in OBSERVED)}."
        )
