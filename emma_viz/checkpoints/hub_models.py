"""Models that the hub holds: which are published where, and the files of one."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from emma_viz.checkpoints import hub
from emma_viz.checkpoints.model_files import (
    RUN_WEIGHTS,
    TOKENIZER,
    WEIGHT_NAMES,
    Described,
    Source,
    described_kind,
)
from emma_viz.checkpoints.readers.files import INDEX_SUFFIX, read_index
from emma_viz.checkpoints.run_config import HYBRID_CONFIG, read_config, read_description
from emma_viz.checkpoints.unsupported import require_supported
from emma_viz.errors import CheckpointError
from emma_viz.models.config import VLMConfig
from emma_viz.models.families.table import OUR_FAMILIES, family_named

HUB_PRESETS = {name: place for family in OUR_FAMILIES.values() for name, place in family.published.items()}
"""Presets whose weights are published, and where."""
HUB_LANGUAGE_MODELS = {
    "mamba-2.8b-zephyr": "xiuyul/mamba-2.8b-zephyr",
    "mamba-2.8b-slimpj": "state-spaces/mamba-2.8b-slimpj",
    "mamba-2.8b": "state-spaces/mamba-2.8b",
}
"""Official names of language models, and where the released code's table says that they are. EMMA-V2's,
`mamba-2.7b-v2`, is a path on its authors' machine there."""
HUB_NAMES = HUB_PRESETS | HUB_LANGUAGE_MODELS
HUB_FOLDERS = {
    "/".join(parts[:2]): "/".join(parts[2:])
    for place in HUB_PRESETS.values()
    if len(parts := place.split("/")) > 2
}
"""Repositories that keep their run directories in folders: the one that is meant when none is named."""
_RUN_WEIGHTS = (*RUN_WEIGHTS, "latest-checkpoint.pt")
"""Of a run directory on the hub, where some keep them beside `config.json`."""
PEER_FILES = (
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)
"""What may stand beside description, weights and tokenizer of a vision-language model of transformers."""


def hub_source(given: str, *, revision: str | None = None) -> Source:
    """Download the files of a model, or find them in the local cache.

    Args:
        given: a name of `HUB_NAMES`, or a hub id `owner/name` with an optional `/folder`.
        revision: branch, tag or commit.

    Raises:
        CheckpointError: it is no hub id, its description is damaged or of a model that is not read, or a file cannot
            be had.
    """
    repo, prefix = _place(given)
    needed = [f"{prefix}*"]
    config_path = hub.fetch_first(repo, [f"{prefix}config.json"], revision=revision, needed=needed)
    config, commit = read_config(config_path), hub.commit_of(config_path)
    tiny_llava = "connector_type" in config  # of TinyLLaVA Factory's form, which a hybrid's is as well
    at = commit or revision
    if tiny_llava and hub.fetch(repo, prefix + HYBRID_CONFIG, revision=at, optional=True, needed=needed):
        config = read_config(config_path)
    require_supported(config, given)  # before its weights are downloaded
    kind = described_kind(config)
    if besides := _beside(config, kind, config_path):
        # All of one commit, in one folder: there they are looked for. No code of the repository is among them.
        revision = at
        for beside in besides:
            hub.fetch(repo, prefix + beside, revision=revision, optional=True, needed=needed)
    names = _RUN_WEIGHTS if kind == "run directory" else WEIGHT_NAMES[kind]
    return Source(
        name=given if given in HUB_NAMES else (prefix or repo).rstrip("/").rsplit("/", 1)[-1],
        given=given,
        kind=kind,
        config=config,
        config_path=config_path,
        weights=fetch_weights(repo, [prefix + name for name in names], revision=revision, needed=needed),
        tokenizer=hub.fetch(repo, prefix + TOKENIZER, revision=revision, optional=True, needed=needed),
        revision=commit,
    )


def _beside(config: Mapping[str, Any], kind: Described, path: Path) -> tuple[str, ...]:
    """What else a model's folder may hold that is read."""
    if kind != "language model":  # by its `config.json`; some of those are read as vision-language models
        return PEER_FILES if kind == "transformers model" else ()
    described = read_description(config, where=str(path))
    family = family_named(described.family) if isinstance(described, VLMConfig) else None
    return family.layout.beside if family else ()


def cached_folder(given: str, *, revision: str | None = None) -> Path | None:
    """The folder of a model in the local cache; nothing is downloaded.

    Args:
        given: as for `hub_source`.
        revision: branch, tag or commit.

    Returns:
        The folder; None where the cache has no description of it, or it is no hub id.
    """
    if not hub.HUB_ID.fullmatch(HUB_NAMES.get(given, given)):
        return None
    repo, prefix = _place(given)
    config = hub.cached(repo, f"{prefix}config.json", revision=revision)
    return None if config is None else config.parent


def hub_config(hub_id: str, *, revision: str | None = None) -> Mapping[str, Any] | None:
    """The `config.json` of a hub id; None where the repository, or the cache when offline, has none.

    Raises:
        CheckpointError: it is damaged, or the hub does not answer.
    """
    repo, prefix = _place(hub_id)
    path = hub.fetch(repo, f"{prefix}config.json", revision=revision, optional=True)
    return None if path is None else read_config(path)


def fetch_weights(
    repo: str, filenames: Sequence[str], *, revision: str | None = None, needed: Sequence[str] = ()
) -> Path:
    """The first of several weight files that a hub repository has; the shards with it when it is an index.

    Args:
        repo: `owner/name`.
        filenames: paths inside the repository.
        revision: branch, tag or commit.
        needed: as for `hub.fetch`.

    Raises:
        CheckpointError: it has none of them, or a shard cannot be had.
    """
    path = hub.fetch_first(repo, filenames, revision=revision, needed=needed)
    if path.name.endswith(INDEX_SUFFIX):
        index = next(name for name in filenames if path.as_posix().endswith(name))
        for shard in sorted(set(read_index(path).values())):
            hub.fetch(repo, str(PurePosixPath(index).with_name(shard)), revision=revision, needed=needed)
    return path


def cached_weights(repo: str, filenames: Sequence[str]) -> Path | None:
    """The first of several weight files of a hub repository that the local cache holds; nothing is downloaded.

    Args:
        repo: `owner/name`.
        filenames: paths inside the repository.

    Returns:
        The file; None where the cache has none of them, or the first that it has is an index without all its shards.

    Raises:
        CheckpointError: an index is damaged.
    """
    path = next((found for name in filenames if (found := hub.cached(repo, name)) is not None), None)
    if path is None or not path.name.endswith(INDEX_SUFFIX):
        return path
    return path if all(path.with_name(shard).is_file() for shard in set(read_index(path).values())) else None


def _place(given: str) -> tuple[str, str]:
    """The repository of a name or hub id, and what the paths of its files begin with."""
    hub_id = HUB_NAMES.get(given, given)
    parts = hub.HUB_ID.fullmatch(hub_id)
    if parts is None:
        raise CheckpointError(f"{hub_id!r} is no hub id; expected owner/name or owner/name/folder.")
    repo = parts["repo"]
    folder = parts["folder"] or HUB_FOLDERS.get(repo)
    return repo, f"{folder.strip('/')}/" if folder else ""
