"""What a user may name as a model, and which files it stands for."""

import logging
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

from emma_viz.checkpoints import hub
from emma_viz.checkpoints.hub_models import HUB_NAMES, HUB_PRESETS, cached_folder, hub_source
from emma_viz.checkpoints.layouts import said_of_weights
from emma_viz.checkpoints.model_files import (
    LM_WEIGHTS,
    METADATA_KEY,
    PEER_WEIGHTS,
    RUN_WEIGHTS,
    TOKENIZER,
    WEIGHT_NAMES,
    Source,
    SourceLike,
    described_kind,
    is_peer_config,
    model_folder,
    owned,
)
from emma_viz.checkpoints.readers.files import INDEX_SUFFIX
from emma_viz.checkpoints.readers.safetensors_file import read_references
from emma_viz.checkpoints.run_config import (
    is_run_config,
    parse_config,
    read_config,
    run_config,
)
from emma_viz.checkpoints.unsupported import require_supported
from emma_viz.errors import CheckpointError
from emma_viz.files.named import named_path
from emma_viz.models.backbones import LLM_BACKBONES
from emma_viz.models.config import VLMConfig
from emma_viz.models.families.table import OUR_FAMILIES
from emma_viz.models.presets import PRESETS

logger = logging.getLogger(__name__)

BUNDLED = Path(__file__).parent / "bundled"
"""The models and encoders that ship with the package."""

IN_A_CHECKOUT = ("emma-v1-pocket-nomff",)
"""Of them, those that a wheel leaves out (`pyproject.toml`), to stay under 55 MB."""

_STEP = re.compile(r"step-(\d+)(-epoch-\d+)?(-loss=[\w.+-]+)?\.(pt|safetensors)")
"""Names of the checkpoints that the released code writes on the way: `step-002000-epoch-00-loss=1.2345.pt`."""
_SHARD = re.compile(r"-\d+-of-\d+\.")
_WEIGHTS = (".pt", ".pth", ".bin", ".ckpt", ".safetensors", INDEX_SUFFIX)
"""How names of weight files end."""


def bundled_names() -> tuple[str, ...]:
    """Names of the models that ship with the package, in alphabetical order."""
    return tuple(sorted(path.parent.name for path in BUNDLED.glob("*/config.json")))


def resolve(source: SourceLike, *, revision: str | None = None) -> Source:
    """Find the files of a model.

    Args:
        source: a bundled or preset name, a run directory, a folder with a language model or with a vision-language
            model of transformers, a weight file, or a hub id `owner/name` with an optional `/folder`. A bundled name is
            that model in every folder, as records and links mean it; what else exists as a path is taken as one.
        revision: branch, tag or commit of a hub id.

    Raises:
        CheckpointError: there is no such model, or its files are not complete.
    """
    given = os.fspath(source)
    if given in bundled_names():
        _say_passed_over(given)
        return _folder(BUNDLED / given, given=given, kind="bundled")
    try:
        path = named_path(given)
        if path.is_dir():
            return _folder(path, given=given)
        if path.is_file():
            return _file(path, given)
    except (OSError, ValueError, RuntimeError) as error:  # no such home; a name too long, or with a zero
        raise CheckpointError(f"{given[:200]!r} cannot be looked at: {error}.") from error
    if given in HUB_NAMES:
        return hub_source(given, revision=revision)
    if given in PRESETS:
        raise CheckpointError(_no_weights(given))
    if hub.is_hub_id(given):
        return hub_source(given, revision=revision)
    if given in LLM_BACKBONES:
        raise CheckpointError(
            f"It is not known where the weights of the language model {given} are published; pass their path or hub id."
        )
    raise CheckpointError(
        f"There is no model {given!r}: no such path, and none of the names {', '.join(known_names())}. Pass a name, a "
        "run directory, a weight file, or a hub id such as han1997/cobra."
    )


def _say_passed_over(name: str) -> None:
    """Log that a path of a bundled model's name is not what is read."""
    here = Path(name)
    if here.exists() and not here.samefile(BUNDLED / name):
        logger.warning(
            "%s is the bundled model; to read what has that name here, pass %s", name, here.absolute()
        )


def local_folder(source: SourceLike, *, revision: str | None = None) -> Path | None:
    """Where files that belong to a model, such as its lenses, lie on this machine; nothing is downloaded.

    Args:
        source: what `resolve` takes.
        revision: of a hub id, whose folder is that in the local cache.

    Returns:
        The folder; None when the model is not here.
    """
    given = os.fspath(source)
    path = named_path(given)
    if given in bundled_names():
        return BUNDLED / given
    if path.is_dir():
        return path
    if path.is_file():
        return model_folder(path)
    return cached_folder(given, revision=revision)


def known_names() -> tuple[str, ...]:
    """Every name that can be loaded without a path: bundled ones, then published presets."""
    return (*bundled_names(), *(name for name in HUB_PRESETS if name not in bundled_names()))


def _no_weights(name: str) -> str:
    if name in IN_A_CHECKOUT:
        return (
            f"{name} does not come with an installed package, which stays small without it. A checkout has it: pass "
            f"the path of its emma_viz/checkpoints/bundled/{name}, or train it (`emma-viz train pocket-family "
            f"--members {name}`)."
        )
    if any(name in family.unpublished for family in OUR_FAMILIES.values()):
        return (
            f"No weights of {name} are published that this project knows of; train it, or pass the path of its run "
            "directory (config.json and checkpoints/latest-checkpoint.pt)."
        )
    return f"{name} is a description without weights. Loadable names: {', '.join(known_names())}."


def _folder(
    folder: Path, *, given: str, kind: Literal["bundled", "run directory"] = "run directory"
) -> Source:
    config_path = owned(folder, "config.json")
    if config_path is None:
        raise CheckpointError(
            f"{folder} has no config.json. A run directory holds config.json and {RUN_WEIGHTS[1]} (or .safetensors); "
            f"a language model holds config.json and one of {', '.join(LM_WEIGHTS)}.{_without_config(folder)}"
        )
    config = read_config(config_path)
    require_supported(config, given)
    found = described_kind(config)
    run, names = found == "run directory", WEIGHT_NAMES[found]
    present = [path for name in names if (path := owned(folder, name)) is not None]
    if found != "language model" and len(present) > 1:
        mend = "Pass the path of the one that is meant." if run else "Take the one away that is not meant."
        raise CheckpointError(f"{folder} has both {' and '.join(names)}. {mend}")
    weights = present[0] if present else _newest_step(folder) if run else None
    if weights is None and run:
        weights = _shards(folder)
    if weights is None:
        raise CheckpointError(
            f"{folder} has a config.json but none of the weights {', '.join(names)}.{_instead(folder)}"
        )
    return Source(
        name=given if kind == "bundled" else folder.resolve().name,
        given=given,
        kind=kind if run else found,
        config=config,
        config_path=config_path,
        weights=weights,
        tokenizer=owned(folder, TOKENIZER),
    )


def _without_config(folder: Path) -> str:
    """What weights lie in a folder whose `config.json` is missing, or why they cannot be read either."""
    known = dict.fromkeys(name for names in WEIGHT_NAMES.values() for name in names)
    try:
        weights = next((path for name in known if (path := owned(folder, name)) is not None), None)
        return "" if weights is None else f" Its weights, {weights.name}: {said_of_weights(weights)}"
    except CheckpointError as error:
        return f" Nor can its weights be read: {error}"


def _newest_step(folder: Path) -> Path | None:
    """The checkpoint of the highest step in a run directory that has no latest one; the log says which.

    Raises:
        CheckpointError: there are two of that step.
    """
    steps = [
        (int(found[1]), path)
        for path in _files(folder / "checkpoints")
        if (found := _STEP.fullmatch(path.name))
    ]
    if not steps:
        return None
    newest = max(step for step, _ in steps)
    names = sorted(path.name for step, path in steps if step == newest)
    if len(names) > 1:
        raise CheckpointError(
            f"{folder} has several checkpoints of step {newest}: {', '.join(names[:4])}. Pass the path of the one that "
            "is meant."
        )
    logger.warning(
        "%s has no %s; checkpoints/%s is read, the highest step of %d",
        folder,
        RUN_WEIGHTS[1],
        names[0],
        len(steps),
    )
    return owned(folder, f"checkpoints/{names[0]}")


def _shards(folder: Path) -> Path | None:
    """The one index of shards in a run directory."""
    indices = [
        path.relative_to(folder).as_posix()
        for place in (folder / "checkpoints", folder)
        for path in _files(place)
        if path.name.endswith(INDEX_SUFFIX)
    ]
    if len(indices) != 1:
        return None
    logger.warning("%s has no %s; the shards of %s are read", folder, RUN_WEIGHTS[1], indices[0])
    return owned(folder, indices[0])


def _instead(folder: Path) -> str:
    """What a run directory holds that could be meant, in words."""
    files = [*_files(folder / "checkpoints"), *_files(folder)]
    if any(path.suffix == ".distcp" for path in [*files, *folder.glob("checkpoints/*/*.distcp")]):
        return (
            " It holds shards of torch.distributed.checkpoint; join them once: python -m "
            f"torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER {folder / RUN_WEIGHTS[1]}"
        )
    if any(_SHARD.search(path.name) for path in files):
        return f" It holds shards without their index (*{INDEX_SUFFIX}), which says what is in which; fetch it too."
    like = [str(path.relative_to(folder)) for path in files if path.name.endswith(_WEIGHTS)]
    return f" It holds {', '.join(like[:6])}: pass the path of the one that is meant." if like else ""


def _files(folder: Path) -> list[Path]:
    """The files of a folder, by name; none where there is no such folder."""
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []


def _file(path: Path, given: str) -> Source:
    folder = model_folder(path)
    config_path, config = owned(folder, "config.json"), None
    if config_path is not None and path.name in PEER_WEIGHTS and is_peer_config(read_config(config_path)):
        return _folder(folder, given=given)
    if path.suffix == ".safetensors" and METADATA_KEY in (metadata := read_references(path)[1]):
        config_path = path
        config = parse_config(metadata[METADATA_KEY], where=f"{path}: the {METADATA_KEY} in its metadata")
    elif config_path is not None:
        config = read_config(config_path)
    stem = Path(path.name.removesuffix(INDEX_SUFFIX)).stem
    stands_alone = stem not in ("latest-checkpoint", "model", "pytorch_model")
    kind = "weight file" if config is None else "run directory" if is_run_config(config) else "language model"
    return Source(
        name=stem if stands_alone else folder.resolve().name,
        given=given,
        kind=kind,
        config=config,
        config_path=config_path or folder / "config.json",
        weights=path,
        tokenizer=owned(folder, TOKENIZER),
    )


def with_config(source: Source, config: VLMConfig | str) -> Source:
    """Give a weight file that stands alone the description of a preset.

    Raises:
        CheckpointError: the source has a description of its own, or there is no such preset.
    """
    if source.config is not None:
        raise CheckpointError(
            f"{source.given} has its own config ({source.config_path}); leave `config` out."
        )
    if isinstance(config, str):
        if config not in PRESETS:
            raise CheckpointError(f"There is no preset {config!r}; there are {', '.join(PRESETS)}.")
        config = PRESETS[config]()
    return replace(source, config=run_config(config), kind="run directory")
