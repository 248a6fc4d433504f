"""Model records as JSON."""

import json

import pytest

from emma_viz.data.provenance import ModelInfo, dump_json, jsonable
from emma_viz.errors import InputError

INFO = ModelInfo(
    name="emma", source="runs/emma", family="emma", fingerprint="ab12", dtype="float32", n_layer=12, d_model=160,
    ssm="mamba1", grid=(16, 16), prompt_style="in-out", taps=(3, 6, 9),
)  # fmt: skip


def test_a_record_comes_back_from_json():
    assert ModelInfo.from_json(json.loads(json.dumps(INFO.to_json()))) == INFO
    alone = ModelInfo(
        name="lm", source="x", family="language-model", fingerprint="0", dtype="float16",
        n_layer=2, d_model=8, ssm="mamba2",
    )  # fmt: skip
    assert ModelInfo.from_json(json.loads(json.dumps(alone.to_json()))) == alone


def test_fields_that_are_missing_or_unknown_are_named():
    record = INFO.to_json()
    with pytest.raises(InputError, match="unknown fields 'colour'"):
        ModelInfo.from_json({**record, "colour": 1})
    del record["fingerprint"]
    with pytest.raises(InputError, match="fingerprint"):
        ModelInfo.from_json(record)


def test_only_plain_data_is_written():
    assert jsonable({"a": (1, [2.5, None, True])}) == {"a": [1, [2.5, None, True]]}
    assert json.loads(dump_json({"µ": (1,)})) == {"µ": [1]}
    for value in ({"a": object()}, {1, 2}, float("nan"), [float("inf")]):
        with pytest.raises(InputError, match="Cannot write"):
            dump_json(value)
