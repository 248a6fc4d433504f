"""Models and lenses as a user names them, looked at before any is loaded."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emma_viz.checkpoints import FoundModel, LoadedModel, load_model, require_model
from emma_viz.errors import InputError
from emma_viz.lens import Lens, load_lens
from emma_viz.lens.kinds import kind_names
from emma_viz.models.config import VLMConfig
from emma_viz.session.options import Running
from emma_viz.session.road import Progress


def one_each(lenses: Sequence[str | Path | Lens], count: int) -> list[str | Path | Lens]:
    """A lens for each of `count` models: the same for all, or one each.

    Raises:
        InputError: there are neither one nor `count` of them.
    """
    if len(lenses) not in (1, count):
        raise InputError(
            f"expected one lens for all models or one each, got {len(lenses)} lenses for {count} models."
        )
    return list(lenses) * (count if len(lenses) == 1 else 1)


def require_loadable(
    source: str | Path | LoadedModel, running: Running
) -> tuple[VLMConfig, FoundModel | LoadedModel]:
    """Make sure that all of a model is there and fits before any is loaded; its description and its record.

    Raises:
        CheckpointError: as `load_model`.
        InputError: there is no such device, type or backend here.
    """
    if isinstance(source, LoadedModel):
        return source.config, source
    return require_model(source, **_loading_options(running))


def _loading_options(running: Running) -> dict[str, Any]:
    return {
        "device": running.device,
        "dtype": running.dtype,
        "backend": running.backend,
        "vision_source": running.vision_source,
        "tokenizer_source": running.tokenizer_source,
    }


def load(source: str | Path | LoadedModel, running: Running, progress: Progress | None = None) -> LoadedModel:
    """A loaded model, whatever it is named by."""
    if isinstance(source, LoadedModel):
        return source
    return load_model(source, **_loading_options(running), progress=_loading(source, progress))


def _loading(source: str | Path, progress: Progress | None) -> Progress | None:
    if progress is None:
        return None
    return lambda done, total, what: progress(done, total, f"loading {source}: {what}")


def lens_of(wanted: str | Path | Lens, model: LoadedModel | FoundModel, *, force: bool = False) -> Lens:
    """The lens that a user named: one of `model` by its kind, a file, or a lens.

    Raises:
        LensError: there is none.
        LensMismatchError: it is the model's own by name, but belongs to other weights.
    """
    if not isinstance(wanted, str | Path):
        return wanted
    return load_lens(model, str(wanted), force=force) if str(wanted) in kind_names() else load_lens(wanted)
