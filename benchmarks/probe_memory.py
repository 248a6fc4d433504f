"""The peak memory of an examination by its number of images: nearly flat, whatever that number is.

    python -m benchmarks.probe_memory                       # 100, 500 and 2000 scenes; an untrained tiny Cobra
    python -m benchmarks.probe_memory --images 64 640 --probes retention,patches --model cobra-pocket

Every number of images is examined by a process of its own, whose peak the system tells. What grows with them are a few
numbers an image and layer; states, pictures and sums do not. Batches have as many images as every group can have of
them: 3 of 100 images, 8 from 256 on.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from emma_viz.checkpoints import save_run_directory, save_vision_encoder
from emma_viz.data import train_tokenizer
from emma_viz.models import PRESETS, VLM

ONE = """
import json, sys
from benchmarks.memory import peak
from probes.run import main
code = main(json.loads(sys.argv[1]))
print(peak())
sys.exit(code)
"""
PROBES = "retention,geometry"
"""Cheap ones: of the sums and columns that probes keep, retention's are the largest sums."""


def make_tiny(folder: Path) -> list[str]:
    """Write an untrained tiny Cobra, its encoder beside it, and say the words that load both."""
    tokenizer = train_tokenizer(["Is there a cup?"] * 4, vocab_size=300)
    config = PRESETS["tiny-cobra"]()
    vlm = VLM(replace(config, llm=replace(config.llm, vocab_size=tokenizer.vocab_size)))
    save_run_directory(folder / "tiny", vlm.config, vlm.state_dict(), tokenizer=tokenizer)
    save_vision_encoder(folder / "encoder.safetensors", vlm.vision)
    return [str(folder / "tiny"), "--vision", str(folder / "encoder.safetensors")]


def peak(count: int, model: Sequence[str], probes: str) -> float:
    """The peak memory of `emma-viz probe --count`, MB; 1 MB is 2**20 bytes.

    Args:
        count: images.
        model: the words that name it.
        probes: as `--probes` takes them.
    """
    with tempfile.TemporaryDirectory() as folder:
        words = [*model, "--count", str(count), "--out", folder, "--probes", probes]
        done = subprocess.run(
            [sys.executable, "-c", ONE, json.dumps(words)], capture_output=True, text=True, check=True
        )
    return float(done.stdout.split()[-1])


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line for each number of images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[100, 500, 2000])
    parser.add_argument("--model", help="examined in the place of the tiny one")
    parser.add_argument("--vision", help="the encoder's weights, for a model that lacks them")
    parser.add_argument("--probes", metavar="A,B", default=PROBES)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        given = [args.model, *(["--vision", args.vision] if args.vision else [])]
        model = given if args.model else make_tiny(Path(folder))
        for count in args.images:
            print(f"{count:6d} images, {args.probes}: {peak(count, model, args.probes):7.0f} MB", flush=True)


if __name__ == "__main__":
    main()
