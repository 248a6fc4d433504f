"""Which tokenizer belongs to a model."""

from collections.abc import Mapping
from pathlib import Path

import emma_viz.data
from emma_viz.checkpoints import hub
from emma_viz.checkpoints.model_files import TOKENIZER, Source, SourceLike, owned
from emma_viz.checkpoints.vision import VisionSource
from emma_viz.data.instructions import InstructionTokenizer
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.errors import CheckpointError
from emma_viz.files.named import named_path
from emma_viz.models.vision_config import VisionConfig

GPT_NEOX = "EleutherAI/gpt-neox-20b"
"""The tokenizer of all published Mamba models."""
BUNDLED_TOKENIZER = Path(emma_viz.data.__file__).parent / "bundled" / TOKENIZER
"""The tokenizer of the pocket family."""
HUB_TOKENIZERS = {
    "vicuna": "hf-internal-testing/llama-tokenizer",
    "mobilellama": "hf-internal-testing/llama-tokenizer",
    "phi": "microsoft/phi-2",
    "internlm2": "internlm/internlm2-chat-1_8b",
}
"""Beginnings of the ids of language models that have another one; Llama's is that of all its kin."""
INSTRUCTIONS = "instruction-tokenizer.json"
"""CLIP's `tokenizer.json` beside a model whose image tokens depend on the instruction."""
SMALL_FAMILIES = ("pocket-", "tiny-")
"""Beginnings of the ids of language models that use the bundled tokenizer, and of encoders that read letters."""


def load_tokenizer(
    source: Source, *, llm_backbone_id: str | None, rows: int, tokenizer_source: SourceLike | None = None
) -> Tokenizer:
    """Find and read a model's tokenizer.

    In this order: what the user named; `tokenizer.json` beside the model; the bundled one for the pocket family;
    from the hub or its cache the one of its kind, GPT-NeoX's for every Mamba.

    Args:
        source: the model's files.
        llm_backbone_id: official name of the language model; None for a language model alone.
        rows: rows of the embedding table; no token may lie past it.
        tokenizer_source: a `tokenizer.json`, a folder with one, or a hub id.

    Raises:
        CheckpointError: it cannot be had, or it has more tokens than the model.
    """
    if tokenizer_source is not None:
        path = _named(tokenizer_source)
    else:
        path = _own(source, llm_backbone_id) or _from_hub(hub_tokenizer(llm_backbone_id))
    return _fitting(path, rows)


def local_tokenizer(
    source: Source, *, llm_backbone_id: str | None, rows: int, tokenizer_source: SourceLike | None = None
) -> Tokenizer | None:
    """What `load_tokenizer` reads, with its arguments; None where it is not on this machine and nobody names it.

    Raises:
        CheckpointError: it is, and `load_tokenizer` would refuse it.
    """
    if tokenizer_source is not None:
        path = _named(tokenizer_source)
    else:
        path = _own(source, llm_backbone_id) or hub.cached(hub_tokenizer(llm_backbone_id), TOKENIZER)
    return None if path is None else _fitting(path, rows)


def hub_tokenizer(llm_backbone_id: str | None) -> str:
    """The hub id of the tokenizer of a language model that brings none."""
    named = llm_backbone_id or ""
    return next((hub_id for begin, hub_id in HUB_TOKENIZERS.items() if named.startswith(begin)), GPT_NEOX)


def instruction_tokenizer(
    vision: VisionConfig, vision_source: VisionSource, *, folder: Path
) -> InstructionTokenizer | None:
    """Find and read the tokenizer of a model's instructions; None for a model that has none.

    In this order: `instruction-tokenizer.json` beside the model; `tokenizer.json` in the folder that `vision_source`
    names for `clip-text` or `clip`; the encoder's own from the hub, or of letters for the tiny one.

    Raises:
        CheckpointError: it cannot be had, or it has more tokens than the encoder.
    """
    text = vision.text
    if text is None:
        return None
    named = dict(vision_source) if isinstance(vision_source, Mapping) else {}
    given = [Path(named[kind]) / TOKENIZER for kind in ("clip-text", "clip") if kind in named]
    path = owned(folder, INSTRUCTIONS) or next((each for each in given if each.is_file()), None)
    if path is None and text.hub_id is None and vision.backbone_id.startswith(SMALL_FAMILIES):
        return InstructionTokenizer.of_letters(context=text.context)
    if path is None and text.hub_id is None:
        raise CheckpointError(
            f"{folder} has no {INSTRUCTIONS}, which reads the instruction for CLIP's text encoder; put the encoder's "
            f"{TOKENIZER} there under this name."
        )
    reader = InstructionTokenizer.load(path or _from_hub(str(text.hub_id)), context=text.context)
    if reader.rows > text.vocab_size:
        raise CheckpointError(
            f"{path} has ids up to {reader.rows - 1}, but the text encoder has {text.vocab_size} tokens."
        )
    return reader


def _own(source: Source, llm_backbone_id: str | None) -> Path | None:
    """The tokenizer beside the model, or the bundled one of the small families."""
    if (
        source.tokenizer is None
        and llm_backbone_id is not None
        and llm_backbone_id.startswith(SMALL_FAMILIES)
    ):
        return BUNDLED_TOKENIZER
    return source.tokenizer


def _fitting(path: Path, rows: int) -> Tokenizer:
    tokenizer = Tokenizer.load(path)
    if tokenizer.rows > rows:
        raise CheckpointError(
            f"The tokenizer {path} has {tokenizer.vocab_size} tokens with ids up to {tokenizer.rows - 1}, but the "
            f"model's table has {rows} rows. Pass the model's own with tokenizer_source."
        )
    return tokenizer


def _named(source: SourceLike) -> Path:
    path = named_path(source)
    if path.is_dir():
        path = path / TOKENIZER
    if path.is_file():
        return path
    given = str(source)
    if not hub.is_hub_id(given, folders=False):
        raise CheckpointError(
            f"There is no {path}. Pass a {TOKENIZER}, a folder that holds one, or a hub id (owner/name)."
        )
    try:
        return _from_hub(given)
    except CheckpointError as error:
        raise CheckpointError(f"There is no {path}, and as a hub id it cannot be had: {error}") from error


def _from_hub(repo: str) -> Path:
    try:
        path = hub.fetch(repo, TOKENIZER)
    except CheckpointError as error:
        raise CheckpointError(f"{error} Or pass a {TOKENIZER} with tokenizer_source.") from error
    assert path is not None
    return path
