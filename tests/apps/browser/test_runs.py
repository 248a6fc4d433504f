"""The runs of a page: flipped between, pinned, and asked about as if each were the last."""

import re

import pytest

from apps.explorer.sessions import KEPT_RUNS
from tests.apps.visiting import RUN_PATIENCE

pytestmark = pytest.mark.slow


def answered(visit, prompt: str) -> None:
    """Ask the image something, and wait for the answer."""
    visit.page.locator("#explorer-prompt textarea").fill(prompt)
    visit.run()
    visit.drawn()


def test_runs_are_flipped_between_without_a_request_and_answer_for_themselves(visit):
    page = visit.page
    runs = page.get_by_role("button", name="Runs")
    visit.example()
    answered(visit, "What is it?")
    assert runs.is_hidden()
    page.locator(".ev-slider").fill("2")
    visit.example(1)
    answered(visit, "Is there a cat?")
    assert runs.inner_text() == "Runs (2) ▾"
    page.mouse.click(*visit.at("map", 0.4, 0.6))
    seen, asked = visit.picture("map"), list(visit.requests)
    place = visit.canvas("emma.view.patch")
    page.keyboard.press("[")
    page.wait_for_function("document.querySelector('.ev').emma.result.prompt === 'What is it?'")
    assert visit.picture("map") != seen
    assert (visit.canvas("emma.view.patch"), visit.canvas("emma.view.layer")) == (place, 2 - 1)
    assert visit.canvas("emma.result.image.name") == "coffee"
    assert "image=" + visit.canvas("emma.result.image.hash") in visit.link()
    page.keyboard.press("Escape")
    page.keyboard.press("]")
    page.wait_for_function("document.querySelector('.ev').emma.result.prompt === 'Is there a cat?'")
    assert [url for url in visit.requests[len(asked) :] if "component_server" not in url] == []  # words alone
    page.keyboard.press("[")
    page.wait_for_function("document.querySelector('.ev').emma.result.prompt === 'What is it?'")
    page.locator(".ev-word").first.click()
    page.wait_for_selector("[data-share]")
    runs.click()
    current = page.locator(".ev-run[aria-current=true]")
    assert current.inner_text().splitlines()[:2] == ["coffee", "What is it?"]
    page.locator(".ev-run").first.click()  # the list stays open, to flip on
    page.wait_for_function("document.querySelector('.ev').emma.result.prompt === 'Is there a cat?'")
    assert page.locator(".ev-runs").is_visible()
    assert page.locator(".ev-run[aria-current=true]").inner_text().startswith("cat")
    assert visit.canvas("emma.view.word") is None
    page.keyboard.press("Escape")
    assert page.locator(".ev-runs").is_hidden()


class Held:
    """A slow line: what results show waits until it is let go, the oldest first.

    Args:
        visit: the page.
    """

    def __init__(self, visit):
        self.visit, self.routes = visit, []
        visit.page.route(re.compile("/component_server"), self._take)

    def _take(self, route) -> None:
        if route.request.post_data_json["fn_name"] == "payload":
            self.routes.append(route)
        else:
            route.continue_()

    def ask(self, prompt: str) -> int:
        """Ask something, wait until what the result shows is asked for, and give the run's number."""
        before, page = len(self.routes), self.visit.page
        page.locator("#explorer-prompt textarea").fill(prompt)
        self.visit.press_run()
        for _ in range(RUN_PATIENCE // 50):
            if len(self.routes) > before:
                return self.routes[-1].request.post_data_json["data"]["run"]
            page.wait_for_timeout(50)
        raise AssertionError(f"{prompt} has no result")

    def shown(self, prompt: str) -> None:
        """Wait until the result that answers something is shown."""
        self.visit.page.wait_for_function(
            "prompt => document.querySelector('.ev').emma.result.prompt === prompt", arg=prompt
        )

    def asked_about(self, x: float) -> int:
        """The run about which a place of the first map is asked, as all that is measured and saved."""
        page = self.visit.page
        page.keyboard.press("Escape")
        with page.expect_request(lambda sent: (sent.post_data or "").find('"words"') >= 0) as found:
            page.mouse.click(*self.visit.at("map", x, 0.6))
        return found.value.post_data_json["data"]["run"]


def test_what_is_asked_is_about_the_run_that_is_shown_however_late_results_come(visit):
    page = visit.page
    visit.example()
    answered(visit, "First?")
    answered(visit, "Second?")
    held = Held(visit)

    third = held.ask("Third?")
    page.get_by_role("button", name="Runs").click()
    page.locator(".ev-run").last.click()  # while it is on its way
    held.shown("First?")
    page.keyboard.press("Escape")
    held.routes.pop(0).continue_()
    held.shown("Third?")
    assert held.asked_about(0.4) == third

    held.ask("Fourth?")
    fifth = held.ask("Fifth?")
    held.routes.pop(1).continue_()
    held.shown("Fifth?")
    held.routes.pop(0).continue_()
    page.get_by_role("button", name="Runs (5)").click()
    prompts = [each.splitlines()[1] for each in page.locator(".ev-run").all_inner_texts()]
    assert prompts == ["Fifth?", "Fourth?", "Third?", "Second?", "First?"]
    assert page.locator(".ev-run[aria-current=true]").inner_text().splitlines()[1] == "Fifth?"
    page.keyboard.press("Escape")
    assert visit.canvas("emma.result.prompt") == "Fifth?"
    assert held.asked_about(0.5) == fifth

    held.ask("Sixth?")
    held.routes.pop(0).fulfill(json={"error": "That result is gone."})
    page.get_by_role("button", name="Back to the last result").click()
    assert visit.canvas("emma.result.prompt") == "Fifth?"
    assert held.asked_about(0.6) == fifth
    page.unroute(re.compile("/component_server"))


def test_a_run_that_is_pinned_stays_when_newer_ones_come(visit):
    page = visit.page
    visit.example(3)
    answered(visit, "Number 0?")
    answered(visit, "Number 1?")
    page.get_by_role("button", name="Runs").click()
    page.locator("[data-pin]").last.click()
    page.wait_for_selector("[data-pin][aria-pressed=true]")
    for number in range(2, KEPT_RUNS + 1):
        answered(visit, f"Number {number}?")
    answered(visit, f"Number {KEPT_RUNS}?")  # the same again is no run more
    page.get_by_role("button", name="Runs").click()
    prompts = [each.splitlines()[1] for each in page.locator(".ev-run").all_inner_texts()]
    assert prompts == [f"Number {number}?" for number in (*range(KEPT_RUNS, 1, -1), 0)]
    page.locator(".ev-run").last.click()
    page.wait_for_function("document.querySelector('.ev').emma.result.prompt === 'Number 0?'")
    page.keyboard.press("Escape")  # closes the list
    page.locator(".ev-word").first.click()
    page.wait_for_selector("[data-share]")
