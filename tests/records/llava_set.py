"""A small LLaVA data set on disk, and what a run on it needs."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from emma_viz.data import train_tokenizer
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.models.config import VLMConfig
from emma_viz.models.presets import PRESETS
from emma_viz.records.tables import TextRules

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 50, 220)}


def talk(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[place % 2], "value": text} for place, text in enumerate(texts)]


@dataclass(frozen=True)
class LlavaSet:
    """Six images and sixteen conversations: some of several turns, four without an image."""

    data: Path
    images: Path
    tokenizer: Path

    @property
    def options(self) -> list[str]:
        """The command line's words for it, with fresh weights."""
        return [
            *("--data", str(self.data), "--images", str(self.images), "--tokenizer", str(self.tokenizer)),
            *("--llm", "fresh", "--vision", "fresh"),
        ]

    def config(self, preset: str = "tiny-emma-v1") -> VLMConfig:
        config = PRESETS[preset]()
        vocabulary = Tokenizer.load(self.tokenizer).vocab_size
        return replace(config, llm=replace(config.llm, vocab_size=vocabulary))

    def rules(self, *, max_length: int = 200) -> TextRules:
        return TextRules(tokenizer=Tokenizer.load(self.tokenizer), style="in-out", max_length=max_length)

    def write(self, records: list, name: str) -> Path:
        path = self.data.with_name(name)
        path.write_text(json.dumps(records))
        return path


def without(options: list[str], *names: str) -> list[str]:
    """A command line without some options and their values."""
    kept = list(options)
    for name in names:
        place = kept.index(name)
        del kept[place : place + 2]
    return kept


def records() -> list[dict]:
    found = []
    for number in range(12):
        colour = list(COLOURS)[number % 3]
        turns = ["<image>\nWhat colour is it?", f"It is {colour}."]
        turns += ["Are you sure?", "Yes, I am."] * (number % 3)
        found.append({"id": str(number), "image": f"{number % 6}.png", "conversations": talk(*turns)})
    for number in range(4):
        found.append({"id": f"text{number}", "conversations": talk("Hello?", "Hello! " * (number + 1))})
    return found


def write_llava_set(folder: Path) -> LlavaSet:
    """Write the data set; its images are noisy sheets of one colour."""
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        base = np.array(list(COLOURS.values())[number % 3])
        noise = rng.integers(-25, 26, (70, 60, 3))
        pixels = np.clip(base + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
    (folder / "data.json").write_text(json.dumps(records()))
    texts = [turn["value"] for record in records() for turn in record["conversations"]] + ["In: \nOut: "]
    train_tokenizer(texts * 3, vocab_size=300).save(folder / "tokenizer.json")
    return LlavaSet(folder / "data.json", folder / "images", folder / "tokenizer.json")
