"""The scan's rows are TransformerLens's effective attention, where both mean the same thing.

`tests/data/transformer_lens_attention.json` was made with TransformerLens 4.3.0 and transformers 5.24 on the CPU: the
model of the file's `config`, the i-th of its `parameters` filled by `fill`, given to `boot(…, hf_model=model)`, mixers
with `eager_scan = True`, `run_with_cache(IDS)`, and of block 1 the last row of `compute_effective_attention(cache, 1,
include_dt_scaling=True)`: of every channel (Mamba-1) or head (Mamba-2), without the skip D, convolution, gate and norm.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from emma_viz.capture import Recorder
from emma_viz.checkpoints import load_language_model
from emma_viz.checkpoints.tokenizers import BUNDLED_TOKENIZER
from emma_viz.evidence.mixers.implicit_attention import scan_rows
from emma_viz.evidence.mixers.routing import convolution_bias, convolved, project_in, routing_of

IDS = torch.tensor([[5, 17, 300, 2, 599, 41, 7]])
FILE = Path(__file__).parents[1] / "data" / "transformer_lens_attention.json"


def fill(number: int, shape: list[int]) -> torch.Tensor:
    """The number-th parameter."""
    count = torch.Size(shape).numel()
    return (0.6 * torch.sin(0.7 * torch.arange(count, dtype=torch.float64) + number)).float().reshape(shape)


@pytest.mark.parametrize("ssm", ["mamba1", "mamba2"])
def test_rows_of_the_scan_are_its_effective_attention(ssm, tmp_path):
    theirs = json.loads(FILE.read_text())[ssm]
    state = {name: fill(number, shape) for number, (name, shape) in enumerate(theirs["parameters"].items())}
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(theirs["config"]))
    shutil.copy(BUNDLED_TOKENIZER, tmp_path)
    llm = load_language_model(tmp_path).llm
    with torch.no_grad(), Recorder(llm, "mixer_in", layers=[1]) as kept:
        logits = llm(IDS)
    torch.testing.assert_close(logits[0, -1, :5], torch.tensor(theirs["logits"]), rtol=1e-4, atol=1e-5)
    mixer = llm.backbone.layers[1].mixer
    with torch.no_grad():
        inputs = project_in(mixer, kept["mixer_in", 1])
        held = routing_of(mixer, convolved(mixer, inputs.x) + convolution_bias(mixer), inputs.dt)
        row = scan_rows(mixer, held, [IDS.shape[1] - 1])[0]
    skip, expected = held.skip, torch.tensor(theirs["last_row"]).T
    if ssm == "mamba2":
        skip = skip.repeat_interleave(mixer.config.headdim)
        expected = expected.repeat_interleave(mixer.config.headdim, dim=1)
    own = torch.cat([row[:-1], row[-1:] - skip])
    torch.testing.assert_close(own, expected.to(row.dtype), rtol=1e-4, atol=1e-6)
