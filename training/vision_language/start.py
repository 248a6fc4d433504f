"""What a run starts from: a preset with fresh weights, a published language model, or an earlier run."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from emma_viz.checkpoints import inspect, load_language_model, load_model
from emma_viz.checkpoints.beside import encoder_key
from emma_viz.checkpoints.fingerprint import fingerprint
from emma_viz.checkpoints.model_files import SourceLike
from emma_viz.checkpoints.sources import resolve
from emma_viz.checkpoints.tokenizers import BUNDLED_TOKENIZER, SMALL_FAMILIES, load_tokenizer
from emma_viz.checkpoints.vision import load_vision, require_vision
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.errors import CheckpointError, TrainingError
from emma_viz.models.config import MambaConfig, VLMConfig
from emma_viz.models.language_model import MambaLM
from emma_viz.models.meta import on_meta
from emma_viz.models.vlm import VLM
from training.vision_language.objective import head_config
from training.vision_language.recipe import Recipe

FRESH = "fresh"
"""Stands for random weights, where a source is asked for."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where a run's first weights come from."""

    llm: SourceLike | None = None
    """A language model: a path, a hub id, or "fresh"."""
    init: SourceLike | None = None
    """A run directory whose projector and language model are taken, in place of `llm`."""
    vision: SourceLike | Mapping[str, SourceLike] | None = None
    """The encoders: a file, `{tower: source}`, "fresh", or None for their usual places."""
    tokenizer: Path | None = None
    """A tokenizer.json; None: the language model's own, or the bundled one for fresh small models."""

    def __post_init__(self):
        if (self.llm is None) == (self.init is None):
            raise TrainingError(
                "Say where the language model comes from: either llm (--llm SOURCE, or --llm fresh for random weights) "
                "or init (--init RUN_DIRECTORY)."
            )
        if self.init is not None and self.vision == FRESH:
            raise TrainingError(
                f"The projector of {self.init} was trained on its own encoders; fresh ones do not fit it. Leave "
                "--vision out, or name the encoders' file."
            )


def described(recipe: Recipe, start: Start) -> tuple[VLMConfig, Tokenizer]:
    """The model that a run trains, and its tokenizer: every source is found and looked at, and nothing is built.

    Raises:
        TrainingError: a source holds another architecture, or the losses do not fit the model.
        CheckpointError: a source cannot be had, or does not fit what it says it is.
    """
    config = recipe.config()
    head_config(config, recipe.objective)
    if start.llm == FRESH:
        tokenizer = _fresh_tokenizer(config, start.tokenizer)
        config = replace(config, llm=replace(config.llm, vocab_size=tokenizer.vocab_size))
    else:
        config, tokenizer = _look_at(config, start)
    if start.vision != FRESH:
        require_vision(config.vision, start.vision)
    return config, tokenizer


def _look_at(config: VLMConfig, start: Start) -> tuple[VLMConfig, Tokenizer]:
    """Make sure that a language model or run directory fits; the model with its table of tokens, and its tokenizer."""
    source = start.init if start.llm is None else start.llm
    assert source is not None
    found = inspect(source)
    if found.problems:
        listed = "\n".join(f"    {problem}" for problem in found.problems)
        raise CheckpointError(f"{source} cannot be loaded:\n{listed}")
    theirs = found.config
    if theirs is None:
        raise CheckpointError(f"{source} has no config.json beside it, so its architecture is not known.")
    if isinstance(theirs, VLMConfig):
        backbone_id, llm = theirs.llm_backbone_id, theirs.llm
    else:
        backbone_id, llm = None, theirs
    _require_architecture(llm, config, str(source))
    if start.init is not None:
        if not isinstance(theirs, VLMConfig):
            raise TrainingError(
                f"{source} is a language model without projector; pass it as --llm, not --init."
            )
        _require_projector(theirs, config, str(source))
    tokenizer = load_tokenizer(
        resolve(source),
        llm_backbone_id=backbone_id,
        rows=llm.padded_vocab_size,
        tokenizer_source=start.tokenizer,
    )
    if llm.padded_vocab_size != config.llm.padded_vocab_size:
        rows = {name: getattr(llm, name) for name in ("vocab_size", "pad_vocab_size_multiple")}
        config = replace(config, llm=replace(config.llm, **rows))
    return config, tokenizer


def first_weights(recipe: Recipe, start: Start, config: VLMConfig) -> VLM:
    """Build the model of a recipe with its first weights, on the CPU.

    The projector is fresh under the recipe's seed, unless `init` brings one; so is all that neither source has.

    Args:
        recipe: its seed and type count.
        start: the sources.
        config: from `described`, which made sure that the sources fit.

    Raises:
        CheckpointError: a source cannot be read.
    """
    vision_type = torch.bfloat16 if recipe.precision == "bf16" else torch.float32
    torch.manual_seed(recipe.seed)
    vlm = VLM(config)
    if start.llm != FRESH:
        vlm.llm.to("meta")  # its memory is needed for the one that takes its place
    if start.llm is not None and start.llm != FRESH:
        loaded = load_language_model(start.llm, dtype="float32", tokenizer_source=start.tokenizer)
        _take_language_model(vlm, loaded.llm)
    elif start.init is not None:
        _take_model(vlm, start)
    if start.init is None and start.vision != FRESH:
        load_vision(vlm.vision, start.vision, dtype=vision_type, device="cpu")
    vlm.vision.requires_grad_(False)
    vlm.llm.gradient_checkpointing = recipe.gradient_checkpointing
    return vlm


def weights_identity(vlm: VLM, start: Start) -> tuple[dict[str, str], dict[str, str]]:
    """What the first weights are, as part of a run's identity, and in words.

    Fresh weights that are trained are functions of the seed; the encoders are frozen and in no checkpoint.
    """
    state = vlm.state_dict()
    usual = "their usual place" if start.vision is None else start.vision
    sources = {"language model": start.llm or start.init, "projector": start.init or FRESH, "encoders": usual}
    marks = {"encoders": encoder_key(vlm)}
    for name, prefix in (("language model", "llm."), ("projector", "projector.")):
        part = {key: value for key, value in state.items() if key.startswith(prefix)}
        marks[name] = FRESH if sources[name] == FRESH else fingerprint(part)
    words = {
        name: mark if mark == sources[name] else f"{mark[:12]} (from {sources[name]})"
        for name, mark in marks.items()
    }
    return marks, words


def tokenizer_alone(
    recipe: Recipe, *, llm: SourceLike | None, init: SourceLike | None, tokenizer: Path | None
) -> tuple[VLMConfig, Tokenizer]:
    """The model's description and tokenizer, without any weights.

    Raises:
        TrainingError: no source of a tokenizer is named.
        CheckpointError: it cannot be had.
    """
    config = recipe.config()
    if llm == FRESH:
        return config, _fresh_tokenizer(config, tokenizer)
    source = llm if llm is not None else init
    if source is None and tokenizer is None:
        raise TrainingError("To count tokens, name --tokenizer, --llm or --init.")
    if tokenizer is not None:
        return config, Tokenizer.load(tokenizer)
    assert source is not None
    rows = config.llm.padded_vocab_size
    return config, load_tokenizer(resolve(source), llm_backbone_id=config.llm_backbone_id, rows=rows)


def _fresh_tokenizer(config: VLMConfig, path: Path | None) -> Tokenizer:
    if path is not None:
        return Tokenizer.load(path)
    if config.llm_backbone_id.startswith(SMALL_FAMILIES):
        return Tokenizer.load(BUNDLED_TOKENIZER)
    raise TrainingError("A fresh language model needs a tokenizer: pass its tokenizer.json (--tokenizer).")


def _take_language_model(vlm: VLM, llm: MambaLM) -> None:
    llm.train().requires_grad_(True)
    vlm.llm = llm


def _require_architecture(llm: MambaConfig, config: VLMConfig, where: str) -> None:
    if differences := llm.differences(config.llm):
        raise TrainingError(
            f"{where} has not the language model of {config.model_id}: {'; '.join(differences)}. Choose the preset "
            "that fits."
        )


def _require_projector(theirs: VLMConfig, mine: VLMConfig, where: str) -> None:
    """Refuse a projector of other sizes; a cross-scan may be added to it."""
    with on_meta():
        given, wanted = (
            {name: tuple(value.shape) for name, value in VLM(each).projector.state_dict().items()}
            for each in (theirs, mine)
        )
    new = {name for name in wanted if name.startswith("scan.")} - set(given)
    if given != {name: shape for name, shape in wanted.items() if name not in new}:
        raise TrainingError(
            f"The projector of {where} ({theirs.projector}) is not that of {mine.model_id} ({mine.projector})."
        )


def _take_model(vlm: VLM, start: Start) -> None:
    """Projector, language model and encoders of a run directory."""
    assert start.init is not None
    loaded = load_model(
        start.init, dtype="float32", vision_source=start.vision, tokenizer_source=start.tokenizer
    )
    _take_language_model(vlm, loaded.vlm.llm)
    vlm.projector.load_state_dict(loaded.vlm.projector.state_dict(), strict=False)
    vlm.vision.load_state_dict(loaded.vlm.vision.state_dict())
