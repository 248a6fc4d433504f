"""Archives that torch writes come back as torch reads them; what is not a tensor comes back inert."""

import argparse
import datetime
import pathlib
import pickle
from collections import Counter, OrderedDict, defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from emma_viz.checkpoints.readers.files import open_weights
from emma_viz.checkpoints.readers.pickles import Opaque, read_pickle
from emma_viz.errors import CheckpointError, UnsafePickleError

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]


def saved(tmp_path, content, **options):
    path = tmp_path / "saved.pt"
    torch.save(content, path, **options)
    return open_weights(path)


def tensors_of_all_kinds():
    base = torch.randn(6, 5)
    shared = torch.arange(20.0)
    return {
        "plain": base,
        "transposed": base.T,
        "slice": base[1:4, ::2],
        "expanded": torch.randn(3, 1).expand(3, 4),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "view": shared[4:9],
        "other view": shared[10:].view(2, 5),
        "parameter": nn.Parameter(torch.randn(2, 2)),
        **{str(dtype): torch.randint(0, 2, (3, 3)).to(dtype) for dtype in DTYPES},
    }


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_kind_of_tensor_reads_as_torch_reads_it(tmp_path, protocol):
    content = tensors_of_all_kinds()
    file = saved(tmp_path, content, pickle_protocol=protocol)
    assert list(file.tensors) == list(content)
    for name, tensor in content.items():
        read = file.tensors[name].read()
        assert read.dtype == tensor.dtype
        assert read.shape == tensor.shape
        assert read.is_contiguous()
        assert torch.equal(read, tensor.detach()), name


def test_a_tensor_goes_straight_into_another_type(tmp_path):
    tensor = torch.randn(1000)
    file = saved(tmp_path, {"x": tensor})
    assert torch.equal(file.tensors["x"].read(dtype=torch.bfloat16), tensor.bfloat16())


def test_tensors_larger_than_the_window_are_put_together(tmp_path, monkeypatch):
    monkeypatch.setattr("emma_viz.checkpoints.readers.tensors.WINDOW_BYTES", 4096)
    tensor = torch.randn(41, 1001)
    file = saved(tmp_path, {"x": tensor})
    assert torch.equal(file.tensors["x"].read(), tensor)


def test_values_are_sampled_where_they_are(tmp_path):
    content = tensors_of_all_kinds()
    file = saved(tmp_path, content)
    for name, tensor in content.items():
        indices = list(range(0, tensor.numel(), 3))
        assert torch.equal(file.tensors[name].sample(indices), tensor.detach().reshape(-1)[indices]), name


def test_nested_dictionaries_flatten_with_dots(tmp_path):
    nested = OrderedDict(model=OrderedDict(a={"b.c": torch.ones(1)}, d=defaultdict(dict, e=torch.ones(2))))
    assert list(saved(tmp_path, nested).tensors) == ["a.b.c", "d.e"]


def test_a_state_dict_with_metadata_reads(tmp_path):
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    state = module.state_dict()
    assert hasattr(state, "_metadata")
    assert list(saved(tmp_path, state).tensors) == list(state)


def test_optimizer_and_scheduler_objects_are_never_built(tmp_path):
    from transformers.optimization import get_cosine_schedule_with_warmup

    module = nn.Linear(4, 4)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    scheduler = get_cosine_schedule_with_warmup(optimizer, 1, 10)
    module(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    scheduler.step()
    content = {"model": {"projector": module.state_dict()}, "scheduler": scheduler, "optimizer": optimizer}
    file = saved(tmp_path, content)
    with pytest.raises(pickle.UnpicklingError):  # torch's own restricted loader cannot read such a file
        torch.load(file.path, weights_only=True)
    assert torch.equal(file.tensors["projector.weight"].read(), module.weight)
    assert file.extras == {
        "scheduler": "torch.optim.lr_scheduler.LambdaLR",
        "optimizer": "torch.optim.adamw.AdamW",
    }


def test_harmless_objects_beside_the_model_are_inert(tmp_path):
    beside = {
        "args": argparse.Namespace(lr=1.0, path=pathlib.PurePosixPath("a")),
        "when": datetime.datetime(2024, 1, 1),
        "loss": np.float64(1.5),
        "history": np.arange(3),
        "seen": {1, 2},
        "counts": Counter("aab"),
        "size": torch.Size([1, 2]),
        "dtype": torch.bfloat16,
        "step": 12,
        "name": "run",
    }
    file = saved(tmp_path, {"model": {"w": torch.ones(1)}, **beside})
    assert list(file.tensors) == ["w"]
    assert set(file.extras) == set(beside)
    assert file.extras["step"] == "int"


def test_an_object_in_the_model_part_is_refused(tmp_path):
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))])
    for model in ({"w": optimizer}, {"w": {"deep": [torch.ones(1), (optimizer,)]}}):
        with pytest.raises(UnsafePickleError, match=r"in the model part is a torch\.optim\.sgd\.SGD"):
            saved(tmp_path, {"model": model})
    with pytest.raises(UnsafePickleError, match="model part"):
        saved(tmp_path, {"w": torch.ones(1), "optimizer": optimizer})


def test_numbers_and_text_in_the_model_part_are_kept_apart(tmp_path):
    file = saved(tmp_path, {"model": {"w": torch.ones(1), "step": 3, "note": "text", "sizes": [1, 2]}})
    assert list(file.tensors) == ["w"]
    assert file.others == {"step": "int", "note": "str", "sizes": "list"}


def test_keys_that_collide_or_are_no_text_are_errors(tmp_path):
    with pytest.raises(CheckpointError, match=r"flatten to the same key 'a\.b'"):
        saved(tmp_path, {"a": {"b": torch.ones(1)}, "a.b": torch.ones(1)})
    with pytest.raises(CheckpointError, match="key of the model part is a int"):
        saved(tmp_path, {"model": {0: torch.ones(1)}})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
        lambda inner: (
            st.lists(inner)
            | st.tuples(inner, inner)
            | st.tuples(inner)
            | st.dictionaries(st.text() | st.integers(), inner)
        ),
    ),
    st.integers(0, 5),
)
def test_plain_data_reads_as_pickle_reads_it(value, protocol):
    if protocol < 3 and _has_bytes(value):
        return  # written as a call of _codecs.encode, which is never made
    assert read_pickle(pickle.dumps(value, protocol), where="x") == value


def test_shared_and_recursive_structures_do_not_blow_up():
    value = []
    for _ in range(200):
        value = [value, value]
    read = read_pickle(pickle.dumps(value), where="x")
    assert read[0] is read[1]
    loop = []
    loop.append(loop)
    read = read_pickle(pickle.dumps(loop), where="x")
    assert read[0] is read


def test_sets_are_inert():
    assert isinstance(read_pickle(pickle.dumps({1, 2}, 4), where="x"), Opaque)
    assert isinstance(read_pickle(pickle.dumps(frozenset([1]), 2), where="x"), Opaque)


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"\x80\x02",
        b"0.",
        b"(.",
        b"h\x05.",
        b"\x86.",
        b"}(K\x01u.",
        b"QQ.",
        b"\x80\x02X\xff\xff.",
        b"abc",
    ],
)
def test_damaged_pickles_are_errors(damaged):
    with pytest.raises(CheckpointError, match=r"x: the pickle in it"):
        read_pickle(damaged, where="x")


def _has_bytes(value):
    if isinstance(value, bytes):
        return True
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return any(_has_bytes(item) for item in items)
