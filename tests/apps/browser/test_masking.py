"""A place that is held is painted over, and the models are asked again."""

import pytest

from tests.apps.visiting import RUN_PATIENCE

pytestmark = pytest.mark.slow


def test_a_place_is_masked_and_the_models_run_again(visit):
    page = visit.page
    visit.example()
    visit.run()
    button = page.get_by_role("button", name="mask and run again")
    assert button.is_hidden()
    page.mouse.move(*visit.at("map", 0.3, 0.3))
    page.mouse.down()
    page.mouse.move(*visit.at("map", 0.6, 0.7), steps=4)
    page.mouse.up()
    visit.drawn()
    before, region = visit.canvas("emma.result.image.hash"), visit.canvas("emma.view.region")
    button.click()
    page.wait_for_function(
        "before => document.querySelector('.ev').emma.result.image.hash !== before",
        arg=before,
        timeout=RUN_PATIENCE,
    )
    visit.drawn()
    assert visit.canvas("emma.result.image.name") == "coffee, masked"
    assert visit.canvas("emma.view.region") == region
    assert "Masked: columns" in page.locator(".ev-notes").inner_text()
    assert page.locator('#explorer-image img[src*="masked"]').count() == 1
    assert page.get_by_role("button", name="Runs").inner_text() == "Runs (2) ▾"
    visit.link()  # at rest
    page.keyboard.press("[")
    page.wait_for_function(
        "before => document.querySelector('.ev').emma.result.image.hash === before", arg=before
    )
    assert visit.canvas("emma.view.region") == region
    visit.link()  # the flip is a step that Back undoes
    page.evaluate("history.back()")  # to the masked one
    page.wait_for_function(
        "before => document.querySelector('.ev').emma.result.image.hash !== before",
        arg=before,
        timeout=RUN_PATIENCE,
    )
