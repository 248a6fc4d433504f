import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from emma_viz.capture import record
from emma_viz.checkpoints import BUNDLED, load_model
from emma_viz.checkpoints.tokenizers import BUNDLED_TOKENIZER
from emma_viz.data.tabletop import DESCRIBE, draw_scene, make_scene
from emma_viz.errors import TrainingError
from emma_viz.lens import load_lens
from emma_viz.maps import decode
from emma_viz.models.language_model import MambaLM
from emma_viz.models.towers.pocket import PocketEncoder
from training.loop.checkpoints import trained_state
from training.loop.config import as_record
from training.loop.run import make_optimizer
from training.pocket.bundle import bundle_family, take_start
from training.pocket.joint import new_task, train_joint
from training.pocket.recipes import FAMILIES, family_of
from training.pocket.stages import Work, finished, keep, text_file, train_members
from training.train import main


@pytest.fixture(scope="module")
def bundle(work, tmp_path_factory):
    return bundle_family(work, ("tiny",), tmp_path_factory.mktemp("bundle"), command="a test")


@pytest.mark.slow
def test_the_tiny_recipe_runs_and_its_loss_falls(work):
    lines = [json.loads(line) for line in (work.folder / "joint/tiny/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(60))

    def mean(name, part):
        return sum(line[name] for line in part) / len(part)

    assert mean("text", lines[-10:]) < 0.7 * mean("text", lines[:10])
    assert mean("pixels", lines[-10:]) < mean("pixels", lines[:10])


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["encoder", "text", "joint/tiny"])
def test_every_stage_leaves_its_numbers(work, stage):
    folder = work.folder / (f"text-{work.config.llm_backbone_id}" if stage == "text" else stage)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(list((folder / "tensorboard").glob("events*"))) == 1
    for line in lines:
        assert {"step", "loss", "lr", "grad_norm"} <= line.keys()
        if stage != "encoder":
            assert line["tokens/s"] == pytest.approx(line["tokens"] / line["seconds"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["encoder", "text", "joint"])
def test_checkpoints_of_a_stage_name_its_whole_recipe(work, stage):
    places = {"text": f"text-{work.config.llm_backbone_id}", "joint": "joint/tiny"}
    newest = max((work.folder / places.get(stage, stage)).glob("step-*.pt"))
    identity = torch.load(newest, weights_only=True)["identity"]
    if stage == "joint":
        recipe = work.recipe.of_member("tiny")
        free = ("micro", "gradient_checkpointing", "save_every")
        whole = {name: value for name, value in recipe.record().items() if name not in free}
        whole |= {"steps": 60, "batch": 4, "scenes": 64}
    else:
        recipe = getattr(work.recipe, stage)
        whole = {**recipe.optimisation.identity(), **as_record(recipe)}
    assert identity == json.loads(json.dumps(whole))


@pytest.mark.slow
def test_a_stage_does_not_resume_by_another_recipe(work, tmp_path):
    recipe, task = work.recipe.of_member("tiny"), work.start("tiny")
    shutil.copytree(work.run_folder("tiny", 0), tmp_path / "run")
    other = replace(recipe, objective=replace(recipe.objective, weight=2.0))
    given = {"data": {"scenes": 64}, "ask": lambda _: {}, "score_every": 30}
    with pytest.raises(TrainingError, match=r"is from another run \(objective.weight 1.0, now 2.0\)"):
        train_joint(work.batches(other, task.vlm.config), task, tmp_path / "run", **given)
    with pytest.raises(TrainingError, match="multiple of save_every"):
        train_joint(
            work.batches(recipe, task.vlm.config), task, tmp_path / "run", **(given | {"score_every": 40})
        )


def older(identity):
    """A run of scenes in the words that it had before one recipe served all data."""
    from_today = {name: identity[name] for name in ("model", "phases", "scenes")}
    settings = {
        name: value for name, value in identity.items() if name not in (*from_today, "objective", "precision")
    }
    recipe = {"optimisation": {**settings, "slower": [], "save_every": 30}, "pixel_weight": 1.0}
    recipe |= {"projector_rate": 0.1, "score_every": 30, "scored_scenes": 8}
    return {**settings, **from_today, **recipe}


@pytest.mark.slow
def test_a_run_that_began_in_older_words_goes_on(work, tmp_path, caplog):
    folder, task = tmp_path / "run", work.start("tiny")
    shutil.copytree(work.run_folder("tiny", 0), folder)
    (folder / "step-000030.pt").unlink()
    state = torch.load(folder / "step-000060.pt", weights_only=True)

    def goes_on(identity):
        torch.save({**state, "identity": identity}, folder / "step-000060.pt")
        batches = work.batches(work.recipe.of_member("tiny"), task.vlm.config)
        given = {"data": {"scenes": 64}, "ask": lambda _: {}, "score_every": 30}
        return train_joint(batches, task, folder, **given)

    began = older(state["identity"])
    assert goes_on(began) == pytest.approx(state["minutes"], abs=0.1)
    for name, value in trained_state(task)["module"].items():
        assert torch.equal(value, state["module"][name]), name
    assert "kept objective.fusion, objective.pixels; that" in caplog.text
    for name, value in {"pixel_weight": 2.0, "projector_rate": 0.5, "scenes": 65}.items():
        with pytest.raises(TrainingError, match="is from another run"):
            goes_on({**began, name: value})


@pytest.mark.slow
def test_a_finished_member_is_read_and_not_trained_again(work):
    before = (work.folder / "tiny.safetensors").stat().st_mtime_ns
    task = work.joint("tiny", progress=False)
    assert (work.folder / "tiny.safetensors").stat().st_mtime_ns == before
    assert not task.training
    text = f"text-{work.config.llm_backbone_id}"
    assert all(work.record(stage).minutes >= 0 for stage in ("encoder", text, "tiny"))


@pytest.mark.slow
def test_the_bundle_loads_answers_and_decodes(work, bundle):
    model = load_model(
        bundle / "tiny",
        vision_source=bundle / "pocket-conv-128px.safetensors",
        tokenizer_source=bundle / "tokenizer.json",
    )
    image = draw_scene(make_scene("test", 0)).image
    trace = record(model, image, DESCRIBE, layers=[-1, 0, 3], max_new_tokens=4)
    assert len(trace.answers) == 1
    ridge = load_lens(model, "ridge")
    assert ridge.info.layers == (-1, 0, 1, 2, 3)
    assert ridge.info.n_heldout == 8
    decoding = decode(trace, ridge)
    error = np.square(decoding.patches[0] - decoding.true).mean()
    assert error < 0.5 * np.square(decoding.true - decoding.true.mean()).mean(), (
        "behind the projector the image is there"
    )
    tuned = load_lens(model, "tuned").info
    assert (tuned.layers, tuned.n_fit, tuned.n_heldout) == (ridge.info.layers, 16, 8)
    native = load_lens(model, "native")
    assert native.tap_layers == (1, 2, 3)
    kept = json.loads((bundle / "tiny" / "config.json").read_text())["emma_viz"]["provenance"]
    assert [phase["steps"] for phase in kept["joint"]["phases"]] == [20, 20, 20]
    assert kept["seed"] == kept["joint"]["seed"] == 0
    assert kept["data"]["digest"] == work.scenes("train", 64).digest
    assert {"commit", "tokenizer", "minutes", "text", "encoder", "torch"} <= kept.keys()
    assert kept["trained_at"] == dict.fromkeys(("encoder", "text", "joint"), kept["commit"])


@pytest.mark.slow
def test_another_work_folder_starts_from_a_bundle_to_the_bit(work, bundle, tmp_path):
    other = Work(tmp_path, "tiny")
    take_start(other, bundle)
    take_start(other, bundle)
    for name in (f"text-{work.config.llm_backbone_id}.safetensors", "tokenizer.json"):
        assert (other.folder / name).read_bytes() == (work.folder / name).read_bytes(), name
    encoder = work.encoder.state_dict()
    assert all(torch.equal(tensor, encoder[name]) for name, tensor in other.encoder.state_dict().items())
    found, expected = other.start("tiny").state_dict(), work.start("tiny").state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    for stage in ("encoder", f"text-{work.config.llm_backbone_id}"):
        assert other.record(stage) == work.record(stage)
    assert json.loads((other.folder / "encoder/scores.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["encoder", "text"])
def test_a_start_does_not_join_another_that_is_there(work, bundle, tmp_path, stage):
    other = Work(tmp_path, "tiny")
    if stage == "encoder":
        fresh, name = PocketEncoder(work.config.vision.towers[0]), "encoder.safetensors"
    else:
        fresh, name = MambaLM(work.config.llm), text_file(work.config.llm_backbone_id)
    recipe = as_record(getattr(work.recipe, stage))
    keep(fresh, tmp_path / name, minutes=0.0, commit="a test", recipe=recipe)
    with pytest.raises(TrainingError, match="has a tokenizer, encoder or text stage already"):
        take_start(other, bundle)


@pytest.mark.slow
def test_a_start_of_another_recipe_or_of_none_is_refused(bundle, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(bundle, changed)
    path = changed / "tiny/config.json"
    config = json.loads(path.read_text())
    config["emma_viz"]["provenance"]["text"]["prompt_weight"] = 0.5
    path.write_text(json.dumps(config))
    with pytest.raises(TrainingError, match="was trained by another recipe"):
        take_start(Work(tmp_path / "work", "tiny"), changed)
    for text in changed.glob("text-*"):
        text.unlink()
    with pytest.raises(TrainingError, match="is no bundle that others can start from"):
        take_start(Work(tmp_path / "work", "tiny"), changed)
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_a_member_of_another_encoder_does_not_join_a_bundle(work, bundle, tmp_path):
    shared, other = tmp_path / "bundle", Work(tmp_path / "work", "tiny")
    shutil.copytree(bundle, shared)
    (shared / "tiny").rename(shared / "earlier")
    shutil.copytree(work.folder, other.folder)
    bundle_family(other, ("tiny",), shared, command="a test")
    encoder = PocketEncoder(work.config.vision.towers[0])
    recipe = as_record(work.recipe.encoder)
    keep(encoder, other.folder / "encoder.safetensors", minutes=0.0, commit="a test", recipe=recipe)
    before = {path: path.read_bytes() for path in shared.rglob("*") if path.is_file()}
    with pytest.raises(TrainingError, match="also holds earlier, which read another encoder"):
        bundle_family(Work(other.folder, "tiny"), ("tiny",), shared, command="a test")
    assert {path: path.read_bytes() for path in shared.rglob("*") if path.is_file()} == before


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["encoder", "text"])
def test_a_stage_that_fails_stops_the_family_and_is_named(work, tmp_path, capfd, stage):
    shutil.copytree(work.folder, tmp_path / "work")
    broken = Work(tmp_path / "work", "tiny")
    (broken.folder / "tiny.safetensors").unlink()
    name = text_file(work.config.llm_backbone_id) if stage == "text" else "encoder.safetensors"
    save_file({"odd": torch.zeros(1)}, broken.folder / name)
    said = rf"`python -m emma_viz train {stage} --recipe tiny .*--work .*` ended with code 1"
    with pytest.raises(TrainingError, match=said):
        train_members(broken, ("tiny",))
    said = capfd.readouterr()
    assert f"{name} is of another model" in said.err
    finished = f"encoder, text {work.config.llm_backbone_id}"
    assert f"to be trained: joint tiny; finished already: {finished}\n" in said.out
    assert not (broken.folder / "tiny.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["encoder", "text", "joint"])
def test_a_stage_that_another_recipe_finished_is_refused(work, tmp_path, monkeypatch, stage):
    folder = tmp_path / "work"
    shutil.copytree(work.folder, folder, ignore=shutil.ignore_patterns("bundle*"))
    if stage == "joint":
        changed, said = replace(work.recipe, joint=replace(work.recipe.joint, lr=0.5)), r"lr 0.003, now 0.5"
    else:
        part = getattr(work.recipe, stage)
        part = replace(part, optimisation=replace(part.optimisation, lr=0.5))
        changed, said = replace(work.recipe, **{stage: part}), r"optimisation.lr 0.003, now 0.5"
    monkeypatch.setitem(FAMILIES, "tiny", lambda: changed)
    said = rf"safetensors is finished, by another recipe \(.*{said}.*Name another work folder"
    with pytest.raises(TrainingError, match=said):
        Work(folder, "tiny").joint("tiny", progress=False)
    with pytest.raises(TrainingError, match=said):
        train_members(Work(folder, "tiny"), ("tiny",))
    with pytest.raises(TrainingError, match=said):
        bundle_family(Work(folder, "tiny"), ("tiny",), tmp_path / "bundle", command="a test")
    assert not (tmp_path / "bundle").exists()


def test_a_finished_stage_says_its_recipe_and_an_older_one_is_taken_as_it_is(tmp_path):
    path, module = tmp_path / "stage.safetensors", torch.nn.Linear(2, 2)
    recipe = {"lr": 0.1, "optimisation": {"steps": 5, "save_every": 3}, "betas": (0.9, 0.95)}
    finished(module, path, lambda: 1.0, recipe=recipe)
    often = {**recipe, "optimisation": {"steps": 5, "save_every": 1}}
    finished(torch.nn.Linear(2, 2), path, pytest.fail, recipe=often)
    other = {**recipe, "optimisation": {"steps": 6, "save_every": 3}, "more": True}
    said = r"is finished, by another recipe \(optimisation.steps 5, now 6; more None, now True\)"
    with pytest.raises(TrainingError, match=said):
        finished(torch.nn.Linear(2, 2), path, pytest.fail, recipe=other)
    save_file(module.state_dict(), path, metadata={"minutes": "1.0", "commit": "a test"})
    finished(torch.nn.Linear(2, 2), path, pytest.fail, recipe=other)


def test_help_names_the_members_that_are_trained(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    told = "".join(capsys.readouterr().out.split())
    assert f"pocket-family{','.join(FAMILIES['pocket']().members)}:allstages" in told


def test_an_encoder_that_is_looked_at_is_not_trained(tmp_path):
    work = Work(tmp_path / "work", "tiny")
    with pytest.raises(TrainingError, match=r"has no encoder yet: .*encoder --recipe tiny"):
        _ = work.encoder
    assert not work.folder.exists()


def test_an_unknown_recipe_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["joint", "--recipe", "cobra-9b"])
    assert "cobra-pocket" in capsys.readouterr().err


def _shipped():
    files = [*BUNDLED.rglob("*"), BUNDLED_TOKENIZER]
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_bundle_goes_to_the_work_folder_and_what_ships_stays(seed, work, capsys, tmp_path, monkeypatch):
    # The tiny family under the pocket one's name, finished: what is left to do is the bundle.
    monkeypatch.setitem(FAMILIES, "pocket", FAMILIES["tiny"])
    monkeypatch.setattr("training.train.PAIR", ("tiny",))
    monkeypatch.setattr("training.train.train_members", lambda *_, **__: None)
    # Other tests leave bundles and another seed in the same work folder.
    shutil.copytree(work.folder, tmp_path / "work", ignore=shutil.ignore_patterns("*-seed1*", "bundle*"))
    if seed:
        # As stages were kept before they said their recipe: they are taken as they are.
        weights = load_file(tmp_path / "work/tiny.safetensors")
        older = {"minutes": "1.0", "commit": "a test"}
        save_file(weights, tmp_path / "work/tiny-seed1.safetensors", metadata=older)
        shutil.copytree(tmp_path / "work/joint/tiny", tmp_path / "work/joint/tiny-seed1")
    before = _shipped()
    assert main(["pocket-pair", "--work", str(tmp_path / "work"), "--seed", str(seed)]) == 0
    bundle = tmp_path / "work" / ("bundle-seed1" if seed else "bundle")
    said = capsys.readouterr().out
    assert said.startswith(f"pocket-pair: tiny, seed {seed}; their bundle goes to {bundle}\n")
    assert f"wrote {bundle}: tiny" in said
    assert (bundle / "tiny/ridge.lens").is_file()
    assert (bundle / "tokenizer.json").is_file()
    assert _shipped() == before


@pytest.mark.slow
def test_a_bundle_of_another_encoder_is_refused_before_members_are_trained(
    work, bundle, capsys, tmp_path, monkeypatch
):
    monkeypatch.setitem(FAMILIES, "pocket", FAMILIES["tiny"])
    monkeypatch.setattr("training.train.PAIR", ("tiny",))
    monkeypatch.setattr("training.train.train_members", None)
    shutil.copytree(work.folder, tmp_path / "work", ignore=shutil.ignore_patterns("joint", "tiny.*"))
    shutil.copytree(bundle / "tiny", tmp_path / "bundle/another")
    (tmp_path / "bundle/tokenizer.json").write_text("another")
    places = ["--work", str(tmp_path / "work"), "--bundle", str(tmp_path / "bundle")]
    assert main(["pocket-pair", *places]) == 1
    assert "also holds another, which read another encoder or tokenizer" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["joint --recipe tiny", "encoder --recipe tiny", "pocket-pair"])
def test_a_package_that_is_missing_is_named_before_scenes_are_drawn(tmp_path, monkeypatch, capsys, command):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert main([*command.split(), "--work", str(tmp_path / "work")]) == 1
    assert 'pip install "emma-viz[train]"' in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


def test_another_seed_does_not_go_into_the_package(capsys, tmp_path):
    package = tmp_path / "link-to-the-package"
    package.symlink_to(BUNDLED)
    command = ["pocket-pair", "--seed", "1", "--work", str(tmp_path / "work"), "--bundle", str(package)]
    assert main(command) == 1
    assert "The package ships seed 0" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


def test_no_bundle_goes_into_another_checkout(capsys, tmp_path):
    """Its tokenizer, which lies elsewhere, would be replaced with it."""
    tokenizer = tmp_path / "emma_viz/data/bundled/tokenizer.json"
    tokenizer.parent.mkdir(parents=True)
    tokenizer.write_text("theirs")
    other = tmp_path / "emma_viz/checkpoints/bundled"
    for seed in ("0", "1"):
        command = ["pocket-pair", "--seed", seed, "--work", str(tmp_path / "work"), "--bundle", str(other)]
        assert main(command) == 1
        assert "holds the models of another checkout or installed package" in capsys.readouterr().err
    with pytest.raises(TrainingError, match="holds the models of another checkout"):
        bundle_family(Work(tmp_path / "work", "tiny"), ["tiny"], other, command="")
    assert not (tmp_path / "work").exists()
    assert tokenizer.read_text() == "theirs"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("--steps 3 --ablate mff --lr 1 --pixel-loss none", "--pixel-loss, --ablate, --steps, --lr,"),
        ("--workers 2", "--workers,"),
        ("--images x --no-gradient-checkpointing", "--images, --gradient-checkpointing,"),
        ("--dry-run --world-size 1", "--world-size,"),
    ],
)
@pytest.mark.parametrize("member", ["tiny", "cobra-pocket"])
def test_a_member_without_data_takes_no_option_of_data(member, given, named, capsys, tmp_path):
    folder = tmp_path / "work"
    command = ["joint", "--recipe", member, "--work", str(folder), "--seed", "3", *given.split()]
    assert main(command) == 1
    printed = capsys.readouterr()
    assert f"takes --work, --seed and --dry-run alone; got {named} which would change nothing" in printed.err
    assert ("choose a preset" in printed.err) == (member == "tiny")
    assert "give --data JSON" in printed.err
    assert not printed.out
    assert not folder.exists()


@pytest.mark.parametrize(
    ("member", "steps", "tokens"),
    [
        ("tiny", "steps: 60, on 64 drawn scenes", 20 * 4 * (64 + 64 + 256)),
        (
            "cobra-pocket",
            "steps: 7,200, on 12,000 drawn scenes",
            600 * 8 * 64 + 3600 * 4 * 64 + 3000 * 4 * 256,
        ),
        ("emma-v1-pocket-nomff", "steps: 7,200, on 12,000 drawn scenes", 4_300_800),
    ],
)
def test_the_dry_run_of_a_member_is_of_its_own_recipe(member, steps, tokens, capsys, tmp_path):
    folder = tmp_path / "work"
    assert main(["joint", "--recipe", member, "--work", str(folder), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert steps in printed
    assert f"tokens: {tokens:,} image tokens" in printed
    assert ("  decoder " in printed) == (member != "cobra-pocket")
    family = FAMILIES[family_of(member)]()
    recipe = family.of_member(member)
    task = new_task(recipe, family.members[member].model(), features=torch.randn(2, 256, 96))
    trained = [each for each in task.parameters() if each.requires_grad]
    count, all_of_it = (sum(p.numel() for p in some) for some in (trained, task.parameters()))
    assert f"  in all            {count:>16,}{all_of_it - count:>16,}" in printed
    optimizer = make_optimizer(task, recipe.settings())
    for each in trained:
        each.grad = torch.zeros_like(each)
    optimizer.step()
    kept = [each for state in optimizer.state.values() for each in state.values() if each.ndim]
    moments = sum(each.numel() for each in kept)
    assert f"optimizer {4 * moments / 2**20:.3g}  " in printed
    assert f"in all {4 * (all_of_it + count + moments) / 2**20:.3g}\n" in printed
    assert not folder.exists()


@pytest.mark.parametrize(
    "command",
    [
        "encoder --work FILE",
        "text --work FILE/run",
        "joint --recipe tiny --work FILE",
        "pocket-pair --work FILE",
        "pocket-pair --seed 1 --bundle FILE",
        "joint --recipe tiny-cobra --data none.json --images none --work FILE",
        "joint --recipe tiny-cobra --data none.json --images none --work OK --feature-cache FILE",
        "lens --model none --data none --out FILE/a.lens",
        "lens --model none --data none --out FOLDER",
        "lens --kind tuned --model none --data none --out file.lens",
        "joint --recipe tiny",
        "text",
        "pocket-pair",
        "pocket-pair --work OK --start none --bundle FILE",
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_the_work(command, tmp_path, capsys, monkeypatch):
    """What is wrong with the model or the data is not even looked at."""
    monkeypatch.chdir(tmp_path)
    for name in ("file", "runs", "file.lens.run"):
        (tmp_path / name).write_text("")
    places = {"FILE": tmp_path / "file", "FOLDER": tmp_path, "OK": tmp_path / "new"}
    for name, place in places.items():
        command = command.replace(name, str(place))
    assert main(command.split()) == 1
    said = capsys.readouterr().err
    assert "to be a folder" in said or "is a folder" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "file.lens.run", "runs"]
