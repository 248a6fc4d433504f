"""Chat templates are programs of strangers: a process of its own renders them, which ends when it takes too long."""

import atexit
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock, Thread
from typing import Any

_START = 120.0
"""Seconds until the process has imported transformers."""


class TemplateProcess:
    """Renders chat templates, one at a time; its process starts with the first and anew where one had to be ended."""

    def __init__(self):
        self._lock = Lock()
        self._process: subprocess.Popen[str] | None = None

    def render(
        self, template: str, turns: Sequence[Mapping[str, Any]], *, seconds: float, options: Mapping[str, Any]
    ) -> str:
        """What a template writes.

        Args:
            template: in Jinja's language.
            turns: the conversation, as transformers takes it.
            seconds: that it may take.
            options: further names that the template sees.

        Raises:
            ValueError: the template fails, takes too long or too much memory, or writes too much.
            OSError: no process can be started.
        """
        request = json.dumps({"template": template, "turns": list(turns), "options": dict(options)})
        with self._lock:
            try:
                process = self._started()
                assert process.stdin is not None
                process.stdin.write(f"{request}\n")
                process.stdin.flush()
                answer = json.loads(self._line(process, seconds))
            # An interrupt, too: the answer that is still to come would be taken for that of the next.
            except BaseException:
                self.end()
                raise
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer["text"]

    def end(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self.end()
            paths = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(Path(__file__).with_name("template_process.py"))],
                env={**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="ascii",  # JSON with escapes
            )
            self._line(self._process, _START)
        return self._process

    def _line(self, process: subprocess.Popen[str], seconds: float) -> str:
        """The next line that the process writes."""
        assert process.stdout is not None
        found: list[str] = []
        reader = Thread(
            target=lambda stream: found.append(stream.readline()), args=(process.stdout,), daemon=True
        )
        reader.start()
        reader.join(seconds)
        if reader.is_alive():
            raise ValueError(f"it was not done in {seconds:g} seconds")
        if not found or not found[0]:
            raise ValueError("the process that renders it ended: it may have taken too much memory")
        return found[0]


TEMPLATES = TemplateProcess()
"""Of this process."""
atexit.register(TEMPLATES.end)
