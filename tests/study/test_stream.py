"""A data set is written one batch at a time, and read as one trace or batch by batch."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from emma_viz.capture import record
from emma_viz.errors import StudyError
from emma_viz.study import open_study


@pytest.fixture
def study(tmp_path):
    """An empty study."""
    return open_study(tmp_path / "study", create=True)


@pytest.fixture
def batches(make_trace):
    """Batches of 2, 1 and 3 samples."""
    return [make_trace(seed=seed, batch=batch, generated=True) for seed, batch in enumerate([2, 1, 3])]


def write(study, batches, **how):
    with study.writer("data", **how) as writer:
        for batch in batches:
            writer.append_batch(batch)
    return writer


def test_a_stream_is_read_batch_by_batch(study, batches, assert_same):
    writer = write(study, batches)
    assert writer.n_samples == 6
    back = list(open_study(study.path).traces("data"))
    assert len(back) == 3
    for mine, theirs in zip(back, batches, strict=True):
        assert_same(mine, theirs)
    entry = study.entries["data"]
    assert (entry.kind, entry.samples, entry.n_samples) == ("stream", (2, 1, 3), 6)


def test_a_stream_is_read_as_one_trace(study, batches):
    write(study, batches)
    whole = study.trace("data")
    assert len(whole) == 6
    assert whole.prompts == sum((batch.prompts for batch in batches), ())
    for site, layer in [("resid_post", -1), ("B", 2)]:
        assert torch.equal(whole[site, layer], torch.cat([batch[site, layer] for batch in batches]))
        assert torch.equal(
            torch.cat(whole.answer_states(site, layer)),
            torch.cat([states for batch in batches for states in batch.answer_states(site, layer)]),
        )
    assert torch.equal(whole["B"], torch.cat([batch["B"] for batch in batches], dim=1))
    assert np.array_equal(whole.views, np.concatenate([batch.views for batch in batches]))
    assert [image.tobytes() for image in whole.images] == [
        image.tobytes() for batch in batches for image in batch.images
    ]
    assert [hook.fired for hook in whole.hooks] == [3, 3]
    assert whole.select(samples=[3], layers=[2])["resid_post", 2].equal(batches[2]["resid_post", 2][:1])


@pytest.mark.usefixtures("unchecked")  # a type check looks at all layers
def test_one_layer_of_a_stream_reads_no_other(study, batches, monkeypatch):
    write(study, batches)
    whole = study.trace("data")
    monkeypatch.setattr(
        "emma_viz.study.trace_files.StoredStates.__getitem__",
        lambda self, site: pytest.fail("all layers were read"),
    )
    assert whole["resid_post", 0].shape == (6, 4, 5)


def test_batches_of_unequal_length_are_padded_when_they_are_joined(study, one, photos):
    questions = ["What?", "Is there a cup on the table?", "How many?"]
    with study.writer("data") as writer:
        for photo, question in zip(photos, questions, strict=True):
            writer.append_batch(record(one, photo, question, tokens="all", layers=[1], max_new_tokens=2))
    whole = study.trace("data")
    together = record(one, photos, questions, tokens="all", layers=[1], max_new_tokens=2)
    assert whole.lengths == together.lengths
    assert torch.equal(whole["resid_post", 1].isnan().all(-1), ~whole.mask())
    torch.testing.assert_close(
        whole["resid_post"], together["resid_post"], equal_nan=True, rtol=1e-4, atol=1e-4
    )
    assert whole.answer_ids == together.answer_ids


def test_each_batch_is_there_once_it_is_appended(study, batches, assert_same):
    with study.writer("data") as writer:
        assert "data" not in study
        for number, batch in enumerate(batches, start=1):
            writer.append_batch(batch)
            assert len(list(open_study(study.path).traces("data"))) == number
            assert_same(list(study.traces("data"))[-1], batch)


def test_an_exception_keeps_what_was_appended_and_the_stream_can_go_on(study, batches, assert_same):
    def interrupted():
        with study.writer("data") as writer:
            writer.append_batch(batches[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert_same(study.trace("data"), batches[0])
    with study.writer("data", resume=True) as writer:
        assert writer.n_samples == 2
        for batch in batches[1:]:
            writer.append_batch(batch)
    assert [len(trace) for trace in study.traces("data")] == [2, 1, 3]
    for mine, theirs in zip(study.traces("data"), batches, strict=True):
        assert_same(mine, theirs)


def test_a_writer_without_batches_leaves_no_entry(study, batches):
    write(study, [])
    assert not study.entries
    assert not (study.path / "entries").exists()
    write(study, batches[:1])
    assert len(study.trace("data")) == 2


def test_resuming_what_is_not_there_begins_it(study, batches):
    assert write(study, batches[:1], resume=True).n_samples == 2


def test_a_stream_is_not_replaced_unless_asked(study, batches):
    write(study, batches)
    with pytest.raises(StudyError, match="already has an entry 'data'"):
        study.writer("data")
    with pytest.raises(StudyError, match="one of resume and overwrite"):
        study.writer("data", resume=True, overwrite=True)
    write(study, batches[1:2], overwrite=True)
    assert len(study.trace("data")) == 1
    assert len(list(study.path.rglob("tensors.safetensors"))) == 1


def test_a_trace_is_not_resumed_as_a_stream(study, batches):
    study.add_trace(batches[0], "data")
    with pytest.raises(StudyError, match="no stream but a trace"):
        write(study, batches, resume=True)
    # The writer that failed holds no lock.
    write(study, batches, overwrite=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": (0, 2)}, "layers"),
        ({"sites": ("resid_post",)}, "sites"),
        ({"dtype": torch.float16}, "states"),
        ({"generated": False}, "states of answers"),
        ({"token_kind": "text"}, "tokens"),
        ({"answers": (), "answer_ids": (), "ended": (), "sampling": None}, "sampling"),
    ],
)
@pytest.mark.parametrize("resume", [False, True])
def test_batches_that_were_recorded_differently_are_refused(
    study, batches, make_trace, changes, message, resume
):
    other = make_trace(seed=9, **{"generated": True, **changes})
    if resume:
        write(study, batches[:1])
    with study.writer("data", resume=resume) as writer:
        if not resume:
            writer.append_batch(batches[0])
        with pytest.raises(StudyError, match=f"differs in .*{message}"):
            writer.append_batch(other)
        writer.append_batch(batches[1])
    assert study.entries["data"].samples == (2, 1)


def test_another_models_batches_are_refused(study, batches):
    other = replace(batches[1], model=replace(batches[1].model, fingerprint="ff" * 8))
    with study.writer("data") as writer:
        writer.append_batch(batches[0])
        with pytest.raises(StudyError, match=r"tiny \(0f0f0f0f.*now tiny \(ffffffff"):
            writer.append_batch(other)


def test_two_writers_of_one_entry_are_refused(study, batches):
    with study.writer("data") as writer:
        writer.append_batch(batches[0])
        with pytest.raises(StudyError, match="Another process is writing to the entry 'data'"):
            write(open_study(study.path), batches[1:], resume=True)
        writer.append_batch(batches[1])
    assert study.entries["data"].samples == (2, 1)


def test_arrays_may_be_added_while_a_stream_grows(study, batches):
    with study.writer("data") as writer:
        writer.append_batch(batches[0])
        study.save_arrays("data", "maps", {"a": np.zeros(2)}, {})
        writer.append_batch(batches[1])
    assert list(study.entries["data"].arrays) == ["maps"]
    assert study.load_arrays("data", "maps")[0]["a"].shape == (2,)


def test_an_entry_is_not_replaced_under_its_writer(study, batches):
    with study.writer("data") as writer:
        writer.append_batch(batches[0])
        with pytest.raises(StudyError, match="Another process is writing to the entry 'data'"):
            study.add_trace(batches[2], "data", overwrite=True)
        writer.append_batch(batches[1])
    assert len(study.trace("data")) == 3


def test_seeds_that_batches_drew_are_not_given_for_all(study, one, photos):
    with study.writer("data") as writer:
        for photo in photos[:2]:
            writer.append_batch(record(one, photo, "What?", layers=[0], max_new_tokens=2, temperature=1.0))
    seeds = [trace.sampling.seed for trace in study.traces("data")]
    assert len(set(seeds)) == 2
    assert study.trace("data").sampling.seed is None
