"""mmMamba: its two modules as one stream, what its mixers remember, its prompt, and what its files may say."""

import json
import shutil
from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch

from emma_viz.checkpoints import LoadedModel, load_model
from emma_viz.data.prompts import Turn, build_prompt, lead
from emma_viz.errors import CheckpointError
from emma_viz.models import PRESETS, VLM
from emma_viz.models.families.mmmamba import MMMAMBA, chat_values
from emma_viz.models.sizes import parameters
from tests.families import llava_files, mmmamba
from tests.families.conftest import make_member
from tests.tiny_model import tiny_tokenizer


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory):
    return make_member("mmmamba", tmp_path_factory.mktemp("mmmamba"))


@pytest.fixture(scope="module")
def linear():
    """The same with a Mamba-2 in every block, loud enough for each token to matter."""
    torch.manual_seed(9)
    values = chat_values(attention=(), blocks=1, width=32, inner=48, heads=4, shared=2, side=56, tokens=258)
    vlm = VLM(MMMAMBA.describe({**values, "normalize_encoder_output": True}), backend="torch").eval()
    with torch.no_grad():
        for key, weight in vlm.named_parameters():
            if key.endswith(("o_proj.weight", "w2.weight")):
                weight.mul_(40)
            elif "conv1d" in key:
                weight.add_(torch.randn_like(weight) / 4)
    return LoadedModel.from_vlm(vlm, tiny_tokenizer(), name="tiny-linear")


@torch.no_grad()
def test_with_a_mixer_in_every_block_it_is_the_released_sum_too(linear):
    features, ids = torch.randn(2, 16, 588), torch.randint(258, (2, 12))
    state = dict(linear.vlm.state_dict())
    theirs = mmmamba.logits(SimpleNamespace(state={"all": state}, loaded=linear), features, ids)
    ours = linear.vlm(None, ids, features=features, logits="all").logits
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-4
    assert ours.argmax(-1).unique().numel() > 2


@torch.no_grad()
def test_in_bfloat16_it_is_nearly_the_same(linear):
    ids = torch.randint(258, (1, 12))
    whole = linear.vlm(None, ids, logits="all").logits
    narrow = deepcopy(linear.vlm).bfloat16()(None, ids, logits="all").logits
    assert narrow.dtype == torch.bfloat16
    assert float((narrow.float() - whole).norm() / whole.norm()) < 0.1


@torch.no_grad()
def test_step_sizes_are_replaced_at_the_hook_and_nowhere_else(hybrid):
    """Δ of all mixers as they are changes nothing; Δ = 0 of one token keeps it out of the state."""
    vlm, ids = hybrid.loaded.vlm, torch.tensor([[5, 6, 7, 8]])
    whole = vlm(None, ids, logits="all").logits
    points = [block.attention.hook_delta for block in vlm.llm.backbone.layers[1:8]]
    for change, same in ((lambda x: x.clone(), True), (lambda x: x * 0, False)):
        hooks = [point.register_forward_hook(lambda m, a, out, do=change: do(out)) for point in points]
        found = vlm(None, ids, logits="all").logits
        for hook in hooks:
            hook.remove()
        assert torch.allclose(found, whole, atol=1e-5) == same


def test_the_presets_are_those_of_the_released_training():
    linear, hybrid = (PRESETS[f"mmmamba-{name}-2.7b"]() for name in ("linear", "hybrid"))
    assert linear.llm.mamba_layers == tuple(range(32))
    assert set(range(32)) - set(hybrid.llm.mamba_layers) == {0, 4, 8, 12, 16, 20, 24, 28}
    assert (linear.grid, linear.patch, linear.vision.image_size) == ((16, 16), 28, 448)


def test_with_attention_everywhere_it_has_the_parameters_of_its_teacher():
    """HoVLE, 2.6B (its model card), with the second table of tokens that its files hold and nothing reads."""
    teacher = MMMAMBA.describe(chat_values(attention=range(32)))
    assert round((parameters(teacher) + 92553 * 2048) / 1e9, 1) == 2.6


def test_the_prompt_is_that_of_internvl():
    turns = [
        Turn(role="human", text="<image>\nWhy?"),
        Turn(role="gpt", text="So."),
        Turn(role="human", text="And?"),
    ]
    assert build_prompt(turns, "internlm2") == (
        "</img>\nWhy?<|im_end|><|im_start|>assistant\nSo.<|im_end|><|im_start|>user\nAnd?<|im_end|><|im_start|>assistant\n"
    )
    before = lead("internlm2")
    assert before.startswith("<|im_start|>system\n")
    assert before.endswith("<|im_end|><|im_start|>user\n<img>")


def _changed(**changes):
    values = deepcopy(llava_files.MMMAMBA)
    for name, value in changes.items():
        part, _, field = name.partition("__")
        if field:
            values[f"{part}_config"][field] = value
        else:
            values[name] = value
    return values


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"template": "Hermes-2"}, "template"),
        ({"downsample_ratio": 1.0}, "downsample_ratio must be 0.5"),
        ({"force_image_size": 112}, "force_image_size the image_size"),
        ({"llm__intermediate_size": 64}, "the same intermediate_size"),
        ({"embedding__rope_theta": 10000.0}, "the same rope_theta"),
        ({"embedding__num_hidden_layers": 7}, "must have 8 blocks"),
        ({"llm__vocab_size": 300}, "as many tokens as llm_config"),
        ({"llm__layers_block_type": ["mamba2", "mha"]}, "names 2"),
        ({"llm__layers_block_type": ["gla"]}, "layers_block_type"),
        ({"embedding__special_token_maps": {"<img>": 258}}, "special_token_maps"),
        ({"embedding__pixel_shuffle_loc": "post"}, "pixel_shuffle_loc"),
        ({"embedding__use_ls": True}, "use_ls"),
    ],
)
def test_other_forms_are_refused(hybrid, tmp_path, changed, message):
    folder = shutil.copytree(hybrid.folder, tmp_path / "changed")
    (folder / "config.json").write_text(json.dumps(_changed(**changed)))
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)


def test_positions_of_attention_matter_only_where_there_is_attention(hybrid, tmp_path):
    folder = shutil.copytree(hybrid.folder, tmp_path / "linear")
    values = _changed(
        embedding__layers_block_type=8 * ["mamba2"], llm__layers_block_type=["mamba2"], llm__rope_theta=5.0
    )
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(
        CheckpointError, match="wvkqgdt"
    ):  # the description is taken; the weights are a hybrid's
        load_model(folder)
