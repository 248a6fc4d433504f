"""A tiny checkpoint of each family, in the layout of its released code, made once."""

import json
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from emma_viz.checkpoints import LoadedModel, load_model, save_vision_encoder
from emma_viz.checkpoints.run_config import run_config
from emma_viz.models import PRESETS, VLM, ProjectorConfig, VLMConfig
from tests.families import llava_files
from tests.tiny_model import WRITES, tiny_tokenizer

# What the released code of each calls what this package calls `projector.*` and `llm.*`, by component.
COBRA = (("llm.", "llm_backbone", "llm."), ("projector.", "projector", ""))
ML_MAMBA = (
    ("llm.", "llm_backbone", ""), ("projector.mlp.", "mlp", ""),
    ("projector.bidirectional_mamba.", "bidirectional_mamba", ""), ("projector.", "projector", ""),
)  # fmt: skip
RUNS = {
    "cobra": ("tiny-cobra", "cobra+3b", COBRA),
    "cobra-ldp": ("tiny-cobra", "cobra-ldpnet+3b", COBRA),
    "emma-v1": ("tiny-emma-v1", "EMMA+3b", COBRA),
    "emma-v2": ("tiny-emma-v2", "EMMA+3b", COBRA),
    "ml-mamba": ("tiny-ml-mamba", "mlmamba+3b", ML_MAMBA),
    "llava-pocket": ("tiny-llava", "llava-tiny", COBRA),
    "vl-mamba": ("tiny-vl-mamba", "vl-mamba", COBRA),
}
"""Members whose files are run directories."""
OTHERS = {
    "emma-text-fusion": ("tiny-emma-text-fusion", llava_files.TEXT_FUSION, llava_files.NAMES),
    "mobilevlm-v2": ("tiny-mobilevlm-v2", llava_files.MOBILEVLM, llava_files.MOBILEVLM_NAMES),
    "tinyllava": ("tiny-tinyllava", llava_files.TINYLLAVA, llava_files.TINYLLAVA_NAMES),
    "matvlm": ("tiny-matvlm", llava_files.TINYLLAVA, llava_files.TINYLLAVA_NAMES),
    "mmmamba": ("tiny-mmmamba", llava_files.MMMAMBA, llava_files.MMMAMBA_NAMES),
}
"""Members whose files are those of LLaVA's kin, or like them."""
MEMBERS = {**RUNS, **OTHERS}


def unevenly_pooled(config: VLMConfig) -> VLMConfig:
    """With Cobra's LDPv2: six rows and columns become four, as 27 become 14 in the released code."""
    towers = tuple(replace(each, image_size=88) for each in config.vision.towers)
    return replace(
        config,
        vision=replace(config.vision, backbone_id="tiny-dinosiglip-88px", towers=towers),
        projector=ProjectorConfig(kind="fused-ldpnet", pooled_grid=(4, 4)),
    )


@dataclass(frozen=True)
class Member:
    """One family's tiny member."""

    name: str
    folder: Path
    state: dict[str, dict[str, Tensor]]
    """What its file holds, by component."""
    vision: dict[str, Tensor]
    """The weights of its frozen encoders, by our names."""
    loaded: LoadedModel


@pytest.fixture(scope="session", params=MEMBERS)
def member(request, tmp_path_factory) -> Member:
    """A member of a family on disk as its released code writes it, and loaded."""
    return make_member(request.param, tmp_path_factory.mktemp(request.param))


def make_member(name: str, folder: Path) -> Member:
    """The same of one name, in a folder that is empty."""
    preset, written, names = MEMBERS[name]
    tokenizer = tiny_tokenizer()
    torch.manual_seed(7)
    config = PRESETS[preset]()
    config = replace(config, llm=replace(config.llm, vocab_size=tokenizer.vocab_size))
    if name == "cobra-ldp":
        config = unevenly_pooled(config)
    if (
        config.llm.grouped
    ):  # the length 1 between the modules is as good as none, but for a scale that all see
        config = replace(config, llm=replace(config.llm, unit_layer=8))
    vlm = VLM(config)
    with torch.no_grad():  # so that every token matters
        vlm.llm.backbone.embedding.weight.mul_(2)
        for key, weight in vlm.named_parameters():
            if key.endswith(WRITES):
                weight.mul_(40)
            if "image_text_infusion" in key:
                weight.add_(torch.randn_like(weight) / 4)
    if name in RUNS:
        state = _run_directory(folder, replace(config, model_id=written), vlm, names)
    else:
        state = {"all": OrderedDict(vlm.state_dict())}
        llava_files.write(folder, {**written, "vocab_size": tokenizer.vocab_size}, state["all"], names)
        if config.llm.mamba_layers and config.llm.parallel:
            (folder / "mamba_config.json").write_text(json.dumps(llava_files.MATVLM))
        if config.projector.infused:
            llava_files.write_tower(folder, state["all"])
            llava_files.write_instruction_tokenizer(folder)
    tokenizer.save(folder / "tokenizer.json")
    eye = save_vision_encoder(folder / "eye.safetensors", vlm.vision)
    loaded = load_model(folder, vision_source=str(eye), backend="torch")
    vision = dict(vlm.vision.state_dict())
    return Member(name=name, folder=folder, state=state, vision=vision, loaded=loaded)


def _run_directory(folder, config, vlm, names) -> dict[str, dict[str, Tensor]]:
    state: dict[str, dict[str, Tensor]] = {}
    for name, tensor in vlm.state_dict().items():
        if not name.startswith("vision."):
            prefix, component, kept = next(each for each in names if name.startswith(each[0]))
            state.setdefault(component, OrderedDict())[kept + name.removeprefix(prefix)] = tensor
    (folder / "checkpoints").mkdir()
    torch.save({"model": state}, folder / "checkpoints" / "latest-checkpoint.pt")
    (folder / "config.json").write_text(json.dumps(run_config(config)))
    return state


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Noise, wide and high."""
    draw = np.random.default_rng(1)
    return [
        Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in [(40, 70), (90, 50)]
    ]
