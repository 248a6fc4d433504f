"""Sound samples of everything that the programs read: tiny models of random weights, and what is made with them."""

import io
import json
import os
import shutil
import sys
import traceback
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file

from emma_viz.checkpoints import load_model, save_run_directory, save_vision_encoder
from emma_viz.checkpoints.sources import BUNDLED
from emma_viz.cli.main import main
from emma_viz.data import train_tokenizer
from emma_viz.lens import save_lens
from emma_viz.models import VLM
from emma_viz.models.config import MambaConfig
from emma_viz.models.language_model import MambaLM
from emma_viz.models.presets import PRESETS
from emma_viz.session import fit_ridge

ENCODER = "encoder.safetensors"
ASKED = ("--max-new-tokens", "4", "--prompt", "What colour is it?")
SEEN_FORMATS = {
    "png": {}, "jpg": {"quality": 80}, "gif": {}, "webp": {}, "tif": {"compression": "tiff_lzw"}, "bmp": {},
    "ppm": {}, "tga": {}, "ico": {}, "pcx": {}, "jp2": {}, "avif": {}, "dds": {}, "sgi": {}, "im": {}, "icns": {},
    "mpo": {}, "apng": {}, "tiff": {"compression": "jpeg"},
}  # fmt: skip
"""Suffix → options of Pillow's writer; what this Pillow cannot write is left out."""


@dataclass(frozen=True)
class Samples:
    """A folder of sound files; all are made by this project's own code."""

    folder: Path

    @property
    def models(self) -> Path:
        """`cobra` and `emma`, run directories with a ridge lens each, and the encoder that they share."""
        return self.folder / "models"

    @property
    def model_options(self) -> list[str]:
        """The command line's words for the pair."""
        pair = [str(self.models / name) for name in ("cobra", "emma")]
        return ["--models", *pair, "--vision", str(self.models / ENCODER), *ASKED]

    @property
    def photo(self) -> Path:
        """A small drawing as a photograph."""
        return self.folder / "photo.png"

    @property
    def study(self) -> Path:
        """A study of the pair, captured and decoded."""
        return self.folder / "study"

    @property
    def captured(self) -> Path:
        """The same study before it was decoded."""
        return self.folder / "captured"

    @property
    def language_models(self) -> tuple[Path, ...]:
        """Folders in the layouts of state-spaces and of transformers."""
        return tuple(sorted((self.folder / "language-models").iterdir()))

    @property
    def images(self) -> tuple[Path, ...]:
        """The drawing in every format and mode."""
        return tuple(sorted((self.folder / "images").iterdir()))

    @property
    def lenses(self) -> tuple[Path, ...]:
        """A lens of each kind."""
        return (
            self.models / "emma" / "ridge.lens",
            *(BUNDLED / "emma-v1-pocket" / f"{kind}.lens" for kind in ("native", "tuned")),
        )

    @property
    def data(self) -> Path:
        """A LLaVA data set: `data.json`, `data.jsonl`, `images`, `tokenizer.json`."""
        return self.folder / "data"

    @property
    def data_options(self) -> list[str]:
        """The command line's words for it, with fresh weights."""
        return [
            *("--data", str(self.data / "data.json"), "--images", str(self.data / "images")),
            *("--tokenizer", str(self.data / "tokenizer.json"), "--llm", "fresh", "--vision", "fresh"),
        ]


def make_samples(folder: Path) -> Samples:
    """Make all samples in a new folder.

    Raises:
        RuntimeError: a command failed.
    """
    samples = Samples(folder.resolve())
    samples.folder.mkdir(parents=True)
    # In a process of its own: one that has run compiled kernels cannot be forked any more.
    child = os.fork()
    if not child:
        code = 1
        try:
            _make(samples)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    if os.waitpid(child, 0)[1]:
        raise RuntimeError("the samples could not be made; the reason stands above")
    # Not again in each of the processes that are forked from this one.
    for name in ("figure.html", "figure.svg", "figure.png"):
        _run(samples, "figure", "--from", "figure.html.json", "--out", name)
    _run(samples, "inspect", "models/emma")
    load_model(samples.models / "emma", vision_source=str(samples.models / ENCODER))
    return samples


def _make(samples: Samples) -> None:
    folder = samples.folder
    for path in (samples.models, folder / "images", folder / "language-models", samples.data / "images"):
        path.mkdir(parents=True)
    drawing(0).save(samples.photo)
    _models(samples)
    _language_models(folder / "language-models", samples.models / "cobra" / "tokenizer.json")
    write_images(folder / "images")
    _data(samples.data)
    _run(samples, "capture", "photo.png", "--out", "study", *samples.model_options)
    copied(samples.study, samples.captured)
    _run(samples, "decode", "study")
    _run(samples, "compare", "study", "--out", "figure.html")


def _run(samples: Samples, *command: str) -> None:
    before = os.getcwd()
    os.chdir(samples.folder)
    try:
        with redirect_stdout(io.StringIO()):
            code = main(command)
    finally:
        os.chdir(before)
    if code:
        raise RuntimeError(f"{' '.join(command)} ended with {code}")


def drawing(seed: int, *, size: tuple[int, int] = (75, 50)) -> Image.Image:
    """A noisy sheet with a disc."""
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(100, 150, (size[1], size[0], 3), dtype=np.uint8))
    ImageDraw.Draw(image).ellipse((10, 10, 40, 40), fill=tuple(rng.integers(0, 256, 3).tolist()))
    return image


def _models(samples: Samples) -> None:
    tokenizer = train_tokenizer(["What colour is it? A red cup on a table."] * 4, vocab_size=300)
    images, vision = [drawing(number, size=(50, 40)) for number in range(12)], samples.models / ENCODER
    for seed, (name, preset) in enumerate((("cobra", "tiny-cobra"), ("emma", "tiny-emma-v1"))):
        torch.manual_seed(seed)
        config = PRESETS[preset]()
        config = replace(config, llm=replace(config.llm, vocab_size=tokenizer.vocab_size))
        vlm, folder = VLM(config), samples.models / name
        if not vision.exists():
            save_vision_encoder(vision, vlm.vision)
        save_run_directory(folder, config, vlm.state_dict(), tokenizer=tokenizer)
        model = load_model(folder, vision_source=str(vision))
        lens = fit_ridge(model, images[:8], heldout=images[8:], fitted_on="8 drawings")
        save_lens(lens, folder / "ridge.lens")


def _language_models(folder: Path, tokenizer: Path) -> None:
    sizes = {"d_model": 32, "n_layer": 2, "vocab_size": 300, "pad_vocab_size_multiple": 1}
    both = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "tie_word_embeddings": True}
    second = {"num_heads": 4, "head_dim": 16, "n_groups": 1, "state_size": 16, "chunk_size": 8}
    mamba1 = MambaConfig(
        d_model=32, n_layer=2, vocab_size=300, pad_vocab_size_multiple=1, ssm="mamba1", d_state=8
    )
    mamba2 = replace(mamba1, ssm="mamba2", d_state=16, headdim=16)
    configs = {
        "state-spaces-1": (mamba1, {**sizes, "ssm_cfg": {"d_state": 8}}),
        "state-spaces-2": (mamba2, {**sizes, "ssm_cfg": {"layer": "Mamba2", "d_state": 16, "headdim": 16}}),
        "transformers-1": (mamba1, {"model_type": "mamba", **both, "state_size": 8}),
        "transformers-2": (mamba2, {"model_type": "mamba2", **both, **second}),
    }
    for name, (built, config) in configs.items():
        torch.manual_seed(0)
        state = MambaLM(built).state_dict()
        if name.startswith("transformers"):
            state = {key.replace("embedding.", "embeddings."): value for key, value in state.items()}
        state.pop("lm_head.weight", None)
        copied(tokenizer, folder / name / "tokenizer.json")
        save_file(
            {key: value.contiguous().clone() for key, value in state.items()},
            folder / name / "model.safetensors",
        )
        (folder / name / "config.json").write_text(json.dumps(config, indent=1))


def write_images(folder: Path) -> None:
    """Write a drawing in every format and mode that this Pillow writes."""
    image = drawing(1, size=(48, 32))
    for suffix, options in SEEN_FORMATS.items():
        path = folder / f"photo.{suffix}"
        kinds = {"mpo": "MPO", "apng": "PNG", "icns": "ICNS"}
        several = {"save_all": True, "append_images": [drawing(2, size=(48, 32))]}
        more = several if suffix in ("gif", "mpo", "apng") else {}
        try:
            image.resize((16, 16) if suffix in ("ico", "icns") else image.size).save(
                path, format=kinds.get(suffix), **options, **more
            )
        except (OSError, ValueError, KeyError):
            path.unlink(missing_ok=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(folder / "turned.jpg", exif=exif)
    image.save(folder / "described.png", exif=exif, dpi=(300, 300), icc_profile=b"\0" * 200)
    for mode in ("L", "LA", "RGBA", "P", "1", "CMYK", "I;16", "I", "F"):
        grey = np.asarray(image.convert("L"))
        deep = {"I;16": grey.astype("u2") * 257, "I": grey.astype("i4") * 257, "F": grey.astype("f4") / 255}
        try:
            changed = Image.fromarray(deep[mode]) if mode in deep else image.convert(mode)
            changed.save(folder / f"mode-{mode.replace(';', '')}.{'tif' if mode in ('CMYK', 'F') else 'png'}")
        except (OSError, ValueError):
            continue


def _data(folder: Path) -> None:
    records: list[dict[str, Any]] = []
    for number in range(6):
        drawing(number).save(folder / "images" / f"{number}.png")
        talk = [
            ("human", "<image>\nWhat colour is it?"),
            ("gpt", "It is red."),
            ("human", "Sure?"),
            ("gpt", "Yes."),
        ]
        turns = [{"from": who, "value": said} for who, said in talk[: 2 + 2 * (number % 2)]]
        records.append({"id": str(number), "image": f"{number}.png", "conversations": turns})
    records.append(
        {"id": "text", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hi."}]}
    )
    (folder / "data.json").write_text(json.dumps(records))
    (folder / "data.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    texts = [turn["value"] for record in records for turn in record["conversations"]] + ["In: \nOut: "]
    train_tokenizer(texts * 3, vocab_size=300).save(folder / "tokenizer.json")


def copied(path: Path, target: Path) -> Path:
    """A copy of a sample, file or folder."""
    if path.is_dir():
        shutil.copytree(path, target)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return target
