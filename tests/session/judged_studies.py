"""Uses studies as their owner does, one after another, and tells what went wrong.

    python -m tests.session.judged_studies < studies.json

The studies are a list of [name, folder]. Prints a line of JSON for each: its name; what went wrong, or nothing; what it
was refused with, or nothing; megabytes that it took above what the program had; seconds of the processor.
"""

import json
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path


def use(path: Path) -> str:
    """Read, show, copy, add to and clean a study; the first refusal."""
    from emma_viz.errors import EmmaVizError, StudyError
    from emma_viz.session import compare_study
    from emma_viz.study import open_study

    def shown():
        compare_study(path).spec().images[0]

    def read():
        trace = open_study(path).trace("photo")
        trace.images[0]
        if trace.states:
            trace["resid_post", 2]

    refused = ""
    for act in (
        shown,
        read,
        lambda: list(open_study(path).files()),
        lambda: open_study(path).save_arrays("photo", "decoding", {}, {}, overwrite=True),
        lambda: open_study(path).add_entry("photo", overwrite=True),
        lambda: open_study(path).sweep(),
    ):
        try:
            act()
        except EmmaVizError as error:
            refused = refused or str(error)
            if act is not shown and not isinstance(error, StudyError):
                raise
    return refused


def resident(field: str) -> int:
    """Megabytes of this process."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) // 1024


def main() -> None:
    """Judge them all."""
    for name, path in json.load(sys.stdin):
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # The peak begins anew.
        before, begun, wrong, refused = resident("VmRSS"), time.process_time(), "", ""
        signal.alarm(120)  # A hang ends the process.
        try:
            refused = use(Path(path))
        except Exception as error:
            wrong = f"{type(error).__name__}: {error}"[:500]
        took = (resident("VmHWM") - before, time.process_time() - begun)
        print(json.dumps([name, wrong, refused, *took]), flush=True)


if __name__ == "__main__":
    main()
