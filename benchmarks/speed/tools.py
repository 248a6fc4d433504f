"""Recording by another tool, against ours: TransformerLens, where it is installed (in an environment of its own)."""

import importlib.util
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.speed.layers import NAMES, Kind
from benchmarks.speed.models import small
from benchmarks.speed.rows import Row, interleaved, of, ratios
from emma_viz.capture import SITES, Recorder

LAYERS, WIDTH, TOKENS, ROWS_OF_TABLE = 8, 768, 800, 1000


def tools() -> Iterator[Row]:
    """The same sizes, passes and kind of sites; TransformerLens runs transformers' model, ours its own."""
    if not importlib.util.find_spec("transformer_lens"):
        print("left out: transformer-lens is not installed here", file=sys.stderr)
        return
    for kind in NAMES:
        yield from _transformer_lens(kind)


@torch.no_grad()
def _transformer_lens(kind: Kind) -> Iterator[Row]:
    theirs, model = _hooked(kind), small(kind, layers=LAYERS, width=WIDTH, vocab=ROWS_OF_TABLE)
    ids = torch.randint(0, ROWS_OF_TABLE, (1, TOKENS))

    def ours(sites: list[str]) -> None:
        with Recorder(model, sites):
            model.backbone(model.embed(ids))

    calls: dict[str, Callable[[], object]] = {
        "ours": lambda: ours(["resid_post"]),
        "ours, all": lambda: ours(list(SITES)),
        "theirs": lambda: theirs.run_with_cache(
            ids, return_type=None, names_filter=lambda name: name.endswith("hook_resid_post")
        ),
        "theirs, all": lambda: theirs.run_with_cache(ids, return_type=None),
    }
    times = interleaved(calls, rounds=7, budget=40.0)
    for suffix, words in (("", "resid_post of all layers"), (", all", "every hook that each has")):
        yield of(
            f"{NAMES[kind]}, {LAYERS} layers, {TOKENS} tokens, {words}: TransformerLens against ours",
            ratios(times, f"theirs{suffix}", f"ours{suffix}"),
        )


def _hooked(kind: Kind):
    """TransformerLens's bridge around transformers' model of random weights."""
    from transformers import Mamba2Config, Mamba2ForCausalLM, MambaConfig, MambaForCausalLM

    bridge = importlib.import_module("transformer_lens.model_bridge").TransformerBridge

    sizes: dict[str, Any] = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "vocab_size": ROWS_OF_TABLE}
    sizes |= {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    model = (
        MambaForCausalLM(MambaConfig(**sizes))
        if kind == "mamba1"
        else Mamba2ForCausalLM(Mamba2Config(**sizes, num_heads=24, head_dim=64, n_groups=1, state_size=128))
    )
    with tempfile.TemporaryDirectory() as folder:
        model.config.save_pretrained(folder)
        return bridge.boot_transformers(folder, hf_model=model.eval(), device="cpu")
