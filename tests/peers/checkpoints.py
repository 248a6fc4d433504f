"""Tiny folders as `save_pretrained` writes them: random weights, a tokenizer of bytes, an image processor."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers
from torch import nn

from tests.capture import transformer_peers
from tests.capture.transformer_peers import IMAGE, PEERS

PATCH, SIDE = 4, 16
_SPECIAL = ["<pad>", "<s>", "</s>", "<a>", "<b>", "<c>", "<d>", "<image>", "<e>", "<f>"]
_ROWS = 272


def _words() -> Any:
    """Bytes and special tokens; the image's has the id that the models are told."""
    from transformers import PreTrainedTokenizerFast

    pieces = [*_SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    core = tokenizers.Tokenizer(models.BPE(vocab={piece: n for n, piece in enumerate(pieces)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([tokenizers.AddedToken(piece, special=True) for piece in _SPECIAL])
    assert core.token_to_id("<image>") == IMAGE
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


def _llava() -> Any:
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

    return LlavaImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})


PROCESSORS: dict[str, Callable[[], Any]] = {"llava": _llava}
"""By the names of `PEERS`."""


def write(name: str, folder: Path) -> None:
    """A checkpoint of one family, whose image encoder does not mix its patches: each token shows its own pixels."""
    from transformers import AutoModelForImageTextToText

    rows = transformer_peers._TEXT["vocab_size"]
    transformer_peers._TEXT["vocab_size"] = _ROWS
    try:
        config = PEERS[name][0]()
    finally:
        transformer_peers._TEXT["vocab_size"] = rows
    torch.manual_seed(5)
    network = AutoModelForImageTextToText.from_config(config)
    _see_patch_by_patch(network)
    network.generation_config.eos_token_id = 2
    network.save_pretrained(folder)
    _words().save_pretrained(folder)
    PROCESSORS[name]().save_pretrained(folder)


@torch.no_grad()
def _see_patch_by_patch(network: nn.Module) -> None:
    for weight in network.parameters():
        if not weight.any():  # some begin at zero, and the image would go unseen
            weight.normal_(std=0.1)
    for path, weight in network.named_parameters():
        attends = any(
            part in path for part in ("self_attn.out_proj", "attn.proj", "attention.projection_layer")
        )
        if attends and ("vision" in path or "visual" in path):
            weight.zero_()
