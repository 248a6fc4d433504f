"""The files of a folder with a model of transformers, looked at before transformers reads any of them.

What this package refuses of a stranger's file it refuses here as well: transformers itself would follow links, nest as
deep as a file says, run a tokenizer's own patterns, and read other weights than those that are looked at.
"""

from pathlib import Path
from typing import Any

from emma_viz.checkpoints.model_files import TOKENIZER, owned
from emma_viz.checkpoints.readers.files import trusted_folder
from emma_viz.data.tokenizer import require_plain
from emma_viz.errors import CheckpointError
from emma_viz.files.inside import require_inside
from emma_viz.files.json_door import Budget, read_bytes, read_json

PROCESSOR = "processor_config.json"
_TEMPLATE, _OLD_TEMPLATE = "chat_template.jinja", "chat_template.json"
_DESCRIPTIONS = (
    *("config.json", "generation_config.json", "preprocessor_config.json", PROCESSOR, _OLD_TEMPLATE),
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
)
_BUDGET = Budget(digits=31)
"""transformers writes 10³⁰ for a length that is not bounded."""
_ELSEWHERE = {
    "transformers_weights": "names the weights itself",
    "quantization_config": "says that the weights are quantised",
}
"""Entries of `config.json` with which other weights would run than those of the folder's safetensors."""
LONGEST_TEMPLATE = 64 * 2**10
"""Bytes of a chat template; the longest of released models have 12 000."""


def require_plain_files(folder: Path) -> None:
    """Refuse a folder whose files transformers must not be given.

    Raises:
        CheckpointError: a link leads out of it, a description is damaged or nested too deep, the tokenizer would run
            patterns of its own, or other weights would run than those of `model.safetensors`.
    """
    trusted = trusted_folder(folder)
    for path in sorted(folder.iterdir()):
        kind = "folder" if path.is_dir() else "file"
        require_inside(path, trusted, error=CheckpointError, where=str(folder), kind=kind)
    found = {name: _read(folder, name) for name in _DESCRIPTIONS}
    for key, meaning in _ELSEWHERE.items():
        if found["config.json"].get(key) is not None:
            raise CheckpointError(
                f"{folder / 'config.json'} has {key}, which {meaning}; such a model is not read. Save it whole and "
                "unquantised (save_pretrained)."
            )
    if owned(folder, "adapter_config.json") is not None:
        raise CheckpointError(
            f"{folder} holds an adapter (adapter_config.json); merge it into the model (merge_and_unload) and save "
            "that."
        )
    if (tokenizer := owned(folder, TOKENIZER)) is None:
        raise CheckpointError(f"{folder} has no {TOKENIZER}; fetch it too, or save the tokenizer again.")
    require_plain(tokenizer)


def chat_template(folder: Path) -> Any:
    """The chat template that the released processor would take in front of the tokenizer's own; None for none."""
    if (path := owned(folder, _TEMPLATE)) is not None:
        text = read_bytes(path, limit=LONGEST_TEMPLATE, error=CheckpointError)
        return text.decode("utf-8", errors="replace")
    for name in (PROCESSOR, _OLD_TEMPLATE):
        if (found := _read(folder, name).get("chat_template")) is not None:
            return found
    return None


def _read(folder: Path, name: str) -> dict[str, Any]:
    path = owned(folder, name)
    return {} if path is None else read_json(path, error=CheckpointError, budget=_BUDGET, infinite=True)
