"""The casebook as a process of its own."""

import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

from tests.apps.visiting import PATIENCE, ROOT


@contextmanager
def serving_casebook(where: str, *options: str):
    """The casebook's page on a free port; gives its address and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "apps.casebook", "--casebook", where, "--port", str(port), *options],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    address = f"http://127.0.0.1:{port}/"
    try:
        while True:
            assert process.poll() is None, process.stderr.read().decode()
            try:
                urllib.request.urlopen(address, timeout=10).close()
                break
            except OSError:
                time.sleep(0.2)
        yield address, process
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE / 1000)
