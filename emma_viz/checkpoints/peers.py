"""Loading a vision-language model that transformers' own classes run; no code that lies beside it is run."""

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from PIL import Image
from torch import Tensor, nn

from emma_viz.checkpoints import hub
from emma_viz.checkpoints.fingerprint import fingerprint
from emma_viz.checkpoints.hub_models import hub_config
from emma_viz.checkpoints.layouts import require_floats
from emma_viz.checkpoints.loaded import FoundModel, LoadedModel
from emma_viz.checkpoints.materialize import (
    as_dtype,
    default_dtype,
    not_finite,
    require_device,
    require_room,
    room_for,
)
from emma_viz.checkpoints.model_files import PEER_WEIGHTS, Source, SourceLike, is_peer_config
from emma_viz.checkpoints.peer_files import chat_template, require_plain_files
from emma_viz.checkpoints.readers.files import open_weights
from emma_viz.checkpoints.readers.tensors import TensorRef
from emma_viz.checkpoints.run_config import read_config
from emma_viz.checkpoints.sources import bundled_names, resolve
from emma_viz.data.provenance import ModelInfo
from emma_viz.errors import CheckpointError, InputError, KeyMismatchError
from emma_viz.files.named import named_path
from emma_viz.finite import is_finite
from emma_viz.models.attention_sites import attention_blocks
from emma_viz.models.peers.calls import translated
from emma_viz.models.peers.network import PeerImages, PeerNetwork
from emma_viz.models.peers.peer import PeerSettings
from emma_viz.models.peers.steering import only_steering
from emma_viz.models.peers.table import peer_named, peer_of, peers

_Weight = TypeVar("_Weight", TensorRef, Tensor)


class PeerModel(LoadedModel):
    """A model that transformers' own class runs: recorded, decoded and drawn as any other.

    What reads or changes the layers of this package's own models (frozen decomposition, interventions between blocks)
    refuses it with a sentence.
    """

    peer: PeerNetwork
    """The model, its tokenizer and its image processor."""

    def __init__(self, *, peer: PeerNetwork, info: ModelInfo, folder: Path | None = None):
        values = {"peer": peer, "info": info, "folder": folder, "transform": peer, "vlm": _NotOurs(info.name)}
        for name, value in (values | {"tokenizer": PeerTokenizer(peer.words)}).items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        count = sum(each.numel() for each in self.peer.network.parameters())
        return (
            f"PeerModel({self.info.name}, {self.info.family}, {self.info.n_layer} × attention blocks, "
            f"{self.info.d_model} wide, {count / 1e6:.3g} M parameters, {self.info.dtype})"
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """As the checkpoint's own settings say: how prompts are written, and what steers answers."""
        return self.peer.notes

    @property
    def network(self) -> nn.Module:
        """The module that holds all weights."""
        return self.peer.network

    def weights(self) -> Mapping[str, Tensor]:
        """All weights, its image encoder's among them, by names of a fingerprint."""
        return _marked(self.peer.network.state_dict())

    def prompt(self, message: Any) -> str:
        """The text that the model reads for a message, with a marker where the image stands.

        Raises:
            InputError: it is no single message.
        """
        if not isinstance(message, str):
            raise InputError(f"{self.info.name} is asked one question at a time, got a conversation.")
        return self.peer.prompt(message)


class PeerTokenizer:
    """transformers' tokenizer, as far as this package asks one."""

    def __init__(self, words: Any):
        self._words = words

    def encode(self, text: str) -> list[int]:
        """The ids of a text; nothing is added in front or behind."""
        return self._words(text, add_special_tokens=False)["input_ids"]

    def decode(self, ids: Any, *, skip_special: bool = True) -> str:
        """The text of ids."""
        return self._words.decode(list(ids), skip_special_tokens=skip_special)

    def answer(self, ids: Any) -> str:
        """The text of an answer, without special tokens and white space around it."""
        return self.decode(ids).strip()


class _NotOurs:
    """In place of a network of this package: whatever is asked of it is refused with a sentence."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, asked: str) -> Any:
        if asked.startswith("_"):
            raise AttributeError(asked)
        raise InputError(
            f"{self._name} runs through transformers' own class, and this reads the layers of models of this package "
            f"({asked}). Recording, lenses, figures, studies, benchmarks, and evidence that changes image tokens alone "
            "take it; hook the rest with Recorder."
        )


def peer_source(source: SourceLike, *, revision: str | None = None) -> Source | None:
    """A folder or hub id of a vision-language model that transformers' own class runs; None for any other source.

    Args:
        source: what `resolve` takes; the files of a hub id are downloaded, or found in the local cache.
        revision: branch, tag or commit of a hub id.

    Raises:
        CheckpointError: its config.json is damaged, or its files are not complete or cannot be had.
    """
    try:
        path = named_path(source)
        config = (path if path.is_dir() else path.parent) / "config.json"
        given = os.fspath(source)
        if given in bundled_names():
            return None
        if not path.exists():
            known = None if not hub.is_hub_id(given) else hub_config(given, revision=revision)
            return resolve(given, revision=revision) if known and is_peer_config(known) else None
        if not config.is_file():
            return None
    except (OSError, ValueError):  # no path at all; `resolve` says why
        return None
    if path.is_file() and path.name not in PEER_WEIGHTS:
        return None
    return resolve(source) if is_peer_config(read_config(config)) else None


def load_peer(
    source: SourceLike | Source,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str | None = None,
    part: Literal["thumbnail"] | None = None,
) -> PeerModel:
    """Load a vision-language model through transformers' own class.

    Its weights are read by this package's own reader, so those that run are those that were looked at.

    Args:
        source: a folder with `config.json`, safetensors, tokenizer and image processor, as `save_pretrained` writes it;
            a hub id of one; or what `peer_source` gave.
        device: where the model goes.
        dtype: float32, bfloat16 or float16; None is the files' own, but float16 becomes float32 on a CPU.
        part: "thumbnail" draws the tokens of the whole image where it becomes tiles as well; None those of the tiles.

    Raises:
        KeyMismatchError: keys are missing, unknown, misshapen or of a type that weights do not have; all are listed.
        CheckpointError: the folder is not complete, its model is of no family here, or the device has no room for it.
    """
    from transformers import AutoModelForImageTextToText, AutoTokenizer, GenerationConfig

    ready = _Ready.of(source, device, dtype, part)
    folder, info, target = ready.folder, ready.info, as_dtype(ready.info.dtype)
    assert target is not None
    values = {name: _value(reference, name, target) for name, reference in ready.references.items()}
    with _by_transformers(folder):
        words: Any = AutoTokenizer.from_pretrained(folder, **_OWN)
        words.chat_template = chat_template(folder) or words.chat_template
        kind: Any = AutoModelForImageTextToText._model_mapping[type(ready.settings.config)]
        network, told = kind.from_pretrained(
            None,
            config=ready.settings.config,
            state_dict=values,
            dtype=target,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that all are told of, not the first
        )
        if (folder / "generation_config.json").is_file():
            network.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
        network.generation_config = only_steering(network.generation_config)
    _require_filled(network, told, str(folder))
    if attention_blocks(network) is None:
        raise CheckpointError(
            f"{folder}: transformers' {type(network).__name__} has no blocks of a known kind."
        )
    with room_for("its weights", folder, device):
        network = network.to(device)
    peer = PeerNetwork(
        network=network.eval(),
        words=words,
        settings=ready.settings,
        family=peer_named(info.family),
        part=info.part,
    )
    with _by_transformers(folder):
        peer.inputs(Image.new("RGB", (96, 64)), "?")  # what cannot be asked is refused now
    return PeerModel(peer=peer, info=info, folder=folder)


def require_peer(
    source: SourceLike | Source,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str | None = None,
    part: Literal["thumbnail"] | None = None,
) -> FoundModel:
    """The record of a model that `load_peer` would load, from its description and the headers of its files.

    Raises:
        CheckpointError: the folder is not complete, or its model is of no family here.
    """
    ready = _Ready.of(source, device, dtype, part)
    images = PeerImages(settings=ready.settings, family=peer_named(ready.info.family), part=ready.info.part)
    return FoundModel(info=ready.info, folder=ready.folder, geometry=images.geometry)


_OWN = {"local_files_only": True, "trust_remote_code": False}


@contextmanager
def _by_transformers(folder: Path) -> Generator[None]:
    """What transformers refuses, as an error of ours; its bars and reports stay out of the terminal."""
    from transformers.utils import logging

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with translated(CheckpointError, f"{folder} cannot be loaded by transformers"):
            yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def _value(reference: TensorRef, name: str, dtype: torch.dtype) -> Tensor:
    """One tensor of the files, all of whose values are numbers."""
    floating = reference.dtype.is_floating_point
    with room_for(name, reference.path, "cpu"):
        value = reference.read(dtype=dtype if floating else None)
    if floating and not is_finite(value):
        raise CheckpointError(not_finite(reference, name, dtype))
    return value


def _require_filled(network: nn.Module, told: Mapping[str, Any], where: str) -> None:
    """Refuse a model of which anything was left as it was drawn, or a file of which anything was left over.

    What transformers itself does not count: heads that are tied to the embedding, and buffers that are made anew.
    """
    misshapen = [f"{name}: {tuple(of_file)} in the file, {tuple(of_model)} expected"
                 for name, of_file, of_model in told["mismatched_keys"]]  # fmt: skip
    missing, unknown = sorted(told["missing_keys"]), sorted(told["unexpected_keys"])
    if missing or unknown or misshapen:
        raise KeyMismatchError(where, missing, unknown, misshapen, "Is config.json that of these weights?")
    if told.get("error_msgs"):
        raise CheckpointError(f"{where}: transformers says: {str(told['error_msgs'])[:1000]}")
    # What conversions made of the files' values, too.
    if odd := [name for name, value in network.named_parameters() if not is_finite(value.detach())]:
        raise CheckpointError(f"{where}: {', '.join(odd[:5])} hold values that are not finite.")


@dataclass(frozen=True, kw_only=True)
class _Ready:
    """A folder whose files are complete and fit, as far as their headers say."""

    folder: Path
    info: ModelInfo
    settings: PeerSettings
    references: Mapping[str, TensorRef]

    @classmethod
    def of(
        cls,
        source: SourceLike | Source,
        device: str | torch.device,
        dtype: torch.dtype | str | None,
        part: Literal["thumbnail"] | None,
    ) -> "_Ready":
        """Look at a folder.

        Raises:
            CheckpointError: it is not complete, or its model is of no family here.
        """
        from transformers import AutoConfig, AutoImageProcessor

        require_device(device)
        found = source if isinstance(source, Source) else resolve(source)
        if found.config is None or not is_peer_config(found.config):
            known = ", ".join(kind for _, peer in peers() for kind in peer.model_types)
            raise CheckpointError(
                f"expected a folder whose config.json has a model_type of {known}; got {found.given}."
            )
        folder, name = found.folder, peer_of(found.config["model_type"])
        assert name is not None
        require_plain_files(folder)
        file = open_weights(found.weights)
        require_floats(file)
        references = file.tensors
        target = as_dtype(dtype) or default_dtype(references, device)
        require_room(references, target, device)
        with _by_transformers(folder):
            config = AutoConfig.from_pretrained(folder, **_OWN)
            processor = AutoImageProcessor.from_pretrained(folder, backend="pil", **_OWN)
            settings = PeerSettings(config=config, processor=_as_released(config, processor))
            text = config.get_text_config()
            info = ModelInfo(
                name=found.name,
                source=found.given,
                revision=found.revision,
                family=name,
                fingerprint=peer_fingerprint(references),
                dtype=str(target).removeprefix("torch."),
                n_layer=text.num_hidden_layers,
                d_model=text.hidden_size,
                ssm="attention",
                grid=peer_named(name).grid(settings),
                part=part if peer_named(name).thumbnail else None,
            )
        return cls(folder=folder, info=info, settings=settings, references=references)


def peer_fingerprint(references: Mapping[str, TensorRef]) -> str:
    """The fingerprint of all weights of a folder, its image encoder among them."""
    return fingerprint(_marked(references))


def _marked(weights: Mapping[str, _Weight]) -> dict[str, _Weight]:
    # A name of its own, lest a head that is not the embedding be taken for one that is.
    return {f"llm.peer.{key}": each for key, each in weights.items()}


def _as_released(config: Any, processor: Any) -> Any:
    """The image processor with what the released processor of the whole model calls it with."""
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    for name, value in getattr(PROCESSOR_MAPPING[type(config)], "images_kwargs", {}).items():
        setattr(processor, name, value)
    return processor
