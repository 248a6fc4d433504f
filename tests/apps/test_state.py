"""What the server keeps, and for whom."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from apps.explorer.sessions import KEPT_PINS, KEPT_RUNS, Sessions
from apps.explorer.state import Images, Models, Recent, RunResult, Turns
from emma_viz.errors import InputError
from emma_viz.session import Running


class Sized(RunResult):
    """The result of a run, of which all that is looked at is what it takes."""

    size = 0
    asked = None
    failed = ()

    def __init__(self, size, asked=None):
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "asked", object() if asked is None else asked)


def result(size=0, asked=None):
    return Sized(size, asked)


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


def test_a_page_has_one_session_whichever_of_its_events_comes_first():
    sessions = Sessions()
    mine = sessions.of("visitor", "page")
    assert sessions.of("visitor", "page") == mine
    assert sessions.get(mine).visitor == "visitor"
    others = {sessions.of("visitor", "other page"), sessions.of("somebody", "page"), sessions.of("", "page")}
    assert len(others - {mine}) == 3
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: sessions.of("visitor", "new page"), range(32)))) == 1


def test_the_runs_of_a_page_whose_session_was_forgotten_are_never_taken_for_others():
    sessions = Sessions(size=1)
    first = sessions.of("visitor", "page")
    old = [sessions.store(first, result()) for _ in range(3)]
    sessions.of("somebody", "other page")  # no room is left for the first
    again = sessions.of("visitor", "page")
    assert again != first
    new = [sessions.store(again, result()) for _ in range(3)]
    assert min(new) > max(old)  # the page draws what is newer than all that it has drawn
    for run in old:
        with pytest.raises(InputError, match="no longer kept"):
            sessions.result(again, run)


def kept(sessions, secret):
    return list(sessions.get(secret).results)


def test_a_new_run_takes_the_place_of_the_oldest_that_is_not_pinned():
    sessions = Sessions()
    secret = sessions.open()
    runs = [sessions.store(secret, result()) for _ in range(KEPT_RUNS)]
    assert kept(sessions, secret) == runs
    sessions.pin(secret, runs[0], pinned=True)
    later = [sessions.store(secret, result()) for _ in range(2)]
    assert kept(sessions, secret) == [runs[0], *runs[3:], *later]
    with pytest.raises(InputError, match="press Run again"):
        sessions.result(secret, runs[1])
    sessions.pin(secret, runs[0], pinned=False)
    sessions.store(secret, result())
    assert runs[0] not in kept(sessions, secret)


def test_the_same_question_again_takes_the_place_of_its_last_answer():
    sessions = Sessions()
    secret = sessions.open()
    first, other = sessions.store(secret, result(asked="same")), sessions.store(secret, result())
    sessions.pin(secret, first, pinned=True)
    again = sessions.store(secret, result(asked="same"))
    assert kept(sessions, secret) == [other, again]
    assert sessions.get(secret).pinned == {again}


def test_pins_have_a_number_and_name_what_is_kept():
    sessions = Sessions()
    secret = sessions.open()
    runs = [sessions.store(secret, result()) for _ in range(KEPT_PINS + 1)]
    for run in runs[:-1]:
        sessions.pin(secret, run, pinned=True)
    sessions.pin(secret, runs[0], pinned=True)  # once more is no more
    with pytest.raises(InputError, match="release one"):
        sessions.pin(secret, runs[-1], pinned=True)
    with pytest.raises(InputError, match="no longer kept"):
        sessions.pin(secret, 99, pinned=True)
    with pytest.raises(InputError, match="no longer kept"):
        sessions.pin(sessions.open(), runs[0], pinned=True)


def test_what_pages_show_is_kept_longest_then_what_is_pinned():
    sessions = Sessions(states=100)
    one, other = sessions.open(), sessions.open()
    runs = [sessions.store(one, result(20)) for _ in range(3)]
    sessions.pin(one, runs[0], pinned=True)
    sessions.result(one, runs[1])  # flipped back
    shown = [sessions.store(other, result(30)) for _ in range(2)]
    assert (kept(sessions, one), kept(sessions, other)) == (runs[:2], shown)
    sessions.store(other, result(50))
    assert (kept(sessions, one), kept(sessions, other)) == (runs[:2], [shown[-1] + 1])
    sessions.store(other, result(90))
    assert (kept(sessions, one), kept(sessions, other)) == ([], [shown[-1] + 2])


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
    sessions = Sessions(idle=-1.0)
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


def test_images_that_are_not_kept_are_looked_for_elsewhere_once(examples):
    asked, image = [], next(iter(examples.values()))[1]

    def others(digest):
        asked.append(digest)
        return ("a case", image) if digest == "x" else None

    images = Images(examples, others=others)
    assert images.get("y") is None
    assert images.get("x") == images.get("x") == ("a case", image)
    assert asked == ["y", "x"]
    assert "x" in images.known()


def test_images_are_bounded_by_their_pixels_too(examples):
    images = Images(examples, pixels=1000)
    for number in range(3):
        images.add(str(number), f"image {number}", Image.new("RGB", (20, 20)))
    assert images.get("0") is None
    assert images.get("1")
    assert images.get("2")
    images.add("3", "large", Image.new("RGB", (200, 200)))
    assert images.get("3")
    assert images.get("2") is None


def test_a_result_that_pages_share_counts_once():
    sessions = Sessions(states=100)
    shared, secrets = result(60), [sessions.open() for _ in range(3)]
    runs = [sessions.store(secret, shared) for secret in secrets]
    assert all(sessions.result(secret, run) is shared for secret, run in zip(secrets, runs, strict=True))


def test_a_results_size_counts_states_decoded_pixels_and_the_image(service, ready):
    kept = service.sessions.result(ready["session"], ready["run"])
    states = sum(each.nbytes for trace in kept.traces for each in trace.states.values())
    decoded = sum(each.patches.nbytes for each in kept.comparison.decodings)
    image = kept.comparison.decodings[0].images[0]
    assert kept.size >= states + decoded + 3 * image.width * image.height


def test_turns_come_in_the_order_they_were_asked_for_and_may_be_given_away():
    turns, order, ready = Turns(), [], threading.Semaphore(0)

    def one(name):
        with turns, turns:
            order.append(name)
            ready.release()

    with turns:
        threads = []
        for name in "abc":
            threads.append(threading.Thread(target=one, args=(name,)))
            threads[-1].start()
            while turns.waiting < len(threads):
                time.sleep(0.001)
        assert order == []
        turns.let_others()  # all who wait already come before
        order.append("me")
    for thread in threads:
        thread.join(30)
    assert order == ["a", "b", "c", "me"]
    with turns:
        turns.let_others()  # nobody waits
