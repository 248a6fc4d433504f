"""What the server keeps, and for whom."""

from types import SimpleNamespace

import pytest

from apps.explorer.state import Images, Models, Recent, Sessions
from emma_viz.errors import InputError
from emma_viz.session import Running


def result(size=0):
    return SimpleNamespace(size=size)


def test_the_oldest_use_is_forgotten_first():
    kept = Recent(2)
    kept.put("a", 1)
    kept.put("b", 2)
    assert kept.get("a") == 1  # a use
    kept.put("c", 3)
    assert [key for key, _ in kept.items()] == ["a", "c"]
    kept.drop("a")
    assert kept.get("a") is None


def test_a_session_sees_its_own_result_alone():
    sessions = Sessions()
    mine, other = sessions.open(), sessions.open()
    assert mine != other
    kept = result()
    run = sessions.store(mine, kept)
    assert sessions.result(mine, run) is kept
    with pytest.raises(InputError, match="no longer kept"):
        sessions.result(other, run)
    with pytest.raises(InputError, match="reload"):
        sessions.result("guess", run)
    for wrong in (None, 3, ["x"]):
        with pytest.raises(InputError, match="reload"):
            sessions.get(wrong)


def test_a_new_run_takes_the_place_of_the_last():
    sessions = Sessions()
    secret = sessions.open()
    first = sessions.store(secret, result())
    second = sessions.store(secret, result())
    assert second != first
    with pytest.raises(InputError, match="press Run again"):
        sessions.result(secret, first)


def test_states_are_bounded_and_the_newest_stay():
    sessions = Sessions(states=100)
    secrets = [sessions.open() for _ in range(3)]
    runs = [sessions.store(secret, result(60)) for secret in secrets]
    assert sessions.result(secrets[2], runs[2]).size == 60
    for secret, run in zip(secrets[:2], runs[:2], strict=True):
        with pytest.raises(InputError, match="no longer kept"):
            sessions.result(secret, run)
    huge = sessions.store(secrets[0], result(1000))
    assert sessions.result(secrets[0], huge).size == 1000


def test_idle_sessions_end():
    sessions = Sessions(idle=-1)
    secret = sessions.open()
    with pytest.raises(InputError, match="reload"):
        sessions.get(secret)
    assert len(sessions) == 0


def test_models_are_named_by_label_alone(pair):
    models = Models({"a": str(pair.cobra)}, Running(vision_source=str(pair.vision)), keep=1)
    assert models.get("a") is models.get("a")
    with pytest.raises(InputError, match="no model"):
        models.get(str(pair.emma))


def test_images_are_found_by_hash(examples):
    images = Images(examples, keep=1)
    digest, (name, _) = next(iter(examples.items()))
    assert images.get(digest)[0] == name
    images.add("x", "one", examples[digest][1])
    images.add("y", "two", examples[digest][1])
    assert images.get("x") is None
    assert images.get("y")[0] == "two"
    assert images.get("../../etc/passwd") is None
