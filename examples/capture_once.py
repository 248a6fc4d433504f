"""Capture once with the model, then draw as often as you like without it.

python examples/capture_once.py [FOLDER]
"""

import sys
from pathlib import Path

import skimage

from emma_viz import decode, figure, load_lens, load_model, open_study, record
from emma_viz.cli.guard import guarded

PHOTO = Path(skimage.__file__).parent / "data" / "coffee.png"


def capture(folder: Path) -> None:
    """Needs the model: keeps the states of every layer, the answer and the image in a study."""
    trace = record(load_model("emma-v1-pocket"), PHOTO, "Describe the image in detail.")
    open_study(folder, create=True).add_trace(trace, "coffee")


def draw(folder: Path) -> list[Path]:
    """Needs the study alone: two figures from one capture."""
    trace = open_study(folder).trace("coffee")
    decoding = decode(trace, load_lens("emma-v1-pocket"))
    outs = []
    for kind in ("distance", "error"):
        outs.append(folder / f"{kind}.png")
        figure(decoding.maps(kind)).savefig(outs[-1])
    return outs


def main(folder: str = "coffee-study") -> None:
    """Capture, then draw."""
    capture(Path(folder))
    for path in draw(Path(folder)):
        print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(*sys.argv[1:]), program="capture_once.py"))
