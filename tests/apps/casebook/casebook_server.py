"""The casebook as a process of its own."""

import socket
import time
import urllib.request
from contextlib import contextmanager

from tests.apps.visiting import started


@contextmanager
def serving_casebook(where: str, *options: str):
    """The casebook's page on a free port; gives its address and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with started("apps.casebook", "--casebook", where, "--port", str(port), *options) as process:
        address = f"http://127.0.0.1:{port}/"
        while True:
            assert process.poll() is None, "the casebook did not start"
            try:
                urllib.request.urlopen(address, timeout=10).close()
                break
            except OSError:
                time.sleep(0.2)
        yield address, process
