"""A full-width checkpoint loads within 1.15 times the model.

The checkpoint has the released keys and shapes, the language model in bfloat16, projector and encoders in float32
and with DINOv2's own 37×37 positions; all is loaded as bfloat16. Its values are holes in the files, so it takes no
disk; torch itself writes the archives. The load runs in a process of its own.

What is measured is the most resident memory (VmHWM of /proc/self/status) less what was resident just before the
load. Resident memory counts everything the process has touched: the tensors, and the pages of the file that are
mapped. Windows that were not let go of, a second copy, or a detour through float32 would all show.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from emma_viz.checkpoints.run_config import run_config
from emma_viz.checkpoints.tokenizers import BUNDLED_TOKENIZER
from emma_viz.models import PRESETS
from emma_viz.models.towers.vision import VisionEncoder

KEYS = Path(__file__).parents[1] / "data" / "keys"
BOUND = 1.15
DTYPES = {"projector": torch.float32, "llm_backbone": torch.bfloat16, "tower": torch.float32}

LOAD = """
import json, sys
import torch
import transformers.models.dinov2_with_registers.modeling_dinov2_with_registers
import transformers.models.siglip.modeling_siglip
from emma_viz.checkpoints import load_model

def resident(field):
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(lines[field].split()[0]) * 1024

folder = sys.argv[1]
torch.set_num_threads(2)
before = resident("VmRSS")
model = load_model(
    folder, dtype="bfloat16", vision_source={"dinov2": f"{folder}/dinov2", "siglip": f"{folder}/siglip"}
)
peak = resident("VmHWM") - before
parameters = list(model.vlm.parameters())
size, count = sum(p.nbytes for p in parameters), sum(p.numel() for p in parameters)
dtypes = sorted({str(p.dtype) for p in parameters})
print(json.dumps({"peak": peak, "size": size, "count": count, "dtypes": dtypes}))
"""


def save_holes(path, shapes, *, nest=False):
    """Let torch write an archive whose values are holes; shapes are nested dictionaries."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FakeTensorMode(), torch.serialization.skip_data(materialize_fake_tensors=True):
        parts = {
            component: {key: torch.empty(shape, dtype=DTYPES[component]) for key, shape in keys.items()}
            for component, keys in shapes.items()
        }
        if nest:
            llm = parts["llm_backbone"]
            llm["llm.lm_head.weight"] = llm["llm.backbone.embedding.weight"]
        torch.save({"model": parts} if nest else parts["tower"], path)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads resident memory from /proc")
def test_a_full_width_model_loads_within_the_bound(tmp_path):
    config = PRESETS["cobra-3b"]()
    folder = tmp_path / "cobra-3b"
    save_holes(
        folder / "checkpoints" / "latest-checkpoint.pt",
        json.loads((KEYS / "cobra-3b.json").read_text()),
        nest=True,
    )
    (folder / "config.json").write_text(json.dumps({"model": run_config(config)["model"]}))
    (folder / "tokenizer.json").write_bytes(BUNDLED_TOKENIZER.read_bytes())
    with torch.device("meta"):
        towers = VisionEncoder(config.vision).towers
    for kind, tower in towers.items():
        shapes = {
            key: list(tensor.shape) for key, tensor in tower.get_submodule("model").state_dict().items()
        }
        if kind == "dinov2":
            shapes["embeddings.position_embeddings"] = [1, 1 + 37 * 37, 1024]
        save_holes(folder / kind / "pytorch_model.bin", {"tower": shapes})
    on_disk = sum(path.stat().st_blocks * 512 for path in folder.rglob("*"))
    assert on_disk < 100e6

    result = subprocess.run([sys.executable, "-c", LOAD, str(folder)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    seen = json.loads(result.stdout.splitlines()[-1])
    assert seen["count"] == 2_768_345_600 + 47_789_568 + 731_942_976
    assert seen["size"] == 2 * seen["count"]
    assert seen["dtypes"] == ["torch.bfloat16"]
    assert 0.95 * seen["size"] < seen["peak"] <= BOUND * seen["size"], seen
