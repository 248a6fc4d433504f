"""Small checkpoints of every layout, and archives with whatever pickle a test wants in them."""

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch

from emma_viz.checkpoints.tokenizers import BUNDLED_TOKENIZER
from emma_viz.models import PRESETS, VLM

KEYS = Path(__file__).parents[1] / "data" / "keys"
# What each number of the released shapes becomes at width 32. Two towers of 24 and 16 channels make 40 features.
REDUCED = {
    "mamba1": {
        50280: 640, 2560: 32, 5120: 64, 10240: 128, 192: 2 + 2 * 16, 160: 2, 16: 16, 4: 4, 1: 1, 8704: 160, 2176: 40,
    },
    "mamba2": {
        50288: 640, 2560: 32, 5120: 64, 10576: 2 * 64 + 2 * 16 + 4, 5376: 96, 80: 4, 4: 4, 1: 1, 8704: 160, 2176: 40,
    },
}  # fmt: skip
LLM = {
    "mamba1": {"d_model": 32, "vocab_size": 634},
    "mamba2": {"d_model": 32, "vocab_size": 634, "d_state": 16, "headdim": 16},
}
OFFICIAL = {
    "cobra-3b": ("mamba1", "cobra+3b", "mamba-2.8b-zephyr"),
    "emma-v1-3b": ("mamba1", "EMMA+3b", "mamba-2.8b-zephyr"),
    "emma-v2-3b": ("mamba2", "EMMA+3b", "mamba-2.7b-v2"),
}

COMMIT = "0123456789abcdef0123456789abcdef01234567"
"""Of what `cached` puts into the hub's cache."""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty hub cache, and no network."""
    path = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return path


@pytest.fixture
def cached(cache):
    """Put files into the hub cache as a download leaves them."""

    def put(repo, files):
        folder = cache / f"models--{repo.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text(COMMIT)
        for name, path in files.items():
            target = folder / "snapshots" / COMMIT / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)

    return put


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(3)


@pytest.fixture
def tokenizer_file():
    """The bundled tokenizer, for models whose tables are large enough for it."""
    return BUNDLED_TOKENIZER


@pytest.fixture
def reduced():
    """Released keys at width 32: (name, layers kept) → (nested state, content of config.json)."""

    def make(name: str, layers: int):
        torch.manual_seed(3)
        ssm, model_id, llm_id = OFFICIAL[name]
        sizes = REDUCED[ssm]
        shapes = json.loads((KEYS / f"{name}.json").read_text())
        state = {
            component: {
                key: torch.randn([sizes[n] for n in shape]) * 0.1
                for key, shape in keys.items()
                if ".layers." not in key or int(key.split(".")[3]) < layers
            }
            for component, keys in shapes.items()
        }
        state["llm_backbone"]["llm.lm_head.weight"] = state["llm_backbone"]["llm.backbone.embedding.weight"]
        config = {
            "model": {
                "type": model_id,
                "model_id": model_id,
                "arch_specifier": "no-align+fused-gelu-mlp",
                "vision_backbone_id": "tiny-dinosiglip-60px",
                "llm_backbone_id": llm_id,
                "image_resize_strategy": "resize-naive",
                "llm_max_length": 2048,
                "finetune_learning_rate": 2e-5,
            },
            "run_id": name,
            "emma_viz": {"llm": LLM[ssm]},
        }
        if layers < 64:
            config["emma_viz"]["llm"] = {**LLM[ssm], "n_layer": layers}
            config["emma_viz"]["taps"] = [1, 2, 3] if name.startswith("emma") else []
        return state, config

    return make


@pytest.fixture
def run_directory(tmp_path, reduced, tokenizer_file):
    """Write a run directory in the official layout; returns its path."""

    def write(name: str = "cobra-3b", *, layers=4, extra=None, change=None) -> Path:
        state, config = reduced(name, layers)
        if change:
            change(state, config)
        folder = tmp_path / name
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "tokenizer.json").write_bytes(tokenizer_file.read_bytes())
        torch.save({"model": state, **(extra or {})}, folder / "checkpoints" / "latest-checkpoint.pt")
        return folder

    return write


@pytest.fixture
def small_config():
    """A tiny preset whose table is large enough for the bundled tokenizer."""

    def make(name: str = "tiny-cobra"):
        config = PRESETS[name]()
        return replace(config, llm=replace(config.llm, vocab_size=634))

    return make


@pytest.fixture
def small_vlm(small_config):
    """A tiny model with random weights."""
    return lambda name="tiny-cobra": VLM(small_config(name)).eval()


@pytest.fixture
def encoder_file(tmp_path, small_config):
    """Random weights of the tiny encoders, as `save_vision_encoder` writes them."""
    from emma_viz.checkpoints import save_vision_encoder

    return save_vision_encoder(tmp_path / "encoder.safetensors", VLM(small_config()).vision)


@pytest.fixture
def archive(tmp_path):
    """A zip archive like torch's, with a pickle of the test's own."""

    def write(pickle: bytes, *, storages=None, name="evil.pt", order=b"little") -> Path:
        path = tmp_path / name
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("evil/data.pkl", pickle)
            file.writestr("evil/byteorder", order)
            for key, data in (storages or {}).items():
                file.writestr(f"evil/data/{key}", data)
            file.writestr("evil/version", "3\n")
        return path

    return write
