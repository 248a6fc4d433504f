"""Loading: from a name, a path or a hub id to a model that answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from emma_viz.checkpoints.fingerprint import fingerprint, sampled
from emma_viz.checkpoints.layouts import (
    HEAD,
    TABLE_KEY,
    completed,
    components,
    detect,
    match,
    said_of_weights,
    unwrapped,
)
from emma_viz.checkpoints.loaded import (
    FoundModel,
    LoadedLanguageModel,
    LoadedModel,
    image_transform,
    lead_ids,
    model_info,
)
from emma_viz.checkpoints.materialize import (
    as_dtype,
    check_filled,
    default_dtype,
    fill,
    require_device,
    require_room,
)
from emma_viz.checkpoints.model_files import Source, SourceLike
from emma_viz.checkpoints.peers import load_peer, peer_source, require_peer
from emma_viz.checkpoints.readers.files import WeightFile, open_weights
from emma_viz.checkpoints.readers.tensors import TensorRef, same_values
from emma_viz.checkpoints.run_config import has_own_head, read_description
from emma_viz.checkpoints.sources import resolve, with_config
from emma_viz.checkpoints.tokenizers import instruction_tokenizer, load_tokenizer
from emma_viz.checkpoints.vision import VisionSource, load_vision, require_vision
from emma_viz.data.provenance import ModelInfo
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.errors import CheckpointError
from emma_viz.models.config import MambaConfig, VLMConfig
from emma_viz.models.families.layout import Layout
from emma_viz.models.language_model import MambaLM
from emma_viz.models.meta import on_meta
from emma_viz.models.sizes import language_model_shapes, vlm_shapes
from emma_viz.models.vlm import VLM
from emma_viz.progress import Progress


def load_model(
    source: SourceLike,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str | None = None,
    backend: str = "auto",
    vision_source: VisionSource = None,
    tokenizer_source: SourceLike | None = None,
    llm_source: SourceLike | None = None,
    config: VLMConfig | str | None = None,
    revision: str | None = None,
    part: Literal["thumbnail"] | None = None,
    progress: Progress | None = None,
) -> LoadedModel:
    """Load a vision-language model.

    Nothing in a checkpoint is executed, whatever its format, and its values go straight from the file to their
    place, so the peak of memory is the model plus a few megabytes.

    Args:
        source: a bundled or preset name (`cobra-pocket`, `cobra-3b`), a run directory in the official layout, a
            weight file (`.pt`, safetensors), or a hub id `owner/name[/folder]`; a folder or hub id of a
            vision-language model of transformers, which its own class then runs (docs/models.md), is one too.
        device: where the model goes.
        dtype: float32, bfloat16 or float16; None keeps the file's, but makes float16 float32 on a CPU.
        backend: kernel backend, see `emma_viz.kernels`.
        vision_source: where the image encoders come from when not from their usual places: `{tower: path or hub
            id}` in the layout of transformers, or a file that `save_vision_encoder` wrote.
        tokenizer_source: a `tokenizer.json`, a folder with one, or a hub id.
        llm_source: a language model (state-spaces or transformers layout) for a source that holds a projector
            alone.
        config: description of a weight file that has no `config.json`: a preset's name or a `VLMConfig`.
        revision: branch, tag or commit of a hub id.
        part: of a model of transformers that cuts images into tiles: "thumbnail" draws the tokens of the whole image,
            None those of the tiles. Others have one grid, which is drawn.
        progress: called as progress(bytes read, bytes in all, what is being read).

    Returns:
        The model in evaluation mode, its tokenizer, image preprocessing, and record.

    Raises:
        KeyMismatchError: keys are missing, unknown or misshapen; all are listed.
        UnsafePickleError: the file's pickle would run code.
        CheckpointError: files are missing or damaged, or do not belong together.
    """
    if (found := peer_source(source, revision=revision)) is not None:
        _require_whole(source, vision_source, tokenizer_source, llm_source, config)
        return load_peer(found, device=device, dtype=dtype, part=part)
    ready = _ready(
        source,
        device=device,
        dtype=dtype,
        backend=backend,
        tokenizer_source=tokenizer_source,
        llm_source=llm_source,
        config=config,
        revision=revision,
    )
    vlm = ready.vlm
    load_vision(vlm.vision, vision_source, dtype=ready.dtype, device=device, progress=progress)
    vlm.lead = lead_ids(vlm.config, ready.tokenizer)
    vlm.reader = instruction_tokenizer(vlm.config.vision, vision_source, folder=ready.found.folder)
    _fill_tied(vlm, vlm.llm, ready.references, dtype=ready.dtype, device=device, progress=progress)
    return LoadedModel(
        vlm=vlm.eval(),
        tokenizer=ready.tokenizer,
        transform=image_transform(vlm.config),
        info=ready.info(),
        folder=ready.found.folder,
    )


def require_model(
    source: SourceLike,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str | None = None,
    backend: str = "auto",
    vision_source: VisionSource = None,
    tokenizer_source: SourceLike | None = None,
    llm_source: SourceLike | None = None,
    config: VLMConfig | str | None = None,
    revision: str | None = None,
) -> tuple[VLMConfig | None, FoundModel]:
    """Make sure that `load_model` would find everything and that it fits, reading headers alone.

    Arguments as for `load_model`.

    Returns:
        The description of the model, None for one that transformers' own class runs; and its record with the
        fingerprint of its weights.

    Raises:
        CheckpointError: what `load_model` would refuse, but for values that are not finite, and for keys of one that
            transformers' own class runs.
    """
    if (found := peer_source(source, revision=revision)) is not None:
        _require_whole(source, vision_source, tokenizer_source, llm_source, config)
        return None, require_peer(found, device=device, dtype=dtype)
    ready = _ready(
        source,
        device=device,
        dtype=dtype,
        backend=backend,
        tokenizer_source=tokenizer_source,
        llm_source=llm_source,
        config=config,
        revision=revision,
    )
    require_vision(ready.vlm.config.vision, vision_source)
    config = ready.vlm.config
    geometry = image_transform(config).geometry
    return config, FoundModel(info=ready.info(), folder=ready.found.folder, geometry=geometry)


def _require_whole(source: SourceLike, *others: object) -> None:
    """Refuse parts from elsewhere for a model that has all of them."""
    if any(each is not None for each in others):
        raise CheckpointError(
            f"{source} holds all of a model that transformers' class runs; leave out vision_source, "
            "tokenizer_source, llm_source and config."
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Ready:
    """A model on the meta device, and where all of it but its encoders is."""

    found: Source
    vlm: VLM
    references: dict[str, TensorRef]
    tokenizer: Tokenizer
    dtype: torch.dtype

    def info(self) -> ModelInfo:
        """The model's record."""
        return model_info(
            self.vlm.config,
            name=self.found.name,
            source=self.found.given,
            revision=self.found.revision,
            fingerprint=fingerprint(self.references),
            dtype=str(self.dtype).removeprefix("torch."),
        )


def _ready(
    source: SourceLike,
    *,
    device: str | torch.device,
    dtype: torch.dtype | str | None,
    backend: str,
    tokenizer_source: SourceLike | None,
    llm_source: SourceLike | None,
    config: VLMConfig | str | None,
    revision: str | None,
) -> _Ready:
    require_device(device)
    asked = as_dtype(dtype)
    found, description = _described(source, config, revision)
    references = _vlm_references(description, found, llm_source)
    target = asked or default_dtype(references, device)
    require_room(references, target, device)
    with on_meta():
        vlm = VLM(description, backend=backend)
    tokenizer = load_tokenizer(
        found,
        llm_backbone_id=description.llm_backbone_id,
        rows=description.llm.padded_vocab_size,
        tokenizer_source=tokenizer_source,
    )
    return _Ready(found=found, vlm=vlm, references=references, tokenizer=tokenizer, dtype=target)


def load_language_model(
    source: SourceLike,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str | None = None,
    backend: str = "auto",
    tokenizer_source: SourceLike | None = None,
    with_tokenizer: bool = True,
    revision: str | None = None,
    progress: Progress | None = None,
) -> LoadedLanguageModel:
    """Load a language model alone: state-spaces or transformers layout, or the one inside a run directory.

    Arguments as for `load_model`; `with_tokenizer=False` does without one, for a model that reads token ids alone.

    Returns:
        The model in evaluation mode, its tokenizer, and record.

    Raises:
        KeyMismatchError: keys are missing, unknown or misshapen; all are listed.
        UnsafePickleError: the file's pickle would run code.
        CheckpointError: files are missing or damaged, or do not belong together.
    """
    require_device(device)
    found = resolve(source, revision=revision)
    if found.config is None:
        raise CheckpointError(
            f"{found.given} has no config.json beside it, so its architecture is not known. "
            + said_of_weights(found.weights)
        )
    description, backbone_id = _language_model(found.config, str(found.config_path))
    references = llm_references(description, found)
    target = as_dtype(dtype) or default_dtype(references, device)
    require_room(references, target, device)
    with on_meta():
        llm = MambaLM(description, backend=backend)
    tokenizer = None
    if with_tokenizer:
        tokenizer = load_tokenizer(
            found,
            llm_backbone_id=backbone_id,
            rows=description.padded_vocab_size,
            tokenizer_source=tokenizer_source,
        )
    bare = {name.removeprefix("llm."): ref for name, ref in references.items()}
    _fill_tied(llm, llm, bare, dtype=target, device=device, progress=progress)
    return LoadedLanguageModel(
        llm=llm.eval(), tokenizer=tokenizer, info=_language_model_info(description, found, references, target)
    )


def _described(
    source: SourceLike, config: VLMConfig | str | None, revision: str | None
) -> tuple[Source, VLMConfig]:
    """Find a vision-language model and its description."""
    found = resolve(source, revision=revision)
    if config is not None:
        found = with_config(found, config)
    if found.config is None:
        raise CheckpointError(
            f"{found.given} has no config.json beside it, so its architecture is not known. "
            f'{said_of_weights(found.weights)} Pass config, for example config="cobra-3b", where a preset describes it.'
        )
    description = read_description(found.config, where=str(found.config_path))
    if isinstance(description, MambaConfig):
        raise CheckpointError(
            f"{found.given} is a language model without projector. Load it with load_language_model, or give it to a "
            "run directory that holds a projector: load_model(run_directory, llm_source=…)."
        )
    return found, description


def llm_references(config: MambaConfig, source: Source) -> dict[str, TensorRef]:
    """Match a source's language model; names as inside a VLM, `llm.…`."""
    file = unwrapped(open_weights(source.weights))
    layout = detect(
        file, read_description(source.config, where=str(source.config_path)) if source.config else None
    )
    file = completed(file, layout)
    if "projector" in components(file, layout):
        kept = {
            key: reference
            for key, reference in file.tensors.items()
            if not (layout.model_key(key) or "").startswith("projector.")
        }
        file = WeightFile(path=file.path, format=file.format, tensors=kept, others=file.others)
    expected = {f"llm.{name}": shape for name, shape in language_model_shapes(config).items()}
    own_head = source.config is not None and has_own_head(source.config)
    hint = f"Expected the model of {source.config_path}."
    found = match(file, layout, expected, own_head=own_head or not config.tied, hint=hint)
    return untied(found, layout) if config.tied else found


def _vlm_references(config: VLMConfig, found: Source, llm_source: SourceLike | None) -> dict[str, TensorRef]:
    """Match everything a VLM needs apart from its encoders, from one source or two."""
    file = unwrapped(open_weights(found.weights))
    layout = detect(file, config)
    file = completed(file, layout)
    expected = vlm_shapes(config)
    hint = f"Expected the model of {found.config_path}."
    if llm_source is None:
        if set(components(file, layout)) == {"projector"}:
            hint = "The file holds a projector alone; pass the language model as llm_source."
        held = match(file, layout, expected, own_head=not config.llm.tied, hint=hint)
        return untied(held, layout) if config.llm.tied else held
    if "llm" in components(file, layout):
        raise CheckpointError(
            f"{file.path} holds a language model of its own; leave llm_source out, or pass a file with a projector "
            "alone."
        )
    projector = {name: shape for name, shape in expected.items() if name.startswith("projector.")}
    own = resolve(llm_source)
    _require_same(config.llm, own, str(found.config_path))
    return {**match(file, layout, projector, hint=hint), **llm_references(config.llm, own)}


def _language_model(values: Mapping[str, Any], where: str) -> tuple[MambaConfig, str | None]:
    """The language model that a `config.json` describes, alone or in a whole, and its official name if it has one."""
    found = read_description(values, where=where)
    return (found.llm, found.llm_backbone_id) if isinstance(found, VLMConfig) else (found, None)


def _require_same(config: MambaConfig, own: Source, where: str) -> None:
    """Refuse a language model that says of itself what would make other numbers of its weights."""
    if own.config is None:
        return
    if differences := _language_model(own.config, str(own.config_path))[0].differences(config):
        raise CheckpointError(
            f"{own.given} has not the language model of {where}: {'; '.join(differences)}. Pass the one that the "
            "projector was trained with."
        )


def untied(found: Mapping[str, TensorRef], layout: Layout, *, whole: bool = True) -> dict[str, TensorRef]:
    """Leave the tied head out, having made sure that it is the embedding again.

    Args:
        found: model key → tensor.
        layout: of the file.
        whole: look at all values, not only at those that the fingerprint samples.

    Raises:
        CheckpointError: it is not.
    """
    same = same_values if whole else lambda one, other: torch.equal(sampled(one), sampled(other))
    if HEAD in found and not same(found[HEAD], found[TABLE_KEY]):
        raise CheckpointError(
            f"{found[HEAD].path}: {layout.file_key(HEAD)} differs from {layout.file_key(TABLE_KEY)}, but this "
            "architecture ties them; such a checkpoint cannot be loaded."
        )
    return {name: reference for name, reference in found.items() if name != HEAD}


def _fill_tied(
    module: nn.Module,
    llm: MambaLM,
    references: Mapping[str, TensorRef],
    *,
    dtype: torch.dtype,
    device: str | torch.device,
    progress: Progress | None,
) -> None:
    fill(module, references, dtype=dtype, device=device, what="model", progress=progress)
    if llm.config.tied:
        llm.lm_head.weight = llm.backbone.embedding.weight
    check_filled(module, "The checkpoint")


def _language_model_info(
    config: MambaConfig, found: Source, references: Mapping[str, TensorRef], dtype: torch.dtype
) -> ModelInfo:
    return ModelInfo(
        name=found.name,
        source=found.given,
        revision=found.revision,
        family="language-model",
        fingerprint=fingerprint(references),
        dtype=str(dtype).removeprefix("torch."),
        n_layer=config.n_layer,
        d_model=config.d_model,
        ssm=config.ssm,
        mamba_layers=config.mamba_layers,
    )
