"""ML-Mamba: the released names and sizes, and its connector against transformers' Mamba-2."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional
from transformers import Mamba2Config
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer as HubMixer

from emma_viz.checkpoints import load_model, save_run_directory, save_vision_encoder
from emma_viz.models import PRESETS, VLM, MambaConfig
from emma_viz.models.families.ml_mamba import ML_MAMBA
from emma_viz.models.mixers.bidirectional import BidirectionalMamba
from emma_viz.models.sizes import language_model_parameters
from tests.tiny_model import tiny_tokenizer

# The connector of the released code at width 2560: `mlp` and `bidirectional_mamba` of a checkpoint.
OF_A_LAYER = {
    "norm.weight": [2560], "norm.bias": [2560], "mixer.in_proj.weight": [10576, 2560], "mixer.norm.weight": [5120],
    "mixer.out_proj.weight": [2560, 5120],
    **{f"mixer.{name}{end}": [80] for name in ("dt_bias", "A_log", "D") for end in ("", "_b")},
    **{f"mixer.conv1d{end}.weight": [5376, 1, 4] for end in ("", "_b")},
    **{f"mixer.conv1d{end}.bias": [5376] for end in ("", "_b")},
    **{f"mlp.w{n}.weight": [2560, 2560] for n in (1, 2, 3)}, **{f"mlp.w{n}.bias": [2560] for n in (1, 2, 3)},
}  # fmt: skip
CONNECTOR = {
    "mlp": {"0.weight": [2560, 2176], "0.bias": [2560]},
    "bidirectional_mamba": {
        **{f"layers.{layer}.{name}": shape for layer in (0, 1) for name, shape in OF_A_LAYER.items()},
        "norm_f.weight": [2560], "norm_f.bias": [2560],
    },
    "projector": {
        "projector.0.weight": [10240, 2560], "projector.0.bias": [10240], "projector.2.weight": [2560, 10240],
        "projector.2.bias": [2560], "projector.4.weight": [2560, 2560], "projector.4.bias": [2560],
    },
}  # fmt: skip


def test_released_keys_and_sizes():

    with torch.device("meta"):
        config = PRESETS["ml-mamba-3b"]()
        vlm = VLM(replace(config, llm=replace(config.llm, n_layer=2)))
    found = {}
    for name, tensor in vlm.state_dict().items():
        if not name.startswith("vision."):
            component, _, key = ML_MAMBA.layout.file_key(name).partition(".")
            found.setdefault(component, {})[key] = list(tensor.shape)
    llm = found.pop("llm_backbone")
    assert found == CONNECTOR
    assert llm["backbone.layers.1.mixer.in_proj.weight"] == [10576, 2560]
    assert llm["backbone.embedding.weight"] == llm["lm_head.weight"] == [50288, 2560]
    assert language_model_parameters(config.llm) == 2_702_599_680


@torch.no_grad()
def test_the_connector_is_two_scans_of_the_whole_image():
    """Transformers' mixer once each way; out_proj is linear, so their mean is the mean of both outputs."""
    config = MambaConfig(d_model=32, n_layer=1, vocab_size=8, ssm="mamba2", d_state=16, headdim=16)
    torch.manual_seed(1)
    ours = BidirectionalMamba(config, 2).eval()
    for name, weight in ours.named_parameters():
        weight.normal_(std=0.3 if "A_log" not in name else 1.0)
    x = torch.randn(2, 12, 32)
    state, expected = ours.state_dict(), x
    for layer in range(2):
        own = {key.removeprefix(f"layers.{layer}."): value for key, value in state.items()}
        mixed = (_one_way(own, expected, "") + _one_way(own, expected.flip(1), "_b").flip(1)) / 2
        expected = expected + mixed
        normed = functional.layer_norm(expected, (32,), own["norm.weight"], own["norm.bias"])
        w1, w2 = (functional.linear(normed, own[f"mlp.w{n}.weight"], own[f"mlp.w{n}.bias"]) for n in (1, 2))
        expected = expected + functional.linear(
            functional.silu(w1) * w2, own["mlp.w3.weight"], own["mlp.w3.bias"]
        )
    expected = functional.layer_norm(expected, (32,), state["norm_f.weight"], state["norm_f.bias"])
    assert float((ours(x) - expected).norm() / expected.norm()) < 1e-5


def _one_way(own, x, end):
    hub = HubMixer(
        Mamba2Config(hidden_size=32, state_size=16, head_dim=16, num_heads=4, n_groups=1, chunk_size=8),
        layer_idx=0,
    )
    mixer = {key.removeprefix("mixer."): value for key, value in own.items() if key.startswith("mixer.")}
    names = {"dt_bias": f"dt_bias{end}", "A_log": f"A_log{end}", "D": f"D{end}",
             "conv1d.weight": f"conv1d{end}.weight", "conv1d.bias": f"conv1d{end}.bias"}  # fmt: skip
    hub.load_state_dict({key: mixer[names.get(key, key)] for key in hub.state_dict()})
    return hub(x)


@pytest.mark.parametrize("format", ["pt", "safetensors"])
def test_a_run_directory_keeps_the_components_apart(format, tmp_path):

    tokenizer = tiny_tokenizer()
    config = PRESETS["tiny-ml-mamba"]()
    vlm = VLM(replace(config, llm=replace(config.llm, vocab_size=tokenizer.vocab_size))).eval()
    save_run_directory(tmp_path / "run", vlm.config, vlm.state_dict(), format=format, tokenizer=tokenizer)
    eye = save_vision_encoder(tmp_path / "eye.safetensors", vlm.vision)
    if format == "pt":
        file = torch.load(tmp_path / "run" / "checkpoints" / "latest-checkpoint.pt", weights_only=True)[
            "model"
        ]
        assert set(file) == {"mlp", "bidirectional_mamba", "projector", "llm_backbone"}
        assert "backbone.norm_f.weight" in file["llm_backbone"]
    model = load_model(tmp_path / "run", vision_source=eye)
    assert (model.info.family, model.info.prompt_style) == ("ml-mamba", "zephyr")
    pixels = tuple(torch.randn(1, 3, 60, 60) for _ in range(2))
    with torch.inference_mode():
        assert torch.equal(model.vlm.embed_image(pixels), vlm.embed_image(pixels))
