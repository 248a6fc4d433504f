"""The peak memory of loading a transformer of 7B made-up weights in bf16, over the size of its weights.

    python -m benchmarks.load_memory                                    # LLaVA-1.5 by transformers, then by ours
    python -m benchmarks.load_memory --models llava-1.5-7b --layers 4   # fewer blocks: a dry run

Takes 15 GB of disk a model, and 1.15 × that of memory. Weights are written in shards and loaded by a process of its
own, whose peak the system tells: Python, torch and transformers are in it, and what is mapped of the files. Ours is
EMMA (text fusion), which is LLaVA-1.5 and one layer more.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.memory import peak
from emma_viz.checkpoints import load_model, save_vision_encoder
from emma_viz.checkpoints.peers import PeerModel
from emma_viz.checkpoints.run_config import run_config
from emma_viz.cli.guard import guarded
from emma_viz.data.tokenizer import train_tokenizer
from emma_viz.models import PRESETS, VLM
from emma_viz.models.families.table import family_named
from emma_viz.models.meta import on_meta
from emma_viz.models.sizes import vlm_shapes

BOUND = 1.15
MODELS = ("llava-1.5-7b", "emma-text-fusion-7b")
ENCODER = "encoder.safetensors"
_SHARD = 2**30
"""Bytes of a file of weights."""


def make_llava(folder: Path, layers: int) -> None:
    """Write a folder of LLaVA-1.5's sizes as `save_pretrained` does."""
    from transformers import (
        AutoModelForImageTextToText,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        PreTrainedTokenizerFast,
    )
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

    train_tokenizer(["a cup on a table"], vocab_size=258).save(folder / "tokenizer.json")
    words = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), eos_token="<|endoftext|>")
    words.add_tokens(["<image>"], special_tokens=True)
    words.save_pretrained(folder)
    eye = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=336,
        patch_size=14, projection_dim=768,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=32064, hidden_size=4096, intermediate_size=11008, num_hidden_layers=layers, num_attention_heads=32,
        rms_norm_eps=1e-5, dtype="bfloat16",
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=eye,
        text_config=text,
        image_token_index=words.get_vocab()["<image>"],
        dtype="bfloat16",
    )
    with torch.device("meta"):
        network = AutoModelForImageTextToText.from_config(config)
    _write_shards(folder, {name: tuple(each.shape) for name, each in network.state_dict().items()})
    config.save_pretrained(folder)
    side = {"height": 336, "width": 336}
    LlavaImageProcessorPil(size={"shortest_edge": 336}, crop_size=side).save_pretrained(folder)


def make_ours(name: str, folder: Path, layers: int) -> None:
    """Write a preset's model as a run directory in shards, and its encoders."""
    tokenizer = train_tokenizer(["a cup on a table"], vocab_size=258)
    config = PRESETS[name]()
    rows = max(config.llm.vocab_size, tokenizer.vocab_size)  # a tiny preset has fewer
    config = replace(config, llm=replace(config.llm, n_layer=layers, vocab_size=rows))
    layout = family_named(config.family).layout
    _write_shards(folder, {layout.file_key(key): shape for key, shape in vlm_shapes(config).items()})
    (folder / "config.json").write_text(json.dumps(run_config(config)))
    tokenizer.save(folder / "tokenizer.json")
    letters = ["<|startoftext|>", "<|endoftext|>", *(f"{chr(code)}</w>" for code in range(97, 123))]
    vocabulary = {letter: 1 + number for number, letter in enumerate(letters)}
    words = {"type": "BPE", "vocab": vocabulary, "merges": [], "end_of_word_suffix": "</w>"}
    (folder / "instruction-tokenizer.json").write_text(json.dumps({"model": words}))
    with on_meta():
        eyes = VLM(config).vision
    drawn = {key: _drawn(tuple(each.shape)) for key, each in eyes.state_dict().items()}
    eyes.load_state_dict(drawn, assign=True)
    save_vision_encoder(folder / ENCODER, eyes)


def _drawn(shape: Sequence[int]) -> Tensor:
    return torch.full(tuple(shape), 0.01, dtype=torch.bfloat16)


def _shards(shapes: Mapping[str, Sequence[int]]) -> Iterator[dict[str, Tensor]]:
    """Made-up tensors, as many at a time as a file holds."""
    held: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        held[name] = _drawn(shape)
        if sum(each.nbytes for each in held.values()) >= _SHARD:
            yield held
            held = {}
    if held:
        yield held


def _write_shards(folder: Path, shapes: Mapping[str, Sequence[int]]) -> None:
    where, total = {}, 0
    for number, held in enumerate(_shards(shapes)):
        file = f"model-{number:05d}.safetensors"
        save_file(held, folder / file, metadata={"format": "pt"})
        where |= dict.fromkeys(held, file)
        total += sum(each.nbytes for each in held.values())
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def load(folder: Path) -> tuple[float, float]:
    """Bytes of the loaded model's weights, and of the process at its peak."""
    encoder = folder / ENCODER
    eyes = str(encoder) if encoder.is_file() else None
    model = load_model(folder, device="cpu", dtype="bfloat16", vision_source=eyes)
    network = model.peer.network if isinstance(model, PeerModel) else model.vlm
    held = sum({id(each): each.nbytes for each in network.parameters()}.values())
    return held, peak() * 2**20


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line for each model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--layers", type=int, default=32, help="blocks of the language model")
    parser.add_argument("--place", type=Path, help="a folder with room for the weights")
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.load:
        print(*load(args.load))
        return
    for name in args.models:
        with tempfile.TemporaryDirectory(dir=args.place) as folder:
            if name in PRESETS:
                make_ours(name, Path(folder), args.layers)
            else:
                make_llava(Path(folder), args.layers)
            words = [sys.executable, "-m", "benchmarks.load_memory", "--load", folder]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        held, peak = map(float, done.stdout.split()[-2:])
        met = "met" if peak <= BOUND * held else "missed"
        print(
            f"| {name}, {args.layers} blocks | weights {held / 2**30:.2f} GiB | peak {peak / 2**30:.2f} GiB | "
            f"{peak / held:.3f} × (bound {BOUND}, {met}) |",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(guarded(main, program="python -m benchmarks.load_memory"))
