"""A real server under forged requests (a part of `python -m benchmarks.hostile.attack`), and how it ends."""

import signal
import subprocess

import pytest

from benchmarks.hostile.attack import attack
from tests.apps.visiting import PATIENCE, Visit, serving

pytestmark = pytest.mark.slow


def test_forged_requests_get_nothing(pair):
    counts = attack("--models", *pair.models, "--vision", str(pair.vision), kinds=slice(None, None, 4))
    assert counts.tried >= 50
    assert counts.clean, counts


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
@pytest.mark.parametrize("running", [False, True], ids=["idle", "in a run"])
def test_a_server_that_is_told_to_end_ends_well(browser, tmp_path, monkeypatch, request, name, running):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    heard = signal.getsignal(signal.Signals[name])
    if heard is signal.SIG_IGN:  # as under nohup, and a server that is begun so keeps to it
        signal.signal(signal.Signals[name], signal.SIG_DFL)
    request.addfinalizer(lambda: signal.signal(signal.Signals[name], heard))
    log = tmp_path / "log"
    with serving(log=log) as (address, process):
        visit = Visit(browser, address).open()
        if running:
            visit.example()
            visit.page.locator("#explorer-prompt textarea").fill("Describe every thing in it.")
            visit.press_run()
            visit.page.wait_for_function("document.querySelector('.ev').dataset.state === 'busy'")
        process.send_signal(signal.Signals[name])
        try:
            assert process.wait(PATIENCE / 1000) == 0
        except subprocess.TimeoutExpired:
            pytest.fail("it does not end")
        visit.context.close()
    assert "terminate called" not in log.read_text()
    assert "Traceback" not in log.read_text()
    assert not list(tmp_path.glob("emma-viz-*"))
