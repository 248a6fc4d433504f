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
UNEVEN = 18
"""Side of a tile of four patches, and of two pixels that none sees."""
_SPECIAL = [
    *("<pad>", "<s>", "</s>", "<a>", "<b>", "<c>", "<d>", "<image>", "<start_of_image>", "<end_of_image>"),
    *("<fake_token_around_image>", "<global-img>", "<end_of_utterance>", "<img>", "</img>", "<video>"),
    *(f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4)),
]
"""Those of all families; the image's has the id that the models are told."""
_NAMED = {
    "image_token": "<image>", "context_image_token": "<image>", "video_token": "<video>",
    "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "start_image_token": "<img>",
    "end_image_token": "</img>", "fake_image_token": "<fake_token_around_image>",
    "global_image_token": "<global-img>", "end_of_utterance_token": "<end_of_utterance>",
}  # fmt: skip
"""What released processors ask their tokenizer for."""
_ROWS = 288


def _words() -> Any:
    """Bytes, two words, and special tokens; the image's has the id that the models are told."""
    from transformers import PreTrainedTokenizerFast

    pieces = [*_SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    core = tokenizers.Tokenizer(models.BPE(vocab={piece: n for n, piece in enumerate(pieces)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([tokenizers.AddedToken(piece, special=True) for piece in _SPECIAL])
    core.add_tokens([tokenizers.AddedToken(word, normalized=False) for word in (" Yes", " No")])
    assert core.token_to_id("<image>") == IMAGE
    assert core.get_vocab_size() <= _ROWS
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens=_NAMED,
    )


def _llava() -> Any:
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

    return LlavaImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})


def _padded() -> Any:
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

    side = {"height": SIDE, "width": SIDE}
    return LlavaImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=side, do_pad=True)


def _qwen() -> Any:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    return Qwen2VLImageProcessorPil(
        size={"shortest_edge": 16 * 16, "longest_edge": 48 * 48}, patch_size=PATCH
    )


def _pinpoints(side: int) -> list[list[int]]:
    return [[side, 2 * side], [2 * side, side], [2 * side, 2 * side]]


def _next() -> Any:
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    side = {"height": SIDE, "width": SIDE}
    return LlavaNextImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size=side, image_grid_pinpoints=_pinpoints(SIDE)
    )


def _onevision(side: int = SIDE) -> Any:
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
        LlavaOnevisionImageProcessorPil,
    )

    return LlavaOnevisionImageProcessorPil(
        size={"height": side, "width": side}, image_grid_pinpoints=_pinpoints(side)
    )


def _uneven() -> Any:
    return _onevision(UNEVEN)


def _idefics3() -> Any:
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    return Idefics3ImageProcessorPil(size={"longest_edge": 3 * SIDE}, max_image_size={"longest_edge": SIDE})


def _smolvlm() -> Any:
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    return SmolVLMImageProcessorPil(size={"longest_edge": 3 * SIDE}, max_image_size={"longest_edge": SIDE})


def _siglip() -> Any:
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    return SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE})


def _gemma3() -> Any:
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    return Gemma3ImageProcessorPil(size={"height": SIDE, "width": SIDE})


def _internvl() -> Any:
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    # Without crop_to_patches, as released folders have it: the released processor says it.
    return GotOcr2ImageProcessorPil(size={"height": SIDE, "width": SIDE}, max_patches=6)


PROCESSORS: dict[str, Callable[[], Any]] = {
    "llava": _llava,
    "llava-padded": _padded,
    "vipllava": _llava,
    "llava-next": _next,
    "llava-onevision": _onevision,
    "llava-onevision-uneven": _uneven,
    "qwen2-vl": _qwen,
    "qwen2.5-vl": _qwen,
    "qwen3-vl": _qwen,
    "idefics3": _idefics3,
    "smolvlm": _smolvlm,
    "paligemma": _siglip,
    "gemma3": _gemma3,
    "internvl": _internvl,
}
"""By the names of `PEERS`, and what comes behind a further one of the same family."""


def family_of(name: str) -> str:
    """The name of `PEERS`."""
    return name.removesuffix("-padded").removesuffix("-uneven")


def write(name: str, folder: Path) -> None:
    """A checkpoint of one family, whose image encoder does not mix its patches: each token shows its own pixels."""
    from transformers import AutoModelForImageTextToText

    rows = transformer_peers._TEXT["vocab_size"]
    transformer_peers._TEXT["vocab_size"] = _ROWS
    try:
        config = PEERS[family_of(name)][0]()
    finally:
        transformer_peers._TEXT["vocab_size"] = rows
    if hasattr(config, "image_grid_pinpoints"):
        config.image_grid_pinpoints = _pinpoints(SIDE)
    if name.endswith("-uneven"):
        config.vision_config.image_size = UNEVEN
        config.image_grid_pinpoints = _pinpoints(UNEVEN)
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
