"""A tiny random model with a tokenizer, and images of several shapes."""

from dataclasses import replace

import numpy as np
import tokenizers
import torch
from PIL import Image
from tokenizers import decoders, models, normalizers

from emma_viz.checkpoints import LoadedModel
from emma_viz.data.tokenizer import Tokenizer, train_tokenizer
from emma_viz.models import PRESETS, VLM

WRITES = (
    *("out_proj.weight", "o_proj.weight", "down_proj.weight", "dense.weight", "fc2.weight", "wo.weight"),
    "w2.weight",
)
"""Ends of the names of weights that write into the residual stream, in every kind of block."""


def tiny_tokenizer() -> Tokenizer:
    """All bytes and the two special tokens, no merges."""
    return train_tokenizer(["a cup on a table"], vocab_size=258)


def llama_tokenizer(*words: str) -> tuple[Tokenizer, dict[str, int]]:
    """Llama's kind: each space, and one before every text, is a "▁"; these words are one token each after it."""
    vocabulary = {"<unk>": 0, "</s>": 1, "▁": 2}
    merges = []
    for word in words:
        parts = [f"▁{word[:end]}" for end in range(1, len(word) + 1)]
        merges += [("▁", word[0]), *zip(parts, word[1:], strict=False)]
        for part in (*word, *parts):
            vocabulary.setdefault(part, len(vocabulary))
    core = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>"))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(content=" ", left=1, right=0)]
    )
    return Tokenizer(core), vocabulary


def spaced_tokenizer() -> Tokenizer:
    """Phi-2's kind: a word after a space is a token of its own, and so is a space that no word follows."""
    return train_tokenizer(["Yes Yes No No"], vocab_size=300, min_frequency=1)


def tiny_model(name: str, tokenizer: Tokenizer) -> LoadedModel:
    """A preset with random weights that make every token matter (the official start is nearly linear)."""
    torch.manual_seed(5)
    config = PRESETS[name]()
    vlm = VLM(replace(config, llm=replace(config.llm, vocab_size=tokenizer.vocab_size)), backend="torch")
    with torch.no_grad():
        vlm.llm.backbone.embedding.weight.mul_(2)
        for key, weight in vlm.llm.backbone.layers.named_parameters():
            if key.endswith(WRITES):
                weight.mul_(40)
    return LoadedModel.from_vlm(vlm.eval(), tokenizer, name=name)


def odd_photos() -> list[Image.Image]:
    """Three random images, wide, high and square."""
    draw = np.random.default_rng(3)
    sizes = [(40, 70), (90, 50), (60, 60)]
    return [Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]
