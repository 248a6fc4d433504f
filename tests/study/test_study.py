"""What goes into a study comes out of it, and opening one reads next to nothing."""

import json
import os
import stat
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from emma_viz.capture import record
from emma_viz.errors import StudyError
from emma_viz.files import tensors
from emma_viz.study import Study, files, open_study
from emma_viz.study.shards import shard_name
from emma_viz.study.trace_files import VERSION

NUMBERS = [np.bool_, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.float16,
           np.float32, np.float64, np.complex64, ">f4", ">i2"]  # fmt: skip


@pytest.fixture
def opened(monkeypatch):
    """The array and image files that are opened from here on."""
    names = []
    safe_open, read_png = tensors.safe_open, files.read_png
    monkeypatch.setattr(
        tensors, "safe_open", lambda path, **how: names.append(path) or safe_open(path, **how)
    )
    monkeypatch.setattr(
        "emma_viz.study.trace_files.read_png",
        lambda path, *what: names.append(path) or read_png(path, *what),
    )
    return names


def test_a_recorded_trace_comes_back_to_the_bit(study, model, photos, assert_same):
    trace = record(
        model, photos, ["a", "b c", "d"], sites=("resid_post", "delta", "norm_f"), layers=[-1, 2], tokens="all",
        max_new_tokens=3, generated_states=True, dtype=torch.bfloat16,
    )  # fmt: skip
    name = study.add_trace(trace)
    back = Study(study.path).trace(name)
    assert_same(back, trace)
    assert torch.equal(back["resid_post", 2].view(torch.int16), trace["resid_post", 2].view(torch.int16))
    for mine, theirs in zip(back.ragged("delta", 2), trace.ragged("delta", 2), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("name", ["Cup", "ü" * 60, "a/b" * 30])
def test_a_data_set_that_was_split_in_two_ways_is_no_one(study, make_trace, assert_same, name):
    traces = {each: make_trace(seed=seed) for seed, each in enumerate(shard_name(name, i, 2) for i in (1, 2))}
    for each, trace in traces.items():
        study.add_trace(trace, each)
    study.add_trace(make_trace(seed=3), f"{name} [shard")
    assert study.parts_of(name) == tuple(traces)
    study.add_trace(make_trace(seed=4), name)
    with pytest.raises(StudyError, match="several ways, into 1, 2 shards"):
        study.trace(name)
    assert_same(study.trace(shard_name(name, 1, 2)), traces[shard_name(name, 1, 2)])


def test_a_data_set_is_not_split_by_what_is_planned_alone(study, make_trace):
    study.plan({"cup [shard 1 of 2]": 1, "cup [shard 2 of 2]": 1, "jug": 1})
    study.add_trace(make_trace(), "cup")
    assert study.parts_of("cup") == ("cup",)
    for index in (1, 2):
        study.add_trace(make_trace(), f"jug [shard {index} of 2]")
    assert study.parts_of("jug") == ("jug [shard 1 of 2]", "jug [shard 2 of 2]")


def test_what_is_written_says_its_version(study, make_trace):
    study.add_trace(make_trace(batch=1), "photo")
    (path,) = study.path.glob("entries/photo/data-*/000000/trace.json")
    assert json.loads(path.read_text())["version"] == VERSION


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_states_keep_their_dtype_and_bits(study, make_trace, assert_same, dtype):
    trace = make_trace(batch=2, dtype=dtype, generated=True)
    trace.states["resid_post"].view(-1)[:4] = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0]).to(dtype)
    study.add_trace(trace, "special")
    assert_same(study.trace("special"), trace)


TEXT = st.text(st.characters(codec="utf-8"), max_size=20)


@settings(max_examples=25)
@given(
    name=st.text(min_size=1, max_size=80).filter(str.strip),
    prompt=TEXT,
    answer=TEXT,
    seed=st.integers(0, 99),
    generated=st.booleans(),
)
def test_any_trace_under_any_name_comes_back(
    study, make_trace, assert_same, name, prompt, answer, seed, generated
):
    trace = make_trace(seed=seed, generated=generated, prompts=(prompt,), answers=(answer,))
    study.add_trace(trace, name, overwrite=True)
    assert_same(study.trace(name), trace)
    assert study.entries[name].prompt == prompt


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
ARRAYS = st.sampled_from(NUMBERS).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)


@settings(max_examples=40)
@given(
    arrays=st.dictionaries(TEXT, ARRAYS, max_size=3),
    meta=st.dictionaries(TEXT, JSON, max_size=3),
    name=st.text(min_size=1).filter(str.strip),
)
def test_any_arrays_come_back(study, arrays, meta, name):
    if "maps" not in study:
        study.add_entry("maps")
    study.save_arrays("maps", name, arrays, meta, overwrite=True)
    back, note = Study(study.path).load_arrays("maps", name)
    assert note == meta
    assert list(back) == list(arrays)
    for key, array in arrays.items():
        native = array.astype(array.dtype.newbyteorder("="))
        assert back[key].dtype == native.dtype
        assert back[key].shape == native.shape
        assert back[key].tobytes() == native.tobytes()


@pytest.mark.parametrize("twist", [np.asfortranarray, lambda a: a[:, ::2], lambda a: a[::-1], lambda a: a.T])
def test_arrays_in_any_memory_order_come_back(study, twist):
    array = twist(np.arange(24, dtype=np.float32).reshape(4, 6))
    study.add_entry("maps")
    study.save_arrays("maps", "twisted", {"values": array}, {})
    assert np.array_equal(study.load_arrays("maps", "twisted")[0]["values"], array)


def test_read_only_arrays_are_stored_and_left_alone(study):
    array = np.arange(3.0)
    array.flags.writeable = False
    study.add_entry("maps")
    study.save_arrays("maps", "fixed", {"values": array}, {})
    assert not array.flags.writeable


def test_writing_into_what_was_loaded_changes_no_file(study, make_trace):
    study.add_trace(make_trace(), "photo")
    study.save_arrays("photo", "maps", {"values": np.zeros(3)}, {})
    study.load_arrays("photo", "maps")[0]["values"][:] = 7
    study.trace("photo")["resid_post", 0][:] = 7
    study.trace("photo").views[:] = 7
    assert not study.load_arrays("photo", "maps")[0]["values"].any()
    assert not (study.trace("photo")["resid_post", 0] == 7).any()
    assert not (study.trace("photo").views == 7).all()


@pytest.mark.parametrize(
    ("arrays", "meta", "message"),
    [
        ({"a": np.array(["text"])}, {}, "'a'"),
        ({"a": np.array([None])}, {}, "'a'"),
        ({"a": np.zeros(2, dtype="c16")}, {}, "complex128"),
        ({}, {"b": {1, 2}}, "set"),
        ({}, {"b": float("nan")}, "JSON"),
    ],
)
def test_what_cannot_be_stored_is_an_error_and_leaves_nothing(study, arrays, meta, message):
    study.add_entry("maps")
    with pytest.raises(StudyError, match=message):
        study.save_arrays("maps", "odd", arrays, meta)
    assert not study.entries["maps"].arrays
    assert not list(study.path.rglob("*.safetensors"))


@pytest.mark.usefixtures("unchecked")
def test_arrays_of_another_library_are_refused(study):
    study.add_entry("maps")
    with pytest.raises(StudyError, match="Tensor"):
        study.save_arrays("maps", "odd", {"a": torch.zeros(2)}, {})


def test_opening_a_study_of_a_thousand_entries_opens_no_array_file(study, make_trace, opened):
    template = study.add_trace(make_trace(), "entry-0")
    entry = json.loads((study.path / "entries" / template / "entry.json").read_text())
    for number in range(1, 1000):
        folder = study.path / "entries" / f"entry-{number}"
        folder.mkdir()
        (folder / "entry.json").write_text(json.dumps(entry | {"name": f"entry-{number}"}))
    again = open_study(study.path)
    assert len(again.entries) == 1000
    assert "entry-999" in again
    assert again.entries["entry-999"].layers == (-1, 0, 2)
    assert opened == []


def test_a_trace_reads_states_and_images_when_they_are_taken(study, make_trace, opened, unchecked):
    # The check of a sequence's type would look at one of its images, and so open it.
    trace = make_trace(batch=2)
    study.add_trace(trace, "photo")
    back = study.trace("photo")
    before = len(opened)
    assert back.prompts == trace.prompts
    assert len(back.images) == 2
    assert len(opened) == before
    assert back.images[1].tobytes() == trace.images[1].tobytes()
    assert back.images[:1][0].tobytes() == trace.images[0].tobytes()
    assert [path.suffix for path in opened[before:]] == [".png", ".png"]


def test_states_of_a_study_are_memory_mapped(study, make_trace):
    study.add_trace(make_trace(), "photo")
    (file,) = study.path.rglob("tensors.safetensors")
    back = study.trace("photo")
    states = back["resid_post", 2]
    with open("/proc/self/maps") as maps:
        assert file.name in maps.read()
    # One layer is a view of the mapped file, not a copy.
    assert states.data_ptr() != study.trace("photo")["resid_post", 2].clone().data_ptr()
    assert states.untyped_storage().nbytes() > states.numel() * 4


def test_entries_tell_what_they_hold(study, make_trace):
    study.add_trace(make_trace(batch=2), "first")
    study.add_trace(make_trace(seed=1).without_states(), "second")
    study.add_entry("third")
    study.save_arrays("first", "maps", {"a": np.zeros(1)}, {})
    first, second, third = study.entries.values()
    assert list(study.entries) == ["first", "second", "third"]
    assert (first.kind, first.model, first.n_samples, first.sites) == (
        "trace",
        "tiny",
        2,
        ("resid_post", "B"),
    )
    assert (first.layers, first.token_kind, first.has_states) == ((-1, 0, 2), "image", True)
    assert (first.prompt, first.answer) == ("prompt 0 0", "answer 0 0")
    assert list(first.arrays) == ["maps"]
    assert not second.has_states
    assert (third.kind, third.n_samples) == ("arrays", 0)


def test_a_trace_without_states_images_or_answers_comes_back(study, make_trace, assert_same):
    trace = make_trace(batch=2, generated=True).without_states()
    study.add_trace(trace, "light")
    assert_same(study.trace("light"), trace)
    bare = make_trace(
        geometry=(), images=(), image_hashes=(), views=np.zeros((0, 17, 17, 3), np.uint8), answers=(), answer_ids=(),
        ended=(), sampling=None,
    )  # fmt: skip
    study.add_trace(bare, "bare")
    assert_same(study.trace("bare"), bare)


def test_images_are_stored_once_however_many_traces_show_them(study, make_trace):
    study.add_trace(make_trace(), "cobra")
    study.add_trace(make_trace(), "emma")
    assert len(list((study.path / "images").iterdir())) == 1


def test_names_are_made_of_the_model_and_the_image(study, make_trace):
    trace = make_trace()
    stem = f"tiny-{trace.image_hashes[0][:8]}"
    assert [study.add_trace(trace) for _ in range(3)] == [stem, f"{stem}-2", f"{stem}-3"]
    assert list(study.entries) == [stem, f"{stem}-2", f"{stem}-3"]


@pytest.mark.parametrize(
    "names", [("Cup", "cup", "CUP"), ("a b", "a-b", "a  b", "a/b"), ("../up", "..", "."), ("con", "ü", "u")]
)
def test_names_that_look_alike_to_a_file_system_stay_apart(study, make_trace, assert_same, names):
    for seed, name in enumerate(names):
        study.add_trace(make_trace(seed=seed), name)
    folders = [folder.name.lower() for folder in (study.path / "entries").iterdir()]
    assert len(set(folders)) == len(names)
    assert "con" not in folders
    for seed, name in enumerate(names):
        assert_same(study.trace(name), make_trace(seed=seed))


def test_an_entry_is_not_replaced_unless_asked(study, make_trace, assert_same):
    old, new = make_trace(seed=0), make_trace(seed=1, batch=2)
    study.add_trace(old, "photo")
    study.save_arrays("photo", "maps", {"a": np.zeros(1)}, {})
    for add in (
        lambda: study.add_trace(new, "photo"),
        lambda: study.add_entry("photo"),
        lambda: study.writer("photo"),
    ):
        with pytest.raises(StudyError, match="already has an entry 'photo'"):
            add()
    assert_same(study.trace("photo"), old)
    study.add_trace(new, "photo", overwrite=True)
    assert_same(study.trace("photo"), new)
    assert not study.entries["photo"].arrays
    assert len(list(study.path.rglob("*.safetensors"))) == 1


def test_arrays_are_not_replaced_unless_asked(study):
    study.add_entry("maps")
    study.save_arrays("maps", "a", {"values": np.zeros(1)}, {"round": 1})
    with pytest.raises(StudyError, match="already has arrays 'a'"):
        study.save_arrays("maps", "a", {"values": np.ones(1)}, {"round": 2})
    assert study.load_arrays("maps", "a")[1] == {"round": 1}
    study.save_arrays("maps", "a", {"values": np.ones(1)}, {"round": 2}, overwrite=True)
    arrays, meta = study.load_arrays("maps", "a")
    assert meta == {"round": 2}
    assert arrays["values"].all()
    assert len(list(study.path.rglob("*.safetensors"))) == 1


def test_what_is_not_there_is_an_error_that_names_the_nearest(study, make_trace):
    study.add_trace(make_trace(), "coffee-cobra")
    study.add_entry("maps")
    study.save_arrays("maps", "distance", {}, {})
    with pytest.raises(StudyError, match=r"no entry 'cofee'.*coffee-cobra"):
        study.trace("cofee")
    with pytest.raises(StudyError, match=r"no arrays 'distanse'.*distance"):
        study.load_arrays("maps", "distanse")
    with pytest.raises(StudyError, match=r"no entry 'mapps'.*maps"):
        study.save_arrays("mapps", "a", {}, {})
    with pytest.raises(StudyError, match="no trace"):
        study.trace("maps")
    with pytest.raises(StudyError, match="not empty"):
        study.add_entry(" ")
    assert " " not in study


def test_paths_in_the_files_are_relative_so_a_study_can_move(study, make_trace, assert_same, tmp_path):
    trace = make_trace(batch=2)
    study.add_trace(trace, "photo")
    study.save_arrays("photo", "maps", {"a": np.arange(3)}, {})
    for file in study.path.rglob("*.json"):
        assert str(tmp_path) not in file.read_text()
    moved = study.path.rename(tmp_path / "elsewhere")
    assert_same(open_study(moved).trace("photo"), trace)
    assert open_study(moved).load_arrays("photo", "maps")[0]["a"].tolist() == [0, 1, 2]


def test_files_have_the_rights_that_the_umask_gives(study, make_trace):
    umask = os.umask(0o027)
    try:
        study.add_trace(make_trace(), "photo")
    finally:
        os.umask(umask)
    (file,) = study.path.rglob("tensors.safetensors")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_no_file_holds_a_pickle(study, make_trace):
    study.add_trace(make_trace(), "photo")
    study.save_arrays("photo", "maps", {"a": np.zeros(3)}, {"kind": "distance"})
    stored = {file for file in study.path.rglob("*") if file.is_file() and file.stat().st_size}
    assert {file.suffix for file in stored} == {".json", ".png", ".safetensors"}


def test_a_trace_of_a_study_can_be_stored_in_another(study, make_trace, assert_same, tmp_path):
    trace = make_trace(batch=2, generated=True)
    study.add_trace(trace, "photo")
    other = open_study(tmp_path / "other", create=True)
    other.add_trace(study.trace("photo"), "copy")
    other.add_trace(study.trace("photo").select(samples=[1], layers=[0]), "part")
    assert_same(other.trace("copy"), trace)
    assert_same(other.trace("part"), trace.select(samples=[1], layers=[0]))
    assert replace(other.trace("part"), states={}).prompts == trace.prompts[1:]
