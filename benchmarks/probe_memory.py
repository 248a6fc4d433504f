"""The peak memory of an examination by its number of images: nearly flat, whatever that number is.

    python -m benchmarks.probe_memory                                     # 200 and 2000 scenes, the bundled Cobra
    python -m benchmarks.probe_memory --images 64 640 --probes retention,patches --model RUN --vision ENCODER

Every number of images is examined by a process of its own, whose peak the system tells. What grows with them are a few
numbers an image and layer; states, pictures and sums do not.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence

ONE = """
import json, resource, sys
from probes.run import main
code = main(json.loads(sys.argv[1]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)
"""


def peak(count: int, model: str, probes: str | None = None, vision: str | None = None) -> float:
    """The peak memory of `emma-viz probe --count`, MB; 1 MB is 2**20 bytes."""
    with tempfile.TemporaryDirectory() as folder:
        words = [model, "--count", str(count), "--out", folder]
        words += ["--probes", probes] if probes else []
        words += ["--vision", vision] if vision else []
        done = subprocess.run(
            [sys.executable, "-c", ONE, json.dumps(words)], capture_output=True, text=True, check=True
        )
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return int(done.stdout.split()[-1]) / unit


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line for each number of images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[200, 2000])
    parser.add_argument("--model", default="cobra-pocket")
    parser.add_argument("--vision", help="the encoder's weights, for a model that lacks them")
    parser.add_argument("--probes", metavar="A,B", help="some alone (default: all)")
    args = parser.parse_args(argv)
    for count in args.images:
        print(f"{count:6d} images: {peak(count, args.model, args.probes, args.vision):7.0f} MB", flush=True)


if __name__ == "__main__":
    main()
