"""Capture with the models, decode and compare without them."""

import shutil

import numpy as np
import pytest

from emma_viz.errors import CheckpointError, InputError, SiteError, StudyError
from emma_viz.session import Asking, Running, capture, compare, compare_study, decode_study, scores_table

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
