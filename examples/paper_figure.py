"""The paper's Figure 1 for several photographs: two rows a model, the answers below.

python examples/paper_figure.py [OUT.pdf]
"""

import sys
from pathlib import Path

import skimage

from emma_viz.cli.guard import guarded
from emma_viz.session import View, compare, write_picture

PHOTOS = [Path(skimage.__file__).parent / "data" / name for name in ("coffee.png", "chelsea.png")]


def main(out: str = "paper-figure.pdf") -> None:
    """Ask the bundled pair about both photographs, and draw what their image tokens hold."""
    comparison = compare(PHOTOS, ["cobra-pocket", "emma-v1-pocket"])
    picture, sidecar = write_picture(comparison.spec(View(style="paper", layers=(0, 5, 11))), Path(out))
    print(f"wrote {picture} and {sidecar}")


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(*sys.argv[1:]), program="paper_figure.py"))
