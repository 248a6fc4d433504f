"""An intervention as plain data: what is changed in a running model, by name, at which tokens and layers.

`replace`, `mean` and `zero` put a value where a token's was, at a site; `add` adds one to it. In a state-space model,
"knocking a token out" has several meanings, which are kinds of their own:

`write`   B := 0: nothing of the token enters the state, which decays as it did; the skip path stays.
`skip`    Δ := 0: the state passes the token unchanged, as if it were not in the scan; older memory lives longer.
`edge`    the readers alone see a state, and a convolution, that the token gave nothing to; the others see all.
`cut`     what the readers took from the token is taken off exactly, with the whole routing and norms held.
`delete`  the mixer gets a sequence without the token, and gives it nothing.

`write` and `skip` do not cut the convolution, through which a token also reaches the d_conv − 1 behind it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float

from emma_viz.capture.interventions import InterventionRecord
from emma_viz.errors import InputError, SiteError
from emma_viz.files.schema import Count, shape
from emma_viz.models.attention_sites import ALL_SITES

EditKind = Literal["replace", "add", "mean", "zero", "write", "skip", "edge", "cut", "delete"]

OBSERVED = ("resid_post", "conv_pre", "scan")
"""Sites that only look: what is put there reaches nothing."""
SITE_OF: dict[EditKind, str] = {
    "write": "B",
    "skip": "delta",
    "edge": "mixer_out",
    "cut": "mixer_out",
    "delete": "mixer_out",
}
"""Kinds that say themselves where they act, or where what they do is seen."""
VALUED = ("replace", "add")
"""Kinds that are given a value."""
WHOLE = ("edge", "cut", "delete")
"""Kinds that compute a mixer's output anew from all that entered it."""
READ = ("edge", "cut")
"""Kinds that are about some readers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Intervention:
    """One change, as plain data.

    Raises:
        InputError: the fields do not fit one another.
        SiteError: the site does not exist, or only looks.
    """

    kind: EditKind
    """What is done; see the module."""
    tokens: tuple[int, ...] | None = None
    """Positions in the sequence, from 0, the T image tokens first; None: all, those of the answer too."""
    layers: tuple[int, ...] | None = None
    """Blocks; None: every one."""
    readers: tuple[int, ...] | None = None
    """Of `edge` and `cut`: the positions that no longer read the tokens."""
    site: str = ""
    """Hook site of `replace`, `add`, `mean` and `zero`; empty for the kinds that say themselves where they act."""
    value: Float[np.ndarray, "*n W"] | None = None
    """What `replace` puts there, or `add` adds: one vector for all tokens, or one each, in their order."""
    source: str = ""
    """Where the value comes from, in words, such as "mean token of 32 other images"."""

    def __post_init__(self):
        if self.kind not in get_args(EditKind):
            raise InputError(
                f"There is no kind {self.kind!r}; choose one of {', '.join(get_args(EditKind))}."
            )
        if own := SITE_OF.get(self.kind):
            if self.site not in ("", own):
                raise InputError(
                    f"The kind {self.kind!r} acts at {own!r}; leave the site out, got {self.site!r}."
                )
            object.__setattr__(self, "site", own)
        require_editable(self.site)
        self._check_value()
        self._check_places()

    def _check_value(self) -> None:
        if (self.kind in VALUED) != (self.value is not None):
            raise InputError(
                f"A value is given for {' and '.join(map(repr, VALUED))} and for no other kind; "
                f"got the kind {self.kind!r}."
            )
        if self.value is not None:
            many = self.value.ndim == 2 and (self.tokens is None or len(self.tokens) != len(self.value))
            if self.value.ndim not in (1, 2) or many:
                raise InputError(
                    "expected one vector for all tokens, or one for each that is named; got values of shape "
                    f"{self.value.shape}."
                )

    def _check_places(self) -> None:
        for what, places in (("Tokens", self.tokens), ("Readers", self.readers)):
            if places is not None and (len(set(places)) < len(places) or min(places, default=0) < 0):
                raise InputError(f"{what} are positions from 0, each once; got {list(places)[:20]}.")
        if self.kind in WHOLE and self.tokens is None:
            raise InputError(f"The kind {self.kind!r} needs tokens: name their positions.")
        if (self.kind in READ) != (self.readers is not None):
            raise InputError(
                f"Readers are given for {' and '.join(map(repr, READ))} and for no other kind; "
                f"got the kind {self.kind!r}."
            )

    def describe(self) -> str:
        """One line for a picture, such as `skip at delta, 12 tokens, layers 4, 5`."""
        tokens = "all tokens" if self.tokens is None else f"{len(self.tokens)} tokens"
        layers = "all layers" if self.layers is None else f"layers {', '.join(map(str, self.layers))}"
        word = {"replace": "by", "add": "of"}.get(self.kind)
        by = f" {word} {self.source or 'a given value'}" if word else ""
        read = "" if self.readers is None else f" for {len(self.readers)} readers"
        return f"{self.kind}{by} at {self.site}, {tokens}{read}, {layers}"

    def to_json(self) -> dict[str, Any]:
        """A plain dict that JSON can hold. Of the value it keeps shape and hash: enough to tell, not to repeat."""
        value = None
        if self.value is not None:
            value = {"shape": list(self.value.shape), "sha256": _hash(self.value)}
        plain = {name: getattr(self, name) for name in ("kind", "site", "source")}
        lists = {
            name: None if (each := getattr(self, name)) is None else list(each)
            for name in ("tokens", "layers", "readers")
        }
        return {**plain, **lists, "value": value}

    @classmethod
    def from_json(
        cls, record: Mapping[str, Any], value: Float[np.ndarray, "*n W"] | None = None
    ) -> "Intervention":
        """Read what `to_json` wrote.

        Args:
            record: the dict.
            value: what `replace` put there or `add` added, which the dict keeps the hash of alone.

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
        fields = {
            name: getattr(known, name) for name in ("kind", "site", "source", "tokens", "layers", "readers")
        }
        return cls(value=value, **fields)

    def record(self) -> InterventionRecord:
        """As a trace keeps it."""
        return InterventionRecord(
            kind=self.kind,
            site=self.site,
            tokens=self.tokens,
            layers=self.layers,
            readers=self.readers,
            source=self.source,
            value="" if self.value is None else _hash(self.value),
            said=self.describe(),
        )


@dataclass(frozen=True, kw_only=True)
class _WrittenValue:
    shape: tuple[Count, ...]
    sha256: str


@dataclass(frozen=True, kw_only=True)
class _Written:
    """What `Intervention.to_json` gives."""

    kind: EditKind
    site: str
    source: str
    tokens: tuple[Count, ...] | None
    layers: tuple[Count, ...] | None
    value: _WrittenValue | None
    readers: tuple[Count, ...] | None = None


def _hash(value: Float[np.ndarray, "*n W"]) -> str:
    return hashlib.sha256(np.ascontiguousarray(value, dtype=np.float32).tobytes()).hexdigest()


def require_editable(site: str) -> None:
    """Refuse a site that nothing can be put at.

    Raises:
        SiteError: there is no such site, or it only looks.
    """
    if site not in ALL_SITES:
        raise SiteError(f"{site!r} is no hook site. Sites: {', '.join(ALL_SITES)}.")
    if site in OBSERVED:
        raise SiteError(
            f"What is put at {site!r} reaches nothing: the model shows it and goes on with its own. "
            f"Use one of {', '.join(each for each in ALL_SITES if each not in OBSERVED)}."
        )
