"""What a run starts from: a preset with fresh weights, a published language model, or an earlier run."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from emma_viz.checkpoints import load_language_model, load_model
from emma_viz.checkpoints.sources import SourceLike, resolve
from emma_viz.checkpoints.tokenizers import BUNDLED_TOKENIZER, SMALL_FAMILIES, load_tokenizer
from emma_viz.checkpoints.vision import load_vision
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.errors import TrainingError
from emma_viz.models.config import MambaConfig, VLMConfig
from emma_viz.models.language_model import MambaLM
from emma_viz.models.presets import PRESETS
from emma_viz.models.vlm import VLM
from training.objective import model_config
from training.official import VisionLanguageRecipe

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


def first_weights(recipe: VisionLanguageRecipe, start: Start) -> tuple[VLM, Tokenizer]:
    """Build the model of a recipe with its first weights, on the CPU.

    The projector is fresh under the recipe's seed, unless `init` brings one; so is all that neither source has.

    Raises:
        TrainingError: a source holds another architecture.
        CheckpointError: a source cannot be read.
    """
    config = model_config(PRESETS[recipe.model](), recipe.objective)
    if start.llm == FRESH:
        tokenizer = _fresh_tokenizer(config, start.tokenizer)
        config = replace(config, llm=replace(config.llm, vocab_size=tokenizer.vocab_size))
    vision_type = torch.bfloat16 if recipe.precision == "bf16" else torch.float32
    torch.manual_seed(recipe.seed)
    vlm = VLM(config)
    if start.llm != FRESH:
        vlm.llm.to("meta")  # its memory is needed for the one that takes its place
    if start.llm is not None and start.llm != FRESH:
        loaded = load_language_model(start.llm, dtype="float32", tokenizer_source=start.tokenizer)
        _take_language_model(vlm, loaded.llm, str(start.llm))
        tokenizer = loaded.tokenizer
    elif start.init is not None:
        tokenizer = _take_model(vlm, start)
    if start.init is None and start.vision != FRESH:
        load_vision(vlm.vision, start.vision, dtype=vision_type, device="cpu")
    vlm.vision.requires_grad_(False)
    vlm.llm.gradient_checkpointing = recipe.gradient_checkpointing
    return vlm, tokenizer


def tokenizer_alone(
    recipe: VisionLanguageRecipe, *, llm: SourceLike | None, init: SourceLike | None, tokenizer: Path | None
) -> tuple[VLMConfig, Tokenizer]:
    """The model's description and tokenizer, without any weights.

    Raises:
        TrainingError: no source of a tokenizer is named.
        CheckpointError: it cannot be had.
    """
    config = model_config(PRESETS[recipe.model](), recipe.objective)
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


def _take_language_model(vlm: VLM, llm: MambaLM, where: str) -> None:
    if _architecture(llm.config) != _architecture(vlm.config.llm):
        raise TrainingError(
            f"{where} is {llm.config}, but {vlm.config.model_id} has {vlm.config.llm}; choose the preset that fits."
        )
    llm.train().requires_grad_(True)
    vlm.llm = llm


def _architecture(config: MambaConfig) -> MambaConfig:
    """What weights depend on: the table's rows count, not how many of them the tokenizer uses."""
    return replace(config, vocab_size=config.padded_vocab_size, pad_vocab_size_multiple=1, chunk_size=1)


def _take_model(vlm: VLM, start: Start) -> Tokenizer:
    """Projector, language model and encoders of a run directory."""
    assert start.init is not None
    loaded = load_model(
        start.init, dtype="float32", vision_source=start.vision, tokenizer_source=start.tokenizer
    )
    _take_language_model(vlm, loaded.vlm.llm, str(start.init))
    mine, theirs = vlm.projector.state_dict(), loaded.vlm.projector.state_dict()
    new = {name for name in mine if name.startswith("scan.")}
    if {name: tuple(value.shape) for name, value in theirs.items()} != {
        name: tuple(value.shape) for name, value in mine.items() if name in theirs or name not in new
    }:
        raise TrainingError(
            f"The projector of {start.init} ({loaded.config.projector}) is not that of {vlm.config.model_id} "
            f"({vlm.config.projector})."
        )
    vlm.projector.load_state_dict(theirs, strict=False)
    vlm.vision.load_state_dict(loaded.vlm.vision.state_dict())
    return loaded.tokenizer
