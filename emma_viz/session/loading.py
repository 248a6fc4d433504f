"""Models and lenses as a user names them, looked at before any is loaded."""

import gc
import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from emma_viz.checkpoints import FoundModel, LoadedModel, load_model, require_model
from emma_viz.checkpoints.beside import encoder_key, stored_marks
from emma_viz.checkpoints.peers import PeerModel, load_peer, peer_source, require_peer
from emma_viz.errors import InputError, LensMismatchError, MissingLensError
from emma_viz.lens import Lens, load_lens
from emma_viz.lens.kinds import is_kind
from emma_viz.models.config import VLMConfig
from emma_viz.models.peers.table import peer_names
from emma_viz.progress import Progress
from emma_viz.session.options import FittedKind, LensRecipe, Running


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
) -> tuple[VLMConfig | None, FoundModel | LoadedModel]:
    """Make sure that all of a model is there and fits before any is loaded; its description and its record.

    A model that transformers' own class runs has no description.

    Raises:
        CheckpointError: as `load_model`.
        InputError: there is no such device, type or backend here.
    """
    if isinstance(source, PeerModel):
        return None, source
    if isinstance(source, LoadedModel):
        return source.config, source
    if (found := peer_source(source)) is not None:
        return None, require_peer(found, device=running.device, dtype=running.dtype, part=running.part)
    return require_model(source, **_loading_options(running))


def _loading_options(running: Running) -> dict[str, Any]:
    return {
        "device": running.device,
        "dtype": running.dtype,
        "backend": running.backend,
        "vision_source": running.vision_source,
        "tokenizer_source": running.tokenizer_source,
        "llm_source": running.llm_source,
    }


def load(source: str | Path | LoadedModel, running: Running, progress: Progress | None = None) -> LoadedModel:
    """A loaded model, whatever it is named by."""
    if isinstance(source, LoadedModel):
        return source
    # Encoders, tokenizer and language model of such a model are its own, whatever the others are given.
    if (found := peer_source(source)) is not None:
        return load_peer(found, device=running.device, dtype=running.dtype, part=running.part)
    return load_model(source, **_loading_options(running), progress=_loading(source, progress))


def marks_beside_weights(model: LoadedModel) -> dict[str, str]:
    """What tells the states and answers of a model from another's of the same fingerprint: marks of its image encoders
    with their preprocessing, and of its tokenizer, by the names of these; none of one that transformers' own class
    runs, whose fingerprint is of its image encoder too."""
    if isinstance(model, PeerModel):
        return {}
    return {"image encoder": encoder_key(model.vlm), "tokenizer": model.tokenizer.fingerprint}


def named_marks(source: str | Path, running: Running) -> dict[str, str]:
    """What `marks_beside_weights` says of a model that need not be loaded, whatever type it is loaded as.

    Returns:
        As `emma_viz.checkpoints.beside.stored_marks`.

    Raises:
        CheckpointError: there is no such model, or a file is damaged or does not fit.
    """
    return stored_marks(
        source, vision_source=running.vision_source, tokenizer_source=running.tokenizer_source
    )


def one_mark(marks: Mapping[str, str]) -> str:
    """What `named_marks` says as one short text, to be compared as a whole; "" where it does not say all."""
    if not {"image encoder", "tokenizer"} <= marks.keys():
        return ""
    return hashlib.sha256(json.dumps(sorted(marks.items())).encode()).hexdigest()[:24]


def free(source: str | Path | LoadedModel) -> None:
    """Give back the memory of a model that `load` read from `source`, once its last name is gone.

    One that was loaded before stays whose it is; a look through all memory for it would take as long as an answer.
    """
    if not isinstance(source, LoadedModel):
        gc.collect()


def _loading(source: str | Path, progress: Progress | None) -> Progress | None:
    if progress is None:
        return None
    return lambda done, total, what: progress(done, total, f"loading {source}: {what}")


def lens_of(
    wanted: str | Path | Lens,
    model: LoadedModel | FoundModel,
    *,
    force: bool = False,
    running: Running = Running(),
) -> Lens:
    """The lens that a user named: one of `model` by its kind, a file, or a lens.

    Args:
        wanted: what was named.
        model: whose lens it is.
        force: accept a lens of the model's own folder that belongs to other weights.
        running: how the model is loaded, for the command that fits a lens.

    Raises:
        MissingLensError: there is none; the message has the command that fits one, and what it takes.
        LensError: the file cannot be read.
        LensMismatchError: it is the model's own by name, but belongs to other weights; the message has the same.
    """
    if not isinstance(wanted, str | Path):
        return wanted
    if not is_kind(str(wanted)):
        return load_lens(wanted)
    try:
        return load_lens(model, str(wanted), force=force)
    except (MissingLensError, LensMismatchError) as error:
        if str(wanted) not in get_args(FittedKind) or not model.info.source:
            raise
        kind, why = ("ridge" if str(wanted) == "ridge" else "tuned"), ""
        if kind == "tuned" and model.info.family in peer_names():
            kind, why = "ridge", " Of a model that transformers' own class runs only ridge lenses are fitted."
        raise type(error)(f"{error}{why} {advice(model.info.source, kind, running)}") from error


def advice(source: str | Path, kind: FittedKind, running: Running) -> str:
    """The command that fits a lens for a model, and what it takes."""
    recipe = LensRecipe(kind=kind)
    given = {
        "--device": running.device,
        "--tokenizer": running.tokenizer_source,
        "--llm": running.llm_source,
    }
    if kind == "ridge":  # a tuned one is trained on the model as it is stored
        given |= {"--dtype": running.dtype, "--backend": running.backend, "--part": running.part}
    usual = (Running().device, Running().dtype, Running().backend)
    words = [
        "emma-viz",
        "fit",
        str(source),
        "--images",
        "FOLDER",
        *([] if kind == "ridge" else ["--kind", kind]),
    ]
    words += [
        word for flag, value in given.items() if value not in (None, *usual) for word in (flag, str(value))
    ]
    vision = running.vision_source
    towers = [f"{name}={path}" for name, path in vision.items()] if isinstance(vision, Mapping) else [vision]
    words += ["--vision", *map(str, towers)] if vision else []
    return f"To fit one: `{shlex.join(words)}` ({cost(recipe)})."


def cost(recipe: LensRecipe) -> str:
    """What the fit of a lens takes, in words."""
    images = f"{recipe.fit} images to fit on and {recipe.held_out} to measure on"
    if recipe.kind == "ridge":
        return f"{images}, or as many as there are; the model reads each once"
    return f"{images}; {recipe.steps} steps, in each of which the model reads {recipe.batch_size} images"
