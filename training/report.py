"""Measures the trained family as it ships and writes the numbers into docs/training.md.

python -m training.report            measure the bundled models (some minutes) and write the numbers
"""

import argparse
import json
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image

from emma_viz.capture.record import record
from emma_viz.checkpoints import LoadedModel, load_model
from emma_viz.data.tabletop import draw_scene, make_scene, named_kinds
from emma_viz.lens.apply import decode
from emma_viz.lens.evaluation import QualityGatherer, quality_of
from emma_viz.lens.files import load_lens
from emma_viz.lens.info import LayerQuality
from training.bundle import PROMPT, native_decodings
from training.encoder import normalise
from training.questions import answer_scores

PHOTOS = ("coffee.png", "astronaut.png", "chelsea.png")
"""Photographs of scikit-image that no stage of training has seen."""

SCENES, FIT, HELD_OUT, CAPTIONED = 500, 400, 150, 100
DOCUMENT = Path(__file__).parent.parent / "docs" / "training.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def measure(names: Sequence[str]) -> dict[str, Any]:
    """All numbers of the report, per model."""
    images = np.stack([draw_scene(make_scene("test", index)).image for index in range(SCENES)])
    photos = [Image.open(str(files("skimage.data") / name)).convert("RGB") for name in PHOTOS]
    out: dict[str, Any] = {}
    for name in names:
        model = load_model(name)
        features = _features(model, images)
        out[name] = {
            "answers": answer_scores(model.vlm, features, model.tokenizer),
            "naming": _naming(model, list(images[:CAPTIONED])),
            "retention": _retention(model, list(images[:HELD_OUT]), photos),
            "captions": [record(model, photo, PROMPT).answers[0] for photo in photos],
            "encoder": _encoder_quality(model, images, photos),
        }
    return out


@torch.inference_mode()
def _features(model: LoadedModel, images: np.ndarray) -> np.ndarray:
    return torch.cat([model.vlm.vision([part]) for part in normalise(images).split(50)]).numpy()


def _naming(model: LoadedModel, images: list[np.ndarray]) -> dict[str, float]:
    """Precision, recall and F1 of the kinds that captions name."""
    said = [named_kinds(answer) for answer in record(model, images, PROMPT, layers=[0]).answers]
    true = [frozenset(make_scene("test", index).kinds) for index in range(len(images))]
    hits = sum(len(a & b) for a, b in zip(said, true, strict=True))
    precision, recall = hits / max(1, sum(map(len, said))), hits / sum(map(len, true))
    f1 = 2 * precision * recall / max(1e-9, precision + recall)
    return {"precision": round(precision, 4), "recall": round(recall, 4), "f1": round(f1, 4)}


def _retention(model: LoadedModel, scenes: list[np.ndarray], photos: list[Image.Image]) -> dict[str, Any]:
    ridge = load_lens(model, "ridge")
    result: dict[str, Any] = {
        place: [_quality(q) for q in _ridge_quality(model, ridge, shown)]
        for place, shown in (("scenes", scenes), ("photos", photos))
    }
    result["each photo"] = {
        name: [round(q.r2, 4) for q in _ridge_quality(model, ridge, [photo])]
        for name, photo in zip(PHOTOS, photos, strict=True)
    }
    if model.info.taps:
        native = load_lens(model, "native")
        for place, shown in (("native scenes", scenes), ("native photos", photos)):
            result[place] = [_quality(q) for q in quality_of(native_decodings(model, native, shown))[0]]
    return result


def _ridge_quality(model: LoadedModel, ridge, images: list) -> tuple[LayerQuality, ...]:
    decodings = []
    for start in range(0, len(images), 16):
        some = images[start : start + 16]
        trace = record(model, some, PROMPT, layers=ridge.info.layers, generate=False)
        decodings.append(decode(trace, ridge))
    return quality_of(decodings)[0]


def _quality(quality: LayerQuality) -> dict[str, float]:
    return {
        "layer": quality.layer,
        "r2": round(quality.r2, 4),
        "psnr": round(quality.psnr, 2),
        "ssim": round(quality.ssim, 4),
    }


def _encoder_quality(model: LoadedModel, images: np.ndarray, photos: list[Image.Image]) -> dict[str, float]:
    """R² of a ridge from the frozen encoder's tokens to pixels: what the projector is given."""
    train = np.stack([draw_scene(make_scene("train", index)).image for index in range(FIT)])
    shown = np.stack([np.asarray(model.transform.view(photo)) for photo in photos])
    p = model.vlm.config.vision.patch

    def pair(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        patches = rearrange(batch / 255.0, "b (R p) (C q) c -> (b R C) (p q c)", p=p, q=p)
        tokens = _features(model, batch).reshape(len(patches), -1).astype(np.float64)
        return np.hstack([tokens, np.ones((len(tokens), 1))]), patches

    x, y = pair(train)
    gram = x.T @ x
    weight = np.linalg.solve(gram + 1e-5 * np.trace(gram) / len(gram) * np.eye(len(gram)), x.T @ y)
    scores = {}
    for place, batch in (("scenes", images[:HELD_OUT]), ("photos", shown)):
        x, y = pair(batch)
        gatherer = QualityGatherer((0,), model.vlm.grid)
        split = {"b": len(batch), "p": p, "q": p}
        true, decoded = (
            rearrange(each, "(b t) (p q c) -> b t p q c", c=3, **split).astype(np.float32)
            for each in (y, x @ weight)
        )
        gatherer.add_true(true)
        gatherer.add_layer(0, decoded, true)
        scores[place] = round(gatherer.result()[0].r2, 4)
    return scores


def tables(results: dict[str, Any]) -> str:
    """The numbers as Markdown."""
    names = list(results)
    topics = list(results[names[0]]["answers"])
    lines = ["Single-turn accuracy on held-out scenes (existence: and how often the answer was yes)", ""]
    lines += ["| topic | questions | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(names)]
    for topic in topics:
        cells = []
        for name in names:
            score = results[name]["answers"][topic]
            cells.append(
                f"{score['accuracy']:.3f}" + (f" ({score['yes_rate']:.2f})" if "yes_rate" in score else "")
            )
        lines.append(
            f"| {topic} | {results[names[0]]['answers'][topic]['questions']} | " + " | ".join(cells) + " |"
        )
    f1 = [f"{results[name]['naming']['f1']:.3f}" for name in names]
    lines.append(f"| kinds named in captions, F1 | {CAPTIONED} scenes | " + " | ".join(f1) + " |")
    encoder = results[names[0]]["encoder"]
    lines += [
        "",
        "Ridge R² of the pixels by layer (−1: behind the projector), residual stream: scenes / photos",
        "",
    ]
    layers = [entry["layer"] for entry in results[names[0]]["retention"]["scenes"]]
    lines += ["| layer | encoder | " + " | ".join(map(str, layers)) + " | own decoder |"]
    lines += ["|---|---|" + "---|" * (len(layers) + 1)]
    for name in names:
        kept = results[name]["retention"]
        pairs = [
            f"{a['r2']:.2f} / {b['r2']:.2f}" for a, b in zip(kept["scenes"], kept["photos"], strict=True)
        ]
        own = "—"
        if "native scenes" in kept:
            own = f"{kept['native scenes'][-1]['r2']:.2f} / {kept['native photos'][-1]['r2']:.2f}"
        first = f"{encoder['scenes']:.2f} / {encoder['photos']:.2f}"
        lines.append(f"| {name} | {first} | " + " | ".join(pairs) + f" | {own} |")
    lines += ["", "Captions of the photographs (none was trained on)", ""]
    for name in names:
        for photo, answer in zip(PHOTOS, results[name]["captions"], strict=True):
            lines.append(f"- {name}, {Path(photo).stem}: “{answer}”")
    return "\n".join(lines)


def write_into(document: Path, text: str) -> None:
    """Replace what stands between the two marks."""
    before, _, rest = document.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    document.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write; returns the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.report", description=__doc__)
    parser.add_argument("--models", nargs="+", default=["cobra-pocket", "emma-v1-pocket"])
    parser.add_argument("--json", type=Path, help="also write all numbers to this file")
    parser.add_argument("--print", action="store_true", help="print the tables and leave the document alone")
    options = parser.parse_args(arguments)
    results = measure(options.models)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    text = tables(results)
    print(text)
    if not options.print:
        write_into(DOCUMENT, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
