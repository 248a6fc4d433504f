"""Change a running model: put interventions in place while a block runs, and take them out again.

    with intervene(model, [Intervention(kind="skip", tokens=cup, layers=(4, 5))]):
        trace = record(model, image, prompt)

    with intervene(model, {"blocks.5.hook_mixer_out": zero}):
        ...

What the kinds mean is said in `emma_viz.evidence.intervention`.
"""

from bisect import bisect_right
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from emma_viz.capture.interventions import InterventionRecord
from emma_viz.capture.sites import resolve_sites, split_site
from emma_viz.errors import InputError
from emma_viz.evidence.intervention import WHOLE, Intervention, require_editable
from emma_viz.evidence.mixers.paths import taken, without_edge, without_tokens
from emma_viz.models import VLM, Mamba1Mixer, Mamba2Mixer, MambaCache
from emma_viz.models.attention_sites import ALL_SITES

Edit = Callable[[Float[Tensor, "n W"]], Float[Tensor, "n W"]]
"""From the values of the tokens touched to those put in their place."""
_EditAt = Callable[[Int[Tensor, " n"]], Edit]
"""From the positions touched in one pass to what becomes of their values."""
_INSIDE = ("x", "z", "conv", "delta", "B", "C", "y")
"""Sites inside a mixer, which a change of its whole output would not see."""


def zero(values: Float[Tensor, "n W"]) -> Float[Tensor, "n W"]:
    """Nothing."""
    return torch.zeros_like(values)


def mean(values: Float[Tensor, "n W"]) -> Float[Tensor, "n W"]:
    """The mean of the tokens touched, for each of them."""
    return values.mean(dim=0, keepdim=True).expand_as(values)


def add(value: Float[Tensor, "*n W"]) -> Edit:
    """A given vector added to every token touched, or one for each."""
    put = replace(value)

    def added(values: Float[Tensor, "n W"]) -> Float[Tensor, "n W"]:
        return values + put(values)

    added.__name__ = "add"
    return added


def replace(value: Float[Tensor, "*n W"]) -> Edit:
    """A given vector for every token touched, or one for each.

    Args:
        value: one vector, (W,), or one for each token touched in a pass, (n, W).

    Raises:
        InputError: the site's vectors have another width, or a pass touches another number of tokens; raised when the
            model runs.
    """

    def put(values: Float[Tensor, "n W"]) -> Float[Tensor, "n W"]:
        if value.shape[-1] != values.shape[-1]:
            raise InputError(
                f"expected values of width {values.shape[-1]} at this site, got {value.shape[-1]}."
            )
        if value.ndim > 1 and len(value) != len(values):
            raise InputError(
                f"expected one vector for all tokens, or one for each of the {len(values)} that this pass touches, got "
                f"{len(value)}."
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
        InputError: two changes would not see each other; and when the model runs: a position behind the end of a text,
            values of another width or number, or `edge`, `cut` or `delete` where a cache is in use.
    """
    vlm: VLM = getattr(model, "vlm", model)
    if isinstance(changes, Mapping):
        wanted = [each for name, edit in changes.items() for each in _named(vlm, name, edit)]
        records = [_record(name, edit) for name, edit in changes.items()]
    else:
        wanted = _changes(vlm, changes, None)
        records = [each.record() for each in changes]
    with _in_place(vlm, wanted, records):
        yield


@contextmanager
def intervene_each(model: Any, runs: Sequence[Sequence[Intervention]]) -> Generator[None, None, None]:
    """As `intervene`, with changes of its own for each sample of every pass: the nth has those of the nth run.

    The samples of a pass must be the same but for that, and runs come in the order of the first blocks that they change
    (`first_block`): before its own, a run is computed once with all others that have not begun.

    Raises:
        SiteError: as `intervene`.
        InputError: as `intervene`; the runs are in another order; and when the model runs with another number of
            samples.
    """
    vlm: VLM = getattr(model, "vlm", model)
    blocks = vlm.llm.backbone.layers
    starts = [first_block(run, len(blocks)) for run in runs]
    if starts != sorted(starts):
        raise InputError(f"expected runs in the order of their first blocks, got {starts}.")
    wanted = [change for index, run in enumerate(runs) for change in _changes(vlm, run, index)]
    # One more sample stands for all runs that have not begun.
    rows = [min(bisect_right(starts, number) + 1, len(runs)) for number in range(len(blocks))]
    with ExitStack() as hooks:
        for block, before, after in zip(blocks, [len(runs), *rows], rows, strict=False):
            if after != before:
                hooks.callback(block.register_forward_pre_hook(_so_many(after)).remove)
        records = [each.record() for run in runs for each in run]
        hooks.enter_context(_in_place(vlm, wanted, records, samples=len(runs)))
        yield


def _so_many(samples: int) -> Callable[..., tuple]:
    """Of the samples that enter a block, the first ones, or the last again and again."""

    def change(block: nn.Module, args: tuple) -> tuple:
        given = [each for each in args[:2] if each is not None]
        index = torch.arange(samples, device=given[0].device).clamp(max=len(given[0]) - 1)
        return *(None if each is None else each[index] for each in args[:2]), *args[2:]

    return change


def first_block(run: Sequence[Intervention], depth: int) -> int:
    """The first block that a run's changes reach; the last where there is none, or where they come behind it."""
    firsts = [0 if each.layers is None else min(each.layers, default=depth - 1) for each in run]
    return min([depth - 1, *firsts])


@dataclass(frozen=True)
class _Change:
    """One change at one module."""

    path: str
    sample: int | None
    """Of each pass; None: all of them."""
    tokens: Sequence[int] | None
    edit: _EditAt
    """What becomes of the tokens' values."""
    whole: Intervention | None = None
    """Of a mixer, whose output is computed anew; then that counts and not the edit."""


@contextmanager
def _in_place(
    vlm: VLM,
    wanted: Sequence[_Change],
    records: Sequence[InterventionRecord],
    samples: int | None = None,
) -> Generator[None, None, None]:
    place, before = _Place(len(vlm.lead), samples), (vlm.interventions, vlm.intervened)
    at: dict[str, list[_Change]] = {}
    for each in wanted:
        at.setdefault(each.path, []).append(each)
    with ExitStack() as hooks:
        hooks.callback(lambda: _note(vlm, *before))
        _note(vlm, (*before[0], *records), before[1] | set(at) | {"llm.backbone"})
        handle = vlm.llm.backbone.register_forward_pre_hook(place.note, with_kwargs=True)
        hooks.callback(handle.remove)
        for path, some in at.items():
            point = vlm.get_submodule(path)
            hooks.callback(point.register_forward_hook(_hook(place, some)).remove)
        yield


class _Place:
    """Where in its text each sample of the present pass begins.

    Args:
        lead: tokens that stand before every text and have no position.
        samples: of each pass; None for any number.
    """

    def __init__(self, lead: int, samples: int | None) -> None:
        self.starts: Int[Tensor, " B"] = torch.zeros(0, dtype=torch.long)
        self.lead, self.whole, self.samples = lead, True, samples

    def note(self, module: nn.Module, args: tuple, given: dict[str, Any]) -> None:
        cache: MambaCache | None = given.get("cache")
        self.whole = cache is None or not cache.kept
        read = None if cache is None else cache.offset
        begins = torch.zeros(1, dtype=torch.long) if read is None else read.cpu() - self.lead
        self.starts = begins.expand(len(args[0]))
        if self.samples is not None and len(args[0]) != self.samples:
            raise InputError(f"expected a pass of {self.samples} samples, one a run, got {len(args[0])}.")

    def positions(self, values: Float[Tensor, "B L W"]) -> Int[Tensor, "B L"]:
        """Of each row of this pass, on the CPU; early blocks may have the first samples alone."""
        batch, length = values.shape[:2]
        return self.starts[:batch, None] + torch.arange(length)

    def mask(self, values: Float[Tensor, "B L W"], tokens: Sequence[int]) -> Bool[Tensor, "B L"]:
        """Which positions of this pass are among the tokens, on the CPU."""
        if self.whole:
            self.require(tokens, values.shape[1])
        return torch.isin(self.positions(values), torch.tensor(list(tokens), dtype=torch.long))

    def require(self, tokens: Sequence[int], length: int) -> None:
        """Refuse positions behind the end."""
        if max(tokens, default=0) >= length:
            raise InputError(f"The sequence has {length} positions; token {max(tokens)} is not in it.")


def _hook(place: _Place, changes: Sequence[_Change]) -> Callable[..., Tensor | None]:
    whole = [each for each in changes if each.whole is not None]

    def change(module: nn.Module, args: tuple, values: Tensor) -> Tensor | None:
        if whole:
            return _anew(place, module, args[0], values, whole)
        changed = None
        for each in changes:
            rows = None if each.tokens is None else place.mask(values, each.tokens)
            for sample in range(len(values)) if each.sample is None else (each.sample,):
                if rows is not None and not rows[sample].any():
                    continue
                # What no change touches must stay the very tensor: the model takes another one for a change.
                changed = values.clone() if changed is None else changed
                touched = slice(None) if rows is None else rows[sample]
                edit = each.edit(place.positions(values)[sample, touched])
                changed[sample, touched] = edit(changed[sample, touched])
        return changed

    return change


def _anew(
    place: _Place,
    mixer: nn.Module,
    normed: Float[Tensor, "B L D"],
    out: Float[Tensor, "B L D"],
    changes: Sequence[_Change],
) -> Float[Tensor, "B L D"]:
    """A mixer's output with edges cut or tokens deleted, the samples to which the same is done at once."""
    assert isinstance(mixer, Mamba1Mixer | Mamba2Mixer)
    changed, alike = out.clone(), {}
    for each in changes:
        what = each.whole
        assert what is not None
        if not place.whole:
            raise InputError(
                f"{what.kind!r} is about a whole text in one pass, and this one goes on from a cache; record with "
                "generate=False."
            )
        tokens, readers = (place.mask(out, some or ()).to(out.device) for some in (what.tokens, what.readers))
        for sample in range(len(out)) if each.sample is None else (each.sample,):
            key = (what.kind, len(what.tokens or ()) if what.kind == "delete" else 0)
            alike.setdefault(key, []).append((sample, tokens[sample], readers[sample]))
    for (kind, _), some in alike.items():
        samples = [sample for sample, _, _ in some]
        tokens, readers = (torch.stack([each[which] for each in some]) for which in (1, 2))
        entered, left = normed[samples], out[samples]
        if kind == "delete":
            changed[samples] = without_tokens(mixer, entered, tokens).to(out)
        elif kind == "edge":
            found = without_edge(mixer, entered, tokens).to(out)
            changed[samples] = torch.where(readers[..., None], found, left)
        else:
            found = (left - taken(mixer, entered, tokens)).to(out)
            changed[samples] = torch.where(readers[..., None], found, left)
    return changed


def _changes(vlm: VLM, changes: Sequence[Intervention], sample: int | None) -> list[_Change]:
    """Each at each of its layers."""
    found, inside, whole = [], set(), []
    for each in changes:
        for target in resolve_sites(vlm, [each.site], "all" if each.layers is None else each.layers):
            if each.kind in WHOLE:
                whole.append(target.layer)
                path = target.path.replace("hook_mixer_out", "mixer")
                found.append(_Change(path, sample, each.tokens, _everywhere(zero), each))
            else:
                inside |= {target.layer} if each.site in _INSIDE else set()
                found.append(_Change(target.path, sample, each.tokens, _edit(each)))
    if both := inside & set(whole):
        raise InputError(
            f"Layer {min(both)}: {', '.join(WHOLE)} compute a mixer anew and would not see what is changed inside it; "
            "give one or the other."
        )
    if len(set(whole)) < len(whole):
        raise InputError(
            f"One of {', '.join(WHOLE)} at a layer: each computes its mixer anew and would not see the other; name all "
            "tokens in one."
        )
    return found


def _edit(change: Intervention) -> _EditAt:
    if change.kind == "mean":
        return _everywhere(mean)
    if change.value is None:
        return _everywhere(zero)
    put, value = add if change.kind == "add" else replace, torch.from_numpy(change.value)
    if value.ndim == 1 or change.tokens is None:
        return _everywhere(put(value))
    # A pass has its tokens in ascending order, and may have some of them alone.
    tokens, order = torch.tensor(change.tokens, dtype=torch.long).sort()
    ordered = value[order]
    return lambda positions: put(ordered[torch.searchsorted(tokens, positions)])


def _everywhere(edit: Edit) -> _EditAt:
    """The same at all positions."""
    return lambda positions: edit


def _named(vlm: VLM, name: str, edit: Edit) -> list[_Change]:
    require_editable(split_site(name, ALL_SITES)[0])
    return [
        _Change(target.path, None, None, _everywhere(edit)) for target in resolve_sites(vlm, [name], "all")
    ]


def _note(vlm: VLM, records: tuple[InterventionRecord, ...], paths: frozenset[str]) -> None:
    """Tell who records the model what is changed in it."""
    vlm.interventions, vlm.intervened = records, paths


def _record(name: str, edit: Edit) -> InterventionRecord:
    """A change of every token's values by a function."""
    what = getattr(edit, "__name__", type(edit).__name__)
    return InterventionRecord(kind=what, site=name, said=f"{what} at {name}, all tokens")
