"""The joint stage: its start, its batches, its losses, its phases and scores."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from einops import rearrange
from torch import nn

from emma_viz.data.tabletop import (
    make_scene,
    questions,
    stream,
)
from emma_viz.errors import TrainingError
from emma_viz.models.config import MambaConfig
from emma_viz.models.families.cobra import cobra_pocket
from emma_viz.models.families.emma import emma_v1_pocket
from emma_viz.models.families.llava import llava_pocket
from emma_viz.models.language_model import MambaLM
from training.loop.config import Optimisation
from training.loop.run import make_optimizer
from training.pocket.joint import asked_of_scene, new_task, train_joint
from training.pocket.scores import read_scores
from training.pocket.text import start_remembering
from training.pocket.tokenizer import VOCABULARY
from training.vision_language.batch import (
    BatchImages,
    ForkedBatch,
    Forks,
    TrainingBatch,
    collate,
    encode_conversation,
    known_images,
    make_forks,
)
from training.vision_language.forks import pool_patches, pool_tokens, run_forks, run_prefix, tapped
from training.vision_language.objective import Objective
from training.vision_language.recipe import Phase, Recipe
from training.vision_language.scene_batches import SceneBatches

FEATURES = torch.randn(2, 256, 96, generator=torch.Generator().manual_seed(0))
PHASES = (Phase(steps=4, batch=2, captions=True, pooled=True), Phase(steps=2, batch=2))


def small(model):
    taps = (1, 2) if model.taps else ()
    return replace(model, llm=MambaConfig(d_model=32, n_layer=4, vocab_size=VOCABULARY, d_state=4), taps=taps)


def recipe(**changes):
    return Recipe(**{"model": "x", "phases": PHASES, "lr": 1e-3, "save_every": 2, **changes})


def start(model, *, fusion=True, weight=1.0):
    config = small(model)
    settings = recipe(objective=Objective(weight=weight)).of_member("x", config, seed=0, fusion=fusion)
    return new_task(settings, config, features=FEATURES)


def forks_of(tokenizer, n=2):
    turns = [(i, turn) for i in range(n) for turn in questions(make_scene("train", i), stream("train", i, 2))]
    return make_forks(turns, tokenizer, "in-out")


@pytest.mark.parametrize("ssm", ["mamba1", "mamba2"])
def test_forked_questions_equal_questions_behind_their_own_image(tokenizer, ssm):
    torch.manual_seed(0)
    config = MambaConfig(d_model=32, n_layer=3, vocab_size=VOCABULARY, d_state=8, ssm=ssm, headdim=16)
    model = MambaLM(config)
    forks = forks_of(tokenizer)
    image = torch.randn(2, 20, 32, requires_grad=True)
    weights = torch.randn(200, 32)

    def values(pieces):
        hidden = torch.cat([piece.flatten(0, 1) for piece in pieces])
        return hidden, (hidden * weights.repeat(len(hidden) // 200 + 1, 1)[: len(hidden)]).sum()

    _, states = run_prefix(model.backbone, image)
    forked, loss = values([after for after, _ in run_forks(model.backbone, states, forks)])
    gradient = torch.autograd.grad(loss, [image, model.backbone.layers[0].mixer.in_proj.weight])
    pieces = []
    for part in forks:
        whole = torch.cat([image[part.owners], model.embed(part.text.ids)], dim=1)
        pieces.append(model.backbone(whole)[:, 20:])
    apart, loss = values(pieces)
    expected = torch.autograd.grad(loss, [image, model.backbone.layers[0].mixer.in_proj.weight])
    torch.testing.assert_close(forked, apart, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(gradient, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * theirs.abs().max().item())


def test_forks_keep_the_order_and_owner_of_their_questions(tokenizer):
    turns = [(i, t) for i in (0, 1) for t in questions(make_scene("train", i), stream("train", i, 2))]
    forks = make_forks(turns, tokenizer, "in-out")
    assert sorted(number for part in forks for number in part.order) == list(range(len(turns)))
    for part in forks:
        for row, (owner, number) in enumerate(zip(part.owners.tolist(), part.order, strict=True)):
            assert owner == turns[number][0]
            text = tokenizer.decode(part.text.ids[row, : part.text.lengths[row]].tolist(), skip_special=False)
            assert text == f"In: {turns[number][1].question}\nOut: {turns[number][1].answer}<|endoftext|>"


def test_small_models_start_with_states_that_last():
    for ssm in ("mamba1", "mamba2"):
        torch.manual_seed(0)
        config = MambaConfig(d_model=32, n_layer=2, vocab_size=64, d_state=8, ssm=ssm, headdim=16)
        model, plain = MambaLM(config), MambaLM(config)
        plain.load_state_dict(model.state_dict())
        start_remembering(model)
        for ours, theirs in zip(model.backbone.layers, plain.backbone.layers, strict=True):
            torch.testing.assert_close(ours.mixer.A_log.exp() * 16, theirs.mixer.A_log.exp())
            bias = ours.mixer.dt_proj.bias if ssm == "mamba1" else ours.mixer.dt_bias
            steps = nn.functional.softplus(bias)
            assert steps.min() >= 0.0099
            assert steps.max() <= 0.1001


def test_the_projector_can_be_slower_than_the_rest():
    task = start(cobra_pocket())
    settings = Optimisation(steps=6, batch=2, lr=1e-3, slower=(("vlm.projector.", 0.1),))
    shares = {
        id(p): group["share"]
        for group in make_optimizer(task, settings).param_groups
        for p in group["params"]
    }
    for name, parameter in task.named_parameters():
        if parameter.requires_grad:
            assert shares[id(parameter)] == (0.1 if name.startswith("vlm.projector.") else 1.0), name


def test_a_fresh_projector_gives_the_image_its_share_of_a_token():
    task = start(cobra_pocket())
    content = task.vlm.projector.projector(FEATURES)
    assert content.flatten(0, 1).std(0).mean().item() == pytest.approx(1.0, rel=1e-3)
    rows = task.vlm.projector.row.detach()
    assert rows.std().item() == pytest.approx(cobra_pocket().projector.position_std, rel=0.35)
    assert torch.linalg.matrix_rank(rows, rtol=1e-4) == 3


def test_phases_follow_each_other_and_are_the_length_of_the_run():
    made = recipe()
    assert [made.phase_of(step) for step in range(6)] == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)]
    assert (made.settings().steps, made.settings().batch) == (6, 2)
    with pytest.raises(TrainingError, match="1 steps before"):
        made.phase_of(6)
    epochs = recipe(phases=(Phase(epochs=2, batch=8), PHASES[1]))
    with pytest.raises(TrainingError, match=r"Recipe\.lasting"):
        epochs.settings()
    assert epochs.lasting(5).settings().steps == 12
    for both in ({}, {"steps": 1, "epochs": 1}):
        with pytest.raises(TrainingError, match="either steps"):
            Phase(batch=1, **both)


@pytest.mark.parametrize("stopped", [2, 6])
def test_scores_that_a_stop_kept_from_being_asked_are_asked_by_the_run_that_resumes(
    tokenizer, tmp_path, stopped
):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 128, 128, 3), dtype=np.uint8)
    features = rng.normal(size=(4, 256, 96)).astype(np.float32)
    settings, at = recipe(), tmp_path / f"b/step-{stopped:06d}.pt"

    def run(folder):
        task = start(cobra_pocket())

        def asked(_):
            """A number of these weights, in place of answers, of which so short a run has none right."""
            if at.exists() and not resumes:
                raise KeyboardInterrupt
            found = sum(p.double().abs().sum().item() for p in task.vlm.parameters())
            return {"weights": {"accuracy": found}}

        batches = SceneBatches(
            recipe=settings,
            style="in-out",
            tokenizer=tokenizer,
            count=4,
            shown=partial(known_images, images, features, patch=8),
            asked=lambda phase, number, epoch: asked_of_scene(settings.phases[phase], number, epoch),
        )
        train_joint(batches, task, folder, data={}, ask=asked, score_every=2, progress=False)
        return task

    def scores(folder):
        return [(each["step"], each["accuracy"]) for each in read_scores(folder)]

    whole, resumes = run(tmp_path / "a"), False
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b")
    assert scores(tmp_path / "b") == scores(tmp_path / "a")[: stopped // 2 - 1]
    resumes = True
    again = run(tmp_path / "b")
    assert [step for step, _ in scores(tmp_path / "a")] == [2, 4, 6]
    assert scores(tmp_path / "b") == scores(tmp_path / "a")
    assert all(map(torch.equal, again.state_dict().values(), whole.state_dict().values()))


def test_cobra_and_emma_start_equal():
    cobra, emma = (start(m()) for m in (cobra_pocket, emma_v1_pocket))
    assert cobra.head is None
    assert emma.head is not None
    for (name, left), right in zip(cobra.vlm.named_parameters(), emma.vlm.parameters(), strict=True):
        assert torch.equal(left, right), name


def batch_of(features=96, n=2):
    torch.manual_seed(1)
    features, patches = torch.randn(n, 256, features), torch.rand(n, 256, 8, 8, 3)
    return BatchImages(
        pixels=None, features=features, patches=patches, usable=torch.ones(n, dtype=torch.bool)
    )


def loss_of(task, images, forks, *, pooled):
    batch = ForkedBatch(images=images, forks=forks, pooled=pooled)
    return task(batch, labels=batch.n_labels, images=len(images.usable))


@pytest.mark.parametrize("pooled", [True, False])
def test_losses_reach_the_parts_that_they_train(tokenizer, pooled):
    task = start(emma_v1_pocket())
    loss, numbers = loss_of(task, batch_of(), forks_of(tokenizer), pooled=pooled)
    assert loss.item() == pytest.approx((numbers["text"] + numbers["pixels"]).item(), rel=1e-5)
    loss.backward()
    moved = {
        name.split(".")[0] + "." + name.split(".")[1]
        for name, p in task.named_parameters()
        if p.grad is not None
    }
    assert moved == {"vlm.projector", "vlm.llm", "head.fusion", "head.decoder"}
    cobra = start(cobra_pocket())
    loss, numbers = loss_of(cobra, batch_of(), forks_of(tokenizer), pooled=pooled)
    assert "pixels" not in numbers
    assert loss.item() == numbers["text"].item()


@pytest.mark.parametrize("pooled", [True, False])
def test_attention_takes_the_same_steps(tokenizer, pooled):
    """The pocket LLaVA through the road of the others: its loss falls, and forked questions read their own image."""
    llm = replace(llava_pocket().llm, d_model=32, n_layer=3, q_heads=4, kv_heads=4, mlp_width=48)
    config = replace(llava_pocket(), llm=llm)
    task, images, text = new_task(recipe(), config, features=FEATURES), batch_of(), forks_of(tokenizer)
    optimizer = torch.optim.AdamW(task.parameters(), lr=3e-3)
    losses = []
    for _ in range(16):
        loss, numbers = loss_of(task, images, text, pooled=pooled)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert "pixels" not in numbers
    assert losses[-1] < 0.8 * losses[0]
    assert all(p.grad.any() for name, p in task.vlm.llm.named_parameters())
    with torch.no_grad():
        other = replace(images, features=images.features.flip(0))
        swapped, own = (loss_of(task, each, text, pooled=pooled)[0].item() for each in (other, images))
        assert swapped != own


def test_conversations_that_share_an_image_have_the_loss_of_those_behind_copies_of_it(tokenizer):
    task, images = start(emma_v1_pocket()), batch_of()
    whole = collate(
        [
            encode_conversation([(turn.question, turn.answer)], tokenizer, "in-out")
            for index in range(2)
            for turn in questions(make_scene("train", index), stream("train", index, 2))[:3]
        ],
        tokenizer.pad_id,
    )
    owners = torch.arange(6) // 3
    copies = replace(
        images, features=images.features[owners], patches=images.patches[owners], usable=images.usable[owners]
    )
    apart = TrainingBatch(text=whole, images=copies)
    shared = ForkedBatch(
        images=images, forks=(Forks(owners=owners, order=tuple(range(6)), text=whole),), pooled=False
    )
    assert apart.n_labels == shared.n_labels
    expected, _ = task(apart, labels=apart.n_labels, images=6)
    found, _ = task(shared, labels=shared.n_labels, images=2)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    gradients = [torch.autograd.grad(each, task.vlm.projector.row)[0] for each in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4 * gradients[1].abs().max().item())


def test_pixel_weight_scales_the_pixel_loss_alone(tokenizer):
    one, two = (start(emma_v1_pocket(), weight=w) for w in (1.0, 3.0))
    text = forks_of(tokenizer)
    (a, n), (b, _) = (loss_of(task, batch_of(), text, pooled=True) for task in (one, two))
    assert (b - a).item() == pytest.approx(2 * n["pixels"].item(), rel=1e-4)


def test_taps_are_mixer_outputs_and_the_final_state_and_hooks_go():
    task = start(emma_v1_pocket())
    with tapped(task.vlm) as taps:
        out = task.vlm(features=batch_of().features, logits="none")
    assert len(taps) == 3
    assert torch.equal(taps[-1], out.hidden)
    assert not any(module._forward_hooks for module in task.vlm.modules())


@pytest.mark.parametrize("fusion", [True, False])
def test_a_head_without_fusion_decodes_the_last_state_alone(fusion):
    task = start(emma_v1_pocket(), fusion=fusion)
    assert task.head is not None
    assert len(task.head.fusion.blocks) == (2 if fusion else 0)
    with torch.no_grad(), tapped(task.vlm) as taps:
        task.vlm(features=FEATURES, logits="none")
        decoded = task.head(taps)
        # Another image's states at one tap, the others as they were.
        changed = [task.head([*taps[:i], taps[i].flip(0), *taps[i + 1 :]]) for i in range(3)]
    assert [not torch.equal(other, decoded) for other in changed] == [fusion, fusion, True]


def test_pooling_averages_neighbours_in_space():
    plane = torch.arange(16.0).reshape(1, 16, 1)
    assert pool_tokens(plane, (4, 4)).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    image = torch.rand(1, 16, 16, 3)
    patches = rearrange(image, "B (R p) (C q) c -> B (R C) p q c", p=4, q=4)
    small_image = rearrange(image, "B (h a) (w b) c -> B h w c a b", a=2, b=2).mean((-1, -2))
    wanted = rearrange(small_image, "B (R p) (C q) c -> B (R C) p q c", p=4, q=4)
    torch.testing.assert_close(pool_patches(patches, (4, 4)), wanted)


def test_batches_gather_the_scenes_that_were_asked_for():
    images = np.arange(3 * 16 * 16 * 3, dtype=np.int64).reshape(3, 16, 16, 3).astype(np.uint8)
    features = np.arange(3 * 4 * 5, dtype=np.float16).reshape(3, 4, 5)
    numbers = np.array([2, 0])
    batch = known_images(images, features, numbers, patch=8)
    assert torch.equal(batch.features, torch.from_numpy(features[[2, 0]]).float())
    assert torch.equal(batch.patches[0, 1], torch.from_numpy(images[2, :8, 8:]).float() / 255)
