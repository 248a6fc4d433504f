"""Lenses for models that came without one."""

import argparse
import json
import shutil
from dataclasses import replace

import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from emma_viz.checkpoints import FoundModel, LoadedModel, load_model, require_model, save_run_directory
from emma_viz.cli.commands import fit
from emma_viz.cli.main import main
from emma_viz.errors import InputError, LensError, LensMismatchError, MissingLensError, TrainingError
from emma_viz.lens import load_lens, save_lens
from emma_viz.lens.headers import read_info
from emma_viz.lens.places import lens_cache
from emma_viz.models import VLM, ProjectorConfig
from emma_viz.session import Asking, Running, View, compare, fit_ridge, fit_tuned
from emma_viz.session.fitting import choose_images, fit_awaited, fits, lens_place, lenses_for
from emma_viz.session.loading import lens_of, require_loadable
from emma_viz.session.options import LensRecipe


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of nine small photographs, one of them twice, and a broken one."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(9):
        Image.effect_noise((40 + number, 30), 60).convert("RGB").save(folder / f"{number}.png")
    shutil.copy(folder / "0.png", folder / "copy.png")
    (folder / "broken.png").write_text("no image")
    return folder


@pytest.fixture
def bare(pair, tmp_path):
    """A model without a lens."""
    folder = tmp_path / "bare"
    shutil.copytree(pair.cobra, folder)
    (folder / "ridge.lens").unlink()
    return folder


def comparing(images, bare, pair, **more):
    running = Running(vision_source=str(pair.vision))
    return compare(images / "0.png", [bare], asking=Asking(max_new_tokens=1), running=running, **more)


def test_a_model_without_a_lens_says_the_command_and_what_it_takes(images, bare, pair, monkeypatch):
    monkeypatch.setattr("emma_viz.session.comparison.load", lambda *_: pytest.fail("a model was loaded"))
    said = (
        rf"emma-viz fit {bare} --images FOLDER --vision {pair.vision}` \(400 images .* 150 .*--fit-on FOLDER"
    )
    with pytest.raises(MissingLensError, match=said):
        comparing(images, bare, pair)
    with pytest.raises(MissingLensError, match=r"--kind tuned .*2000 steps, in each of which"):
        comparing(images, bare, pair, lenses=["tuned"])


def test_from_no_lens_to_a_figure_is_one_command(images, bare, pair):
    decoding = comparing(images, bare, pair, fit_on=images).decodings[0]
    assert (decoding.lens.n_fit, decoding.lens.n_heldout) == (7, 2)
    assert decoding.lens.fitted_on == f"{images.name} (7 of its images)"
    again = comparing(images, bare, pair, fit_on=images / "nothing").decodings[0]
    assert again.lens == decoding.lens
    assert (bare / "ridge.lens").is_file()


@pytest.fixture
def steps(bare):
    """Two checkpoints of one run directory."""
    (bare / "checkpoints" / "latest-checkpoint.safetensors").rename(
        first := bare / "checkpoints" / "step-1.safetensors"
    )
    with safe_open(first, "pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        weights |= {name: each * 1.1 for name, each in weights.items() if name.startswith("projector")}
        save_file(weights, second := bare / "checkpoints" / "step-2.safetensors", file.metadata())
    return first, second


def test_checkpoints_of_one_run_have_a_lens_each(images, steps, pair):
    first, second = steps
    of_first = comparing(images, first, pair, fit_on=images).decodings[0].lens
    assert read_info(first.parent.parent / "ridge.lens") == of_first
    with pytest.raises(LensMismatchError, match=rf"emma-viz fit {second} --images FOLDER .*--fit-on FOLDER"):
        comparing(images, second, pair)
    of_second = comparing(images, second, pair, fit_on=images).decodings[0].lens
    assert [read_info(path) for path in lens_cache().iterdir()] == [of_second]
    for source, lens in ((first, of_first), (second, of_second)):
        assert comparing(images, source, pair, fit_on=images / "nothing").decodings[0].lens == lens


def test_checkpoints_of_one_run_are_fitted_by_one_command(images, steps, pair):
    running = Running(vision_source=str(pair.vision))
    sources = [*steps, steps[0]]
    found = [require_loadable(source, running) for source in sources]
    awaited = lenses_for(["ridge"] * 3, sources, found, running, fit_on=images)
    foreseen = [each.info for each in awaited]
    ready = [each.info for each in fit_awaited(awaited, running, images)]
    assert [each.model_fingerprint for each in ready] == [model.info.fingerprint for _, model in found]
    assert len(set(map(id, ready))) == 2
    for before, after in zip(foreseen, ready, strict=True):
        for name in ("kind", "model_name", "model_fingerprint", "site", "layers", "patch", "grid", "part"):
            assert getattr(before, name) == getattr(after, name)
    kept = [steps[0].parent.parent / "ridge.lens", *lens_cache().iterdir()]
    assert [read_info(path).model_fingerprint for path in kept] == [
        each.model_fingerprint for each in ready[:2]
    ]


def test_a_figure_looks_at_all_that_it_can_refuse_before_it_fits(images, bare, pair, monkeypatch):
    monkeypatch.setattr(
        "emma_viz.session.loading.load_model", lambda *_, **__: pytest.fail("a model was loaded")
    )

    def refused(error, match, *models, fit_on=images, **more):
        running = Running(vision_source=str(pair.vision))
        with pytest.raises(error, match=match):
            compare(images / "0.png", [bare, *models], fit_on=fit_on, running=running, **more)
        assert not (bare / "ridge.lens").exists()

    refused(MissingLensError, "No tuned lens", pair.emma, lenses=["ridge", "tuned"])
    refused(InputError, "lens of bare decodes .* got 9 as well", views=[View(layers=(9,))])
    refused(LensMismatchError, "reads resid_post, the states are of mixer_out", site="mixer_out")
    refused(TrainingError, "has 3 different images", fit_on=images / "[0-2].png")


def test_a_place_that_cannot_be_written_to_has_a_way_out(bare, pair, tmp_path, monkeypatch):
    monkeypatch.setattr("emma_viz.session.fitting.keeping.BUNDLED", bare.parent)
    (tmp_path / "cache").write_text("no folder")
    with pytest.raises(LensError, match=r"XDG_CACHE_HOME .* --out FILE` and name it with --lens FILE"):
        lens_place(require_model(bare, vision_source=str(pair.vision))[1], "ridge")


def test_the_command_keeps_a_lens_once(images, bare, pair, tmp_path, capsys):
    command = ["fit", str(bare), "--images", str(images), "--vision", str(pair.vision), "--half"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "7 images to fit on and 2 to measure on, each read 1× by the model" in said
    assert f"wrote {bare / 'ridge.lens'}" in said
    assert main(command) == 1
    assert "has a ridge lens already" in capsys.readouterr().err
    assert main([*command, "--out", str(tmp_path / "new.lens"), "--layers", "2", "0"]) == 0
    assert read_info(tmp_path / "new.lens").layers == (0, 2)


def test_a_lens_is_kept_before_its_untrained_controls_are_fitted(images, bare, pair, monkeypatch, capsys):
    begun, real = [], fits.fit_ridge

    def stopped(*given, **named):
        begun.append(1)
        if len(begun) == 3:
            raise KeyboardInterrupt
        return real(*given, **named)

    monkeypatch.setattr(fits, "fit_ridge", stopped)
    command = ["fit", str(bare), "--images", str(images), "--vision", str(pair.vision), "--untrained", "3"]
    assert main(command) == 130
    assert f"{bare / 'ridge.lens'} is there before the untrained models are fitted" in capsys.readouterr().out
    kept = read_info(bare / "ridge.lens")
    assert {each.name for each in kept.controls} <= {"place"}


@pytest.mark.parametrize("count", [3, 4])
def test_an_untrained_model_that_nothing_can_be_fitted_on_is_named(
    count, images, bare, pair, monkeypatch, capsys
):
    begun, real = [], fits.fit_ridge

    def not_finite(*given, **named):
        begun.append(1)
        if len(begun) == 3:
            raise LensError("Layer 1 holds values that are not finite; a lens cannot be fitted on it.")
        return real(*given, **named)

    monkeypatch.setattr(fits, "fit_ridge", not_finite)
    command = ["fit", str(bare), "--images", str(images), "--vision", str(pair.vision)]
    assert main([*command, "--untrained", str(count)]) == 0
    said = (
        f"untrained model 2 of {count} is left out of the control: Layer 1 holds values that are not finite"
    )
    assert said in capsys.readouterr().out
    kept = read_info(bare / "ridge.lens")
    assert any(said in note for note in kept.notes)
    assert ("untrained" in {each.name for each in kept.controls}) is (count == 4)
    assert any("2 models are left, and 3 are needed" in note for note in kept.notes) is (count == 3)


def test_the_lens_of_a_folder_that_is_not_ours_is_in_the_cache(bare, pair, monkeypatch):
    _, found = require_model(bare, vision_source=str(pair.vision))
    assert lens_place(found, "ridge") == bare / "ridge.lens"
    shutil.copy(pair.emma / "ridge.lens", bare / "ridge.lens")
    assert lens_place(found, "ridge").parent == lens_cache()
    (bare / "ridge.lens").unlink()
    monkeypatch.setattr("emma_viz.session.fitting.keeping.BUNDLED", bare.parent)
    place = lens_place(found, "ridge")
    assert place.parent == lens_cache()
    place.parent.mkdir(parents=True)
    shutil.copy(pair.cobra / "ridge.lens", place)
    assert load_lens(found).info.model_fingerprint == found.info.fingerprint
    with pytest.raises(InputError, match="has a ridge lens already"):
        lens_place(found, "ridge")


def test_a_lens_of_other_tokens_of_the_same_weights_is_none(bare, pair):
    """Tiles and thumbnail of one model have a lens each, which is fitted beside the other."""
    _, tiles = require_model(bare, vision_source=str(pair.vision))
    whole = replace(tiles, info=replace(tiles.info, part="thumbnail"))
    shutil.copy(pair.cobra / "ridge.lens", bare / "ridge.lens")
    with pytest.raises(MissingLensError, match=r"ridge\.lens is of its tile tokens"):
        load_lens(whole)
    assert lens_place(whole, "ridge") == bare / "ridge-thumbnail.lens"
    own = load_lens(bare / "ridge.lens")
    own = replace(own, info=replace(own.info, part="thumbnail"))
    save_lens(own, bare / "ridge-thumbnail.lens")
    for model in (tiles, whole):
        assert load_lens(model).info.part == model.info.part
        with pytest.raises(InputError, match="has a ridge lens already"):
            lens_place(model, "ridge")


def test_a_lens_of_other_tokens_that_has_the_usual_name_is_not_replaced(bare, pair):
    _, tiles = require_model(bare, vision_source=str(pair.vision))
    own = load_lens(pair.cobra / "ridge.lens")
    save_lens(replace(own, info=replace(own.info, part="thumbnail")), bare / "ridge.lens")
    place = lens_place(tiles, "ridge")
    assert place.parent == lens_cache()
    place.parent.mkdir(parents=True)
    shutil.move(bare / "ridge.lens", place)
    assert lens_place(tiles, "ridge") == bare / "ridge.lens"
    with pytest.raises(InputError, match="is of thumbnail tokens; give that file another name"):
        lens_place(FoundModel(info=tiles.info, folder=None), "ridge")


@pytest.mark.parametrize(
    ("words", "layers"), [(["all"], None), (["all", "1"], (-1, 0, 1, 2)), (["last", "0"], (0, 2))]
)
def test_layers_of_a_lens_are_numbers_or_all(words, layers):
    parser = argparse.ArgumentParser()
    fit.add_arguments(parser)
    args = parser.parse_args(["cobra", "--images", "photos", "--layers", *words])
    assert fit.lens_recipe_of(args, lambda: 3).layers == layers


def test_what_cannot_be_fitted_on_is_refused(images, tmp_path):
    recipe = LensRecipe(fit=4, held_out=2)
    chosen = choose_images(images, None, recipe)
    assert (len(chosen.fit), len(chosen.held_out)) == (4, 2)
    assert not chosen.fit.keys() & chosen.held_out.keys()
    with pytest.raises(TrainingError, match="has 9 different images that can be read; 550 are needed"):
        choose_images(images, None, LensRecipe())
    with pytest.raises(TrainingError, match="has 3 different images that can be read; 4 are needed"):
        choose_images(str(images / "[0-2].png"), None, recipe, fewer=True)
    with pytest.raises(InputError, match="holds no image"):
        choose_images(tmp_path, None, recipe)


@pytest.fixture
def uneven(pair, tmp_path):
    """A model whose 4×4 patches are pooled to 3×2 tokens."""
    config, _ = require_model(pair.cobra, vision_source=str(pair.vision))
    assert config is not None
    config = replace(config, projector=ProjectorConfig(kind="fused-ldpnet", pooled_grid=(3, 2)))
    vlm = VLM(config).eval()
    tokenizer = load_model(pair.cobra, vision_source=str(pair.vision)).tokenizer
    save_run_directory(tmp_path / "uneven", config, vlm.state_dict(), tokenizer=tokenizer)
    return tmp_path / "uneven", LoadedModel.from_vlm(vlm, tokenizer, name="uneven")


def test_unevenly_pooled_tokens_are_refused_before_the_model_is_loaded(
    uneven, images, pair, monkeypatch, capsys
):
    folder, model = uneven
    monkeypatch.setattr("emma_viz.checkpoints.load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    monkeypatch.setattr(
        "emma_viz.session.loading.load_model", lambda *_, **__: pytest.fail("a model was loaded")
    )
    command = ["fit", str(folder), "--images", str(images), "--vision", str(pair.vision)]
    said = "pools its 16 patches to 6 image tokens"
    for options in ([], ["--kind", "tuned", "--fit-images", "4", "--held-out", "2"]):
        assert main([*command, *options]) == 1
        assert said in capsys.readouterr().err
    with pytest.raises(LensError, match=said):
        comparing(images, folder, pair, fit_on=images)
    paths = sorted(images.glob("[0-9].png"))
    given = {"heldout": paths[2:4], "fitted_on": "noise", "layers": [0]}
    for fit_one in (fit_ridge, fit_tuned):
        with pytest.raises(LensError, match=said):
            fit_one(model, paths[:2], **given)


def test_options_that_a_tuned_lens_has_not_are_refused(images, bare, pair, capsys):
    command = ["fit", str(bare), "--images", str(images), "--vision", str(pair.vision), "--kind", "tuned"]
    assert main([*command, "--dtype", "bfloat16"]) == 1
    assert "leave --dtype and --backend out" in capsys.readouterr().err


def test_the_command_for_a_tuned_lens_has_the_options_that_it_takes(images, bare, pair):
    running = Running(vision_source=str(pair.vision), dtype="bfloat16", backend="torch")
    with pytest.raises(MissingLensError) as refused:
        compare(images / "0.png", [bare], running=running, lenses=["tuned"])
    assert f"emma-viz fit {bare} --images FOLDER --kind tuned --vision {pair.vision}`" in str(refused.value)
    with pytest.raises(MissingLensError, match="--dtype bfloat16 --backend torch"):
        compare(images / "0.png", [bare], running=running)


def test_a_lens_of_transformers_own_model_is_a_ridge_lens(bare, pair):
    _, found = require_model(bare, vision_source=str(pair.vision))
    theirs = FoundModel(info=replace(found.info, family="qwen-vl"), folder=bare)
    with pytest.raises(
        MissingLensError, match=rf"only ridge lenses .* `emma-viz fit {bare} --images FOLDER`"
    ):
        lens_of("tuned", theirs)


def test_a_tuned_lens_is_trained_on_the_language_model_that_is_named(images, bare, tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr("emma_viz.cli.programs.run_program", lambda name, argv: ran.append((name, argv)) or 0)
    command = [
        "fit",
        str(bare),
        "--images",
        str(images),
        "--kind",
        "tuned",
        "--out",
        str(tmp_path / "a.lens"),
    ]
    assert main([*command, "--llm", "zephyr"]) == 0
    ((name, argv),) = ran
    assert name == "train"
    assert argv[argv.index("--llm") + 1] == "zephyr"


def test_too_few_images_for_a_tuned_lens_are_told_before_the_model_is_loaded(
    images, bare, pair, capsys, monkeypatch
):
    monkeypatch.setattr("emma_viz.checkpoints.load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    command = ["fit", str(bare), "--images", str(images), "--vision", str(pair.vision), "--kind", "tuned"]
    assert main(command) == 1
    assert "550 are needed (--fit-images 400 and --held-out 150)" in capsys.readouterr().err
    assert not (bare / "tuned.lens").exists()


@pytest.mark.parametrize("form", ["pattern", "list"])
def test_images_of_a_tuned_lens_come_in_every_form(form, images, bare, pair, tmp_path):
    shown = images / "[0-8].png"
    if form == "list":
        shown = images / "list.jsonl"
        shown.write_text("".join(json.dumps({"image": f"{number}.png"}) + "\n" for number in range(9)))
    command = ["fit", str(bare), "--images", str(shown), "--vision", str(pair.vision), "--kind", "tuned"]
    small = ["--fit-images", "6", "--held-out", "3", "--steps", "1", "--batch-size", "2", "--rank", "2"]
    assert main([*command, *small, "--decoder-layers", "1", "--layers", "2"]) == 0
    assert read_info(bare / "tuned.lens").fitted_on == f"{shown.name} (6 of its images)"


@pytest.mark.slow
def test_a_tuned_lens_is_fitted_by_the_same_command(images, bare, pair):
    command = ["fit", str(bare), "--images", str(images), "--vision", str(pair.vision), "--kind", "tuned"]
    small = ["--fit-images", "6", "--held-out", "3", "--steps", "2", "--batch-size", "2", "--rank", "2"]
    assert main([*command, *small]) == 0
    assert read_info(bare / "tuned.lens").kind == "tuned"
