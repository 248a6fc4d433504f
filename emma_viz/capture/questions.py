"""What a model is asked: images and messages, paired, read and tokenised."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, cast, runtime_checkable

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image
from torch import Tensor, nn

from emma_viz.data.image_grid import ImageGrid
from emma_viz.data.images import ImageSource, ImageTransform, image_hash, read_image
from emma_viz.data.labels import ImageLabel, label_of
from emma_viz.data.provenance import ModelInfo
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.errors import InputError
from emma_viz.models import VLM, MambaLM, TextNetwork
from emma_viz.models.attention_sites import ATTENTION_SITES, sites_of
from emma_viz.models.peers.network import PeerNetwork
from emma_viz.models.sites import Site

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


@runtime_checkable
class LanguageModel(Protocol):
    """What `record` needs of a model without images; `emma_viz.checkpoints.LoadedLanguageModel` is one."""

    @property
    def llm(self) -> MambaLM:
        """The network."""
        ...

    @property
    def tokenizer(self) -> Tokenizer | None:
        """Text to token ids and back; not needed where ids are given."""
        ...

    @property
    def info(self) -> ModelInfo:
        """Where the model comes from."""
        ...


@dataclass(frozen=True, kw_only=True)
class TextModel:
    """A language model alone, in the form in which a vision-language model is recorded."""

    vlm: TextNetwork
    """The network."""
    tokenizer: Tokenizer | None
    """Text to token ids and back, if there is one."""
    info: ModelInfo
    """Where the model comes from."""

    def prompt(self, message: str) -> str:
        """The message itself: a language model alone has no template."""
        return message


PromptsOrIds = str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]] | Int[Tensor, "*B M"]
"""One message or several; or the token ids of one or several, which are read as they are, without a template."""


def recordable(model: object, *, images: bool) -> RecordableModel | TextModel:
    """A model as `record` runs it.

    Args:
        model: what was given.
        images: whether it is to be shown some.

    Raises:
        InputError: it is no model as `load_model` or `load_language_model` gives it, or one without images is to be
            shown some.
    """
    kind = type(model).__name__
    if isinstance(model, str | Path):
        raise InputError(
            f"expected a loaded model, got the text {str(model)!r}; load it: load_model({str(model)!r})."
        )
    if hasattr(model, "llm") and hasattr(model, "tokenizer") and not hasattr(model, "vlm"):
        if images:
            raise InputError(
                f"expected a model that takes images, got a language model alone ({kind}): it has no image tokens. "
                "Load a vision-language model, or give None for the images: record(model, None, prompts)."
            )
        alone = cast(LanguageModel, model)
        return TextModel(vlm=TextNetwork(alone.llm), tokenizer=alone.tokenizer, info=alone.info)
    if missing := [
        name for name in ("vlm", "tokenizer", "transform", "info", "prompt") if not hasattr(model, name)
    ]:
        raise InputError(
            f"expected a model from load_model (or LoadedModel.from_vlm), got a {kind}, which has no {missing[0]}. "
            "Hook any other module with Recorder(module, …)."
        )
    return cast(RecordableModel, model)


def peer_network(model: RecordableModel | TextModel) -> PeerNetwork | None:
    """The network of transformers' that a model is; None for one of this package's own."""
    found = getattr(model, "peer", None)
    return found if isinstance(found, PeerNetwork) else None


def known_sites(model: RecordableModel | TextModel) -> Mapping[str, Site]:
    """The hook sites that a model has, by name."""
    return sites_of(model.vlm.llm.config) if peer_network(model) is None else ATTENTION_SITES


def network_of(model: RecordableModel | TextModel) -> nn.Module:
    """The module whose parts are hooked, and whose weights are all of the model's."""
    peer = peer_network(model)
    return model.vlm if peer is None else peer.network


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
    model: RecordableModel | TextModel,
    images: ImageSource | Sequence[ImageSource] | None,
    prompts: PromptsOrIds,
) -> Questions:
    """Read the images, pair them with the messages, and build and tokenise the prompts.

    One message goes with every image, and one image with every message.

    Raises:
        InputError: there is no message, the numbers do not fit, or the model has no tokenizer for a text.
        ImageError: an image cannot be read.
    """
    texts, ids = _texts(model, prompts)
    read = [read_image(source) for source in _sources(images)]
    if images is not None and not read:
        raise InputError("The list of images is empty; give at least one, or None to ask without an image.")
    count = max(len(texts), len(read))
    if {len(texts), len(read) or 1} - {1, count}:
        raise InputError(
            f"Got {len(read)} images and {len(texts)} prompts; give as many of each, or one image, or one "
            "prompt."
        )
    # None for a language model alone, which `recordable` lets through without images only.
    transform = cast(ImageTransform, getattr(model, "transform", None))
    geometry = [transform.geometry(image) for image in read]
    if grids := sorted({each.grid for each in geometry})[1:]:
        raise InputError(
            f"Images that are recorded together become grids of one shape; these become {geometry[0].grid} and "
            f"{grids[0]}. Record those of each shape on their own."
        )
    views = (
        np.stack([np.asarray(transform.view(image)) for image in read])
        if read
        else _no_views(getattr(transform, "size", 0))
    )
    return Questions(
        messages=_spread(texts, count),
        ids=_spread(ids, count),
        # Hashed and resized once, however many questions there are to one image.
        images=_spread(read, count),
        image_hashes=_spread([image_hash(image) for image in read], count),
        geometry=_spread(geometry, count),
        views=views if len(views) in (0, count) else np.repeat(views, count, axis=0),
        labels=_spread([label_of(image) for image in read], count),
    )


def _texts(
    model: RecordableModel | TextModel, prompts: PromptsOrIds
) -> tuple[list[str], list[tuple[int, ...]]]:
    """Each message and what the model reads of it."""
    given = prompts.tolist() if isinstance(prompts, Tensor) else prompts
    several = [given] if isinstance(given, str) or _is_ids(given) else list(given)
    wrong = next((each for each in several if not (isinstance(each, str) or _is_ids(each))), None)
    if not several or wrong is not None:
        raise InputError(
            f"Give a prompt, or one for each image, as text or as a list of token ids; got {wrong!r}."
        )
    texts, ids, tokenizer = [], [], model.tokenizer
    for each in several:
        if not isinstance(each, str) and hasattr(model, "peer"):
            raise InputError(
                f"{model.info.name} takes messages as text, got token ids: its prompt holds as many image tokens as "
                "the image becomes, and its chat template writes it."
            )
        if not isinstance(each, str):
            read = tuple(cast(Sequence[int], each))
            texts.append(" ".join(map(str, read)) if tokenizer is None else tokenizer.decode(read))
        elif tokenizer is None:
            raise InputError(
                f"expected token ids, got the text {each!r:.60}: {model.info.name} was loaded without a tokenizer. "
                "Load it with one (tokenizer_source=…), or give the ids of the text."
            )
        else:
            read = tuple(tokenizer.encode(model.prompt(each)))
            texts.append(each)
        ids.append(read)
    return texts, ids


def _is_ids(value: object) -> bool:
    """Whether it is one prompt's token ids."""
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and len(value) > 0
        and all(isinstance(each, int) and not isinstance(each, bool) for each in value)
    )


def _sources(images: ImageSource | Sequence[ImageSource] | None) -> list[ImageSource]:
    if images is None:
        return []
    one = isinstance(images, str | Path | Image.Image) or (isinstance(images, np.ndarray) and images.ndim < 4)
    return [images] if one else list(images)


def _spread(items: Sequence[_Item], count: int) -> tuple[_Item, ...]:
    return tuple(items) * count if len(items) == 1 else tuple(items)


def _no_views(size: int) -> UInt8[np.ndarray, "0 S S 3"]:
    return np.zeros((0, size, size, 3), dtype=np.uint8)
