"""Recorder: keep what any modules of any model put out, while a `with` block runs."""

import re
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from emma_viz.capture.hooks import HookReport, Hooks, Pick
from emma_viz.capture.sites import Layers, Target, nearest, resolve_sites
from emma_viz.errors import CaptureError, SiteError


class Recorder:
    """Keeps the outputs of hooked modules, copied to the CPU inside the hook.

    Only the tokens asked for are copied, in the dtype asked for, so that memory grows by no more than what is
    kept. The model's output never changes, and the hooks are gone after the block, also after an exception.

    Examples:
        >>> with Recorder(model.vlm, ["resid_post", "delta"], layers=[0, 3]) as recorder:
        ...     model.vlm(pixels, input_ids)
        >>> recorder["resid_post", 3]  # Tensor "B L D"

        A model of mamba_ssm, whose blocks return `(hidden, residual)`:

        >>> with Recorder(theirs, "backbone.layers.*", pick=sum) as recorder:
        ...     theirs(input_ids)
        >>> recorder["backbone.layers.7"]

    Args:
        module: a VLM or Mamba language model of this package, or any other `nn.Module`.
        names: sites, long forms, or module paths with `*` for one part of a path (see
            `emma_viz.capture.sites`).
        layers: block indices for the sites whose name leaves the layer open.
        tokens: which positions of axis 1 (L) to keep; all when not given.
        pick: which tensor to take from modules that return a tuple: an index, or a function of the tuple.
        dtype: of the copies; the module's own when not given.
        device: of the copies.
        on_state: called with each target and its copy instead of keeping it: for models whose states do not
            fit in memory.

    Raises:
        SiteError: a name or layer does not exist; nothing was hooked.
        CaptureError: on leaving the block, when a hook did not fire.
    """

    def __init__(
        self,
        module: nn.Module,
        names: str | Iterable[str],
        *,
        layers: Layers = "all",
        tokens: slice | None = None,
        pick: Pick = 0,
        dtype: torch.dtype | None = None,
        device: str | torch.device = "cpu",
        on_state: Callable[[Target, Tensor], None] | None = None,
    ):
        self.targets = resolve_sites(module, [names] if isinstance(names, str) else names, layers)
        self._tokens, self._dtype, self._device, self._on_state = tokens, dtype, device, on_state
        self._kept: dict[str, list[Tensor]] = {target.name: [] for target in self.targets}
        self._hooks = Hooks(module, self.targets, self._receive, pick=pick)

    def __enter__(self) -> "Recorder":
        self._hooks.__enter__()
        return self

    def __exit__(self, kind, error, trace) -> None:
        self._hooks.__exit__(kind, error, trace)

    @property
    def reports(self) -> tuple[HookReport, ...]:
        """Whether each hook fired, what shape it saw, and whether all it kept is finite."""
        return self._hooks.reports

    def calls(self, name: str) -> tuple[Tensor, ...]:
        """What one hook kept, one tensor per call of its module.

        Raises:
            SiteError: that name was not recorded.
        """
        if name not in self._kept:
            raise SiteError(f"{name!r} was not recorded. {nearest(name, self._kept)}")
        return tuple(self._kept[name])

    def __iter__(self) -> Iterator[str]:
        """The names of what was recorded; `calls(name)` has its tensors."""
        return iter(self._kept)

    def keys(self) -> tuple[str, ...]:
        """The names of what was recorded, in the order asked for."""
        return tuple(self._kept)

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """Each name with what its hook kept.

        Raises:
            CaptureError: a module was called more or less than once; see `calls`.
        """
        return ((name, self[name]) for name in self._kept)

    def stack(self, pattern: str) -> Tensor:
        """What several hooks kept as one tensor, along a new first axis, in the order in which they were asked for.

        Args:
            pattern: names with `*` for one part, such as `blocks.*.hook_resid_post` or `backbone.layers.*`.

        Returns:
            "n …": n names, then the axes of what each kept ("B L W" of a site).

        Raises:
            SiteError: no name of what was recorded is like that.
            CaptureError: their tensors differ in shape, or a module was called more or less than once.
        """
        part = re.compile("[^.]+".join(re.escape(text) for text in pattern.split("*")))
        found = [name for name in self._kept if part.fullmatch(name)]
        if not found:
            raise SiteError(f"Nothing like {pattern!r} was recorded. {nearest(pattern, self._kept)}")
        tensors = [self[name] for name in found]
        if shapes := sorted({tuple(each.shape) for each in tensors})[1:]:
            raise CaptureError(
                f"What was recorded at {pattern!r} has several shapes, {tuple(tensors[0].shape)} and {shapes[0]}; "
                "take them one by one with items()."
            )
        return torch.stack(tensors)

    def __len__(self) -> int:
        """How many hooks there are."""
        return len(self._kept)

    def __contains__(self, name: object) -> bool:
        return name in self._kept

    def __getitem__(self, key: str | tuple[str, int]) -> Tensor:
        """What one hook kept, by its long form, its module path, or `[site, layer]`.

        Raises:
            SiteError: that was not recorded.
            CaptureError: its module was called more or less than once; see `calls`.
        """
        name = key if isinstance(key, str) else self._long_form(*key)
        calls = self.calls(name)
        if len(calls) != 1:
            raise CaptureError(f"{name} holds {len(calls)} calls, not one; read them with calls({name!r}).")
        return calls[0]

    def _long_form(self, site: str, layer: int) -> str:
        for target in self.targets:
            if (target.site, target.layer) == (site, layer):
                return target.name
        recorded = sorted({f"{target.site}, {target.layer}" for target in self.targets if target.site})
        raise SiteError(f"[{site!r}, {layer}] was not recorded. {nearest(f'{site}, {layer}', recorded)}")

    def _receive(self, target: Target, seen: Tensor) -> Tensor:
        chosen = seen if self._tokens is None else seen[:, self._tokens]
        # copy=True: without it a hook would keep the model's own memory, which later layers may write into.
        kept = chosen.to(device=self._device, dtype=self._dtype, copy=True)
        if self._on_state is None:
            self._kept[target.name].append(kept)
        else:
            self._on_state(target, kept)
        return kept
