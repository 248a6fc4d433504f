"""Capture with the models, decode and compare without them."""

import shutil
from collections import namedtuple
from dataclasses import replace

import numpy as np
import pytest

from emma_viz.errors import CheckpointError, InputError, LensMismatchError, SiteError, StudyError
from emma_viz.lens import load_lens, save_lens
from emma_viz.maps import decode
from emma_viz.session import Asking, Running, capture, compare, compare_study, decode_study, scores_table
from emma_viz.session.study_decoding import _Part
from emma_viz.study import Study, open_study

ASKING = Asking(max_new_tokens=2)


@pytest.fixture(scope="module")
def study(pair, photos, tmp_path_factory):
    path = tmp_path_factory.mktemp("studies") / "study"
    running = Running(vision_source=str(pair.vision))
    capture(photos, pair.models, path, layers=(-1, 0, 1, 2), asking=ASKING, running=running)
    return path


def test_a_study_gives_what_a_direct_comparison_gives(study, pair, photos):
    decode_study(study)
    kept = compare_study(study)
    direct = compare(photos, pair.models, asking=ASKING, running=Running(vision_source=str(pair.vision)))
    assert kept.image_names == direct.image_names
    for one, other in zip(kept.decodings, direct.decodings, strict=True):
        assert one.model == other.model
        assert one.answers == other.answers
        assert np.array_equal(one.patches, other.patches)


def test_decoding_again_replaces_the_first(study):
    decode_study(study)
    first = compare_study(study).decodings[0]
    decode_study(study)
    assert np.array_equal(compare_study(study).decodings[0].patches, first.patches)


@pytest.fixture
def batches(pair, photos, tmp_path):
    """A study of a batch an image, that is not decoded yet."""
    running = Running(vision_source=str(pair.vision))
    capture(photos, pair.models, tmp_path / "b", layers=(-1, 0), asking=ASKING, running=running, batch_size=1)
    return tmp_path / "b"


@pytest.fixture
def decoded(monkeypatch):
    """What was decoded: of each batch its model and its number of images."""
    found = []

    def counted(trace, *given, **named):
        found.append((trace.model.name, len(trace)))
        return decode(trace, *given, **named)

    monkeypatch.setattr("emma_viz.session.study_decoding.decode", counted)
    return found


def test_a_study_is_decoded_a_batch_at_a_time_and_measured_so(batches, decoded, pair, photos, tmp_path):
    told = []
    kept = decode_study(batches, progress=lambda *each: told.append(each))
    assert decoded == [("cobra", 1), ("cobra", 1), ("emma", 1), ("emma", 1)]
    assert told[-1] == (3, 4, "decoding emma")
    running = Running(vision_source=str(pair.vision))
    capture(photos, pair.models, tmp_path / "one", layers=(-1, 0), asking=ASKING, running=running)
    together = decode_study(tmp_path / "one")
    for one, other in zip(kept, together, strict=True):
        assert np.allclose(one.patches, other.patches, atol=1e-5)
    assert scores_table(kept) == scores_table(together) == scores_table(tuple(kept))
    assert [[len(each) for each in parts] for parts in kept.in_batches()] == [[1, 1], [1, 1]]


def test_what_the_same_lens_has_decoded_stays(batches, decoded, pair, tmp_path):
    decode_study(batches)
    del decoded[:]
    decode_study(batches)
    assert not decoded
    own = load_lens(pair.cobra / "ridge.lens")
    save_lens(replace(own, info=replace(own.info, fitted_on="others")), tmp_path / "other.lens")
    named = [str(tmp_path / "other.lens"), "ridge"]
    assert decode_study(batches, lenses=named)[0].lens.fitted_on == "others"
    assert decoded == [("cobra", 1)] * 2


def test_a_decode_that_was_interrupted_goes_on_where_it_stopped(batches, decoded, monkeypatch):
    def stop(done, total, what):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode_study(batches, progress=stop)
    with pytest.raises(StudyError, match="holds no decoded pixels yet of 'cobra', 'emma'"):
        compare_study(batches)
    assert decoded == [("cobra", 1)]
    decode_study(batches)
    assert decoded == [("cobra", 1), ("cobra", 1), ("emma", 1), ("emma", 1)]
    assert compare_study(batches)


def test_all_lenses_and_the_room_are_looked_at_before_anything_is_decoded(
    batches, decoded, pair, monkeypatch
):
    with pytest.raises(LensMismatchError, match="it was fitted on emma"):
        decode_study(batches, lenses=["ridge", str(pair.lens_of_emma)][::-1])
    with pytest.raises(LensMismatchError, match="it was fitted on cobra"):
        decode_study(batches, lenses=["ridge", str(pair.cobra / "ridge.lens")])
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(0, 0, 1000))
    with pytest.raises(StudyError, match=r"the disk has 1\.0 kB\. Decode fewer of its entries"):
        decode_study(batches)
    assert not decoded


def test_pixels_of_a_whole_entry_stay_or_are_replaced(batches, decoded, pair):
    """As the explorer writes them."""
    study = open_study(batches)
    found = tuple(decode_study(batches))
    for name, decoding in zip(("cobra", "emma"), found, strict=True):
        study.add_trace(study.trace(name), f"whole {name}")
        arrays, meta = decoding.to_arrays(with_images=False)
        study.save_arrays(f"whole {name}", "decoding", arrays, meta)
    del decoded[:]
    decode_study(batches, entries=["whole cobra"])
    assert not decoded
    decode_study(batches, entries=["whole cobra"], lenses=[str(pair.lens_of_emma)], force_lens=True)
    assert decoded == [("cobra", 2)]
    assert "decoding" not in study.entry("whole cobra").arrays
    assert compare_study(batches, entries=["whole cobra"]).decodings[0].forced


def test_forced_pixels_of_a_whole_entry_are_refused_without_force(batches, decoded, pair):
    study, other = open_study(batches), str(pair.lens_of_emma)
    study.add_trace(study.trace("cobra"), "whole cobra")
    (found,) = decode_study(batches, entries=["whole cobra"], lenses=[other], force_lens=True)
    arrays, meta = found.to_arrays(with_images=False)
    study.save_arrays("whole cobra", "decoding", arrays, meta)
    del decoded[:]
    for entry in ("cobra", "whole cobra"):
        with pytest.raises(LensMismatchError, match="it was fitted on emma"):
            decode_study(batches, entries=[entry], lenses=[other])
    decode_study(batches, entries=["whole cobra"], lenses=[other], force_lens=True)
    assert not decoded


def test_each_batch_is_read_once_to_see_what_is_left(batches, pair, monkeypatch):
    read = []
    plain = Study.traces

    def counted(study, name):
        for trace in plain(study, name):
            read.append(name)
            yield trace

    monkeypatch.setattr(Study, "traces", counted)
    part = _Part.of(open_study(batches), "cobra", load_lens(pair.cobra / "ridge.lens"), force=False)
    assert (part.batches, read) == ({0, 1}, ["cobra"] * 2)


def test_order_of_entries_is_the_order_of_models(study):
    decode_study(study)
    names = [decoding.model.name for decoding in compare_study(study, entries=["emma", "cobra"]).decodings]
    assert names == ["emma", "cobra"]


def test_nothing_is_overwritten_unasked(study, pair, photos):
    with pytest.raises(StudyError, match="overwrite"):
        capture(photos, pair.models, study, asking=ASKING, running=Running(vision_source=str(pair.vision)))


def test_two_models_of_one_name_are_refused_before_one_replaces_the_other(pair, photos, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "cobra").symlink_to(pair.cobra)
    models = [str(pair.cobra), str(tmp_path / "other" / "cobra")]
    with pytest.raises(InputError, match="several called cobra"):
        capture(photos, models, tmp_path / "new", overwrite=True, asking=ASKING)
    assert not (tmp_path / "new").exists()


def test_a_model_that_does_not_exist_is_refused_before_another_runs(pair, photos, tmp_path):
    with pytest.raises(CheckpointError, match="nosuch"):
        capture(photos, [str(pair.cobra), "nosuch"], tmp_path / "new", asking=ASKING)
    assert not (tmp_path / "new").exists()


def test_a_model_that_cannot_be_loaded_leaves_nothing(pair, photos, tmp_path):
    run = tmp_path / "damaged"
    shutil.copytree(pair.cobra, run)
    (weights,) = run.glob("checkpoints/*")
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError):
        capture(photos, [run], tmp_path / "made" / "new", asking=ASKING)
    assert not (tmp_path / "made").exists()


def test_a_model_that_cannot_be_run_leaves_nothing(pair, photos, tmp_path):
    running = Running(vision_source=str(pair.vision))
    with pytest.raises(SiteError, match="resid_pots"):
        capture(photos, [pair.cobra], tmp_path / "new", sites=["resid_pots"], asking=ASKING, running=running)
    assert not (tmp_path / "new").exists()


def test_a_folder_of_other_things_is_refused_before_a_model_is_loaded(pair, photos, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for path, expected in ((tmp_path, "notes.txt"), (tmp_path / "notes.txt" / "new", "to be a folder")):
        with pytest.raises(StudyError, match=expected):
            capture(photos, [pair.cobra], path, asking=ASKING)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_undecoded_study_says_what_to_run(pair, photos, tmp_path):
    running = Running(vision_source=str(pair.vision))
    capture(photos[:1], pair.models[:1], tmp_path / "new", asking=ASKING, running=running)
    with pytest.raises(StudyError, match="emma-viz decode"):
        compare_study(tmp_path / "new")


def test_unknown_entry_names_the_nearest(study):
    with pytest.raises(StudyError, match="emma"):
        decode_study(study, entries=["emm"])


def test_the_lens_beside_a_downloaded_model_is_found(pair, photos, tmp_path, monkeypatch):
    commit, cache = "0123456789abcdef0123456789abcdef01234567", tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    repository = cache / "models--someone--thing"
    shutil.copytree(pair.emma, repository / "snapshots" / commit / "sub")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    running = Running(vision_source=str(pair.vision))
    capture(photos[:1], ["someone/thing/sub"], tmp_path / "new", asking=ASKING, running=running)
    (decoding,) = decode_study(tmp_path / "new")
    assert decoding.model.revision == commit
    assert decoding.lens.model_fingerprint == decoding.model.fingerprint


def test_the_lens_beside_a_weight_file_is_found(pair, photos, tmp_path):
    (weights,) = pair.cobra.glob("checkpoints/*")
    running = Running(vision_source=str(pair.vision))
    capture(photos[:1], [weights], tmp_path / "new", asking=ASKING, running=running)
    (decoding,) = decode_study(tmp_path / "new")
    assert not decoding.forced


def test_scores_table_has_a_line_for_every_layer(study):
    text = scores_table(decode_study(study))
    assert text.count("cobra") == 4
    assert text.count("embedding") == 2
