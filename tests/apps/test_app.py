"""The page as Gradio sees it, without a browser."""

import pytest

gradio = pytest.importorskip("gradio", reason="the explorer's page needs gradio")

from apps.explorer.app import _link, _restored, build, launch_options  # noqa: E402
from tests.apps.conftest import settings_for  # noqa: E402


@pytest.fixture(scope="module")
def built(pair):
    page, service = build(settings_for(pair))
    yield page, service
    service.close()


def test_the_page_builds_with_its_queue(built):
    page, _ = built
    assert page.title == "emma_viz explorer"
    assert page.analytics_enabled is False
    runs = [fn for fn in page.fns.values() if fn.concurrency_id == "models"]
    assert len(runs) == 3  # the button, the prompt, a link: one queue, one at a time
    assert {fn.concurrency_limit for fn in runs} == {1}


def test_nothing_on_the_server_is_offered(built):
    options = launch_options()
    assert options["allowed_paths"] == []
    assert options["max_file_size"] <= 25_000_000
    assert "http" not in options["head"].replace("http://www.w3.org/2000/svg", "")


def test_links_are_read_with_care(built):
    _, service = built
    digest = service.examples[0]
    link = _link(f"#image={digest}&models=emma,nothing&prompt=Is%20it%3F&site=/etc&lens=x&layer=2&%")
    values = _restored(gradio, service, link)
    assert values["runs"] is True
    assert values["models"] == ["emma"]
    assert values["prompt"] == "Is it?"
    assert values["site"] == ""
    assert values["lens"] == "ridge"
    assert values["image"].endswith(".png")
    assert _restored(gradio, service, _link("#image=../../etc/passwd"))["runs"] is False
    assert _link(None) == {}
