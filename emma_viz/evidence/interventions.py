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

from emma_viz.capture.interventions import InterventionRecord
from emma_viz.capture.sites import SITES, Layers, resolve, split_site
from emma_viz.errors import InputError, SiteError
from emma_viz.files.schema import Count, shape
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
            value = {"shape": list(self.value.shape), "sha256": _hash(self.value)}
        plain = {name: getattr(self, name) for name in ("kind", "site", "source")}
        lists = {
            name: None if (each := getattr(self, name)) is None else list(each)
            for name in ("tokens", "layers")
        }
        return {**plain, **lists, "value": value}

    @classmethod
    def from_json(
        cls, record: Mapping[str, Any], value: Float[np.ndarray, "*n W"] | None = None
    ) -> "Intervention":
        """Read what `to_json` wrote.

        Args:
            record: the dict.
            value: what `replace` put there, which the dict keeps the hash of alone.

        Raises:
            InputError: a field is missing or of another type, or the value is another one.
        """
        known = shape(record, _Written, where="an intervention", error=InputError)
        if (known.value is None) != (value is None) or (
            value is not None and known.value is not None and known.value.sha256 != _hash(value)
        ):
            raise InputError(
                "expected the value that the intervention put there, "
                f"{'none' if known.value is None else f'of shape {list(known.value.shape)}'}; got another one."
            )
        fields = {name: getattr(known, name) for name in ("kind", "site", "source", "tokens", "layers")}
        return cls(value=value, **fields)

    def record(self) -> InterventionRecord:
        """As a trace keeps it."""
        return InterventionRecord(
            kind=self.kind,
            site=self.site,
            tokens=self.tokens,
            layers=self.layers,
            source=self.source,
            value="" if self.value is None else _hash(self.value),
            said=self.describe(),
        )

    def edit(self) -> Edit:
        """What it does to the values of its tokens."""
        if self.kind == "mean":
            return mean
        return zero if self.value is None else replace(torch.from_numpy(self.value))


@dataclass(frozen=True, kw_only=True)
class _WrittenValue:
    shape: tuple[Count, ...]
    sha256: str


@dataclass(frozen=True, kw_only=True)
class _Written:
    """What `Intervention.to_json` gives."""

    kind: Kind
    site: str
    source: str
    tokens: tuple[Count, ...] | None
    layers: tuple[Count, ...] | None
    value: _WrittenValue | None


def _hash(value: Float[np.ndarray, "*n W"]) -> str:
    return hashlib.sha256(np.ascontiguousarray(value, dtype=np.float32).tobytes()).hexdigest()


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

    put.__name__ = "replace"
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
        records = [_record(name, edit) for name, edit in changes.items()]
    else:
        wanted = [_resolved(vlm, each.site, each.layers, each.tokens, each.edit()) for each in changes]
        records = [each.record() for each in changes]
    place, before = _Place(), (vlm.interventions, vlm.intervened)
    paths = {path for each in wanted for path, *_ in each}
    with ExitStack() as hooks:
        hooks.callback(lambda: _note(vlm, *before))
        _note(vlm, (*before[0], *records), before[1] | paths | {"llm.backbone"})
        handle = vlm.llm.backbone.register_forward_pre_hook(place.note, with_kwargs=True)
        hooks.callback(handle.remove)
        for path, tokens, edit in (found for each in wanted for found in each):
            point = vlm.get_submodule(path)
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
) -> list[tuple[str, Sequence[int] | None, Edit]]:
    _require_editable(split_site(name)[0])
    found = resolve(vlm, [name], "all" if layers is None else layers)
    return [(target.path, tokens, edit) for target in found]


def _note(vlm: VLM, records: tuple[InterventionRecord, ...], paths: frozenset[str]) -> None:
    """Tell who records the model what is changed in it."""
    vlm.interventions, vlm.intervened = records, paths


def _record(name: str, edit: Edit) -> InterventionRecord:
    """A change of every token's values by a function."""
    what = getattr(edit, "__name__", type(edit).__name__)
    return InterventionRecord(kind=what, site=name, said=f"{what} at {name}, all tokens")


def _require_editable(site: str) -> None:
    if site not in SITES:
        raise SiteError(f"{site!r} is no hook site. Sites: {', '.join(SITES)}.")
    if site in OBSERVED:
        raise SiteError(
            f"What is put at {site!r} reaches nothing: the model shows it and goes on with its own. "
            f"Use one of {', '.join(each for each in SITES if each not in OBSERVED)}."
        )
