"""Arrays that are made of the batches of an entry later, one batch at a time."""

import numpy as np
import pytest

from emma_viz.errors import StudyError
from emma_viz.study import open_study
from emma_viz.study.derived import DerivedWriter


@pytest.fixture
def study(tmp_path, make_trace):
    """A study with a stream of two batches."""
    study = open_study(tmp_path / "study", create=True)
    with study.writer("data") as writer:
        for seed in range(2):
            writer.append_batch(make_trace(seed=seed))
    return study


def derive(study, *numbers, meta=None, **how):
    with DerivedWriter(study.path, "data", "sums", **how) as writer:
        for index in numbers:
            writer.write(index, {"a": np.full(3, index)}, meta or {"of": index})


def test_they_are_read_with_the_batches_and_are_files_of_the_study(study):
    derive(study, 0, 1)
    assert study.entry("data").derived == ("sums",)
    found = list(study.batch_arrays("data", "sums"))
    assert [(arrays["a"].tolist(), meta) for arrays, meta in found] == [
        ([0, 0, 0], {"of": 0}),
        ([1, 1, 1], {"of": 1}),
    ]
    assert sum("arrays-sums" in path.name for path in study.files()) == 2


def test_what_an_interrupted_writer_made_is_kept_and_no_part_of_the_study(study):
    with pytest.raises(StudyError, match=r"The batch 1 of the entry 'data' .* has no arrays 'sums'"):
        derive(study, 0)
    with pytest.raises(StudyError, match="have no arrays 'sums'"):
        study.batch_arrays("data", "sums")
    assert [DerivedWriter(study.path, "data", "sums").kept(index) for index in (0, 1)] == [{"of": 0}, None]
    derive(study, 1)
    assert len(list(study.batch_arrays("data", "sums"))) == 2


def test_while_some_are_made_anew_the_old_ones_are_no_part_of_the_study(study):
    derive(study, 0, 1)
    with DerivedWriter(study.path, "data", "sums") as writer:
        assert study.entry("data").derived == ("sums",)
        writer.write(0, {"a": np.zeros(1)}, {"of": "another"})
        assert study.entry("data").derived == ()
    assert [meta["of"] for _, meta in study.batch_arrays("data", "sums")] == ["another", 1]


def test_a_batch_that_is_added_has_none(study, make_trace):
    derive(study, 0, 1)
    with study.writer("data", resume=True) as writer:
        writer.append_batch(make_trace(seed=2))
    assert study.entry("data").derived == ()
    derive(study, 2)
    assert [meta["of"] for _, meta in study.batch_arrays("data", "sums")] == [0, 1, 2]


def test_an_entry_that_is_written_to_meanwhile_is_refused(study, make_trace):
    writer = DerivedWriter(study.path, "data", "sums")
    with study.writer("data", resume=True) as other:
        other.append_batch(make_trace(seed=2))
    with pytest.raises(StudyError, match="was written to meanwhile"):
        writer.write(0, {"a": np.zeros(1)}, {})
    with pytest.raises(StudyError, match="was written to meanwhile"):
        writer.__enter__()


def test_one_writer_at_a_time(study):
    with DerivedWriter(study.path, "data", "sums") as writer:
        for index in (0, 1):
            writer.write(index, {"a": np.zeros(1)}, {})
        with pytest.raises(StudyError, match="Another process is writing"):
            derive(study, 0, 1)


def test_arrays_of_the_whole_entry_are_replaced(study):
    for name in ("old", "mine"):
        study.save_arrays("data", name, {"a": np.zeros(2)}, {})
    derive(study, 0, 1, instead_of=("old",))
    assert list(study.entry("data").arrays) == ["mine"]
    assert len(list(study.path.glob("entries/data/*/*.safetensors"))) == 1
