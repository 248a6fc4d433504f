"""What there is: models by name, and what a checkpoint holds with the lenses that fit it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from emma_viz.checkpoints import Component, Inspection, bundled_names
from emma_viz.checkpoints import inspect as inspect_checkpoint
from emma_viz.checkpoints.sources import BUNDLED, HUB_PRESETS, resolve
from emma_viz.errors import LensError
from emma_viz.lens.attention import CrossAttention
from emma_viz.lens.config import paper_config
from emma_viz.lens.files import SUFFIX, read_info
from emma_viz.lens.heads import PaperHead
from emma_viz.models.config import VLMConfig
from emma_viz.models.presets import PRESETS


def models_table() -> str:
    """Every model that has a name, as text."""
    lines = [f"{'name':<18} {'language model':<28} {'image tokens':<13} {'weights'}"]
    for name, preset in PRESETS.items():
        if name.startswith("tiny"):  # for tests: they have no weights
            continue
        config = preset()
        llm = config.llm
        rows, columns = config.grid
        lines.append(
            f"{name:<18} {f'{llm.ssm}, {llm.n_layer} × {llm.d_model}':<28} {f'{rows} × {columns}':<13} {_weights(name)}"
        )
    return "\n".join(lines)


def _weights(name: str) -> str:
    if name in bundled_names():
        lenses = sorted(path.stem for path in (BUNDLED / name).glob(f"*{SUFFIX}"))
        return f"bundled, with lenses: {', '.join(lenses) or 'none'}"
    if name in HUB_PRESETS:
        return f"hub: {HUB_PRESETS[name]}"
    return "none known: train it, or pass the path of a run directory"


def inspect(
    source: str | Path, *, config: str | None = None, lenses: Sequence[str | Path] = ()
) -> Inspection:
    """Look at a checkpoint without loading it, and say which lenses fit.

    Args:
        source: a run directory, a weight file, a bundled name or a hub id.
        config: the preset of a weight file that stands alone.
        lenses: lens files to try, besides those in the model's own folder.

    Raises:
        CheckpointError: the file cannot be read.
    """
    inspection = inspect_checkpoint(source, config=config)
    folder = resolve(source).folder
    files = [*sorted(folder.glob(f"*{SUFFIX}")), *map(Path, lenses)]
    fits = [_fit(path, inspection) for path in files]
    parts, lacking = _decoder_parts(inspection, files)
    return inspection.adding(components=parts, missing=lacking, lenses=fits)


def _fit(path: Path, inspection: Inspection) -> str:
    try:
        info = read_info(path)
    except LensError as error:
        return f"{path}: cannot be read: {error}"
    if info.model_fingerprint != inspection.fingerprint:
        return f"{path}: belongs to another model ({info.model_name}, {info.model_fingerprint[:12]})"
    return f"{path}: {info.describe()}"


def _decoder_parts(inspection: Inspection, files: Sequence[Path]) -> tuple[list[Component], list[str]]:
    """The feature fusion and pixel decoder of an EMMA, which its checkpoint never holds; and what is missing."""
    config = inspection.config
    if not isinstance(config, VLMConfig) or config.family != "emma":
        return [], []
    native = next((path for path in files if path.stem == "native"), None)
    origin = f"in {native}" if native else "not in the file"
    parts = [
        Component(name=name, parameters=parameters, origin=origin, part_of=part_of)
        for name, parameters, part_of in head_parts(config)
    ]
    lacking = "feature fusion (MFF) and pixel decoder: used in training only, never saved with the model; fit a lens"
    return parts, [] if native else [lacking]


def head_parts(config: VLMConfig) -> Iterator[tuple[str, int, str | None]]:
    """Name, parameters and whole of each part of the paper's decoder for a model of this shape (Table 7)."""
    sizes = paper_config(width=config.llm.d_model, patch=config.vision.patch, n_taps=len(config.taps) + 1)
    with torch.device("meta"):
        head = PaperHead(sizes)
    attention = sum(_count(module) for module in head.fusion.modules() if isinstance(module, CrossAttention))
    yield "feature fusion (MFF)", _count(head.fusion), None
    yield "cross-attention", attention, "feature fusion (MFF)"
    yield "pixel decoder", _count(head.decoder), None


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
