"""Looking at a checkpoint without loading it: only headers and a few kilobytes of values are read."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from emma_viz.checkpoints.fingerprint import fingerprint, sampled
from emma_viz.checkpoints.layouts import (
    HEAD,
    Layout,
    completed,
    components,
    detect,
    match,
    require_floats,
    stored_parameters,
    unwrapped,
)
from emma_viz.checkpoints.load import untied
from emma_viz.checkpoints.materialize import default_dtype, not_finite
from emma_viz.checkpoints.model_files import Source, SourceLike
from emma_viz.checkpoints.peer_files import require_plain_files
from emma_viz.checkpoints.peers import peer_fingerprint
from emma_viz.checkpoints.readers.files import WeightFile, open_weights
from emma_viz.checkpoints.readers.tensors import TensorRef
from emma_viz.checkpoints.run_config import has_own_head, read_description
from emma_viz.checkpoints.sources import resolve, with_config
from emma_viz.checkpoints.tokenizers import hub_tokenizer, local_tokenizer
from emma_viz.checkpoints.vision import bundled_encoder
from emma_viz.errors import CheckpointError, KeyMismatchError
from emma_viz.files.rows import rows
from emma_viz.finite import is_finite
from emma_viz.models.config import MambaConfig, VLMConfig
from emma_viz.models.peers.table import peer_of
from emma_viz.models.sizes import language_model_shapes, vision_parameters, vlm_shapes
from emma_viz.models.vision_config import VisionConfig

_TITLES = {"projector": "projector", "llm": "language model"}
_COMPARED = 16 * 2**30
"""Bytes of the largest file whose head, where it has its own, is compared with the embedding in full."""
READ_WHOLE = 256 * 2**20
"""Bytes of the largest file whose values are all looked at; of a larger one those that the fingerprint samples."""


@dataclass(frozen=True, kw_only=True)
class Component:
    """One part of a model and its size."""

    name: str
    parameters: int
    origin: str
    """Where its weights are, or what it needs: `in the file`, `hub: …`, `not in the file`."""
    part_of: str | None = None
    """Name of the component that this one is a part of; it is then not counted again."""


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What a checkpoint is, what is in it, and what it lacks.

    Components that live in other parts of the package (feature fusion, decoder) and the lenses that fit are
    added by the caller with `adding`.
    """

    source: str
    """What was inspected."""
    file: str
    """The weight file, or the index of its shards."""
    format: str
    layout: str
    architecture: str
    """One line; `unknown` without a config."""
    dtypes: tuple[tuple[str, int], ...]
    """(type, elements) of the stored tensors."""
    stored_bytes: int
    n_tensors: int
    components: tuple[Component, ...]
    missing: tuple[str, ...] = ()
    """What is needed to run the model and is not in the file, one sentence each."""
    extras: tuple[str, ...] = ()
    """What stands in the file and is not read."""
    problems: tuple[str, ...] = ()
    """Why the model would not load, were everything there that is missing; empty when it would."""
    fingerprint: str | None = None
    """None when the keys do not fit."""
    all_values: bool = True
    """Whether all values were looked at; of a large file it is a sample, and loading looks at the rest."""
    lenses: tuple[str, ...] = ()
    """One sentence per lens that was tried: what it is, or that it belongs to another model."""
    config: VLMConfig | MambaConfig | None = None
    """The description of the model, for the caller."""

    def adding(
        self,
        *,
        components: Iterable[Component] = (),
        missing: Iterable[str] = (),
        lenses: Iterable[str] = (),
    ) -> "Inspection":
        """A copy with what other packages know.

        Args:
            components: parts of the model beside those that are there.
            missing: what it lacks, a sentence each.
            lenses: lenses of these weights, a line each.
        """
        return replace(
            self,
            components=(*self.components, *components),
            missing=(*self.missing, *missing),
            lenses=(*self.lenses, *lenses),
        )

    def to_text(self) -> str:
        """For a terminal."""
        types = ", ".join(f"{name} {compact(count)}" for name, count in self.dtypes) or "no tensors"
        lines = [
            f"{self.source}",
            f"  file          {self.file}",
            f"  format        {self.format}, {self.layout} layout",
            f"  architecture  {self.architecture}",
            f"  tensors       {self.n_tensors} ({types}), {self.stored_bytes / 1e9:.3g} GB",
            f"  fingerprint   {self.fingerprint or 'none: the keys do not fit'}",
            f"  values        {self._values()}",
            "  parameters",
        ]
        width = max((len(part.name) + (2 if part.part_of else 0) for part in self.components), default=0)
        for part in self.components:
            label = f"  {part.name}" if part.part_of else part.name
            lines.append(f"    {label:<{width}}  {compact(part.parameters):>7}  {part.origin}")
        for title, entries in (
            ("missing", self.missing),
            ("not read", self.extras),
            ("problems", self.problems),
            ("lenses", self.lenses),
        ):
            if entries:
                lines.append(f"  {title}")
                lines += [f"    {line}" for entry in entries for line in entry.splitlines()]
        return rows(lines)

    def _values(self) -> str:
        if self.fingerprint is None:
            return "not looked at"
        if not self.all_values:
            return "a sample of them looked at (32 of each tensor); loading looks at all, as all_values=True does"
        return "all looked at"


def inspect(
    source: SourceLike,
    *,
    config: VLMConfig | str | None = None,
    revision: str | None = None,
    all_values: bool = False,
) -> Inspection:
    """Look at a checkpoint without loading it.

    A file whose keys do not fit is described all the same, with the reasons among `problems`.

    Args:
        source: as for `load_model`, and also a language model alone or a weight file without config.
        config: description of a weight file that has none: a preset's name or a `VLMConfig`.
        revision: branch, tag or commit of a hub id.
        all_values: look at all values, as loading does, however large the file is; else at a sample of those of a file
            of more than 256 MB.

    Raises:
        CheckpointError: there is nothing to look at, or the file is damaged.
        UnsafePickleError: the file's pickle would run code.
    """
    found = resolve(source, revision=revision)
    if config is not None:
        found = with_config(found, config)
    if found.kind == "transformers model":
        return _inspect_peer(found, all_values)
    description = _description(found)
    file = unwrapped(open_weights(found.weights))
    layout = detect(file, description)
    file = completed(file, layout)
    references, problems = _check(file, layout, description, own_head=has_own_head(found.config or {}))
    mark = None if problems else fingerprint(references) if references else None
    whole = all_values or file.stored_bytes <= READ_WHOLE
    problems = (*problems, *_odd_values(references, whole))
    own_tokenizer, tokenizer_problems = _tokenizer(found, description)
    return Inspection(
        source=found.given,
        file=str(file.path),
        format=file.format,
        layout=layout.name,
        architecture=_architecture(description),
        dtypes=_dtypes(file),
        stored_bytes=file.stored_bytes,
        n_tensors=len(file.tensors),
        components=_components(file, layout, description),
        missing=(*_missing(file, layout, description), *own_tokenizer),
        extras=tuple(f"{name}: {kind}" for name, kind in file.extras.items()),
        problems=(*problems, *tokenizer_problems),
        fingerprint=mark,
        all_values=whole,
        config=description,
    )


def _inspect_peer(found: Source, all_values: bool) -> Inspection:
    """A model that transformers' own class runs: its keys are that class's, and compared when it is loaded."""
    file, config = open_weights(found.weights), found.config or {}
    whole = all_values or file.stored_bytes <= READ_WHOLE
    try:
        require_plain_files(found.folder)
        refused = ()
    except CheckpointError as error:
        refused = (str(error),)
    references = dict(file.tensors)
    try:
        require_floats(file)
        mark, odd = peer_fingerprint(references), _odd_values(references, whole)
    except KeyMismatchError as error:
        mark, odd = None, _listed(error)
    count = stored_parameters(references.values())
    return Inspection(
        source=found.given,
        file=str(file.path),
        format=file.format,
        layout="transformers",
        architecture=f"{peer_of(config['model_type'])}: {config['model_type']}, run by transformers' own class",
        dtypes=_dtypes(file),
        stored_bytes=file.stored_bytes,
        n_tensors=len(references),
        components=(Component(name="whole model", parameters=count, origin="in the file"),),
        problems=(*refused, *odd),
        fingerprint=mark,
        all_values=whole,
    )


def compact(count: int) -> str:
    """A number of parameters as Table 7 of the paper writes it: 47.8M, 2.768B."""
    for unit, size, digits in (("B", 1e9, 3), ("M", 1e6, 1), ("K", 1e3, 1)):
        if count >= size:
            return f"{count / size:.{digits}f}{unit}"
    return str(count)


def _description(found: Source) -> VLMConfig | MambaConfig | None:
    if found.config is None:
        return None
    return read_description(found.config, where=str(found.config_path))


def _architecture(description: VLMConfig | MambaConfig | None) -> str:
    if description is None:
        return "unknown: no config.json; pass config, for example cobra-3b"
    llm = description.llm if isinstance(description, VLMConfig) else description
    mamba = f"{llm.ssm}, {llm.n_layer} layers, d_model {llm.d_model}, vocabulary {llm.padded_vocab_size}"
    if isinstance(description, MambaConfig):
        return f"language model ({mamba})"
    rows, columns = description.grid
    form = f", trained with the {description.lens_form} fusion and decoder" if description.lens_form else ""
    return (
        f"{description.family} {description.model_id}: {description.vision.backbone_id}, {rows}×{columns} tokens, "
        f"{description.projector.kind}, {description.llm_backbone_id} ({mamba}){form}"
    )


def _check(
    file: WeightFile, layout: Layout, description: VLMConfig | MambaConfig | None, *, own_head: bool
) -> tuple[dict[str, TensorRef], tuple[str, ...]]:
    """(model key → tensor, why it would not load)."""
    if description is None:
        return {}, ()
    if isinstance(description, VLMConfig):
        expected = vlm_shapes(description)
    else:
        expected = {f"llm.{name}": shape for name, shape in language_model_shapes(description).items()}
    if set(components(file, layout)) == {"projector"}:
        expected = {name: shape for name, shape in expected.items() if name.startswith("projector.")}
    try:
        llm = description.llm if isinstance(description, VLMConfig) else description
        found = match(file, layout, expected, own_head=own_head or not llm.tied)
        if not llm.tied:
            return found, ()
        return untied(found, layout, whole=file.stored_bytes <= _COMPARED), ()
    except KeyMismatchError as error:
        return {}, _listed(error)
    except CheckpointError as error:
        return {}, (str(error),)


def _listed(error: KeyMismatchError) -> tuple[str, ...]:
    """What an error lists, line by line."""
    return tuple(line.strip() for line in str(error).splitlines()[1:])


def _odd_values(references: dict[str, TensorRef], whole: bool) -> tuple[str, ...]:
    """A sentence about the first tensor with values that are no numbers, which loading would refuse."""
    dtype = default_dtype(references, "cpu")
    for name, reference in references.items():
        finite = reference.is_finite(dtype=dtype) if whole else is_finite(sampled(reference).to(dtype))
        if not finite:
            return (not_finite(reference, name, dtype),)
    return ()


def _tokenizer(
    found: Source, description: VLMConfig | MambaConfig | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(what is missing, why it would not load) of the tokenizer."""
    if description is None:
        return (), ()
    whole = isinstance(description, VLMConfig)
    llm, backbone_id = (description.llm, description.llm_backbone_id) if whole else (description, None)
    try:
        if local_tokenizer(found, llm_backbone_id=backbone_id, rows=llm.padded_vocab_size):
            return (), ()
    except CheckpointError as error:
        return (), (str(error),)
    return (f"tokenizer: comes from the hub: {hub_tokenizer(backbone_id)}; or pass tokenizer_source",), ()


def _components(
    file: WeightFile, layout: Layout, description: VLMConfig | MambaConfig | None
) -> tuple[Component, ...]:
    held = components(file, layout)
    parts = []
    if isinstance(description, VLMConfig):
        parts.append(_vision_component(description.vision))
    for name in sorted(held, key=[*_TITLES, *held].index):
        count = stored_parameters(file.tensors[key] for key in held[name] if layout.model_key(key) != HEAD)
        parts.append(Component(name=_TITLES.get(name, name), parameters=count, origin="in the file"))
    return tuple(parts)


def _vision_component(vision: VisionConfig) -> Component:
    return Component(
        name="vision encoder", parameters=vision_parameters(vision), origin=_vision_origin(vision)
    )


def _vision_origin(vision: VisionConfig) -> str:
    if bundled_encoder(vision) is not None:
        return "ships with the package"
    towers = [*vision.towers, *([vision.text] if vision.text else [])]
    hub_ids = list(dict.fromkeys(tower.hub_id for tower in towers if tower.hub_id))
    if hub_ids:
        return f"hub: {', '.join(hub_ids)}"
    return "no published weights"


def _missing(
    file: WeightFile, layout: Layout, description: VLMConfig | MambaConfig | None
) -> tuple[str, ...]:
    held = components(file, layout)
    missing = []
    if description is None:
        missing.append("config.json: pass config, for example cobra-3b")
    if not isinstance(description, VLMConfig):
        if "projector" not in held:
            missing.append(
                "projector and vision encoder: this is a language model alone (load_language_model)"
            )
        return tuple(missing)
    if "llm" not in held:
        missing.append("language model: pass llm_source")
    origin = _vision_origin(description.vision)
    if origin.startswith("hub"):
        missing.append(f"vision encoder: frozen, never saved with the model; comes from the {origin}")
    elif origin.startswith("no "):
        missing.append("vision encoder: frozen, never saved with the model; pass vision_source")
    return tuple(missing)


def _dtypes(file: WeightFile) -> tuple[tuple[str, int], ...]:
    counts = Counter()
    for reference in {(ref.path, ref.offset): ref for ref in file.tensors.values()}.values():
        counts[str(reference.dtype).removeprefix("torch.")] += reference.numel
    return tuple(counts.most_common())
