"""A hybrid: what its mixers remember, what its second file may say, and where they are hooked."""

import json
import shutil

import pytest
import torch

from emma_viz.capture import Recorder
from emma_viz.checkpoints import load_model
from emma_viz.errors import CheckpointError, KeyMismatchError, SiteError
from emma_viz.models import PRESETS
from tests.families import llava_files
from tests.families.conftest import make_member


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory):
    return make_member("matvlm", tmp_path_factory.mktemp("matvlm"))


def test_every_fourth_block_of_the_preset_has_a_mixer():
    llm = PRESETS["matvlm-0.25-3.1b"]().llm
    assert llm.mamba_layers == (0, 4, 8, 12, 16, 20, 24, 28)
    assert (llm.mixer.n_heads, llm.mixer.ngroups, llm.mixer.d_state, llm.mixer.d_inner) == (32, 32, 80, 2560)


def test_what_means_two_things_in_it_is_hooked_by_module_path(hybrid):
    vlm = hybrid.loaded.vlm
    with pytest.raises(SiteError, match="name the module with Recorder"):
        Recorder(vlm, "z")
    with torch.no_grad(), Recorder(vlm, "llm.backbone.layers.*.mamba.hook_z") as recorder:
        vlm(None, torch.tensor([[5, 6, 7]]))
    assert {target.path.split(".")[3] for target in recorder.targets} == {"0", "2"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"bidirectional": True}, "bidirectional"),
        ({"is_bias": True}, "is_bias"),
        ({"d_xb": 16}, "d_xb is 16; supported: 32"),
        ({"attn_layers": [1, 3]}, r"attn_layers has \[3\]"),
        ({"ssm_cfg": {"expand": 1, "ngroups": 2, "d_state": 16}}, "ssm_cfg is"),
        ({"ssm_cfg": {"expand": 2, "ngroups": 4, "d_state": 8}}, "expand"),
    ],
)
def test_other_mixers_are_refused(hybrid, tmp_path, changed, message):
    folder = shutil.copytree(hybrid.folder, tmp_path / "changed")
    (folder / "mamba_config.json").write_text(json.dumps(llava_files.MATVLM | changed))
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)


def test_without_its_second_file_the_weights_are_not_those_of_the_transformer(hybrid, tmp_path):
    folder = shutil.copytree(hybrid.folder, tmp_path / "alone")
    (folder / "mamba_config.json").unlink()
    with pytest.raises(KeyMismatchError, match="mamba"):
        load_model(folder, vision_source=str(folder / "eye.safetensors"))
