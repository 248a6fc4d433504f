"""One command from a run directory to a lens, and what a run would need before it is started."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from emma_viz.checkpoints import load_model
from emma_viz.data.images import image_hash, read_image
from emma_viz.data.prompts import lead
from emma_viz.errors import LensError
from emma_viz.lens import load_lens, read_info
from emma_viz.lens.evaluation import quality_of
from emma_viz.lens.tuned import TunedHead, tuned_config
from emma_viz.models.presets import PRESETS
from emma_viz.session.catalogue import sizes_of
from emma_viz.session.fitting import choose_images
from emma_viz.session.options import LensRecipe
from tests.records.llava_set import records, talk
from training.loop.lens import round_to_half
from training.train import main
from training.vision_language.dry_run import (
    activations,
    component_sizes,
    memory,
    meta_task,
    report,
    saved_bytes,
)
from training.vision_language.finish import decodings
from training.vision_language.recipe import training_recipe


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Fourteen pictures, a copy of one, and a file that is none."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(14):
        sheet = np.kron(rng.integers(0, 256, (4, 4, 3)), np.ones((16, 16, 1))).astype(np.uint8)
        Image.fromarray(sheet).save(folder / f"{number:02}.png")
    shutil.copy(folder / "00.png", folder / "copy.png")
    (folder / "broken.png").write_bytes(b"none")
    return folder


@pytest.mark.parametrize("kind", ["ridge", "tuned"])
def test_one_command_makes_a_lens_of_a_run_directory(pair, pictures, tmp_path, capsys, kind):
    out = tmp_path / "made.lens"
    command = ["lens", "--model", str(pair.emma), "--data", str(pictures), "--kind", kind, "--out", str(out)]
    command += ["--vision", str(pair.vision), "--fit-images", "10", "--held-out", "4", "--steps", "2"]
    assert main([*command, "--batch-size", "4"]) == 0
    info = read_info(out)
    assert info.kind == kind
    assert (info.n_fit, info.n_heldout) == (10, 4)
    assert info.layers == (-1, 0, 1, 2)
    assert [each.layer for each in info.quality] == [-1, 0, 1, 2]
    assert all(np.isfinite(each.r2) for each in info.quality)
    printed = capsys.readouterr().out
    assert f"{info.quality[0].r2:.4f}" in printed
    assert load_lens(out).info == info
    if kind == "tuned":
        assert "2 steps of 4 images" in info.notes[0]


@pytest.mark.slow
def test_a_small_tuned_lens_in_half_precision_has_the_quality_that_it_says(pair, pictures, tmp_path):
    base = [
        "lens",
        "--model",
        str(pair.emma),
        "--data",
        str(pictures),
        "--kind",
        "tuned",
        "--vision",
        str(pair.vision),
    ]
    base += ["--fit-images", "10", "--held-out", "4", "--steps", "2", "--batch-size", "4"]
    small = ["--decoder-layers", "1", "--rank", "2", "--half"]
    assert main([*base, "--out", str(tmp_path / "large.lens")]) == 0
    assert main([*base, *small, "--out", str(tmp_path / "small.lens")]) == 0
    assert main([*base, *small, "--site", "mixer_out", "--out", str(tmp_path / "mixer.lens")]) == 0
    assert read_info(tmp_path / "mixer.lens").layers == (0, 1, 2)
    lens = load_lens(tmp_path / "small.lens")
    assert len(lens.head.head.decoder.layers) == 1
    assert len(load_lens(tmp_path / "large.lens").head.head.decoder.layers) == 4
    assert [tuple(each.down.weight.shape) for each in lens.head.translators] == [(2, 32)] * 4
    weights = load_file(tmp_path / "small.lens")
    del weights["emma_viz.fit_images"]  # hashes, as bytes
    assert {each.dtype for each in weights.values()} == {torch.float16}
    model = load_model(pair.emma, vision_source=str(pair.vision))
    images = [path for path in sorted(pictures.glob("*.png")) if path.stem.isdigit()]
    fitted = list(choose_images(pictures, None, LensRecipe(fit=10, held_out=4)).fit.values())
    held_out = [
        path
        for path in images
        if image_hash(read_image(path)) not in {image_hash(read_image(f)) for f in fitted}
    ]
    quality, count = quality_of(decodings(model, lens, held_out))
    assert count == 4
    for said, found in zip(lens.info.quality, quality, strict=True):
        assert found.r2 == pytest.approx(said.r2, abs=1e-4)


def test_what_half_precision_cannot_hold_is_refused(pair):
    head = TunedHead(tuned_config(width=16, patch=2, n_layers=2))
    head.mean[0, 3] = 1e5
    before = head.mean.clone()
    with pytest.raises(LensError, match=r"up to 65504; mean of this lens"):
        round_to_half(head)
    assert torch.equal(head.mean, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--decoder-layers", "0", "--kind", "tuned"],
            ">= 1 - at `decoder_layers` (--decoder-layers), got 0",
        ),
        (["--rank", "4"], "A ridge lens has no rank"),
    ],
)
def test_sizes_that_no_lens_has_are_refused_before_the_model_is_loaded(
    pair, pictures, tmp_path, capsys, options, message
):
    command = ["lens", "--model", str(pair.emma), "--data", str(pictures), "--out", str(tmp_path / "a.lens")]
    assert main([*command, *options]) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_lens_of_a_json_data_set_skips_what_is_broken(pair, llava, tmp_path, capsys):
    bad = [{"id": "x", "image": "absent.png", "conversations": talk("Q", "A.")}, {"id": "y"}]
    path = llava.write([*bad, *records()], "some.json")
    command = ["lens", "--model", str(pair.cobra), "--data", str(path), "--images", str(llava.images)]
    command += ["--vision", str(pair.vision), "--out", str(tmp_path / "a.lens"), "--fit-images", "4"]
    assert main([*command, "--held-out", "2", "--layers", "0", "2"]) == 0
    assert read_info(tmp_path / "a.lens").layers == (0, 2)
    assert main([*command, "--held-out", "3"]) == 1
    assert "has 6 different images that can be read; 7 are needed" in capsys.readouterr().err
    assert main([*command, "--held-out", "2", "--broken-limit", "0"]) == 1
    assert "at most 0 may be skipped" in capsys.readouterr().err


def test_a_lens_of_drawn_scenes(pair, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = [
        "lens",
        "--model",
        str(pair.emma),
        "--data",
        "tabletop",
        "--vision",
        str(pair.vision),
        "--layers",
        "0",
    ]
    command += ["--fit-images", "6", "--held-out", "3", "--out"]
    assert main([*command, "drawn.lens"]) == 0
    info = read_info(tmp_path / "drawn.lens")
    assert (info.fitted_on, info.n_fit, info.n_heldout) == ("tabletop scenes (train)", 6, 3)
    (tmp_path / "tabletop").mkdir()
    assert main([*command, "folder.lens"]) == 1


FULL_SIZE = [name for name in PRESETS if not {"tiny", "pocket", "photo"} & set(name.split("-"))]
"""All presets but those whose names call them small."""
BEGINS_WITH_ITS_IMAGE = [
    name for name in FULL_SIZE if name.startswith(("cobra", "emma-v", "ml-mamba", "vl-mamba"))
]


@pytest.mark.parametrize("name", FULL_SIZE)
def test_every_preset_at_full_size_has_the_papers_recipe(name):
    recipe = training_recipe(name)
    settings = recipe.lasting(steps_per_epoch=9500).settings()
    assert (settings.steps, settings.batch, settings.lr) == (19000, 128, 2e-5)
    assert (settings.weight_decay, settings.warmup, settings.final, settings.clip) == (0.1, 0.03, 0.0, 1.0)
    assert settings.betas == (0.9, 0.999)
    assert (recipe.precision, recipe.gradient_checkpointing) == ("bf16", True)
    assert recipe.objective.pixels == ("paper" if name.startswith("emma-v") else "none")


def test_small_presets_have_a_recipe_for_a_cpu():
    for name in PRESETS.keys() - set(FULL_SIZE):
        recipe = training_recipe(name)
        assert (recipe.lr, recipe.phases[0].batch, recipe.precision) == (2e-3, 8, "fp32"), name
    assert training_recipe("emma-v2-pocket").objective.pixels == "paper"


def test_an_ablation_is_trained_alike_as_a_preset_and_as_a_switch():
    preset, base = training_recipe("emma-v1-3b-csm"), training_recipe("emma-v1-3b")
    switch = replace(base, objective=base.objective.ablated(["csm"]))
    assert replace(preset.config(), model_id=base.config().model_id) == switch.config()
    assert replace(preset, model=base.model, objective=switch.objective) == switch


@pytest.mark.parametrize("name", BEGINS_WITH_ITS_IMAGE)
def test_a_dry_run_counts_every_preset_at_full_size(name):
    config, counts = PRESETS[name](), sizes_of(PRESETS[name]())
    parts = component_sizes(meta_task(training_recipe(name)))
    trained = {part.name: part.trained for part in parts if part.trained}
    assert (trained.pop("projector"), trained.pop("language model")) == (
        counts["projector"],
        counts["language model"],
    )
    assert set(trained) == ({"fusion", "decoder"} if config.taps else set())
    assert sum(part.frozen for part in parts) == counts["encoders"]


def test_a_dry_run_of_vl_mamba_is_of_the_papers_recipe(capsys):
    assert main(["joint", "--recipe", "vl-mamba-2.8b", "--dry-run", "--world-size", "8"]) == 0
    printed = capsys.readouterr().out
    assert "vl-mamba-2.8b, bf16, 8 processes" in printed
    assert "a step: 128 records = 8 processes × 16 parts × at most 1" in printed


def test_a_dry_run_of_an_attention_model_reckons_with_its_own_blocks(capsys):
    assert main(["joint", "--recipe", "tiny-llava", "--dry-run"]) == 0
    assert "activations" in capsys.readouterr().out
    recipe, task = training_recipe("tiny-llava"), meta_task(training_recipe("tiny-llava"))
    mamba = training_recipe("tiny-cobra")
    assert 0 < activations(recipe, task, text=50) != activations(mamba, meta_task(mamba), text=50)


def test_what_has_text_before_its_image_is_not_trained_as_if_it_had_none(llava, tmp_path, capsys):
    assert [name for name in FULL_SIZE if lead(PRESETS[name]().prompt_style)] == [
        name for name in FULL_SIZE if name not in BEGINS_WITH_ITS_IMAGE
    ]
    for options in (["--dry-run"], [*llava.options]):
        command = ["joint", "--recipe", "tiny-mobilevlm-v2", "--work", str(tmp_path / "run"), *options]
        assert main(command) == 1
        assert "tiny-mobilevlm-v2 has text before it (vicuna prompts)" in capsys.readouterr().err


def test_a_dry_run_counts_the_full_size_parameters():
    parts = {part.name: part for part in component_sizes(meta_task(training_recipe("emma-v1-3b")))}
    assert parts["language model"].trained == 2_768_345_600
    assert parts["projector"].trained == 47_789_568
    assert parts["fusion"].trained == pytest.approx(266e6, rel=0.01)
    assert parts["decoder"].trained == pytest.approx(174e6, rel=0.01)
    assert parts["encoder dinov2"].trained == parts["encoder siglip"].trained == 0
    assert parts["encoder dinov2"].frozen + parts["encoder siglip"].frozen == pytest.approx(731e6, rel=0.01)


@pytest.mark.slow
def test_memory_is_shared_by_fsdp_and_not_by_ddp():
    recipe = training_recipe("tiny-emma-v1")
    task = meta_task(recipe)
    trained = sum(part.trained for part in component_sizes(task))
    outside = trained - sum(each.numel() for each in task.vlm.llm.backbone.layers.parameters())

    def of(world, sharded):
        return memory(recipe, meta_task(recipe), world=world, sharded=sharded, text=50)

    assert of(1, False).optimizer == of(8, False).optimizer == 8 * trained
    assert of(8, True).optimizer == trained
    assert of(8, True).total < of(8, False).total
    # Outside the blocks the gradient is whole until the backward pass ends.
    assert 4 * outside < of(8, True).gradients - 4 * trained / 8 < 4 * trained
    assert of(8, False).weights >= 4 * trained


def test_saved_bytes_are_what_autograd_keeps():
    layer = torch.nn.Linear(5, 7)
    assert saved_bytes(layer, lambda: layer(torch.randn(3, 5, requires_grad=True))) == 3 * 5 * 4
    both = torch.nn.Sequential(layer, torch.nn.Tanh())
    assert saved_bytes(both, lambda: both(torch.randn(3, 5, requires_grad=True))) == 3 * 5 * 4 + 3 * 7 * 4


def test_checkpointing_and_small_parts_need_less():
    recipe = training_recipe("tiny-cobra")
    plain = activations(recipe, meta_task(recipe), text=50)
    saving = replace(recipe, gradient_checkpointing=True)
    assert activations(saving, meta_task(saving), text=50) < plain
    half = replace(recipe, micro=recipe.micro // 2)
    assert activations(half, meta_task(half), text=50) == plain / 2


def test_the_dry_run_command_counts_steps_and_tokens(llava, tmp_path, capsys):
    command = ["joint", "--recipe", "tiny-cobra", *llava.options, "--work", str(tmp_path), "--dry-run"]
    assert main([*command, "--world-size", "2", "--batch", "4", "--epochs", "3"]) == 0
    printed = capsys.readouterr().out
    assert "data: 16 records, 12 with an image, 0 left out" in printed
    assert "steps: 12 (3 epochs of 4)" in printed
    assert "2 processes" in printed
    assert not (tmp_path / "model").exists()
    assert main(["joint", "--recipe", "tiny-cobra", "--dry-run"]) == 0
    assert "pass --data for steps and tokens" in capsys.readouterr().out
    assert set(PRESETS) >= {"cobra-3b", "emma-v1-3b", "emma-v2-3b"}
    assert "language model" in report(training_recipe("tiny-cobra"), world=1)
