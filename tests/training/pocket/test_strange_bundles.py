"""Bundles from strangers: names in them stay inside, and what is damaged is one sentence."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from emma_viz.checkpoints.run_config import run_config
from emma_viz.errors import CheckpointError, EmmaVizError, TrainingError
from emma_viz.models import PRESETS
from training.pocket.bundle_reading import Bundle
from training.pocket.stages import read_stage, stage_record


def bundle(folder: Path, text: str) -> Bundle:
    (folder / "member").mkdir(parents=True)
    (folder / "member/config.json").write_text(text)
    return Bundle(folder=folder, members=("member",))


def described(**changes) -> str:
    config = PRESETS["tiny-cobra"]()
    vision = replace(config.vision, backbone_id=changes.pop("encoder", "mine"))
    return json.dumps(run_config(replace(config, vision=vision, **changes)))


@pytest.mark.parametrize("name", ["../private", "/etc/private", "a/../../private", "..", "a\\b"])
def test_an_encoder_or_language_model_whose_id_is_a_path_is_refused(tmp_path, name):
    save_file({}, tmp_path / "private.safetensors")
    (tmp_path / "bundle/text-..").mkdir(parents=True)
    strange = bundle(tmp_path / "bundle", described(encoder=name))
    with pytest.raises(TrainingError, match=r"config\.json: expected the bare name"):
        strange.encoder("member")
    strange = bundle(tmp_path / "other", described(llm_backbone_id=f"../{name}"))
    with pytest.raises(TrainingError, match=r"config\.json: expected the bare name"):
        strange.text("member")


def test_an_encoder_that_is_a_link_to_elsewhere_is_refused(tmp_path):
    save_file({}, tmp_path / "private.safetensors")
    strange = bundle(tmp_path / "bundle", described())
    (tmp_path / "bundle/mine.safetensors").symlink_to(tmp_path / "private.safetensors")
    with pytest.raises(TrainingError, match="a link that leads out"):
        strange.encoder("member")


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"emma_viz": []}', '{"emma_viz": {"provenance": []}}', "[" * 100_000,
        '{"emma_viz": {"provenance": {"seed": "0"}}}', '{"emma_viz": {"provenance": {"seed": -1}}}',
        '{"emma_viz": {"provenance": {"seed": 0, "minutes": [1]}}}', '{"emma_viz": {"provenance": {}}}',
    ],
)  # fmt: skip
def test_a_damaged_description_is_one_sentence(tmp_path, text):
    with pytest.raises((CheckpointError, TrainingError), match=r"config\.json"):
        bundle(tmp_path, text).seed("member")


def test_a_stage_of_another_model_is_named(tmp_path):
    path = tmp_path / "encoder.safetensors"
    for state in ({"weight": torch.zeros(3, 3)}, {"weight": torch.zeros(2, 2), "more": torch.zeros(1)}, {}):
        save_file(state, path)
        with pytest.raises(EmmaVizError, match="is of another model"):
            read_stage(torch.nn.Linear(2, 2, bias=False), path)
    for metadata in ({"commit": "a"}, {"minutes": "many"}):
        save_file({}, path, metadata=metadata)
        with pytest.raises(TrainingError, match="does not say how many minutes"):
            stage_record(path)
    path.write_bytes(b"damaged")
    with pytest.raises(TrainingError, match="its stage is run again"):
        read_stage(torch.nn.Linear(2, 2), path)
