"""A view with its models in another order: every file has them in the order of the page."""

import base64
import io

import numpy as np
import pytest

from apps.explorer.ordering import ordered
from emma_viz.maps import map_difference
from emma_viz.render import read_spec
from emma_viz.session import View

LOOK = {"order": "1,0", "word": "1,0"}
VIEW = {"layers": [1, 1], "kind": "error", "difference": True, "pair": [0, 1], "look": LOOK}


@pytest.fixture(scope="module")
def result(service, ready):
    assert "error" not in service.attribute({**ready, "model": 0, "word": 0})
    return service.sessions.result(ready["session"], ready["run"])


def saved(service, ready, form, **more):
    reply = service.save({**ready, **VIEW, **more, "format": form})
    assert "error" not in reply, reply
    return base64.b64decode(reply["data"])


def test_everything_that_is_of_a_model_moves_with_it(result):
    found = ordered(result, {"order": "1,0"})
    assert found.models == ("emma", "cobra")
    assert found.traces == result.traces[::-1]
    assert found.words == result.words[::-1]
    assert found.comparison.decodings == result.comparison.decodings[::-1]
    one, other = result.evidence[0, 0, 0, "gradient"], found.evidence[1, 0, 0, "gradient"]
    assert other["models"] == one["models"][::-1]
    assert other["scores"] == one["scores"][::-1]
    assert other["limit"] == one["limit"]


@pytest.mark.parametrize("order", ["", "0,1", "0", "1,1", "2,0", "1,0,2", "x", "1,0\n"])
def test_what_is_no_other_order_changes_nothing(result, order):
    assert ordered(result, {"order": order}) is result


def test_files_have_the_order_of_the_page(service, ready, result, tmp_path):
    with np.load(io.BytesIO(saved(service, ready, "npz"))) as found:
        maps = result.comparison.maps(View(map_kind="error"))
        np.testing.assert_array_equal(found["A_values"], maps[1].values[:, 0])
        np.testing.assert_array_equal(found["B_values"], maps[0].values[:, 0])
        own = np.frombuffer(base64.b64decode(result.evidence[0, 0, 0, "gradient"]["models"][1]), "<f4")
        np.testing.assert_array_equal(found["A_evidence"].ravel(), own)
    (tmp_path / "view.png").write_bytes(saved(service, ready, "png"))
    case = read_spec(tmp_path / "view.png").images[0]
    assert [model.name for model in case.models] == ["emma", "cobra"]
    assert case.difference_limit == pytest.approx(float(map_difference(*maps[::-1]).limit[0]))
    text = saved(service, ready, "sh").decode()
    assert "--models emma cobra" in text
    assert "--difference" in text


def test_the_difference_is_of_the_pair_that_was_chosen(service, ready, result, tmp_path):
    (tmp_path / "view.png").write_bytes(saved(service, ready, "png", pair=[1, 0], look={}))
    case = read_spec(tmp_path / "view.png").images[0]
    assert case.pair == (1, 0)
    assert [model.name for model in case.subtracted] == ["emma", "cobra"]
    text = saved(service, ready, "sh", pair=[1, 0], look={}).decode()
    together, subtracted = text.split("\nemma-viz ")[1:]
    assert "--difference" not in together
    assert "--models emma cobra" in subtracted
    assert "-B-minus-A-layer-1.png" in subtracted


@pytest.mark.parametrize("ends", [[0, 0], [0, 2], [-1, 0]])
@pytest.mark.parametrize("form", ["png", "csv", "sh"])
def test_a_pair_of_models_that_are_not_there_is_refused(service, ready, form, ends):
    reply = service.save({**ready, **VIEW, "pair": ends, "format": form})
    assert "models that are not there" in reply["error"]
