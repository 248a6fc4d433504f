"""Loading a vision-language model that transformers' own classes run, from a folder; no code of the folder is run."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from emma_viz.checkpoints.fingerprint import fingerprint
from emma_viz.checkpoints.loaded import FoundModel, LoadedModel
from emma_viz.checkpoints.materialize import as_dtype, default_dtype, require_device
from emma_viz.checkpoints.readers.files import open_weights
from emma_viz.data.provenance import ModelInfo
from emma_viz.errors import CheckpointError, InputError
from emma_viz.files.json_door import read_json
from emma_viz.models.attention_sites import attention_blocks
from emma_viz.models.peers.network import PeerNetwork
from emma_viz.models.peers.peer import PeerSettings
from emma_viz.models.peers.table import PEERS, peer_of


class PeerModel(LoadedModel):
    """A model that transformers' own class runs: recorded, decoded and drawn as any other.

    What reads the layers of this package's own models (evidence, interventions, timing) refuses it with a sentence.
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
            f"({asked}). Recording, lenses, figures and the explorer's page take it; hook the rest with Recorder."
        )


def is_peer(source: object) -> bool:
    """Whether a source is a folder with a model that transformers' class runs and a family here knows.

    Raises:
        CheckpointError: its config.json is damaged.
    """
    return isinstance(source, str | Path) and peer_of(_model_type(Path(source))) is not None


def _model_type(folder: Path) -> str | None:
    path = folder / "config.json"
    if not (folder.is_dir() and path.is_file()):
        return None
    values = read_json(path, error=CheckpointError)
    kind = values.get("model_type") if isinstance(values, dict) else None
    return kind if isinstance(kind, str) else None


def load_peer(
    source: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype | str | None = None
) -> PeerModel:
    """Load a vision-language model through transformers' own class.

    Args:
        source: a folder with `config.json`, safetensors, tokenizer and image processor, as `save_pretrained` writes it.
        device: where the model goes.
        dtype: float32, bfloat16 or float16; None is float32 on a CPU and the files' own elsewhere.

    Raises:
        CheckpointError: the folder is not complete, or its model is of no family here.
    """
    from transformers import AutoModelForImageTextToText, AutoTokenizer

    found, settings = _found(source, device, dtype)
    with _by_transformers(source):
        words = AutoTokenizer.from_pretrained(source, **_OWN)
        network = AutoModelForImageTextToText.from_pretrained(
            source, dtype=as_dtype(found.info.dtype), use_safetensors=True, **_OWN
        )
    if attention_blocks(network) is None:
        raise CheckpointError(
            f"{source}: transformers' {type(network).__name__} has no blocks of a known kind."
        )
    family = PEERS[found.info.family]
    peer = PeerNetwork(network=network.to(device).eval(), words=words, settings=settings, family=family)
    return PeerModel(peer=peer, info=found.info, folder=found.folder)


def require_peer(
    source: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype | str | None = None
) -> FoundModel:
    """The record of a model that `load_peer` would load, from its description and the headers of its files.

    Raises:
        CheckpointError: the folder is not complete, or its model is of no family here.
    """
    return _found(source, device, dtype)[0]


_OWN = {"local_files_only": True, "trust_remote_code": False}


@contextmanager
def _by_transformers(source: str | Path) -> Generator[None]:
    """What transformers refuses, as an error of ours; its bars stay out of the terminal."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise CheckpointError(f"{source} cannot be loaded by transformers: {error}") from error
    finally:
        if shown:
            logging.enable_progress_bar()


def _found(
    source: str | Path, device: str | torch.device, dtype: torch.dtype | str | None
) -> tuple[FoundModel, PeerSettings]:
    from transformers import AutoConfig, AutoImageProcessor

    require_device(device)
    folder = Path(source)
    name = peer_of(_model_type(folder))
    if name is None:
        known = ", ".join(kind for peer in PEERS.values() for kind in peer.model_types)
        raise CheckpointError(
            f"expected a folder whose config.json has a model_type of {known}; {folder} has {_model_type(folder)}."
        )
    with _by_transformers(source):
        config = AutoConfig.from_pretrained(source, **_OWN)
        processor = AutoImageProcessor.from_pretrained(source, backend="pil", **_OWN)
    settings = PeerSettings(config=config, processor=processor)
    index = folder / "model.safetensors.index.json"
    references = open_weights(index if index.is_file() else folder / "model.safetensors").tensors
    target = as_dtype(dtype) or default_dtype(references, device)
    text = config.get_text_config()
    info = ModelInfo(
        name=folder.resolve().name,
        source=str(source),
        family=name,
        fingerprint=fingerprint({f"llm.{key}": reference for key, reference in references.items()}),
        dtype=str(target).removeprefix("torch."),
        n_layer=text.num_hidden_layers,
        d_model=text.hidden_size,
        ssm="attention",
        grid=PEERS[name].grid(settings),
    )
    return FoundModel(info=info, folder=folder), settings
