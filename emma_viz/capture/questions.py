"""What a model is asked: images and messages, paired, read and tokenised."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from emma_viz.data.image_grid import ImageGrid
from emma_viz.data.images import ImageSource, ImageTransform, image_hash, read_image
from emma_viz.data.labels import ImageLabel, label_of
from emma_viz.data.provenance import ModelInfo
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.errors import InputError
from emma_viz.models import VLM

_Item = TypeVar("_Item")


@runtime_checkable
class RecordableModel(Protocol):
    """What `record` needs of a model; `emma_viz.checkpoints.LoadedModel` is one."""

    @property
    def vlm(self) -> VLM:
        """The network."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """Text to token ids and back."""
        ...

    @property
    def transform(self) -> ImageTransform:
        """The preprocessing of images."""
        ...

    @property
    def info(self) -> ModelInfo:
        """Where the model comes from."""
        ...

    def prompt(self, message: str) -> str:
        """The text that the model reads for a message."""
        ...


def require_recordable(model: object) -> None:
    """Refuse what `record` cannot ask.

    Raises:
        InputError: it is no vision-language model as `load_model` gives it.
    """
    kind = type(model).__name__
    if isinstance(model, str | Path):
        raise InputError(
            f"expected a loaded model, got the text {str(model)!r}; load it: load_model({str(model)!r})."
        )
    if hasattr(model, "llm") and hasattr(model, "tokenizer") and not hasattr(model, "vlm"):
        raise InputError(
            f"expected a model that takes images, got a language model alone ({kind}): it has no image tokens. Load a "
            "vision-language model, or hook the language model with Recorder(model.llm, …)."
        )
    if missing := [
        name for name in ("vlm", "tokenizer", "transform", "info", "prompt") if not hasattr(model, name)
    ]:
        raise InputError(
            f"expected a model from load_model (or LoadedModel.from_vlm), got a {kind}, which has no {missing[0]}. "
            "Hook any other module with Recorder(module, …)."
        )


@dataclass(frozen=True, kw_only=True)
class Questions:
    """One image and one message a sample, or messages alone."""

    messages: tuple[str, ...]
    """As they were given."""
    ids: tuple[tuple[int, ...], ...]
    """What the model reads of each, template included."""
    images: tuple[Image.Image, ...]
    """RGB, upright; empty without images."""
    image_hashes: tuple[str, ...]
    """Their hashes."""
    geometry: tuple[ImageGrid, ...]
    """Where their tokens lie."""
    views: UInt8[np.ndarray, "b height width 3"]
    """What the model sees of them."""
    labels: tuple[ImageLabel, ...]
    """What they are called, and what was done to them on the way in."""

    def __len__(self) -> int:
        return len(self.messages)


def read_questions(
    model: RecordableModel, images: ImageSource | Sequence[ImageSource] | None, messages: str | Sequence[str]
) -> Questions:
    """Read the images, pair them with the messages, and build and tokenise the prompts.

    One message goes with every image, and one image with every message.

    Raises:
        InputError: there is no message, or the numbers do not fit.
        ImageError: an image cannot be read.
    """
    texts = [messages] if isinstance(messages, str) else list(messages)
    wrong = next((text for text in texts if not isinstance(text, str)), None)
    if not texts or wrong is not None:
        raise InputError(f"Give a prompt, or one for each image, as text; got {wrong!r}.")
    read = [read_image(source) for source in _sources(images)]
    if images is not None and not read:
        raise InputError("The list of images is empty; give at least one, or None to ask without an image.")
    count = max(len(texts), len(read))
    if {len(texts), len(read) or 1} - {1, count}:
        raise InputError(
            f"Got {len(read)} images and {len(texts)} prompts; give as many of each, or one image, or one "
            "prompt."
        )
    geometry = [model.transform.geometry(image) for image in read]
    if grids := sorted({each.grid for each in geometry})[1:]:
        raise InputError(
            f"Images that are recorded together become grids of one shape; these become {geometry[0].grid} and "
            f"{grids[0]}. Record those of each shape on their own."
        )
    views = (
        np.stack([np.asarray(model.transform.view(image)) for image in read]) if read else _no_views(model)
    )
    return Questions(
        messages=_spread(texts, count),
        ids=_spread([tuple(model.tokenizer.encode(model.prompt(text))) for text in texts], count),
        # Hashed and resized once, however many questions there are to one image.
        images=_spread(read, count),
        image_hashes=_spread([image_hash(image) for image in read], count),
        geometry=_spread(geometry, count),
        views=views if len(views) in (0, count) else np.repeat(views, count, axis=0),
        labels=_spread([label_of(image) for image in read], count),
    )


def _sources(images: ImageSource | Sequence[ImageSource] | None) -> list[ImageSource]:
    if images is None:
        return []
    one = isinstance(images, str | Path | Image.Image) or (isinstance(images, np.ndarray) and images.ndim < 4)
    return [images] if one else list(images)


def _spread(items: Sequence[_Item], count: int) -> tuple[_Item, ...]:
    return tuple(items) * count if len(items) == 1 else tuple(items)


def _no_views(model: RecordableModel) -> UInt8[np.ndarray, "0 S S 3"]:
    return np.zeros((0, model.transform.size, model.transform.size, 3), dtype=np.uint8)
