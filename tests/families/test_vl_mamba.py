"""VL-Mamba's connector with both of the paper's scans."""

from dataclasses import replace

import pytest
import torch

from emma_viz.checkpoints import load_model
from emma_viz.errors import CheckpointError
from emma_viz.models import PRESETS, VLM
from tests.families.references import _scanned


@torch.no_grad()
@pytest.mark.parametrize("scan", ["bidirectional", "cross"])
def test_the_connector_is_a_mamba_layer_run_once_in_each_order(scan):
    torch.manual_seed(0)
    config = PRESETS["tiny-vl-mamba"]()
    vlm = VLM(replace(config, projector=replace(config.projector, vss_scan=scan)), backend="torch")
    features = torch.randn(2, 16, vlm.config.vision.width)
    ours = vlm.projector(features)
    theirs = _scanned(dict(vlm.projector.state_dict()), features, cross=scan == "cross")
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    other = _scanned(dict(vlm.projector.state_dict()), features, cross=scan != "cross")
    assert not torch.allclose(ours, other, atol=1e-3)


def test_it_is_said_that_no_weights_were_released():
    for name in ("vl-mamba-2.8b", "vl-mamba-csm-2.8b"):
        with pytest.raises(CheckpointError, match="No weights of"):
            load_model(name)
