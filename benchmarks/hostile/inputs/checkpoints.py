"""Run directories and language models that were made to do harm: several hundred kinds, each once.

Sound ones are made first, of tiny sizes and random weights; each hostile one is a copy with one thing wrong. Programs
hidden in pickles would create a file `executed` in the working directory; a folder `victim` beside the hostile ones
holds files that nobody may touch.
"""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import torch
from safetensors.torch import save_file

from benchmarks.hostile.inputs import checkpoint_texts as texts
from benchmarks.hostile.inputs.checkpoint_pickles import nested_state, pickled_weights
from emma_viz.checkpoints import save_run_directory
from emma_viz.checkpoints.tokenizers import BUNDLED_TOKENIZER
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.models.language_model import MambaLM
from emma_viz.models.presets import PRESETS
from emma_viz.models.vlm import VLM

WEIGHTS = "checkpoints/latest-checkpoint"
STATE_SPACES = {
    "d_model": 32, "n_layer": 2, "vocab_size": 634, "pad_vocab_size_multiple": 8, "rms_norm": True,
    "residual_in_fp32": True, "ssm_cfg": {"layer": "Mamba2", "d_state": 16, "headdim": 16},
}  # fmt: skip
TRANSFORMERS = {
    "model_type": "mamba", "hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 640, "state_size": 8,
    "conv_kernel": 4, "expand": 2, "layer_norm_epsilon": 1e-5, "time_step_rank": 2, "use_bias": False,
}  # fmt: skip


def hostile_checkpoints(folder: Path, seed: int, share: float = 1.0) -> Iterator[tuple[str, Path]]:
    """Write hostile checkpoints one after another.

    Args:
        folder: an empty folder.
        seed: of the weights, of which values damaged configs hold, and of which bytes are changed.
        share: how many of the kinds are written, drawn by chance.

    Yields:
        (what is wrong, the path to pass to `inspect` and `load_model`). A kind may be removed when it was tried.
    """
    torch.manual_seed(seed)
    sound = folder / "sound"
    _sound_models(sound)
    (folder / "victim").mkdir()
    shutil.copy(sound / "lm" / "model.safetensors", folder / "victim")
    random = Random(seed)
    for number, (name, kind, make) in enumerate(_kinds(sound, seed)):
        if random.random() >= share:
            continue
        path = folder / f"{number:04d}" / kind
        shutil.copytree(sound / kind, path, copy_function=os.link)
        make(path)
        yield name, path


def _sound_models(folder: Path) -> None:
    """A run directory of safetensors (`run`), one of a torch archive (`pt`), and a language model (`lm`)."""
    config = PRESETS["tiny-emma-v1"]()
    config = replace(config, llm=replace(config.llm, vocab_size=634))
    state = {name: tensor * 0.1 for name, tensor in VLM(config).state_dict().items()}
    tokenizer = Tokenizer.load(BUNDLED_TOKENIZER)
    save_run_directory(folder / "run", config, state, tokenizer=tokenizer)
    save_run_directory(folder / "pt", config, state, tokenizer=tokenizer, format="pt")
    lm = folder / "lm"
    lm.mkdir()
    (lm / "config.json").write_text(json.dumps(STATE_SPACES))
    shutil.copy(BUNDLED_TOKENIZER, lm)
    llm = MambaLM(_state_spaces_llm())
    save_file({k: t for k, t in llm.state_dict().items() if k != "lm_head.weight"}, lm / "model.safetensors")


def _state_spaces_llm():
    llm = PRESETS["tiny-emma-v2"]().llm
    return replace(llm, n_layer=2, vocab_size=634, pad_vocab_size_multiple=8)


def _kinds(sound: Path, seed: int):
    """(what is wrong, which sound model is copied, what is done to the copy)."""
    run = json.loads((sound / "run" / "config.json").read_text())
    for name, data in texts.changed_configs(run, seed, each=2):
        yield name, "run", lambda path, data=data: _replace(path / "config.json", data())
    for layout, lm in (("state-spaces", STATE_SPACES), ("transformers", TRANSFORMERS)):
        for name, data in texts.changed_configs(lm, seed + 1, each=3):
            yield (
                f"{layout}: {name}",
                "lm",
                lambda path, data=data: _replace(path / "config.json", data()),
            )
    for file in ("config.json", "tokenizer.json"):
        for name, write in texts.odd_texts((sound / "run" / file).read_bytes()).items():
            yield f"{file}: {name}", "run", lambda path, file=file, write=write: _rewrite(path / file, write)
    for name, data in texts.tokenizers(BUNDLED_TOKENIZER.read_bytes()).items():
        yield f"tokenizer: {name}", "run", lambda path, data=data: _replace(path / "tokenizer.json", data())
    yield from _weights(sound, seed)
    yield from _shards(sound)
    yield from _places()


def _weights(sound: Path, seed: int):
    for name, header in texts.headers().items():
        yield (
            f"header: {name}",
            "run",
            lambda path, header=header: _replace(path / f"{WEIGHTS}.safetensors", texts.safetensors(*header)),
        )
    config = PRESETS["tiny-emma-v1"]()
    state = nested_state(VLM(replace(config, llm=replace(config.llm, vocab_size=634))).state_dict())
    for name, write in pickled_weights(state, seed):
        yield name, "pt", lambda path, write=write: _rewrite(path / f"{WEIGHTS}.pt", write)


def _shards(sound: Path):
    header = (sound / "lm" / "model.safetensors").read_bytes()
    length = int.from_bytes(header[:8], "little")
    keys = [key for key in json.loads(header[8 : 8 + length]) if key != "__metadata__"]

    def shard(path: Path, data: bytes) -> None:
        (path / "model.safetensors").rename(path / "one.safetensors")
        (path / "link.safetensors").symlink_to("../../victim/model.safetensors")
        (path / "other.index.json").write_bytes(data)
        os.mkfifo(path / "pipe")
        (path / "model.safetensors.index.json").write_bytes(data)

    for name, data in texts.indexes(keys, "one.safetensors").items():
        yield f"index: {name}", "lm", lambda path, data=data: shard(path, data())
    for name, write in texts.odd_texts(json.dumps({"weight_map": {}}).encode()).items():
        yield (
            f"index file: {name}",
            "lm",
            lambda path, write=write: _rewrite(path / "model.safetensors.index.json", write),
        )


def _places():
    """Files of a run directory that are something else, or somewhere else."""
    weights = f"{WEIGHTS}.safetensors"

    def moved(path: Path, target: str) -> None:
        (path / weights).unlink()
        (path / weights).symlink_to(target)

    def hole(path: Path) -> None:
        with (path / weights).open("rb") as file:
            data = file.read()
        _replace(path / weights, data)
        with (path / weights).open("r+b") as file:
            file.truncate(20 * 2**30)

    for name, target in {
        "a link out": "../../../victim/model.safetensors",
        "a link to a device": "/dev/zero",
        "a link to itself": "latest-checkpoint.safetensors",
    }.items():
        yield f"weights: {name}", "run", lambda path, target=target: moved(path, target)
    yield "weights: 20 GB of nothing behind them", "run", hole
    yield "weights: a pipe", "run", lambda path: _rewrite(path / weights, os.mkfifo)
    yield "weights: a folder", "run", lambda path: _rewrite(path / weights, Path.mkdir)
    yield "weights: gone", "run", lambda path: (path / weights).unlink()
    yield "weights: both formats", "run", lambda path: shutil.copy(path / weights, path / f"{WEIGHTS}.pt")


def _rewrite(path: Path, write) -> None:
    """Copies are linked to the sound files, which must not be written into."""
    path.unlink(missing_ok=True)
    write(path)


def _replace(path: Path, data: bytes) -> None:
    _rewrite(path, lambda new: new.write_bytes(data))
