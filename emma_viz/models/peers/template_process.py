"""The process that renders chat templates: `emma_viz.models.peers.templates` starts it, by the path of this file.

It reads a request a line from standard input, as JSON, and answers each with a line. It imports nothing of emma_viz, so
that it starts soon.
"""

import contextlib
import json
import signal
import sys
from pathlib import Path

_MEMORY = 2 * 2**30
"""Bytes of address space that a template may have beside what the imports took, where the system can see to that."""
_SECONDS = 60
"""After which a template is left, longer than is waited for it: the process that asks may have been killed."""
_LONGEST = 1_000_000
"""Characters of a prompt."""


def main() -> None:
    """Answer until standard input ends, which it does with the process that asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    from transformers.utils.chat_template_utils import render_jinja_template

    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + _MEMORY, taken + _MEMORY))
    alarm = getattr(signal, "alarm", lambda seconds: None)  # ends the process; Windows has none
    answers, sys.stdout = sys.stdout, sys.stderr
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        alarm(_SECONDS)
        try:
            (text,), _ = render_jinja_template(
                conversations=[asked["turns"]], chat_template=asked["template"], **asked["options"]
            )
            if len(text) > _LONGEST:
                raise ValueError(f"it wrote {len(text)} characters, more than {_LONGEST}")
            answer = {"text": text}
        except Exception as failure:
            answer = {"error": f"{type(failure).__name__}: {str(failure).strip()[:400]}"}
        alarm(0)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
