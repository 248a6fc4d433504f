"""Losses and ablations: each switch changes what its name says, and a run with it learns."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from emma_viz.errors import InputError, TrainingError
from emma_viz.heads.losses import feature_loss, paper_loss, released_loss
from emma_viz.models.presets import PRESETS
from emma_viz.models.vlm import VLM
from emma_viz.records.complaints import Complaints
from emma_viz.records.llava import IGNORE
from emma_viz.records.tables import open_records
from training.loop.config import Optimisation
from training.loop.run import Run
from training.vision_language.batches import ShareMaker
from training.vision_language.forks import tapped
from training.vision_language.losses import text_loss
from training.vision_language.objective import ABLATIONS, Objective, head_config, model_config
from training.vision_language.plan import BatchPlan
from training.vision_language.task import VisionLanguageTask

PAPER = Objective(pixels="paper")
SWITCHES = {
    "text": Objective(pixels="none"),
    "paper": PAPER,
    "released": Objective(pixels="released", weight=5.0),
    "mff": PAPER.ablated(["mff"]),
    "la": PAPER.ablated(["la"]),
    "avf": PAPER.ablated(["avf"]),
    "csm": PAPER.ablated(["csm"]),
    "pal": PAPER.ablated(["pal"]),
}


def config_of(llava, objective):
    config = llava.config()
    if objective.pixels == "released":  # its decoder regroups 3×3 patches
        towers = tuple(replace(tower, image_size=84) for tower in config.vision.towers)
        config = replace(config, vision=replace(config.vision, towers=towers))
    return model_config(config, objective)


def new_task(llava, objective, seed=0):
    torch.manual_seed(seed)
    return VisionLanguageTask(VLM(config_of(llava, objective), backend="torch"), objective)


def maker(llava, task, tmp_path, batch=4, **changes):
    found = open_records(llava.data, llava.images, llava.rules(), tmp_path, broken_limit=0)
    rows = np.arange(len(found))
    settings = {
        "records": found,
        "plan": BatchPlan(rows, found.columns["tokens"], found.has_image, batch=batch, seed=0),
        "rules": llava.rules(),
        "config": task.vlm.config,
        "rank": 0,
        "world": 1,
        "micro": batch,
        "patches": task.head is not None and not task.objective.features,
        "cache": None,
        "complaints": Complaints(0, where="x"),
    }
    return ShareMaker(**{**settings, **changes})


def with_images(shares):
    return next(share for share in map(shares.share_of, range(9)) if share.images)


def of_a_switch(llava, tmp_path, name):
    """A task, a share of a step that holds images, and its one batch."""
    task = new_task(llava, SWITCHES[name])
    share = with_images(maker(llava, task, tmp_path))
    (batch,) = share.parts
    return task, share, batch


def shapes(module):
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


@pytest.mark.parametrize("name", SWITCHES)
def test_the_losses_of_a_switch_are_those_of_its_name(llava, tmp_path, name):
    task, share, batch = of_a_switch(llava, tmp_path, name)
    loss, numbers = task(batch, labels=share.labels, images=share.images)
    features = task.vlm.vision(batch.images.pixels)
    with tapped(task.vlm) as taps:
        hidden = task.vlm(features=features, input_ids=batch.text.ids, logits="none").hidden
    n_image = task.vlm.n_image_tokens
    total, right = text_loss(hidden[:, n_image:], task.vlm.llm.lm_head.weight, batch.text.labels)
    text, accuracy = total / share.labels, float(right) / share.labels
    assert numbers["text"].item() == pytest.approx(text.item(), rel=1e-4)
    assert float(numbers["accuracy"]) == pytest.approx(accuracy)
    if name in ("text", "pal"):
        assert task.head is None
        assert numbers.keys() == {"text", "accuracy", "tokens"}
        assert loss.item() == pytest.approx(text.item(), rel=1e-4)
        return
    out = task.head([tap[:, :n_image] for tap in taps])
    if name == "avf":
        wanted = feature_loss(out, features, widths=[tower.width for tower in task.vlm.config.vision.towers])
    elif name == "released":
        target = task.head.embedding.target_of_patches(batch.images.patches)
        wanted = released_loss(out, target) / share.images
    else:
        wanted = paper_loss(out, batch.images.patches)
    pixels = numbers["features" if name == "avf" else "pixels"].item()
    assert pixels == pytest.approx(wanted.item(), rel=1e-4)
    assert loss.item() == pytest.approx(text.item() + SWITCHES[name].weight * pixels, rel=1e-4)


@pytest.mark.parametrize("name", SWITCHES)
def test_parameters_in_bf16_meet_batches_and_residuals_in_fp32(llava, tmp_path, name):
    """As FSDP2 computes in bf16, without autocast."""
    task, share, batch = of_a_switch(llava, tmp_path, name)
    exact, _ = task(batch, labels=share.labels, images=share.images)
    for parameter in task.parameters():
        parameter.data = parameter.data.bfloat16()
    loss, _ = task(batch, labels=share.labels, images=share.images)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=0.05)
    loss.backward()


def test_a_switch_leaves_what_it_does_not_concern(llava):
    base = new_task(llava, PAPER)
    other = {name: new_task(llava, SWITCHES[name]) for name in ("mff", "la", "avf", "csm", "pal")}
    for name, task in other.items():
        mine, theirs = shapes(base), shapes(task)
        gone, new = mine.keys() - theirs.keys(), theirs.keys() - mine.keys()
        changed = {key for key in mine.keys() & theirs.keys() if mine[key] != theirs[key]}
        if name == "mff":
            assert gone
            assert all(key.startswith("head.fusion.") for key in gone)
            assert not new | changed
        elif name == "la":
            assert not gone | new | changed
            assert task.head.config.fusion.attention == "linear"
        elif name == "avf":
            assert not gone | new
            assert all(key.startswith("head.decoder.") for key in changed)
            assert changed
        elif name == "csm":
            assert new
            assert all(key.startswith("vlm.projector.scan.") for key in new)
            assert not gone | changed
        else:
            assert all(key.startswith("head.") for key in gone)
            assert gone
            assert not new | changed
        for key, value in base.vlm.state_dict().items():
            assert torch.equal(value, task.vlm.state_dict()[key]), (name, key)


@pytest.mark.slow
@pytest.mark.parametrize("name", SWITCHES)
def test_the_loss_of_a_switch_falls(llava, tmp_path, name):
    task = new_task(llava, SWITCHES[name])
    share = with_images(maker(llava, task, tmp_path / "table"))
    settings = Optimisation(steps=20, batch=4, lr=4e-3, save_every=100)
    run = Run(task, settings, tmp_path / "run", title=name)
    values: list[dict] = []
    step_of = run._step
    run._step = lambda step, parts: values.append(step_of(step, parts)) or values[-1]  # ty: ignore
    before = {key: value.clone() for key, value in task.vlm.vision.state_dict().items()}
    run.train(lambda step: share.losses(run.module, run.engine), progress=False)
    extra = [key for key in ("pixels", "features") if any(key in line for line in values)]
    assert bool(extra) == (name not in ("text", "pal"))
    for key in ["text", *extra]:
        found = [line[key] for line in values]
        assert found[-1] < 0.9 * found[0], key
    for key, value in task.vlm.vision.state_dict().items():
        assert torch.equal(value, before[key]), "the encoders are frozen"


def test_steps_without_images_leave_projector_and_head_alone(llava, tmp_path):
    task = new_task(llava, PAPER)
    shares = maker(llava, task, tmp_path)
    share = next(share for share in map(shares.share_of, range(9)) if not share.images)
    loss, numbers = task(share.parts[0], labels=share.labels, images=0)
    loss.backward()
    assert "pixels" not in numbers
    moved = {name.split(".")[1] for name, p in task.named_parameters() if p.grad is not None}
    assert moved == {"llm"}


def test_the_parts_of_a_step_add_up(llava, tmp_path):
    task = new_task(llava, PAPER)
    whole, parts = (maker(llava, task, tmp_path, micro=micro) for micro in (4, 1))
    gradients = []
    for shares in (whole, parts):
        share = with_images(shares)
        task.zero_grad(set_to_none=True)
        losses = [task(part, labels=share.labels, images=share.images)[0] for part in share.parts]
        sum(losses).backward()
        gradients.append([p.grad.clone() for p in task.parameters() if p.grad is not None])
    assert len(with_images(whole).parts) == 1
    assert len(with_images(parts).parts) == 4
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_an_image_that_cannot_be_read_has_no_loss_and_is_named(llava, tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(llava.images, folder)
    task = new_task(llava, PAPER)
    found = open_records(llava.data, folder, llava.rules(), tmp_path, broken_limit=0)
    complaints = Complaints(2, where="the set")
    shares = maker(llava, task, tmp_path, records=found, complaints=complaints)
    good = [share for share in map(shares.share_of, range(4)) if share.images]
    (folder / "0.png").write_bytes(b"no picture")
    bad = [share for share in map(shares.share_of, range(4)) if share.images]
    assert len(complaints) == 2
    assert all("0.png" in message for message in complaints.messages)
    assert sum(share.images for share in good) - sum(share.images for share in bad) == 2
    share = next(share for share in bad if share.images < 4)
    (batch,) = share.parts
    silent = (~batch.images.usable).nonzero()[:, 0]
    assert (batch.text.labels[silent] == IGNORE).all()
    loss, _ = task(batch, labels=share.labels, images=share.images)
    loss.backward()
    assert all(p.grad.isfinite().all() for p in task.parameters() if p.grad is not None)
    strict = maker(llava, task, tmp_path, records=found, complaints=Complaints(1, where="the set"))
    with pytest.raises(TrainingError, match="the set has 2 records"):
        [strict.share_of(step) for step in range(4)]


def test_switches_that_exclude_each_other_are_refused(llava, unchecked):
    for wrong, sentence in (
        ({"pixels": "none", "fusion": False}, "fusion=False changes the paper's"),
        ({"pixels": "released", "features": True}, "features changes the paper's"),
        ({"pixels": "paper", "fusion": False, "linear_attention": True}, "choose one"),
        ({"pixels": "paper", "weight": 0.0}, "> 0.0.*weight.*got 0.0"),
        ({"pixels": "both"}, "must be paper, released or none"),
    ):
        with pytest.raises(TrainingError, match=sentence):
            Objective(**wrong)
    with pytest.raises(TrainingError, match="tiny-cobra has no taps"):
        model_config(PRESETS["tiny-cobra"](), PAPER)
    with pytest.raises(InputError, match="multiples of 3"):
        head_config(PRESETS["tiny-emma-v1"](), Objective(pixels="released"))
    pocket = model_config(PRESETS["emma-v1-pocket"](), Objective(pixels="released"))
    with pytest.raises(TrainingError, match="no SigLIP"):
        head_config(pocket, Objective(pixels="released"))
    assert set(ABLATIONS) == {"pal", "mff", "la", "avf", "csm"}
