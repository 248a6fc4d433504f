"""Tokens a second of the training loop, and the share of its time in which a step waited for data.

    OMP_WAIT_POLICY=passive python -m benchmarks.training --recipe tiny-emma-v1 --steps 30
    python -m benchmarks.training --recipe emma-v1-pocket --batch 8 --workers 0 1 2 --feature-cache

A data set of noise images and made-up conversations is written to a temporary folder, and the recipe's model is trained
on it with fresh weights for each number of workers (0: batches are made when a step asks for them). The first steps,
in which kernels are compiled, do not count. The numbers are those that a run writes to its metrics.jsonl; on a machine
with other jobs, compare the rows of one call.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from emma_viz.cli.guard import guarded
from emma_viz.models.presets import PRESETS
from training.vision_language.recipe import Phase, training_recipe
from training.vision_language.run import Data, train_vision_language
from training.vision_language.start import FRESH, Start

SKIPPED = 5
"""First steps that do not count."""


def write_data(folder: Path, *, images: int, side: int, words: int) -> Path:
    """Write noise photographs and a conversation about each."""
    rng = np.random.default_rng(0)
    records = []
    for number in range(images):
        picture = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
        picture.save(folder / f"{number}.jpg")
        answer = " ".join(["a cup on a table"] * (1 + int(rng.integers(words))))
        turns = [{"from": "human", "value": "<image>\nDescribe the image."}, {"from": "gpt", "value": answer}]
        records.append({"id": number, "image": f"{number}.jpg", "conversations": turns})
    path = folder / "data.json"
    path.write_text(json.dumps(records))
    return path


def measure(options: argparse.Namespace, data: Data, folder: Path) -> tuple[float, float, float]:
    """One run: tokens a second, the share of the time that steps waited, and seconds a step."""
    recipe = training_recipe(options.recipe)
    batch = options.batch or recipe.phases[0].batch
    recipe = replace(
        recipe,
        phases=(Phase(steps=options.steps + SKIPPED, batch=batch),),
        micro=min(batch, recipe.micro),
        save_every=10**6,
    )
    train_vision_language(recipe, Start(llm=FRESH, vision=FRESH), data, folder, progress=False)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()][SKIPPED:]
    seconds = sum(line["seconds"] for line in lines)
    return (
        sum(line["tokens"] for line in lines) / seconds,
        sum(line["waited"] for line in lines) / seconds,
        seconds / len(lines),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", choices=tuple(PRESETS), default="tiny-emma-v1")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch", type=int, help="records a step (default: the recipe's)")
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[0, 2], help="background threads, one row each"
    )
    parser.add_argument("--feature-cache", action="store_true", help="measure with cached features too")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--side", type=int, default=480, help="of the photographs, pixels")
    parser.add_argument("--words", type=int, default=20, help="longest answer, in phrases of five words")
    options = parser.parse_args(arguments)
    print(f"{'workers':>8}{'features':>10}{'tokens/s':>12}{'waiting':>10}{'s a step':>10}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        records = write_data(folder, images=options.images, side=options.side, words=options.words)
        for cached in (False, True) if options.feature_cache else (False,):
            for workers in options.workers:
                cache = folder / "features" if cached else None
                data = Data(records=records, images=folder, workers=workers, feature_cache=cache, held_out=1)
                run = folder / f"run-{workers}-{cached}"
                rate, waiting, step = measure(options, data, run)
                kind = "cached" if cached else "encoded"
                print(f"{workers:>8}{kind:>10}{rate:>12,.0f}{waiting:>10.1%}{step:>10.3f}", flush=True)


if __name__ == "__main__":
    sys.exit(guarded(main, program="python -m benchmarks.training"))
