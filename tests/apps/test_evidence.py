"""Evidence for words: several together, found in each way, and what they lose without a place."""

import base64
import io

import numpy as np
import pytest

from emma_viz.evidence.attribution import _Task, attribute, falls_without
from emma_viz.evidence.mixers.frozen import decompose
from emma_viz.evidence.regions import places_alike
from emma_viz.render import read_spec

VIEW = {"layers": [1, 1], "kind": "error", "scale": "shared"}


@pytest.fixture(scope="module")
def result(service, ready):
    return service.sessions.result(ready["session"], ready["run"])


def parts(service, result, first, last):
    """The first model, its trace, and the tokens before and of some words."""
    said, words = result.traces[0].answer_ids[0], result.words[0]
    start, stop = words[first].start, words[last].stop
    return service.models.get("cobra"), result.traces[0], said[:start], said[start:stop]


def arrays(reply):
    return [np.frombuffer(base64.b64decode(each), "<f4") for each in reply["models"]]


def test_several_words_are_scored_together(service, ready, result):
    assert len(result.words[0]) > 2
    reply = service.attribute({**ready, "model": 0, "word": 0, "last": 2})
    model, trace, before, word = parts(service, result, 0, 2)
    expected = attribute(model, trace.images[0], trace.prompts[0], before=before, word=word)
    np.testing.assert_allclose(arrays(reply)[0], expected.values.ravel(), rtol=1e-4, atol=1e-6)
    assert reply["scores"][0] == pytest.approx(expected.score)
    assert (reply["id"], reply["layered"]) == ("gradient", False)


def test_the_frozen_decomposition_adds_up_at_every_layer(service, ready, result):
    reply = service.attribute({**ready, "model": 0, "word": 1, "method": "frozen"})
    assert "error" not in reply, reply
    model, trace, before, word = parts(service, result, 1, 1)
    expected = decompose(model, trace.images[0], trace.prompts[0], before=before, word=word)
    decoding = result.comparison.decodings[0]
    maps = arrays(reply)[0].reshape(len(decoding.layers), *decoding.grid)
    np.testing.assert_allclose(maps[decoding.layers.index(-1)], expected.image, rtol=1e-3, atol=1e-5)
    for layer, found, own in zip(decoding.layers, maps, reply["parts"][0], strict=True):
        shares = expected.shares(layer + 1)
        expected_parts = [shares[name] * expected.score for name in ("image", "text", "bias")]
        assert own == pytest.approx(expected_parts, rel=1e-3, abs=1e-4)
        assert sum(own) == pytest.approx(reply["scores"][0], rel=1e-3, abs=1e-4)
        assert found.sum() == pytest.approx(own[0], rel=1e-3, abs=1e-4)
    assert reply["layered"] is True
    assert all("random sets" in each for each in reply["judged"])


def test_what_words_lose_without_a_place_stands_beside_other_places(service, ready, result):
    reply = service.without({**ready, "model": 0, "word": 0, "last": 1, "row": 0, "region": [1, 0, 2, 1]})
    model, trace, before, word = parts(service, result, 0, 1)
    place = np.zeros(result.comparison.decodings[0].grid, bool)
    place[1:3, 0:2] = True
    others = places_alike(place, count=19, seed=result.asked.image_hash)
    sets = [np.flatnonzero(each.ravel()) for each in (place, *others)]
    own, *rest = falls_without(model, trace.images[0], trace.prompts[0], sets, before=before, word=word)
    found = reply["models"][0]
    assert (found["fall"], found["low"], found["high"]) == pytest.approx((own, min(rest), max(rest)))
    assert (found["others"], found["beats"]) == (len(rest), own > max(rest))
    assert len(reply["models"]) == 2
    whole = service.without({**ready, "model": 0, "word": 0, "row": 0, "region": [0, 0, 3, 3]})
    assert whole["models"][0]["others"] == 0
    band = service.without({**ready, "model": 0, "word": 0, "row": 0, "region": [1, 0, 1, 3]})
    assert band["models"][0]["others"] == 3, "each other row of the four once"


def test_a_knock_out_of_one_set_is_that_of_the_map(service, result):
    model, trace, before, word = parts(service, result, 0, 0)
    given = {"before": before, "word": word}
    every = attribute(model, trace.images[0], trace.prompts[0], method="knockout", **given)
    one = falls_without(model, trace.images[0], trace.prompts[0], [np.array([5])], **given)
    assert one == pytest.approx([float(every.values.ravel()[5])], abs=1e-5)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"last": 99}, "no such word"),
        ({"word": 2, "last": 1}, "no such word"),
        ({"method": "x"}, "no evidence"),
    ],
)
def test_words_and_ways_that_are_none_are_refused(service, ready, wrong, said):
    assert said in service.attribute({**ready, "model": 0, "word": 0, **wrong})["error"]


@pytest.mark.parametrize(
    "wrong", [{"row": 2}, {"region": [0, 0, 4, 0]}, {"region": [1, 0, 0, 0]}, {"word": 99}]
)
def test_places_that_are_none_are_refused(service, ready, wrong):
    asked = {"model": 0, "word": 0, "row": 0, "region": [0, 0, 0, 0], **wrong}
    assert "error" in service.without({**ready, **asked})


def test_the_layer_of_the_page_is_saved(service, ready, result, tmp_path):
    reply = service.attribute({**ready, "model": 0, "word": 0, "last": 1, "method": "frozen"})
    service.attribute({**ready, "model": 0, "word": 0, "last": 1})
    decoding = result.comparison.decodings[0]
    expected = arrays(reply)[0].reshape(-1, *decoding.grid)[decoding.layers.index(1)]
    look = {"word": "0,0,1", "evidence": "frozen"}
    saved = {
        form: base64.b64decode(service.save({**ready, **VIEW, "look": look, "format": form})["data"])
        for form in ("npz", "png", "html")
    }
    with np.load(io.BytesIO(saved["npz"])) as found:
        np.testing.assert_array_equal(found["A_evidence"], expected)
    (tmp_path / "view.png").write_bytes(saved["png"])
    case = read_spec(tmp_path / "view.png").images[0]
    np.testing.assert_array_equal(case.models[0].evidence, expected)
    assert "frozen decomposition at the layer" in (case.word or "")
    assert b'"evidence": {"0,0,1":' in saved["html"] or b'"evidence":{"0,0,1":' in saved["html"]


@pytest.mark.parametrize("method", ["gradient", "frozen"])
def test_evidence_whose_falls_are_no_numbers_is_shown_and_not_judged(service, ready, monkeypatch, method):
    def no_numbers(task, sets, *_):
        return [float("nan")] * len(sets)

    monkeypatch.setattr(_Task, "falls", no_numbers)
    reply = service.attribute({**ready, "model": 0, "word": 2, "method": method})  # no other test's words
    assert reply["judged"] == ["not judged", "not judged"]
    assert reply["beats"] == [None, None]
    assert reply["weak"]
    assert all(np.isfinite(each).all() for each in arrays(reply))
    found = service.without({**ready, "model": 0, "word": 0, "row": 0, "region": [0, 0, 0, 0]})["models"][0]
    assert [found[name] for name in ("fall", "low", "high", "beats")] == [None] * 4
