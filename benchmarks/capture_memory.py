"""The peak memory of a capture by its number of images: flat, whatever that number is.

    python -m benchmarks.capture_memory                      # 16, 160 and 1600 images with the bundled Cobra
    python -m benchmarks.capture_memory --images 16 160 --store states

Every number of images is captured by a process of its own, whose peak the system tells.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 64
"""Pixels of an image's side."""
ONE = """
import json, sys
from benchmarks.memory import peak
from emma_viz.cli.main import main
given = json.loads(sys.argv[1])
words = ["capture", given["images"], "--models", given["model"], "--out", given["out"], "--store", given["store"]]
words += ["--max-new-tokens", "1", *(["--vision", given["vision"]] if given["vision"] else [])]
assert main(words) == 0
print(peak())
"""


def draw_images(folder: Path, count: int) -> None:
    """Write `count` different images of noise."""
    draw = np.random.default_rng(0)
    folder.mkdir()
    for number in range(count):
        pixels = draw.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:05d}.png", compress_level=1)


def peak(images: Path, model: str, store: str, vision: str | None = None) -> float:
    """The peak memory of a capture of a folder, MB; 1 MB is 2**20 bytes.

    Args:
        images: the folder.
        model: as `capture` takes it.
        store: likewise.
        vision: file of the encoder's weights, if the model lacks them.
    """
    with tempfile.TemporaryDirectory() as folder:
        given = {"images": str(images), "model": model, "store": store, "vision": vision}
        given["out"] = str(Path(folder) / "study")
        done = subprocess.run(
            [sys.executable, "-c", ONE, json.dumps(given)],
            capture_output=True,
            text=True,
            check=True,
        )
    return float(done.stdout.split()[-1])


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line for each number of images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[16, 160, 1600])
    parser.add_argument("--model", default="cobra-pocket")
    parser.add_argument("--vision", help="the encoder's weights, for a model that lacks them")
    parser.add_argument("--store", choices=["states", "pooled", "maps"], default="maps")
    args = parser.parse_args(argv)
    for count in args.images:
        with tempfile.TemporaryDirectory() as folder:
            draw_images(Path(folder) / "images", count)
            found = peak(Path(folder) / "images", args.model, args.store, args.vision)
        print(f"{count:>6} images, {args.store}: {found:.0f} MB at the peak", flush=True)


if __name__ == "__main__":
    main()
