"""docs/results.md: what is measured, and the program on two seeds of the tiny recipe."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from emma_viz.errors import TrainingError
from emma_viz.lens.files import load_lens
from emma_viz.metrics.intervals import NONE, estimate
from emma_viz.metrics.sums import pooled_r2
from training.pocket.bundle import bundle_family
from training.pocket.bundle_reading import open_bundle, untrained_model
from training.pocket.questions import answer_scores, tabletop_answers
from training.pocket.scores import read_scores
from training.results.__main__ import CHECKOUT, kept_of, main
from training.results.cells import plain_number, signed_range
from training.results.comparable import require_comparable
from training.results.measured import measure_bundle
from training.results.measured_files import read_measured, save_measured
from training.results.page import caution, trained_at, whose_seeds


@pytest.fixture(scope="module")
def bundles(work, tmp_path_factory):
    """Two seeds of the tiny recipe; and a bundle that calls them by the names of the family, as if of one seed."""
    folder = tmp_path_factory.mktemp("bundles")
    for seed in (0, 1):
        bundle_family(work, ("tiny",), folder / f"seed{seed}", command="a test", seed=seed)
    pair = folder / "pair"
    shutil.copytree(folder / "seed0", pair)
    (pair / "tiny").rename(pair / "cobra-pocket")
    shutil.copytree(folder / "seed1" / "tiny", pair / "emma-v1-pocket")
    relabel(pair / "emma-v1-pocket", seed=0)
    return folder


def relabel(member, *, seed):
    """Let a member say that it has another seed."""
    path = member / "config.json"
    config = json.loads(path.read_text())
    config["emma_viz"]["provenance"]["seed"] = seed
    path.write_text(json.dumps(config))


@pytest.fixture(scope="module")
def seeds(bundles, tmp_path_factory):
    """The numbers and the page of two seeds: one bundle, and what was kept of another."""
    out = tmp_path_factory.mktemp("out")
    kept = out / "measured/seed1.npz"
    assert main([str(bundles / "seed1"), "--scenes", "6", "--keep", str(kept)]) == 0
    assert sorted(each.name for each in out.iterdir()) == ["measured"]
    arguments = [str(bundles / "seed0"), str(kept), "--scenes", "6"]
    assert main([*arguments, "--out", str(out), "--json", str(out / "n.json")]) == 0
    return json.loads((out / "n.json").read_text()), (out / "results.md").read_text(), out


@pytest.mark.slow
def test_two_seeds_are_measured_at_every_place(seeds):
    numbers, text, out = seeds
    tiny = numbers["members"]["tiny"]
    assert tiny["seeds"] == [0, 1]
    assert list(tiny["scenes"]) == ["encoder", "-1", "0", "1", "2", "3", "own decoder"]
    behind = tiny["scenes"]["-1"]["r2"]
    assert len(set(behind["seeds"])) == 2
    assert behind["seed_low"] < behind["value"] < behind["seed_high"]
    assert behind["low"] < behind["value"] < behind["high"]
    assert [each["members"]["tiny"]["seed"] for each in numbers["head"]["bundles"]] == [0, 1]
    assert "the joint stage differs. Claims hold over these seeds" in text
    assert "A member's numbers are means over its seeds" in text
    for seed in (0, 1):
        assert f"- tiny, seed {seed}, bundle `seed{seed}`: made by `a test` at commit" in text
    fresh = numbers["head"]["bundles"][0]["members"]["tiny"]
    assert fresh["trained_at"] == dict.fromkeys(("encoder", "text", "joint"), fresh["commit"])
    earlier = {**fresh, "trained_at": {**fresh["trained_at"], "text": "a" * 40}}
    assert trained_at(fresh) == ""
    assert trained_at(earlier) == " (stages trained before: text aaaaaaaaaaaa)"
    assert (out / "images/results.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
def test_controls_shuffled_pixels_hold_nothing_and_the_start_holds_the_image(seeds):
    controls = seeds[0]["members"]["tiny"]["controls"]
    for found in controls["shuffled"].values():
        assert abs(found["value"]) < 0.15
    assert controls["untrained"]["-1"]["value"] > 0.15 + max(
        each["high"] for each in controls["shuffled"].values()
    )
    assert list(controls["untrained"]) == ["-1", "0", "1", "2", "3"]
    tiny = seeds[0]["members"]["tiny"]
    for place in ("-1", "3"):
        less, kept = tiny["trained_less_untrained"][place], controls["untrained"][place]
        trained = tiny["scenes"][place]["r2"]
        assert less["value"] == pytest.approx(trained["value"] - kept["value"], abs=1e-4)
        assert len(less["seeds"]) == len(kept["seeds"]) == 2
        assert less["low"] <= less["value"] <= less["high"]


@pytest.mark.slow
def test_answers_during_training_are_on_the_page(seeds, work):
    numbers, text, _ = seeds
    kept = numbers["head"]["bundles"][0]["members"]["tiny"]["scores"]
    assert [each["step"] for each in kept] == [30, 60]
    assert kept == read_scores(work.run_folder("tiny", 0))
    for each in kept:
        cells = [f"{each['accuracy'][topic]:.2f}" for topic in sorted(kept[-1]["accuracy"])]
        assert f"| {each['step']} | {each['minutes']:.0f} | " + " | ".join(cells) + " |" in text


@pytest.mark.slow
def test_losses_add_up_to_what_is_gone_at_the_last_block(seeds):
    tiny = seeds[0]["members"]["tiny"]
    gone = tiny["scenes"]["encoder"]["r2"]["value"] - tiny["scenes"]["3"]["r2"]["value"]
    assert sum(part["value"] for part in tiny["loss"].values()) == pytest.approx(gone, abs=1e-4)


@pytest.mark.slow
def test_the_page_holds_what_the_json_holds(seeds, bundles):
    numbers, text, out = seeds
    tiny = numbers["members"]["tiny"]
    cells = [plain_number(tiny["scenes"][place]["r2"]) for place in tiny["scenes"]]
    assert "| tiny | " + " | ".join(cells) + " |" in text
    tuned = list(tiny["tuned"].values())
    half = max((each["high"] - each["low"]) / 2 for each in tuned)
    over_seeds = max((each["seed_high"] - each["seed_low"]) / 2 for each in tuned)
    halves = [f"{half:.3f}", f"{over_seeds:.3f}"]
    assert "| tiny | " + " | ".join([*map(plain_number, tuned), *halves]) + " |" in text
    for place, found in tiny["scenes"].items():
        photos = tiny["photos"][place]["spectrum"]
        cells = [
            f"{plain_number(each)} / {plain_number(photos[low])}" for low, each in found["spectrum"].items()
        ]
        assert f"| tiny, {place.replace('-1', '−1')} | " + " | ".join(cells) + " |" in text
    words = {1: "more of the pixels", -1: "less of the pixels", 0: NONE}
    first, last = (words[each["sign"]] for each in tiny["trained_less_untrained"].values())
    said = text[text.index("- tiny against itself before joint training: behind the projector, ") :]
    said = said[: said.index("\n")]
    behind, end = said.split("; at the last block, ")
    assert first in behind
    assert last in end
    for found in tiny["loss"].values():
        assert signed_range(found) in text
    cells = [tiny["scenes"][place]["r2"] for place in ("-1", "3")] + [tiny["tuned"]["3"]]
    cells += [*(each["accuracy"] for each in tiny["answers"].values()), tiny["captions_f1"]]
    for at in (0, 1):
        assert (
            f"| tiny | {at} | " + " | ".join(plain_number(cell["seeds"][at]) for cell in cells) + " |" in text
        )
    for said in tiny["photo_captions"].values():
        assert f"“{said}”" in text
    assert str(out) not in text


@pytest.mark.slow
def test_what_was_kept_of_a_bundle_is_what_the_bundle_gives(seeds, bundles, tmp_path):
    numbers = seeds[0]
    arguments = [str(bundles / "seed1"), "--scenes", "6", "--out", str(tmp_path)]
    assert main([*arguments, "--json", str(tmp_path / "n.json")]) == 0
    alone = json.loads((tmp_path / "n.json").read_text())
    kept, measured = (
        each["members"]["tiny"] for each in (numbers["head"]["bundles"][1], alone["head"]["bundles"][0])
    )
    assert {**kept, "measured_at": ""} == {**measured, "measured_at": ""}
    both, second = numbers["members"]["tiny"], alone["members"]["tiny"]
    for place, found in both["scenes"].items():
        assert found["r2"]["seeds"][1] == second["scenes"][place]["r2"]["value"]
    for topic, found in both["answers"].items():
        assert found["accuracy"]["seeds"][1] == second["answers"][topic]["accuracy"]["value"]
    for place, found in both["tuned"].items():
        assert found["seeds"][1] == second["tuned"][place]["value"]
    assert both["captions_f1"]["seeds"][1] == second["captions_f1"]["value"]


@pytest.mark.slow
def test_the_tuned_lens_is_measured_as_its_file_says(bundles, tmp_path):
    # The file's own quality is over the recipe's 8 held-out scenes, of images that went through the whole model.
    assert main([str(bundles / "seed0"), "--scenes", "8", "--keep", str(tmp_path / "kept.npz")]) == 0
    tuned = read_measured(tmp_path / "kept.npz").members["tiny"].tuned
    quality = load_lens(bundles / "seed0/tiny", "tuned").info.quality
    assert list(tuned) == [str(each.layer) for each in quality]
    for each in quality:
        assert estimate([tuned[str(each.layer)]], pooled_r2).value == pytest.approx(each.r2, abs=2e-3)


@pytest.mark.slow
def test_one_seed_of_two_members_is_compared_and_nothing_is_said_of_other_seeds(bundles, tmp_path):
    arguments = [str(bundles / "pair"), "--scenes", "6", "--out", str(tmp_path)]
    assert main([*arguments, "--json", str(tmp_path / "n.json")]) == 0
    numbers, text = json.loads((tmp_path / "n.json").read_text()), (tmp_path / "results.md").read_text()
    assert "nothing here is claimed about other seeds" in text
    assert "## Each seed" not in text
    (pair,) = numbers["comparisons"]
    assert (pair["a"], pair["b"], pair["seeds"]) == ("cobra-pocket", "emma-v1-pocket", [0])
    assert "cobra-pocket against emma-v1-pocket (seed 0)" in text
    for row in pair["rows"]:
        found = row["difference"]
        held = found["low"] is not None and (found["low"] > 0 or found["high"] < 0)
        assert (row["claim"] != NONE) == held
        assert f"| {row['what']} | {signed_range(found)} | {row['claim']} |" in text
    a, b = (numbers["members"][name]["scenes"]["-1"]["r2"]["value"] for name in (pair["a"], pair["b"]))
    assert pair["rows"][0]["difference"]["value"] == pytest.approx(a - b, abs=2e-5)
    assert "Not measured: there is no seed of both emma-v1-pocket-nomff and emma-v1-pocket" in text


@pytest.mark.parametrize(
    ("compared", "seeds", "said", "unsaid"),
    [
        ([[0]], [1, 1], "nothing here is claimed about other seeds", "Claims hold over"),
        ([[0]], [1, 2], "No comparison is over more than one seed", "Claims hold over"),
        (
            [[0], [0, 1]],
            [2, 2, 1],
            "compared with one seed supports no claim about other seeds",
            "Claims hold over",
        ),
        ([[0, 1]], [2, 2], "Claims hold over these seeds", "one seed"),
    ],
)
def test_what_is_said_of_seeds_follows_the_comparisons_not_the_members(compared, seeds, said, unsaid):
    text = caution(
        {
            "comparisons": [{"seeds": each} for each in compared],
            "members": {f"member {number}": {"seeds": [*range(count)]} for number, count in enumerate(seeds)},
        },
        "Seeds share their start.",
    )
    assert said in text
    assert unsaid not in text


@pytest.mark.parametrize(("seeds", "said"), [([1, 1], False), ([1, 2], True), ([3, 3], True)])
def test_the_page_says_whose_seeds_a_number_is_of(seeds, said):
    members = {f"member {number}": {"seeds": [*range(count)]} for number, count in enumerate(seeds)}
    assert ("means over its seeds" in " ".join(whose_seeds({"members": members}))) == said


@pytest.mark.slow
def test_the_control_is_what_joint_training_began_from(work, bundles):
    bundle = open_bundle(bundles / "seed1")
    control = untrained_model(bundle, bundle.load("tiny"), "tiny").state_dict()
    start = work.start("tiny", seed=1).vlm.state_dict()
    other = work.start("tiny", seed=0).vlm.state_dict()
    for name, tensor in start.items():
        if not name.startswith("vision."):
            assert torch.allclose(control[name], tensor, rtol=1e-4, atol=1e-6), name
    assert not torch.allclose(control["projector.row"], other["projector.row"], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_bundle_without_the_text_stage_is_refused(bundles, tmp_path, capsys):
    shutil.copytree(bundles / "seed0", tmp_path / "old")
    (text,) = (tmp_path / "old").glob("text-*.safetensors")
    text.unlink()
    assert main([str(tmp_path / "old"), "--scenes", "2", "--out", str(tmp_path)]) == 1
    assert f"{text} is missing" in capsys.readouterr().err


@pytest.mark.slow
def test_a_lens_of_another_kind_is_refused(bundles, tmp_path, capsys):
    shutil.copytree(bundles / "seed0", tmp_path / "odd")
    shutil.copy(tmp_path / "odd/tiny/ridge.lens", tmp_path / "odd/tiny/tuned.lens")
    assert main([str(tmp_path / "odd"), "--scenes", "6", "--out", str(tmp_path)]) == 1
    assert "tuned.lens of tiny holds a lens of the kind ridge" in capsys.readouterr().err


@pytest.mark.slow
def test_scores_are_the_means_of_the_answers(work):
    task = work.joint("tiny", progress=False)
    features = work.features("test", work.recipe.test_scenes)[:4]
    found = list(tabletop_answers(task.vlm, features, work.tokenizer))
    scores = answer_scores(task.vlm, features, work.tokenizer)
    assert {each.scene for each in found} == {0, 1, 2, 3}
    for topic, score in scores.items():
        right = [each.right for each in found if each.topic == topic]
        assert score["questions"] == len(right)
        assert score["accuracy"] == np.mean(right)
    assert {topic for topic in scores if "yes_rate" in scores[topic]} == {
        f"existence {mode}" for mode in ("random", "popular", "adversarial")
    }


@pytest.mark.slow
def test_what_cannot_be_measured_is_refused(bundles, tmp_path, capsys):
    assert main([str(tmp_path)]) == 1
    assert "holds no model" in capsys.readouterr().err
    assert main([str(bundles / "seed0"), "--scenes", "1"]) == 1
    twice = [str(bundles / "seed0")] * 2
    assert main([*twice, "--scenes", "2", "--out", str(tmp_path)]) == 1
    assert "different seeds" in capsys.readouterr().err
    assert not (tmp_path / "results.md").exists()


@pytest.mark.slow
def test_members_of_one_seed_are_kept_together_and_compared(bundles, tmp_path, capsys):
    # As if the members of a seed had been trained at two times.
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, other in ((first, "emma-v1-pocket"), (second, "cobra-pocket")):
        shutil.copytree(bundles / "pair", folder)
        shutil.rmtree(folder / other)
    kept, alone = tmp_path / "kept.npz", tmp_path / "alone.npz"
    for bundle, path in ((second, kept), (first, kept), (second, alone)):
        assert main([str(bundle), "--scenes", "2", "--keep", str(path)]) == 0
    assert (
        list(read_measured(kept).members)
        == list(read_measured(kept).origins)
        == ["cobra-pocket", "emma-v1-pocket"]
    )
    out = tmp_path / "out"
    for sources in ([kept], [first, alone]):
        arguments = [*map(str, sources), "--scenes", "2", "--out", str(out)]
        assert main([*arguments, "--json", str(tmp_path / "n.json")]) == 0
        (pair,) = json.loads((tmp_path / "n.json").read_text())["comparisons"]
        assert (pair["a"], pair["b"], pair["seeds"]) == ("cobra-pocket", "emma-v1-pocket", [0])
    before = kept.read_bytes()
    yesterday = tmp_path / "alone-cobra-pocket.npz"
    yesterday.write_text("measured yesterday")
    capsys.readouterr()
    assert main([str(first), "--scenes", "2", "--keep", str(alone)]) == 1
    assert "alone-cobra-pocket.npz is there already" in capsys.readouterr().err
    assert yesterday.read_text() == "measured yesterday"
    assert main([str(first), "--scenes", "2", "--keep", str(kept)]) == 1
    assert "cobra-pocket is in the file already" in capsys.readouterr().err
    (first / "cobra-pocket").rename(first / "emma-v2-pocket")
    assert main([str(first), "--scenes", "3", "--keep", str(kept)]) == 1
    assert "not shown the same: answers 2 and 3, retention 2 and 3" in capsys.readouterr().err
    relabel(first / "emma-v2-pocket", seed=4)
    assert main([str(first), "--scenes", "2", "--keep", str(kept)]) == 1
    assert "these have the seeds 0, 4" in capsys.readouterr().err
    assert kept.read_bytes() == before


@pytest.mark.slow
def test_bundles_are_held_against_each_other_before_one_is_measured(bundles, tmp_path, monkeypatch, capsys):
    def other(name):
        shutil.copytree(bundles / "seed1", tmp_path / name)
        return tmp_path / name / "tiny"

    config = other("recipe") / "config.json"
    about = json.loads(config.read_text())
    about["emma_viz"]["provenance"]["joint"]["lr"] = 1.0
    config.write_text(json.dumps(about))
    relabel(other("twice"), seed=0)
    shutil.copytree(bundles / "seed0", tmp_path / "weights")
    relabel(tmp_path / "weights/tiny", seed=5)
    lens = other("lens")
    shutil.copy(lens / "ridge.lens", lens / "tuned.lens")
    next(other("text").parent.glob("text-*.safetensors")).unlink()
    measured = []
    monkeypatch.setattr("training.results.__main__.measure_bundle", lambda *asked: measured.append(asked))
    for name, said in {
        "recipe": "Seeds of tiny differ in the recipe of the joint stage",
        "twice": "a seed would count twice",
        "weights": "a seed would count twice",
        "lens": "holds a lens of the kind ridge",
        "text": "is missing: tiny is compared with what its training began from",
    }.items():
        asked = [str(bundles / "seed0"), str(tmp_path / name), "--scenes", "2", "--out", str(tmp_path / "o")]
        assert main(asked) == 1
        assert said in capsys.readouterr().err
    assert measured == []


@pytest.mark.slow
def test_what_was_measured_outlasts_the_failure_of_the_next(bundles, tmp_path, monkeypatch, capsys):
    def fails_at_seed1(bundle, world, announced):
        if bundle.name == "seed1":
            raise TrainingError("the machine is tired")
        return measure_bundle(bundle, world, announced)

    asked = ["--scenes", "2", "--out", str(tmp_path)]
    with monkeypatch.context() as patched:
        patched.setattr("training.results.__main__.measure_bundle", fails_at_seed1)
        assert main([str(bundles / "seed0"), str(bundles / "seed1"), *asked]) == 1
    said = capsys.readouterr()
    assert "the machine is tired" in said.err
    (sums,) = tmp_path.glob("sums/results-seed0-2-*.npz")
    assert f"{bundles / 'seed0'}, to be measured: tiny seed 0" in said.out
    assert f"wrote {sums}" in said.out
    assert main([str(sums), str(bundles / "seed1"), *asked]) == 0
    assert f"{sums}, kept: tiny seed 0" in capsys.readouterr().out
    assert "Seeds: tiny 0, 1." in (tmp_path / "results.md").read_text()
    # A look at others does not take its place.
    before = sums.read_bytes()
    assert main([str(bundles / "seed0"), "--scenes", "3", "--out", str(tmp_path)]) == 0
    assert sums.read_bytes() == before


@pytest.mark.slow
def test_what_cannot_be_added_to_a_file_is_kept_beside_it(bundles, tmp_path, monkeypatch, capsys):
    for folder, left_out in (("first", "emma-v1-pocket"), ("second", "cobra-pocket")):
        shutil.copytree(bundles / "pair", tmp_path / folder)
        shutil.rmtree(tmp_path / folder / left_out)
    kept = tmp_path / "kept.npz"
    assert main([str(tmp_path / "second"), "--scenes", "2", "--keep", str(kept)]) == 0
    before = kept.read_bytes()

    def refuses(*_):
        raise TrainingError("They were measured differently.")

    with monkeypatch.context() as patched:
        patched.setattr("training.results.__main__.together", refuses)
        assert main([str(tmp_path / "first"), "--scenes", "2", "--keep", str(kept)]) == 1
    alone = tmp_path / "kept-cobra-pocket.npz"
    assert f"What was measured is in {alone}." in capsys.readouterr().err
    assert kept.read_bytes() == before
    assert list(read_measured(alone).members) == ["cobra-pocket"]
    alone.unlink()
    assert main([str(tmp_path / "first"), "--scenes", "2", "--keep", str(kept)]) == 0
    assert not alone.exists()


def test_a_kept_seed_belongs_to_the_world_of_its_members_whatever_its_name(tmp_path, monkeypatch):
    names = {"photo-seed-1": "b", "photo-seed-2": "seed-9", "seed-1": "photo-a"}
    for name, other in names.items():
        shutil.copy(CHECKOUT / f"docs/measured/{name}.npz", tmp_path / f"{other}.npz")
    monkeypatch.setattr("training.results.__main__._KEPT", tmp_path)
    assert [path.stem for path in kept_of("photos")] == ["b", "seed-9"]
    assert [path.stem for path in kept_of("tabletop")] == ["photo-a"]


@pytest.fixture(scope="module")
def measured(seeds):
    return read_measured(seeds[2] / "measured/seed1.npz")


def with_origin(measured, **changes):
    return replace(measured, origins={name: {**each, **changes} for name, each in measured.origins.items()})


def with_result(measured, **changes):
    return replace(
        measured, members={name: replace(each, **changes) for name, each in measured.members.items()}
    )


@pytest.mark.slow
def test_only_seeds_that_differ_in_the_seed_alone_stand_side_by_side(measured):
    other = with_result(with_origin(measured, seed=7), fingerprint="another")
    require_comparable([measured, other])
    tiny = measured.members["tiny"]
    changed_encoder = {place: {**columns} for place, columns in tiny.scenes.items()}
    changed_encoder["encoder"]["residual"] = 1.1 * changed_encoder["encoder"]["residual"]
    fewer = {topic: {**columns} for topic, columns in tiny.answers.items()}
    fewer["color"]["asked"] = fewer["color"]["asked"] + 1
    cases = {
        "a seed would count twice": with_origin(other, seed=1),
        "count twice": with_result(other, fingerprint=tiny.fingerprint),
        "differ in the encoder, not in the seed alone": with_origin(other, encoder="0123"),
        "differ in the language model that has read text alone": with_origin(other, text="0123"),
        "differ in the recipe of the joint stage": with_origin(other, joint={"scenes": 1}),
        "differ in the budget of the lenses": with_origin(other, lenses={}),
        "differ in the training scenes": with_origin(other, data="0123"),
        "not shown the same: fit 16 and 3": replace(other, shown=replace(other.shown, fit=3)),
        "were measured differently": with_result(other, scenes=changed_encoder),
        "measured differently: what does not depend": with_result(other, answers=fewer),
    }
    for message, each in cases.items():
        with pytest.raises(TrainingError, match=message):
            require_comparable([measured, each])


@pytest.mark.slow
def test_members_are_compared_only_when_they_share_data_encoder_and_recipe(measured):
    tiny = replace(measured.members["tiny"], fingerprint="another")
    both = replace(measured, members={"other": tiny}, origins={"other": measured.origins["tiny"]})
    require_comparable([measured, both])
    for name in ("data", "tokenizer", "encoder", "joint"):
        with pytest.raises(TrainingError, match=r"tiny and other differ in .*, so they cannot be compared"):
            require_comparable([measured, with_origin(both, **{name: "0123"})])


@pytest.mark.slow
def test_a_kept_file_holds_all_that_was_measured(measured, tmp_path):
    save_measured(measured, tmp_path / "again.npz")
    again = read_measured(tmp_path / "again.npz")
    assert (again.name, again.shown, again.origins) == (measured.name, measured.shown, measured.origins)
    one, other = measured.members["tiny"], again.members["tiny"]
    assert (one.fingerprint, one.photo_captions) == (other.fingerprint, other.photo_captions)
    for field in ("scenes", "photos", "answers", "tuned", "shuffled", "untrained"):
        kept, found = getattr(one, field), getattr(other, field)
        assert kept.keys() == found.keys() != set(), field
        for place, columns in kept.items():
            assert columns.keys() == found[place].keys()
            assert all((found[place][name] == values).all() for name, values in columns.items())
    assert all((other.captions[name] == values).all() for name, values in one.captions.items())
    lacking = with_result(measured, tuned={})
    save_measured(lacking, tmp_path / "lacking.npz")
    with pytest.raises(TrainingError, match="no columns of tiny tuned"):
        read_measured(tmp_path / "lacking.npz")


@pytest.mark.slow
def test_files_of_measured_bundles_are_checked(seeds, bundles, tmp_path, capsys):
    kept = seeds[2] / "measured/seed1.npz"
    assert main([str(bundles / "seed0"), str(kept), "--scenes", "2", "--out", str(tmp_path)]) == 1
    assert "was not shown what" in (said := capsys.readouterr().err)
    assert "answers 6 and 2, retention 6 and 2" in said
    assert "Ask for --scenes 6" in said
    cut, empty, bent, array = (tmp_path / f"{name}.npz" for name in ("cut", "empty", "bent", "array"))
    cut.write_bytes(kept.read_bytes()[:2000])
    empty.touch()
    whole = kept.read_bytes()
    bent.write_bytes(whole[: len(whole) // 2] + bytes(40) + whole[len(whole) // 2 + 40 :])
    with array.open("wb") as file:
        np.save(file, np.zeros(3))
    made = {path.name for path in tmp_path.iterdir()}
    for path in (cut, empty, bent, array, tmp_path / "missing.npz", bundles / "seed0/tiny/ridge.lens"):
        assert main([str(path), "--scenes", "6", "--out", str(tmp_path)]) == 1
        assert (said := capsys.readouterr().err).startswith(f"python -m training.results: error: {path}")
        assert "Traceback" not in said
    for sources in ([], [str(bundles / "seed0"), str(bundles / "seed1")], [str(kept)]):
        assert main([*sources, "--keep", str(tmp_path / "new.npz")]) == 1
        assert "one bundle's folder" in capsys.readouterr().err
    assert (
        main(
            [str(bundles / "seed0"), "--keep", str(tmp_path / "new.npz"), "--json", str(tmp_path / "n.json")]
        )
        == 1
    )
    assert "no page and no --json" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == made


@pytest.mark.parametrize(
    ("file", "options", "mend"),
    [
        ("photo-seed-1", [], "Name the photographs' folder (--photos DIR) and a bundle"),
        ("seed-1", ["--photos", "none"], "Leave --photos out"),
    ],
)
def test_what_was_kept_of_another_world_is_refused_before_anything_is_measured(
    file, options, mend, tmp_path, capsys
):
    (tmp_path / "results.md").write_text("as it was")
    kept = CHECKOUT / f"docs/measured/{file}.npz"
    assert main([str(kept), *options, "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert f"{kept} holds cobra-" in said
    assert mend in said
    assert [(each.name, each.read_text()) for each in tmp_path.glob("*.md")] == [("results.md", "as it was")]


@pytest.mark.parametrize(
    "options",
    [
        ["--out", "file"],
        ["--json", "file/n.json"],
        ["--keep", "file/a.npz"],
        ["--out", "page"],
        ["--out", "image"],
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_measured(options, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    (tmp_path / "page/results.md").mkdir(parents=True)
    (tmp_path / "image/images/results.png").mkdir(parents=True)
    assert main(["none", options[0], str(tmp_path / options[1])]) == 1
    assert re.search("file to be a folder|is a folder; choose another", capsys.readouterr().err)
