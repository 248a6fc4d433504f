"""The record of a loaded model, whose fingerprint follows its weights where they are changed in memory.

A fingerprint is taken from the files. Whoever trains a loaded model further, or edits it, has another model in the
same object: what is recorded of it then must not bear the mark of the old one. Each look at the record compares which
tensors the model has, where they lie and how often torch wrote into them, and only where that changed the values
themselves. What is written through `tensor.data` is not seen, as torch does not count it.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from emma_viz.checkpoints.fingerprint import fingerprint
from emma_viz.data.provenance import ModelInfo


@runtime_checkable
class _Weighted(Protocol):
    """A model with weights."""

    def weights(self) -> Mapping[str, Tensor]:
        """All of them, by the names that fingerprints have."""
        ...

    @property
    def network(self) -> nn.Module:
        """Whose they are."""
        ...


class FollowedInfo:
    """A field of a class of models: what is set is the record at that moment, what is read that of now."""

    def __get__(self, model: Any, owner: type | None = None) -> ModelInfo:
        if model is None:
            raise AttributeError("info")  # a dataclass takes it for a field without a default
        return model.__dict__["followed"].now()

    def __set__(self, model: _Weighted, info: ModelInfo) -> None:
        model.__dict__["followed"] = _Followed(info, model.network, model.weights)


class _Followed:
    """A record, and what the weights were when it was made and when they were last looked at."""

    def __init__(self, info: ModelInfo, network: nn.Module, weights: Callable[[], Mapping[str, Tensor]]):
        self._made = self._info = info
        self._modules, self._weights = tuple(network.modules()), weights
        self._held = not any(each.is_meta for each in network.parameters())
        self._marks = self._look()
        self._first = fingerprint(weights()) if self._held else ""

    def now(self) -> ModelInfo:
        """The record with the fingerprint of the weights as they are; that of the files where nothing was changed, or
        all was changed back."""
        marks = self._look()
        if self._held and marks != self._marks:
            found = fingerprint(self._weights())
            self._info = self._made if found == self._first else replace(self._made, fingerprint=found)
            self._marks = marks
        return self._info

    def _look(self) -> list[tuple[int, int, int]]:
        """Which tensors there are, where they lie, and how often each was written into."""
        found = []
        for module in self._modules:
            kept = [
                each
                for name, each in module._buffers.items()
                if name not in module._non_persistent_buffers_set
            ]
            for each in (*module._parameters.values(), *kept):
                if each is not None:
                    # Tensors made in inference mode keep no count.
                    written = 0 if each.is_inference() else each._version
                    found.append((id(each), each.data_ptr(), written))
        return found
