"""CLIP's text tokenizer: what an instruction is for a model whose image tokens depend on it."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers
import torch
from jaxtyping import Int
from tokenizers import Regex, models, normalizers, pre_tokenizers
from torch import Tensor

from emma_viz.data.prompts import PLACEHOLDER
from emma_viz.errors import CheckpointError
from emma_viz.files.json_door import Budget, read_json
from emma_viz.files.schema import shape

CLIP_CONTEXT = 77
"""Tokens of an instruction, whatever its length."""
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_FILE = Budget(size=32 * 2**20, depth=16, nodes=500_000)
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""How CLIP cuts a text into words; ours, and not the file's, so that no file's pattern is run."""
_START, _END = "<|startoftext|>", "<|endoftext|>"


class InstructionTokenizer:
    """Messages to the ids that CLIP's text encoder reads.

    As the tokenizer of OpenAI's CLIP (and the released code of `emma-text-fusion`, which copies it): lower case, white
    space joined, start and end token around, zeros behind; what is too long is cut and ends in the end token. Broken
    encodings are not mended, which theirs leaves to the package ftfy.

    Args:
        vocabulary: token to id; words end in `</w>`.
        merges: pairs, the first merged first.
        context: tokens Q of an instruction.

    Raises:
        CheckpointError: the start or end token is not in the vocabulary, or a merge has parts or a result that are not.
    """

    def __init__(
        self, vocabulary: dict[str, int], merges: Sequence[tuple[str, str]], *, context: int = CLIP_CONTEXT
    ):
        lacking = [token for token in (_START, _END) if token not in vocabulary]
        if lacking:
            raise CheckpointError(f"The vocabulary has no {lacking[0]}: expected CLIP's tokenizer.json.")
        self.start, self.end, self.context = vocabulary[_START], vocabulary[_END], context
        try:
            bpe = models.BPE(vocab=vocabulary, merges=list(merges), end_of_word_suffix="</w>")
        except Exception as error:  # tokenizers raises bare Exception
            raise CheckpointError(f"CLIP's tokenizer.json cannot be used: {error}") from error
        self._core = tokenizers.Tokenizer(bpe)
        self._core.normalizer = normalizers.Lowercase()
        self._core.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )

    @classmethod
    def load(cls, path: str | Path, *, context: int = CLIP_CONTEXT) -> "InstructionTokenizer":
        """Read vocabulary and merges from a tokenizer.json; nothing else of it is used.

        Args:
            path: CLIP's `tokenizer.json`.
            context: tokens Q of an instruction.

        Raises:
            CheckpointError: there is no such file, or it is not CLIP's.
        """
        where = str(path)
        whole = read_json(Path(path), error=CheckpointError, budget=_FILE)
        model = shape(whole.get("model"), dict[str, Any], where=f"{where}: model", error=CheckpointError)
        vocabulary = shape(
            model.get("vocab"), dict[str, int], where=f"{where}: model.vocab", error=CheckpointError
        )
        listed = shape(
            model.get("merges"),
            list[str | tuple[str, str]],
            where=f"{where}: model.merges",
            error=CheckpointError,
        )
        pairs = [tuple(each.split(" ", 1)) if isinstance(each, str) else each for each in listed]
        if any(len(pair) != 2 for pair in pairs):
            raise CheckpointError(f"{where}: each of model.merges must be two tokens.")
        return cls(vocabulary, [(one, other) for one, other in pairs], context=context)

    @classmethod
    def of_letters(cls, *, context: int) -> "InstructionTokenizer":
        """One for models of tests: each letter is a token, and what is no letter is passed over.

        Args:
            context: tokens Q of an instruction.
        """
        ends = [f"{letter}</w>" for letter in _LETTERS]
        # Id 0 fills, as in CLIP; no word is spelled so.
        tokens = ["<|padding|>", _START, _END, *_LETTERS, *ends]
        return cls({token: place for place, token in enumerate(tokens)}, [], context=context)

    @property
    def rows(self) -> int:
        """How many rows a table needs to have one for every id."""
        return 1 + max(self._core.get_vocab().values())

    def encode(self, messages: Sequence[str]) -> Int[Tensor, "B Q"]:
        """The ids of each message's first line, which is what the released code gives its text encoder."""
        table = torch.zeros(len(messages), self.context, dtype=torch.long)
        for row, message in zip(table, messages, strict=True):
            ids = [self.start, *self._core.encode(instruction(message)).ids, self.end]
            if len(ids) > self.context:
                ids = [*ids[: self.context - 1], self.end]
            row[: len(ids)] = torch.tensor(ids)
        return table


def instruction(message: str) -> str:
    """The part of a message that the text encoder is shown: its first line, without the image's placeholder."""
    lines = message.replace(PLACEHOLDER, "").strip().split("\n")
    return " ".join(html.unescape(html.unescape(lines[0])).split())
