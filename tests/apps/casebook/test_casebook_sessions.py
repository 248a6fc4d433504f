"""Twenty visitors at once: each sees what it chose, nothing that one writes is lost, and the server does not grow."""

import re
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
from PIL import Image

from emma_viz.cases.case import CaseAnswer, CaseRecord
from emma_viz.cases.casebook import Casebook
from emma_viz.cases.history import CASE_VERDICTS
from emma_viz.cases.pictures import case_picture
from tests.apps.casebook.casebook_server import serving_casebook
from tests.apps.casebook.casebook_session import CasebookSession
from tests.apps.visiting import PATIENCE, resident

pytestmark = pytest.mark.slow

VISITORS = 20
GROWTH = 200
"""Megabytes that the server may grow by for all of them: a second copy of each page would be more."""
SHARED = "Is there a bench for all?"


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A casebook with a question for each visitor, and one for all."""
    database = str(tmp_path_factory.mktemp("sessions") / "cases.db")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    with Casebook.open(database) as book:
        picture = case_picture(image)
        book.keep_picture(picture)
        book.add(
            [
                CaseRecord(
                    image=picture.hash,
                    prompt=prompt,
                    truth="no",
                    object="bench",
                    benchmark="plain",
                    answers=tuple(
                        CaseAnswer(model=model, text=f"{said}.", said=said, right=said == "no")
                        for model, said in (("a", "yes"), ("b", "no"))
                    ),
                )
                for prompt in (SHARED, *(question(number) for number in range(VISITORS)))
            ]
        )
    return database


def question(number: int) -> str:
    return f"Is there a bench in room{number:02d}?"


def verdict_of(number: int) -> str:
    return list(CASE_VERDICTS)[number % len(CASE_VERDICTS)]


def asked_about(page: str) -> set[str]:
    return set(re.findall(r"Is there a bench [\w ]+\?", page))


@pytest.fixture(scope="module")
def server(filled):
    """Its page: address and process."""
    with serving_casebook(filled) as found:
        yield found


@pytest.fixture(scope="module")
def shared(filled) -> str:
    """The id of the case for all."""
    with Casebook.open(filled) as book:
        return next(each.id for each in book.cases(book.ids()) if each.record.prompt == SHARED)


def test_of_two_who_judge_one_case_the_second_is_told_and_nothing_is_lost(filled, server, shared):
    address, _ = server
    with CasebookSession(address) as ann, CasebookSession(address) as ben:
        for each in (ann, ben):
            each.open("text=for all")
            each.follow("Open the case")
        ann.press("hallucination (1)", **{"Your name": "ann"})
        ben.press("miss (2)", **{"Your name": "ben"})
        assert "ann wrote verdict 'hallucination'" in ben.warning
        assert "ben: verdict" not in ben.html
        ben.press("miss (2)")
        assert ben.warning == ""
        assert "ben: verdict miss" in ben.html
        assert "ann: verdict hallucination" in ben.html
        ben.press("Undo (u)")
    with Casebook.open(filled) as book:
        assert [each.author for each in book.case(shared).history] == ["ann", "ben", "ben"]
        assert book.case(shared).review.verdict == "hallucination"


def test_twenty_sessions_at_once_see_their_own_and_lose_nothing(filled, server):
    address, process = server
    with CasebookSession(address) as first:
        visited(first, VISITORS, Barrier(1), writes=False)
    before = resident(process.pid)
    together = Barrier(VISITORS, timeout=PATIENCE / 1000)

    def visitor(number: int) -> None:
        try:
            with CasebookSession(address) as session:
                visited(session, number, together)
        except BaseException:
            together.abort()  # the others do not wait for who failed
            raise

    with ThreadPoolExecutor(VISITORS) as threads:
        list(threads.map(visitor, range(VISITORS)))
    assert resident(process.pid) - before < GROWTH
    with Casebook.open(filled) as book:
        found = {each.record.prompt: each for each in book.cases(book.ids())}
    for number in range(VISITORS):
        review, history = found[question(number)].review, found[question(number)].history
        assert review.verdict == verdict_of(number)
        assert [each.author for each in history] == [f"visitor {number}"]


def visited(session: CasebookSession, number: int, together: Barrier, *, writes: bool = True) -> None:
    """One visit: all do each step at the same time, and each looks at its own page after all have done it."""
    own = question(number % VISITORS)
    together.wait()
    session.open()
    assert f"{VISITORS + 1} of {VISITORS + 1}" in session.html
    together.wait()
    session.write("Words", f"room{number % VISITORS:02d}")
    assert asked_about(session.html) == {own}
    together.wait()
    session.follow("Open the case")
    assert asked_about(session.html) == {own}
    assert "1 of 1" in session.html
    if not writes:
        return
    verdict = verdict_of(number)
    key = list(CASE_VERDICTS).index(verdict) + 1
    together.wait()
    session.press(f"{verdict} ({key})", **{"Your name": f"visitor {number}"})
    assert session.warning == ""
    assert f"visitor {number}: verdict {verdict}" in session.html
