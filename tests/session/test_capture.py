"""What is asked in a capture, and what it keeps."""

import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from emma_viz.capture import record
from emma_viz.capture.sites import SITES, site_width
from emma_viz.checkpoints import load_model, save_run_directory, save_vision_encoder
from emma_viz.cli.main import main
from emma_viz.errors import (
    CheckpointError,
    InputError,
    MissingLensError,
    SiteError,
    StudyError,
    TrainingError,
)
from emma_viz.maps import Decoding
from emma_viz.session import Asking, Running, capture, compare_study, decode_study
from emma_viz.session.capturing.questions import bounds
from emma_viz.session.capturing.stores import bytes_of_each
from emma_viz.study import open_study
from tests.session.killed_studies import ROOT
from tests.session.test_interrupted_studies import content
from tests.tiny_model import tiny_model, tiny_tokenizer
from tests.training.forked_runs import free_port

ASKING = Asking(max_new_tokens=1)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of three small photographs."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(3):
        Image.effect_noise((40 + number, 30), 60).convert("RGB").save(folder / f"{number}.png")
    return folder


def captured(images, pair, path, **more):
    running = Running(vision_source=str(pair.vision))
    options = {"batch_size": 2, "asking": ASKING, "running": running} | more
    return capture(images, [pair.cobra], path, **options)


@pytest.fixture(scope="module")
def states(images, pair, tmp_path_factory):
    """A capture of all states, decoded."""
    path = tmp_path_factory.mktemp("states") / "study"
    captured(images, pair, path, layers=(-1, 0, 1, 2))
    decode_study(path)
    return path


def test_a_question_set_is_captured(images, pair, tmp_path):
    records = [
        {"image": "0.png", "question": "Why?"},
        {"image": "gone.png", "question": "Why?"},
        {"image": "1.png", "question": "Who?"},
        {"image": "1.png"},
        {"picture": "1.png"},
    ]
    (tmp_path / "list.json").write_text(json.dumps(records))
    said = []
    more = {"image_folder": images, "layers": (0,), "say": said.append}
    captured(tmp_path / "list.json", pair, tmp_path / "study", **more)
    trace = open_study(tmp_path / "study").trace("cobra")
    assert trace.prompts == ("Why?", "Who?", ASKING.prompt)
    assert [image.width for image in trace.images] == [40, 41, 41]
    assert said[0].startswith("2 images or records cannot be used")
    with pytest.raises(InputError, match=r"gone.png(.|\n)*'picture'|'picture'(.|\n)*|record 1"):
        captured(tmp_path / "list.json", pair, tmp_path / "new", broken_limit=1, **more)


def test_images_of_an_entry_that_is_not_whole_have_their_names(images, pair, tmp_path):
    def stop(done, total, what):
        if "recording" in what and done > total // 2:
            raise KeyboardInterrupt

    path = tmp_path / "study"
    captured(images / "0.png", pair, path, store="maps")
    with pytest.raises(KeyboardInterrupt):
        captured(images, pair, path, store="maps", batch_size=1, progress=stop)
    assert open_study(path).entry("cobra").n_samples == 2
    assert compare_study(path, entries=["cobra"]).image_names == ("0.png", "1.png")
    captured(images, pair, path, store="maps")
    assert compare_study(path, samples=[2, 0]).image_names == ("2.png", "0.png")


def test_a_capture_of_bfloat16_weights_goes_on_with_them(images, pair, tmp_path):
    model = load_model(pair.cobra, vision_source=str(pair.vision))
    weights = {name: value.bfloat16() for name, value in model.vlm.state_dict().items()}
    save_run_directory(tmp_path / "cobra", model.config, weights, tokenizer=model.tokenizer)
    brief = replace(pair, cobra=tmp_path / "cobra")
    captured(images / "0.png", brief, tmp_path / "study", layers=(0,))
    captured(images, brief, tmp_path / "study", layers=(0,))
    study = open_study(tmp_path / "study")
    assert study.entry("cobra").n_samples == 3
    assert study.trace("cobra").model.dtype == "bfloat16"
    with pytest.raises(StudyError, match=r"type of the weights \('bfloat16' there, 'float32' asked for\)"):
        captured(
            images,
            brief,
            tmp_path / "study",
            layers=(0,),
            running=Running(vision_source=str(pair.vision), dtype="float32"),
        )


def test_a_projector_with_a_language_model_from_elsewhere_goes_on(images, pair, projector, tmp_path):
    def grown(source, llm):
        running = Running(vision_source=str(pair.vision), llm_source=str(llm))
        return capture(
            source, [projector], tmp_path / "study", layers=(0,), batch_size=2, asking=ASKING, running=running
        )

    grown(images / "0.png", pair.cobra)
    grown(images, pair.cobra)
    assert open_study(tmp_path / "study").entry("projector").n_samples == 3
    with pytest.raises(StudyError, match="fingerprint of the model"):
        grown(images, pair.emma)


@pytest.mark.parametrize("other", ["image encoder", "tokenizer"])
def test_an_entry_goes_on_with_the_encoder_and_tokenizer_that_began_it(images, pair, tmp_path, other):
    model = load_model(pair.cobra, vision_source=str(pair.vision))
    next(iter(model.vlm.vision.parameters())).data += 1
    save_vision_encoder(tmp_path / "other.safetensors", model.vlm.vision)
    shutil.copytree(pair.cobra, tmp_path / "cobra")
    words = tmp_path / "cobra" / "tokenizer.json"
    given = replace(pair, cobra=tmp_path / "cobra"), tmp_path / "study"
    captured(images / "0.png", *given, layers=(0,))
    if other == "tokenizer":
        found = json.loads(words.read_text())
        pieces = found["model"]["vocab"]
        (first, one), (second, two) = list(pieces.items())[-2:]
        pieces |= {first: two, second: one}
        words.write_text(json.dumps(found))
        running = Running(vision_source=str(pair.vision))
    else:
        running = Running(vision_source=str(tmp_path / "other.safetensors"))
    with pytest.raises(
        StudyError, match=f"'cobra' that was recorded with another {other}. Give the same --vision"
    ):
        captured(images, *given, layers=(0,), running=running)
    study = open_study(tmp_path / "study")
    assert study.entry("cobra").n_samples == 1
    captured(images, *given, layers=(0,), running=running, overwrite=True)
    assert study.entry("cobra").n_samples == 3
    # Nor is an entry that is whole taken for that of another.
    before = content(tmp_path / "study")
    with pytest.raises(StudyError, match=f"another {other}"):
        captured(images, pair, tmp_path / "study", layers=(0,))
    assert content(tmp_path / "study") == before


def test_an_entry_of_an_older_version_goes_on(images, pair, tmp_path, monkeypatch):
    with monkeypatch.context() as older:
        older.setattr("emma_viz.session.capturing.recording.keep_marks", lambda *_: None)
        captured(images / "0.png", pair, tmp_path / "study", layers=(0,))
    captured(images, pair, tmp_path / "study", layers=(0,))
    assert open_study(tmp_path / "study").entry("cobra").n_samples == 3
    captured(images, pair, tmp_path / "whole", layers=(0,), batch_size=1)
    kept = {name for name in content(tmp_path / "whole") if "beside-weights" in name}
    assert len(kept) == 1
    assert kept < content(tmp_path / "study").keys()


@pytest.mark.slow
def test_each_prompt_is_asked_and_goes_on(images, pair, tmp_path):
    more = {"prompts": ["Why?", "Who?"], "layers": (0,)}
    captured(images / "0.png", pair, tmp_path / "study", **more)
    captured(images, pair, tmp_path / "study", **more)
    captured(images, pair, tmp_path / "whole", **more)
    assert content(tmp_path / "study") == content(tmp_path / "whole")
    assert open_study(tmp_path / "study").trace("cobra").prompts == ("Why?", "Who?") * 3
    with pytest.raises(StudyError, match=r"prompt \('Why\? \| Who\?' there, 'Why\?' asked for\)"):
        captured(images, pair, tmp_path / "study", prompts=["Why?"], layers=(0,))


@pytest.mark.slow
def test_stored_maps_are_those_that_are_decoded_of_states(images, pair, states, tmp_path):
    path = tmp_path / "study"
    captured(images, pair, path, store="maps")
    study = open_study(path)
    assert not study.entry("cobra").has_states
    (one,), (other,) = compare_study(states).decodings, compare_study(path).decodings
    assert other.layers == (-1, 0, 1, 2)
    assert np.array_equal(one.patches, other.patches)
    assert (one.answers, one.image_hashes, one.lens) == (other.answers, other.image_hashes, other.lens)
    assert list(map(np.asarray, other.images))[2].shape == (30, 42, 3)
    assert compare_study(path).image_names == ("0.png", "1.png", "2.png")
    with pytest.raises(StudyError, match="no states of 'cobra' to decode"):
        decode_study(path)
    missing = [file for file in study.files() if not file.is_file()]
    assert not missing
    kept = {file.name for file in study.files()}
    assert "arrays-decoding.safetensors" in kept


def test_of_stored_maps_only_those_that_are_wanted_are_made(images, pair, tmp_path, monkeypatch):
    captured(images, pair, tmp_path / "study", store="maps", states_dtype="float16", batch_size=1)
    made, make = [], Decoding.from_arrays

    def counted(arrays, meta, **given):
        made.append(meta["image_hashes"])
        return make(arrays, meta, **given)

    monkeypatch.setattr(Decoding, "from_arrays", counted)
    (chosen,) = compare_study(tmp_path / "study", samples=[2, 0, 2]).decodings
    assert len(made) == 2
    (whole,) = compare_study(tmp_path / "study").decodings
    assert len(made) == 2 + 3
    np.testing.assert_array_equal(chosen.patches, whole.patches[:, [2, 0, 2]])
    assert chosen.image_hashes == tuple(whole.image_hashes[number] for number in (2, 0, 2))


def test_pooled_states_are_means_and_the_last_token(images, pair, tmp_path):
    captured(images, pair, tmp_path / "study", store="pooled", layers=(-1, 1))
    study = open_study(tmp_path / "study")
    batches = [arrays for arrays, _ in study.batch_arrays("cobra", "pooled")]
    assert [batch["resid_post/image"].shape[1] for batch in batches] == [2, 1]
    model = load_model(pair.cobra, vision_source=str(pair.vision))
    whole = record(
        model, sorted(images.iterdir()), ASKING.prompt, layers=(-1, 1), tokens="all", generate=False
    )
    values = whole["resid_post"]
    mean = values[:, :, : whole.n_image_tokens].mean(dim=2)
    for name, expected in (("image", mean), ("last", values[:, :, -1])):
        got = np.concatenate([batch[f"resid_post/{name}"] for batch in batches], axis=1)
        np.testing.assert_allclose(got, expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("store", ["maps", "pooled"])
def test_stores_go_on_and_are_not_mixed(images, pair, states, tmp_path, store):
    captured(images / "0.png", pair, tmp_path / "study", store=store, batch_size=1)
    captured(images, pair, tmp_path / "study", store=store, batch_size=1)
    captured(images, pair, tmp_path / "whole", store=store, batch_size=1)
    assert content(tmp_path / "study") == content(tmp_path / "whole")
    with pytest.raises(StudyError, match=rf"what it holds \('{store}' there, 'states' asked for\)"):
        captured(images, pair, tmp_path / "study")
    with pytest.raises(StudyError, match=f"type of {store}"):
        captured(images, pair, tmp_path / "study", store=store, states_dtype="float16")
    with pytest.raises(StudyError, match=rf"what it holds \('states' there, '{store}' asked for\)"):
        captured(images, pair, states, store=store)


def test_maps_of_another_lens_are_another_entry(images, pair, tmp_path):
    captured(images, pair, tmp_path / "study", store="maps")
    more = {"store": "maps", "lenses": [str(pair.lens_of_emma)], "force_lens": True}
    with pytest.raises(StudyError, match="lens \\(another ridge one there"):
        captured(images, pair, tmp_path / "study", **more)


@pytest.mark.parametrize("store", ["states", "pooled", "maps"])
def test_the_size_is_said_first_and_must_fit(images, pair, tmp_path, monkeypatch, store):
    said = []
    captured(images, pair, tmp_path / "study", store=store, layers=(0, 2), say=said.append)
    (line,) = said
    assert line.startswith(f"cobra, {store}: 3 images × ")
    usage = namedtuple("Usage", "total used free")(10**9, 10**9, 10_000)
    monkeypatch.setattr("shutil.disk_usage", lambda place: usage)
    monkeypatch.setattr(
        "emma_viz.session.capturing.recording.load", lambda *_: pytest.fail("a model was loaded")
    )
    with pytest.raises(StudyError, match=r"the disk has 10\.0 kB"):
        captured(images, pair, tmp_path / "new", store=store)
    assert not (tmp_path / "new").exists()
    captured(images, pair, tmp_path / "study", store=store, layers=(0, 2))


@pytest.mark.parametrize("store", ["states", "pooled", "maps"])
def test_the_size_that_is_said_is_the_size(images, pair, tmp_path, store):
    captured(images, pair, tmp_path / "study", store=store, layers=(-1, 0, 2))
    files = [each for each in (tmp_path / "study").rglob("*.safetensors") if "names" not in each.name]
    written = sum(each.stat().st_size for each in files)
    config = load_model(pair.cobra, vision_source=str(pair.vision)).config
    expected = 3 * bytes_of_each(store, config, ("resid_post",), (-1, 0, 2), torch.float32)
    assert expected <= written <= expected + 4096 * len(files)


@pytest.mark.parametrize("name", ["tiny-cobra", "tiny-emma-v2"])
def test_widths_of_sites_are_those_that_are_recorded(name):
    model = tiny_model(name, tiny_tokenizer())
    trace = record(
        model, [Image.new("RGB", (9, 9))], "Why?", sites=list(SITES), layers=(0, 1), generate=False
    )
    for site in SITES:
        assert trace[site].shape[-1] == site_width(site, model.config.llm), site


def test_what_can_be_refused_is_before_a_lens_is_fitted(images, pair, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(
        "emma_viz.session.loading.load_model", lambda *_, **__: pytest.fail("a model was loaded")
    )
    bare = tmp_path / "models" / "bare"
    shutil.copytree(pair.cobra, bare, ignore=shutil.ignore_patterns("ridge.lens"))

    def refused(error, match, *models, path=tmp_path / "study", **more):
        running = Running(vision_source=str(pair.vision))
        with pytest.raises(error, match=match):
            capture(images, [bare, *models], path, store="maps", fit_on=images, running=running, **more)
        assert not (tmp_path / "study").exists()

    refused(StudyError, "not empty and no study", path=bare)
    refused(InputError, "ridge lens of bare decodes .* got 9", layers=(9,))
    refused(TrainingError, "has 3 different images")
    refused(SiteError, "got 'lats'", layers=("lats",))
    refused(MissingLensError, "No tuned lens", pair.emma, lenses=["ridge", "tuned"])
    damaged = tmp_path / "models" / "damaged"
    shutil.copytree(pair.emma, damaged)
    for file in damaged.glob("checkpoints/*"):
        file.write_bytes(b"no weights")
    refused(CheckpointError, "damaged", damaged)


def test_maps_take_their_sites_from_the_lens(images, pair, tmp_path):
    with pytest.raises(InputError, match="either sites or maps"):
        captured(images, pair, tmp_path / "study", store="maps", sites=["resid_post"])
    with pytest.raises(InputError, match="float32 or float16"):
        captured(images, pair, tmp_path / "study", store="maps", states_dtype="bfloat16")
    with pytest.raises(InputError, match="got 9"):
        captured(images, pair, tmp_path / "study", store="maps", layers=(9,))


def test_layers_that_are_named_beside_all_are_kept(images, pair, tmp_path):
    argv = ["capture", str(images / "0.png"), "--models", str(pair.cobra), "--vision", str(pair.vision)]
    study = tmp_path / "study"
    argv += ["--max-new-tokens", "1", "--out", str(study), "--layers", "all", "embedding"]
    assert main(argv) == 0
    assert next(open_study(study).traces("cobra")).layers == (-1, 0, 1, 2)


def test_parts_cover_all_questions_once():
    for count in range(1, 20):
        for parts in range(1, count + 1):
            places = [place for part in range(1, parts + 1) for place in range(*bounds(count, (part, parts)))]
            assert places == list(range(count))
    for part in ((0, 2), (3, 2), (1, 0)):
        with pytest.raises(InputError, match="part i/n"):
            bounds(5, part)
    with pytest.raises(InputError, match="at least one question for each of 3"):
        bounds(2, (1, 3))


@pytest.mark.slow
@pytest.mark.parametrize("store", ["states", "maps"])
def test_shards_open_as_one(images, pair, states, tmp_path, store):
    path, more = tmp_path / "study", {"store": store, "prompts": ["Why?", "Who?"]}
    more |= {"layers": (-1, 0, 1, 2)} if store == "states" else {}
    assert captured(images, pair, path, shard=(2, 2), **more) == ("cobra [shard 2 of 2]",)
    study = open_study(path)
    assert study.missing == {"cobra [shard 1 of 2]": (0, 3)}
    with pytest.raises(StudyError, match="lacks shard 1 of 2"):
        study.trace("cobra")
    with pytest.raises(StudyError, match=r"lacks 'cobra \[shard 1 of 2\]' \(0 of 3 images\)"):
        compare_study(path)
    captured(images, pair, path, shard=(1, 2), **more)
    captured(images, pair, tmp_path / "whole", **more)
    whole = open_study(tmp_path / "whole")
    for name in ("prompts", "answers", "image_hashes", "sampling", "labels"):
        assert getattr(study["cobra"], name) == getattr(whole["cobra"], name)
    if store == "states":
        for each in (path, tmp_path / "whole"):
            decode_study(each)
    one, other = compare_study(path), compare_study(tmp_path / "whole")
    assert one.image_names == other.image_names == ("0.png", "0.png", "1.png", "1.png", "2.png", "2.png")
    # Batches of other images add up in another order.
    np.testing.assert_allclose(one.decodings[0].patches, other.decodings[0].patches, atol=1e-3)
    assert len(one.decodings) == 1


def test_a_data_set_is_split_in_one_way(images, pair, tmp_path):
    more = {"store": "pooled", "layers": (0,)}
    captured(images, pair, tmp_path / "study", shard=(1, 2), **more)
    for shard in ((1, 3), (1, 1)):
        with pytest.raises(
            StudyError, match=rf"into {shard[1]}, or not at all; .* holds 'cobra \[shard 1 of 2\]'"
        ):
            captured(images, pair, tmp_path / "study", shard=shard, overwrite=True, **more)
    captured(images, pair, tmp_path / "study", shard=(2, 2), **more)
    assert len(open_study(tmp_path / "study").trace("cobra")) == 3


@pytest.mark.slow
def test_accelerates_launcher_splits_a_capture(images, pair, tmp_path):
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command = [
        "-m",
        "emma_viz",
        "capture",
        str(images),
        "--models",
        str(pair.cobra),
        "--vision",
        str(pair.vision),
    ]
    options = ["--store", "pooled", "--max-new-tokens", "1", "--out", str(tmp_path / "study")]
    done = subprocess.run(
        [*launcher, "--main_process_port", str(free_port()), *command, *options],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    study = open_study(tmp_path / "study")
    assert sorted(study.entries) == ["cobra [shard 1 of 2]", "cobra [shard 2 of 2]"]
    assert [image.width for image in study["cobra"].images] == [40, 41, 42]
    assert not study.missing
