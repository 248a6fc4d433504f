"""One model in three layouts goes through the same command, and says the same of itself."""

import json
from dataclasses import replace

import pytest
import torch

from emma_viz.checkpoints import save_run_directory, save_vision_encoder
from emma_viz.models import PRESETS, VLM
from probes.run import main
from tests.tiny_model import tiny_tokenizer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def layouts(tmp_path_factory):
    """What the command is given for each layout, and where the reports go."""
    from transformers import MambaConfig, MambaForCausalLM

    folder, tokenizer = tmp_path_factory.mktemp("layouts"), tiny_tokenizer()
    torch.manual_seed(4)
    config = PRESETS["tiny-cobra"]()
    config = replace(config, llm=replace(config.llm, vocab_size=tokenizer.vocab_size))
    vlm, llm = VLM(config), config.llm
    save_vision_encoder(folder / "encoder.safetensors", vlm.vision)
    for name in ("official", "projector"):
        save_run_directory(folder / name, config, vlm.state_dict(), format="pt", tokenizer=tokenizer)
    weights = folder / "projector" / "checkpoints" / "latest-checkpoint.pt"
    found = torch.load(weights, weights_only=True)
    del found["model"]["llm_backbone"]
    torch.save(found, weights)
    own = vlm.llm.state_dict()
    theirs = MambaForCausalLM(
        MambaConfig(
            vocab_size=llm.padded_vocab_size, hidden_size=llm.d_model, num_hidden_layers=llm.n_layer,
            state_size=llm.d_state, use_mambapy=False,
        )
    )  # fmt: skip
    theirs.load_state_dict({key.replace("embedding.", "embeddings."): each for key, each in own.items()})
    theirs.save_pretrained(folder / "mamba-hf")
    (folder / "mamba").mkdir()
    torch.save(own, folder / "mamba" / "pytorch_model.bin")
    described = {
        "d_model": llm.d_model, "n_layer": llm.n_layer, "vocab_size": tokenizer.vocab_size,
        "ssm_cfg": {"d_state": llm.d_state}, "rms_norm": True, "residual_in_fp32": True,
        "pad_vocab_size_multiple": llm.pad_vocab_size_multiple,
    }  # fmt: skip
    (folder / "mamba" / "config.json").write_text(json.dumps(described))
    return folder


def findings(folder, model, *more):
    """Every number that the command finds on two scenes."""
    out = folder / f"report-{'-'.join(more) or model}".replace("/", "_")
    command = [str(folder / model), "--vision", str(folder / "encoder.safetensors"), "--out", str(out)]
    asked = ["--count", "2", "--quick", "--probes", "retention,sinks,frozen"]
    assert main([*command, *more, *asked]) == 0
    found = json.loads((out / "report.json").read_text())
    assert all(check["passed"] for checks in found["checks"] for check in checks)
    return [
        {name: finding[name] for name in ("name", "layer", "value", "low", "high")}
        for probe in found["probes"]
        for result in probe["results"]
        for finding in result["findings"]
    ]


def test_the_language_model_may_be_inside_or_in_either_layout_of_its_own(layouts, capsys):
    whole = findings(layouts, "official")
    assert len(whole) > 50
    for source in ("mamba-hf", "mamba"):
        assert findings(layouts, "projector", "--llm", str(layouts / source)) == whole
    command = ["--vision", str(layouts / "encoder.safetensors"), "--out", str(layouts / "none")]
    assert main([str(layouts / "projector"), *command]) == 1
    assert "--llm" in capsys.readouterr().err
