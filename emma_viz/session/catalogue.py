"""What there is: models by name, and what a checkpoint holds with the lenses that fit it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from emma_viz.checkpoints import Component, Inspection, bundled_names
from emma_viz.checkpoints import inspect as inspect_checkpoint
from emma_viz.checkpoints.hub_models import HUB_PRESETS
from emma_viz.checkpoints.inspection import compact
from emma_viz.checkpoints.sources import BUNDLED, resolve
from emma_viz.checkpoints.unsupported import UNSUPPORTED
from emma_viz.errors import InputError, LensError
from emma_viz.files.json_door import read_json
from emma_viz.files.schema import shape
from emma_viz.heads.attention import CrossAttention
from emma_viz.heads.config import PaperConfig, ReleasedConfig, paper_config, released_config
from emma_viz.heads.head import build_head
from emma_viz.lens.headers import SUFFIX, open_lens, read_info
from emma_viz.lens.kinds import native_sizes
from emma_viz.lens.places import beside
from emma_viz.models.config import MambaConfig, VLMConfig
from emma_viz.models.families.family import Family, missing_of
from emma_viz.models.families.table import family_named, family_names
from emma_viz.models.meta import on_meta
from emma_viz.models.peers.table import peers
from emma_viz.models.presets import PRESETS
from emma_viz.models.sizes import language_model_parameters, parameters, vision_parameters
from emma_viz.session.papers import PUBLISHED_SIZES

MOST_LENSES = 32
"""Lenses of a model's folder that an inspection looks at."""


VERIFIED = Path(__file__).with_name("verified.json")
"""What each family was compared with; `python -m tests.families.measure` writes it."""


@dataclass(frozen=True, kw_only=True)
class Verified:
    """How a family was checked, on a tiny member with random weights."""

    against: str
    """What it was compared with."""
    error: float
    """The norm of the difference over that of what it was compared with, the worst of its members."""


def verified() -> dict[str, Verified]:
    """How each family was checked, by its name."""
    values = read_json(VERIFIED, error=InputError)
    return {
        name: shape(each, Verified, where=f"{VERIFIED.name}: {name}", error=InputError)
        for name, each in values.items()
    }


def _checked(known: Mapping[str, Verified], name: str) -> str:
    """How a family was checked, in words; those of installed packages check themselves."""
    if name not in known:
        return "by its own package"
    found = known[name]
    return f"{found.against}: {f'{found.error:.0e}' if found.error else 'bit for bit'}"


def models_table() -> str:
    """Every model that has a name, as text."""
    # Tiny presets are for tests: they have no weights.
    named = [name for name in PRESETS if not name.startswith("tiny-")]
    wide = max(map(len, named))
    lines = [f"{'name':<{wide}} {'language model':<28} {'image tokens':<13} {'weights'}"]
    for name in named:
        config = PRESETS[name]()
        llm = config.llm
        rows, columns = config.grid
        sizes, grid = f"{_mixing(llm)}, {llm.n_layer} × {llm.d_model}", f"{rows} × {columns}"
        lines.append(f"{name:<{wide}} {sizes:<28} {grid:<13} {_weights(name)}")
    return "\n".join(lines)


def _mixing(llm: MambaConfig) -> str:
    """What a language model's blocks mix tokens by."""
    if llm.ssm != "attention" or not llm.mixer_layers:
        return llm.ssm
    return "mamba2" if len(llm.mixer_layers) == llm.n_layer else "attention + mamba2"


def families_table() -> str:
    """Every family of models, as a table in Markdown: members with the parameters that their descriptions come to, and
    the hub ids of published weights, and what is open or missing."""
    lines = [
        "| family | what it is | key table | image tokens | members (parameters; hub id) | logits against: error "
        "| what is missing |",
        "|---|---|---|---|---|---|---|",
    ]
    known = verified()
    for name in family_names():
        family = family_named(name)
        members = ", ".join(
            f"{member} ({compact(parameters(preset()))}{_published(family, member)})"
            for member, preset in family.presets.items()
            if not member.startswith("tiny-")
        )
        row = (
            name,
            family.title,
            family.layout.name,
            family.image_tokens,
            members or "by path",
            _checked(known, name),
            missing_of(family),
        )
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def _published(family: Family, member: str) -> str:
    return f"; {family.published[member]}" if member in family.published else ""


def peers_table() -> str:
    """Every family that transformers' own classes run, as a table in Markdown."""
    known = verified()
    rows = [
        (name, ", ".join(peer.model_types), peer.image, _checked(known, name), peer.missing)
        for name, peer in peers()
    ]
    head = [
        "| family | model types of transformers | an image becomes | recorded states against: relative error "
        "| what is missing |",
        "|---|---|---|---|---|",
    ]
    return "\n".join(head + [f"| {' | '.join(row)} |" for row in rows])


def unsupported_table() -> str:
    """What is known and not loaded, as a table in Markdown."""
    lines = ["| model | model type | what is known | what is missing |", "|---|---|---|---|"]
    lines += [
        f"| {each.name} | {', '.join(each.model_types)} | {each.known} | {each.missing} |"
        for each in UNSUPPORTED
    ]
    return "\n".join(lines)


def sizes_of(config: VLMConfig) -> dict[str, int]:
    """Parameters of a model's parts, and of the whole; blocks of encoders that never run included."""
    eyes, llm, whole = (
        vision_parameters(config.vision), language_model_parameters(config.llm), parameters(config),
    )  # fmt: skip
    return {"encoders": eyes, "projector": whole - eyes - llm, "language model": llm, "whole": whole}


def sizes_table() -> str:
    """The members at full size beside what is published of them, as a table in Markdown."""
    lines = [
        "| member | encoders | projector | language model | whole | published |",
        "|---|---|---|---|---|---|",
    ]
    for name, said in PUBLISHED_SIZES.items():
        counts = " | ".join(f"{count:,}" for count in sizes_of(PRESETS[name]()).values())
        lines.append(f"| {name} | {counts} | {', '.join(said)} |")
    return "\n".join(lines)


def _weights(name: str) -> str:
    if name in bundled_names():
        lenses = sorted(path.stem for path in (BUNDLED / name).glob(f"*{SUFFIX}"))
        return f"bundled, with lenses: {', '.join(lenses) or 'none'}"
    if name in HUB_PRESETS:
        return f"hub: {HUB_PRESETS[name]}"
    return "none known: train it, or pass the path of a run directory"


def inspection_of(
    source: str | Path,
    *,
    config: str | None = None,
    lenses: Sequence[str | Path] = (),
    all_values: bool = False,
) -> Inspection:
    """Look at a checkpoint without loading it, and say which lenses fit.

    Args:
        source: a run directory, a weight file, a bundled name or a hub id.
        config: the preset of a weight file that stands alone.
        lenses: lens files to try, besides those in the model's own folder.
        all_values: look at all values of a large file too, as loading does.

    Raises:
        CheckpointError: the file cannot be read.
    """
    inspection = inspect_checkpoint(source, config=config, all_values=all_values)
    folder = resolve(source).folder
    own, fits = _own_lenses(folder)
    files = [*own, *map(Path, lenses)]
    fits += [_fit(path, inspection) for path in files]
    parts, lacking = _decoder_parts(inspection, files)
    return inspection.adding(components=parts, missing=lacking, lenses=fits)


def _own_lenses(folder: Path) -> tuple[list[Path], list[str]]:
    """The lenses in a model's folder, and a sentence about each that is not looked at."""
    found, refused = [], []
    names = sorted(path.name for path in folder.glob(f"*{SUFFIX}"))
    for name in names[:MOST_LENSES]:
        try:
            found.append(beside(folder, name))
        except LensError as error:
            refused.append(str(error))
    if len(names) > MOST_LENSES:
        refused.append(f"{len(names) - MOST_LENSES} more in {folder} were not looked at")
    return found, refused


def _fit(path: Path, inspection: Inspection) -> str:
    try:
        info = read_info(path)
    except LensError as error:
        return f"{path}: cannot be read: {error}"
    # The fingerprint in a lens is of projector and language model together.
    held = {part.name for part in inspection.components}
    if "projector" in held and "language model" not in held:
        return (
            f"{path}: belongs to {info.model_name} ({info.model_fingerprint[:12]}); whether that is this projector's "
            "model cannot be told without the language model"
        )
    if info.model_fingerprint != inspection.fingerprint:
        return f"{path}: belongs to another model ({info.model_name}, {info.model_fingerprint[:12]})"
    return f"{path}: {info.describe()}"


def _decoder_parts(inspection: Inspection, files: Sequence[Path]) -> tuple[list[Component], list[str]]:
    """The feature fusion and pixel decoder of an EMMA, which its checkpoint never holds: those of its native lens, or
    what those of its form would be; and what is missing."""
    config = inspection.config
    if not isinstance(config, VLMConfig) or config.lens_form is None:
        return [], []
    native, sizes = None, head_sizes(config)
    for path in files:
        try:
            file = open_lens(path)
            if file.info.model_fingerprint == inspection.fingerprint:
                native, sizes = path, native_sizes(file)
                break
        except (
            LensError
        ):  # one of another kind, or one that cannot be read, which the line about this file says
            continue
    origin = f"in {native}" if native else "not in the file"
    parts = [
        Component(name=name, parameters=parameters, origin=origin, part_of=part_of)
        for name, parameters, part_of in (head_parts(sizes) if sizes else ())
    ]
    lacking = (
        f"feature fusion (MFF) and pixel decoder ({config.lens_form} form): used in training only, never saved with "
        "the model; fit a lens"
    )
    return parts, [] if native else [lacking]


def head_sizes(config: VLMConfig) -> PaperConfig | ReleasedConfig | None:
    """The sizes of fusion and decoder for a model of this shape, in the form that it was trained with; None where that
    form does not exist for it (the released one needs SigLIP, and a grid of multiples of 3)."""
    width, patch, n_taps = config.llm.d_model, config.patch, len(config.taps) + 1
    if config.lens_form != "released":
        return paper_config(width=width, patch=patch, n_taps=n_taps)
    target = next((tower.width for tower in config.vision.towers if tower.kind == "siglip"), None)
    if target is None:
        return None
    try:
        return released_config(width=width, patch=patch, grid=config.grid, target_width=target, n_taps=n_taps)
    except InputError:
        return None


def head_parts(sizes: PaperConfig | ReleasedConfig) -> Iterator[tuple[str, int, str | None]]:
    """Name, parameters and whole of each part of a fusion and decoder (Table 7); a part that is empty has no line."""
    with on_meta():
        head = build_head(sizes)
    for name, part in (("feature fusion (MFF)", head.fusion), ("pixel decoder", head.decoder)):
        attention = sum(_count(module) for module in part.modules() if isinstance(module, CrossAttention))
        parts = ((name, _count(part), None), ("cross-attention", attention, name))
        yield from (each for each in parts if each[1])


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
