"""The page as Gradio sees it, without a browser.

Gradio leaves event loops open when it goes, so each look at it has a process of its own.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from apps.explorer.sessions import KEPT_SESSIONS

ROOT = Path(__file__).resolve().parents[2]

LOOK = """
import asyncio, json, sys
from apps.explorer.page.app import build, import_gradio, launch_options
from apps.explorer.page.links import read_link, restored
from apps.explorer.command import parser, settings_of

async def looks(queue):
    count, sleep = 0, asyncio.sleep

    async def counted(seconds):
        nonlocal count
        count += 1
        await sleep(seconds)

    asyncio.sleep = counted
    idle = asyncio.create_task(queue.start_processing())
    await sleep(1)
    queue.stopped = True
    await idle
    return count


page, service = build(settings_of(parser().parse_args(sys.argv[1:])))
gradio, digest = import_gradio(), service.examples[0]
address = f"#image={digest}&models=emma,nothing&prompt=Is%20it%3F&site=/etc&lens=x&layer=2&%"
values = restored(gradio, service, read_link(address))
runs = [fn for fn in page.fns.values() if fn.concurrency_id == "models"]
options = launch_options()
print(json.dumps({
    "title": page.title,
    "analytics": page.analytics_enabled,
    "runs": [fn.concurrency_limit for fn in runs],
    "values": {key: str(value) for key, value in values.items()},
    "traversal": restored(gradio, service, read_link("#image=../../etc/passwd"))["runs"],
    "keep": str(gradio.skip()),
    "nothing": read_link(None),
    "allowed": options["allowed_paths"],
    "largest": options["max_file_size"],
    "pages": options["state_session_capacity"],
    "head": options["head"],
    "looks": asyncio.run(looks(page._queue)),
}))
service.close()
"""


@pytest.fixture(scope="module")
def seen(pair):
    """What the page says of itself."""
    done = subprocess.run(
        [sys.executable, "-c", LOOK, "--models", *pair.models, "--vision", str(pair.vision)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_runs_wait_in_one_queue(seen):
    assert seen["title"] == "emma_viz explorer"
    assert seen["analytics"] is False
    assert seen["runs"] == [
        1,
        1,
        1,
    ]  # asked on the page, by its link, or by one put into an open page: one at a time


def test_nothing_on_the_server_is_offered_and_nothing_is_fetched(seen):
    assert seen["allowed"] == []
    assert seen["largest"] <= 25 * 2**20
    assert "http" not in seen["head"].replace("http://www.w3.org/2000/svg", "")


def test_an_idle_server_looks_for_work_a_few_times_a_second(seen):
    assert 0 < seen["looks"] < 100


def test_gradio_keeps_no_more_pages_than_there_are_sessions(seen):
    assert seen["pages"] == KEPT_SESSIONS


def test_links_are_read_with_care(seen):
    values = seen["values"]
    assert values["runs"] == "True"
    assert values["models"] == "['emma']"
    assert values["prompt"] == "Is it?"
    assert values["site"] == seen["keep"]
    assert values["lens"] == seen["keep"]
    assert values["image"].endswith(".png")
    assert seen["traversal"] is False
    assert seen["nothing"] == {}
