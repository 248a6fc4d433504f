import json
from dataclasses import replace

import pytest
from PIL import Image

from emma_viz.checkpoints.loaded import image_transform
from emma_viz.errors import InputError
from emma_viz.models import (
    LLM_BACKBONES,
    PRESETS,
    VISION_BACKBONES,
    MambaConfig,
    VisionConfig,
    config_from_ids,
    vlm_config_from_dict,
)
from emma_viz.models.families.official import OfficialFamily
from emma_viz.models.families.table import family_named


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_json(name):
    config = PRESETS[name]()
    assert vlm_config_from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_names_known_backbones(name):
    config = PRESETS[name]()
    official = isinstance(family_named(config.family), OfficialFamily)
    # Other layouts write every number of a backbone down; whoever uses an official name means that one.
    for known, name, part in (
        (LLM_BACKBONES, config.llm_backbone_id, config.llm),
        (VISION_BACKBONES, config.vision.backbone_id, config.vision),
    ):
        assert known[name]() == part if name in known else not official
    assert (config.family == "emma") == bool(config.taps) == (config.lens_form is not None)


def test_the_official_cobra():
    config = PRESETS["cobra-3b"]()
    assert (config.grid, config.n_image_tokens, config.vision.width) == ((27, 27), 729, 2176)
    assert (config.llm.padded_vocab_size, config.llm.rank, config.llm.d_inner) == (50280, 160, 5120)
    assert (config.prompt_style, config.resize_strategy) == ("zephyr", "resize-naive")


def test_the_official_emma_v2():
    config = PRESETS["emma-v2-3b"]()
    assert (config.llm.padded_vocab_size, config.llm.n_heads, config.llm.conv_width) == (50288, 80, 5376)
    assert (config.taps, config.prompt_style) == ((24, 36, 48), "in-out")


def test_ids_of_a_run_directory_describe_the_model():
    config = config_from_ids(
        model_id="cobra-ldpnet+3b",
        arch_specifier="no-align+fused-ldpnet",
        vision_backbone_id="dinosiglip-vit-so-384px",
        llm_backbone_id="mamba-2.8b-slimpj",
    )
    assert (config.family, config.projector.kind, config.prompt_style) == ("cobra", "fused-ldpnet", "in-out")
    assert (config.vision.grid, config.grid, config.n_image_tokens) == ((27, 27), (14, 14), 196)
    place = image_transform(config).geometry(Image.new("RGB", (640, 480)))
    assert (config.patch, place.grid) == (27, (14, 14))
    assert place.token_boxes()[-1] == pytest.approx([640 * 351 / 384, 480 * 351 / 384, 630, 472.5])


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"arch_specifier": "no-align+magic"}, "fused-gelu-mlp"),
        ({"vision_backbone_id": "clip"}, "dinosiglip-vit-so-384px"),
        ({"llm_backbone_id": "llama"}, "mamba-2.8b-zephyr"),
    ],
)
def test_an_unknown_id_names_the_known_ones(changed, named):
    ids = {
        "model_id": "cobra+3b",
        "arch_specifier": "linear",
        "vision_backbone_id": "dinosiglip-vit-so-384px",
        "llm_backbone_id": "mamba-2.8b",
    }
    with pytest.raises(InputError, match=named):
        config_from_ids(**{**ids, **changed})


def test_an_unknown_field_is_named():
    values = PRESETS["tiny-cobra"]().to_dict()
    values["llm"]["colour"] = 3
    with pytest.raises(InputError, match="colour"):
        vlm_config_from_dict(values)


@pytest.mark.parametrize(
    "build",
    [
        lambda: MambaConfig(d_model=0, n_layer=1, vocab_size=8),
        lambda: MambaConfig(d_model=8, n_layer=1, vocab_size=8, d_conv=1),
        lambda: MambaConfig(d_model=24, n_layer=1, vocab_size=8, ssm="mamba2", headdim=32),
        lambda: MambaConfig(d_model=32, n_layer=1, vocab_size=8, ssm="mamba2", headdim=16, ngroups=3),
        lambda: VisionConfig(backbone_id="none", towers=()),
        lambda: replace(PRESETS["tiny-emma-v1"](), taps=(1, 3)),
        lambda: replace(PRESETS["tiny-emma-v1"](), taps=(2, 1)),
        lambda: replace(PRESETS["tiny-cobra"]().vision.towers[0], mlp_width=50),
        lambda: replace(PRESETS["tiny-cobra"]().vision.towers[0], n_layer=1),
        lambda: replace(PRESETS["tiny-cobra"]().vision.towers[0], n_heads=5),
    ],
)
def test_conflicting_settings_are_refused(build):
    with pytest.raises(InputError):
        build()


def test_towers_of_different_grids_are_refused():
    towers = PRESETS["tiny-cobra"]().vision.towers
    with pytest.raises(InputError, match="image_size"):
        VisionConfig(backbone_id="mixed", towers=(towers[0], replace(towers[1], image_size=84)))
    with pytest.raises(InputError, match="kind"):
        VisionConfig(backbone_id="twice", towers=(towers[0], towers[0]))


def test_a_pixel_remainder_belongs_to_no_patch():
    tower = replace(PRESETS["tiny-cobra"]().vision.towers[1], image_size=384)
    assert tower.grid == (27, 27)
