"""Where the states of a recording land: one tensor a site, filled inside the hooks."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from emma_viz.capture.sites import Target
from emma_viz.errors import CaptureError

OnStates = Callable[[str, int, range, Tensor], None]
"""Called as on_states(site, layer, samples, states "b L W") with the samples' numbers, instead of keeping the
states."""


class StateBuffers:
    """Receives what hooks see, pass by pass, and keeps the wanted tokens of it.

    The tensors are allocated once at their final size, so nothing is held twice. One batch after another is
    begun with `begin_batch`; in each, the first call of a hook is the prefill and every later one a generated
    token.

    Args:
        targets: the hooks, those of one site in the order of its layers.
        lengths: per sample of the whole recording, how many of the kept positions are real; the others become
            NaN.
        tokens: the positions to keep of the prefill; None where each batch has its own.
        dtype: of what is kept.
        answers: how many generated tokens a sample can have; 0 to keep no states of them.
        on_states: takes the prefill states instead of the buffers.
        on_prefill: called after each hook's prefill.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        *,
        lengths: Sequence[int],
        tokens: slice | None,
        dtype: torch.dtype,
        answers: int,
        on_states: OnStates | None,
        on_prefill: Callable[[], None],
    ):
        self._targets, self._batch, self._dtype = targets, len(lengths), dtype
        self._tokens: slice | Tensor | None = tokens
        self._lengths = torch.tensor(lengths)
        self._answers, self._on_states, self._on_prefill = answers, on_states, on_prefill
        self._states: dict[str, Tensor] = {}
        self._widths: dict[str, tuple[int, ...]] = {}
        self._steps: dict[str, list[tuple[range, int, Tensor]]] = {target.name: [] for target in targets}
        self._calls: dict[str, int] = {}
        self._samples = range(0)
        self._written: list[int] = []

    def begin_batch(self, samples: range, tokens: Tensor | None = None) -> None:
        """The next passes are of these samples.

        Args:
            samples: their numbers.
            tokens: the positions to keep of their prefill, in the order in which they are kept.
        """
        self._samples, self._calls = samples, {}
        self._tokens = self._tokens if tokens is None else tokens
        self._written = [0] * len(samples)

    def end_batch(self) -> None:
        """Check that every hook saw the batch.

        Raises:
            CaptureError: one did not.
        """
        silent = [target.name for target in self._targets if target.name not in self._calls]
        if silent:
            samples = f"{self._samples.start} to {self._samples.stop - 1}"
            raise CaptureError(
                f"{len(silent)} hooks did not fire for the samples {samples}: {', '.join(silent[:5])}."
            )

    @property
    def keeps_answers(self) -> bool:
        """Whether states of generated tokens are kept."""
        return self._answers > 0

    def note_token(self, sample: int) -> int:
        """A token was generated for this sample (its number within the batch); how many it has now."""
        self._written[sample] += 1
        return self._written[sample]

    def receive(self, target: Target, seen: Tensor) -> Tensor | None:
        """Keep what one hook saw; gives back the real tokens of it, for the hook's report."""
        call = self._calls.get(target.name, 0)
        self._calls[target.name] = call + 1
        if call == 0:
            real = self._prefill(target, seen)
            self._on_prefill()
            return real
        return self._step(target, seen, call - 1) if call <= self._answers else None

    def _prefill(self, target: Target, seen: Tensor) -> Tensor:
        assert self._tokens is not None, "a batch without positions of its own has those of the recording"
        chosen = seen[:, self._tokens]
        self._widths[target.site] = tuple(seen.shape[2:])
        lengths = self._lengths[self._samples.start : self._samples.stop]
        if self._on_states is None:
            kept = self._room(target, chosen)
            kept[:, : chosen.shape[1]] = chosen
        else:
            kept = chosen.to(device="cpu", dtype=self._dtype, copy=True)
        real = torch.arange(kept.shape[1]) < lengths[:, None]
        if not real.all():
            kept[~real] = torch.nan
        if self._on_states is not None:
            assert target.layer is not None, "a named site has a layer"
            self._on_states(target.site, target.layer, self._samples, kept)
        return kept if real.all() else kept[real]

    def _room(self, target: Target, like: Tensor) -> Tensor:
        """The part of the site's tensor that this layer and batch fill."""
        layers = [each.layer for each in self._targets if each.site == target.site]
        if target.site not in self._states:
            shape = (len(layers), self._batch, int(self._lengths.max()), *self._widths[target.site])
            self._states[target.site] = torch.empty(shape, dtype=self._dtype)
        return self._states[target.site][layers.index(target.layer), self._samples.start : self._samples.stop]

    def _step(self, target: Target, seen: Tensor, step: int) -> Tensor:
        kept = seen[:, 0].to(device="cpu", dtype=self._dtype, copy=True)
        # A finished sample runs along until all are; what it holds then belongs to no token.
        real = torch.tensor([written > step for written in self._written])
        kept[~real] = torch.nan
        self._steps[target.name].append((self._samples, step, kept))
        return kept[real]

    def states(self) -> dict[str, Float[Tensor, "Y B _ *W"]]:
        """The prefill states per site, "Y B L W"."""
        return self._states

    def generated(self, longest: int) -> dict[str, Float[Tensor, "Y B _ *W"]]:
        """The states "Y B A W" at generated tokens per site, for the A tokens of the longest answer; to be
        called once."""
        sites = dict.fromkeys(target.site for target in self._targets)
        return {site: self._gather(site, longest) for site in sites}

    def _gather(self, site: str, longest: int) -> Tensor:
        targets = [target for target in self._targets if target.site == site]
        shape = (len(targets), self._batch, longest, *self._widths[site])
        out = torch.full(shape, torch.nan, dtype=self._dtype)
        for layer, target in zip(out, targets, strict=True):
            # Taken out of the dictionary, so that no more than one layer is held twice.
            for samples, step, states in self._steps.pop(target.name):
                if step < longest:
                    layer[samples.start : samples.stop, step] = states
        return out
