"""Fixtures of the sessions' tests."""

from pathlib import Path

import pytest
import torch

from emma_viz.checkpoints import load_model, save_run_directory


@pytest.fixture(scope="session")
def projector(pair, tmp_path_factory) -> Path:
    """The run directory of the pair's Cobra with its projector alone, as after the first stage of training."""
    model = load_model(pair.cobra, vision_source=str(pair.vision))
    folder = tmp_path_factory.mktemp("alone") / "projector"
    save_run_directory(folder, model.config, model.vlm.state_dict(), format="pt", tokenizer=model.tokenizer)
    weights = folder / "checkpoints" / "latest-checkpoint.pt"
    found = torch.load(weights, weights_only=True)
    del found["model"]["llm_backbone"]
    torch.save(found, weights)
    return folder
