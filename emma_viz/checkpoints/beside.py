"""What tells models of the same fingerprint apart: marks of their image encoders, and of their tokenizer."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict

from torch import Tensor

from emma_viz.checkpoints.fingerprint import fingerprint
from emma_viz.checkpoints.loaded import image_transform
from emma_viz.checkpoints.model_files import SourceLike
from emma_viz.checkpoints.readers.tensors import TensorRef
from emma_viz.checkpoints.run_config import read_description
from emma_viz.checkpoints.sources import resolve
from emma_viz.checkpoints.tokenizers import local_tokenizer
from emma_viz.checkpoints.vision import VisionSource, local_encoders
from emma_viz.models.config import VLMConfig
from emma_viz.models.vlm import VLM


def encoder_key(vlm: VLM) -> str:
    """Names the encoders' weights, as they are in memory, and the preprocessing together."""
    return _key(vlm.vision.state_dict(), vlm.config)


def stored_marks(
    source: SourceLike, *, vision_source: VisionSource = None, tokenizer_source: SourceLike | None = None
) -> dict[str, str]:
    """Marks of a model's image encoders with their preprocessing, and of its tokenizer, by the names of these.

    They are taken from the files, so that they do not depend on the type that a model is loaded as; a few kilobytes are
    read, and nothing is downloaded that the user does not name.

    Args:
        source: as for `load_model`.
        vision_source: likewise.
        tokenizer_source: likewise.

    Returns:
        Name → mark. A part that is not on this machine has none, nor has a model that transformers' own class runs,
        whose fingerprint is of its image encoder too.

    Raises:
        CheckpointError: there is no such model, or a file is damaged or does not fit.
    """
    found = resolve(source)
    if found.config is None or found.kind == "transformers model":
        return {}
    config = read_description(found.config, where=str(found.config_path))
    if not isinstance(config, VLMConfig):
        return {}
    marks: dict[str, str] = {}
    if (encoders := local_encoders(config.vision, vision_source)) is not None:
        marks["image encoder"] = _key(encoders, config)
    tokenizer = local_tokenizer(
        found,
        llm_backbone_id=config.llm_backbone_id,
        rows=config.llm.padded_vocab_size,
        tokenizer_source=tokenizer_source,
    )
    return marks if tokenizer is None else {**marks, "tokenizer": tokenizer.fingerprint}


def _key(tensors: Mapping[str, TensorRef | Tensor], config: VLMConfig) -> str:
    # The fingerprint takes note of components alone, and the encoder is none of a checkpoint's: it is given as one.
    weights = fingerprint({f"projector.{name}": value for name, value in tensors.items()})
    return hashlib.sha256(json.dumps([weights, asdict(image_transform(config))]).encode()).hexdigest()[:24]
