"""The text tokenizer: a `tokenizer.json` of the kind of GPT-NeoX, GPT-2 or Llama, read without transformers."""

import codecs
import hashlib
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from emma_viz.errors import CheckpointError, InputError
from emma_viz.files.json_door import Budget, parse_json, read_bytes
from emma_viz.files.schema import shape

_log = logging.getLogger(__name__)

EOS_TOKEN = "<|endoftext|>"
PAD_TOKEN = "<|padding|>"
_ENDS = (EOS_TOKEN, "<|im_end|>", "</s>")
"""End tokens: of GPT-NeoX and GPT-2, of InternLM2 in a conversation, and of Llama."""
_PADS = (PAD_TOKEN, "<unk>", EOS_TOKEN)
"""What fills a batch: GPT-NeoX's own token, Llama's for the unknown, and with GPT-2 the end token."""
_BEGIN = "<s>"

_FILE = Budget(size=32 * 2**20, depth=16, nodes=500_000)
"""For a tokenizer.json; GPT-NeoX's has 2 MB and 150 000 values."""
_PARTS = {
    "Sequence",
    "NFC",
    "NFD",
    "NFKC",
    "NFKD",
    "Lowercase",
    "ByteLevel",
    "Digits",
    "Whitespace",
    "Punctuation",
    "Metaspace",
    "Prepend",
    "Replace",
    "Split by a released pattern",
}
"""Parts that may change and split a text: all take time that grows with the text alone."""

_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_HEAD = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"
)
_RELEASED = {
    rf"{_HEAD}\p{{N}}|{_TAIL}",  # Qwen2 and later
    rf"{_HEAD}\p{{N}}{{1,3}}|{_TAIL}",  # Llama 3
    rf"{_CASED}\p{{N}}|{_TAIL.replace('*|', '/*|', 1)}",  # Mistral's Tekken
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",  # GPT-2
}
"""Patterns that released tokenizers split a text by; none takes longer than the text is long."""

# The two special tokens and the 256 bytes.
_SMALLEST = 258


@runtime_checkable
class Decodes(Protocol):
    """What gives the text of ids; `Tokenizer` does."""

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text of ids."""
        ...


class Tokenizer:
    """Text to token ids and back.

    Args:
        core: a tokenizer that has an end token, <|endoftext|> or </s>, and one that fills a batch.
        name: where it comes from, for messages.

    Raises:
        CheckpointError: it has no end token, or none that fills.
    """

    def __init__(self, core: tokenizers.Tokenizer, *, name: str = "the tokenizer"):
        # A tokenizer.json may carry truncation or padding, which would change the ids behind our back.
        core.no_truncation()
        core.no_padding()
        self._core = core
        self.eos_id = _token_id(core, _ENDS, name)
        self.pad_id = _token_id(core, _PADS, name)
        self.bos_id: int | None = core.token_to_id(_BEGIN)
        """Llama's token before every text; None for the others."""

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read a tokenizer.json.

        Raises:
            CheckpointError: there is no such file, or it is no tokenizer.
        """
        path = Path(path)
        data = require_plain(path)
        try:
            core = tokenizers.Tokenizer.from_buffer(data.removeprefix(codecs.BOM_UTF8))
        except (
            BaseException
        ) as error:  # tokenizers raises bare Exception, and what is no Exception when it panics
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise CheckpointError(f"{path} is no tokenizer.json: {error}") from error
        return cls(core, name=str(path))

    def save(self, path: str | Path) -> None:
        """Write a tokenizer.json."""
        self._core.save(str(path), pretty=False)

    @property
    def vocab_size(self) -> int:
        """How many ids there are, added tokens included, padding of the embedding table not."""
        return self._core.get_vocab_size(with_added_tokens=True)

    @property
    def rows(self) -> int:
        """How many rows a table needs to have one for every id."""
        return 1 + max(self._core.get_vocab(with_added_tokens=True).values())

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the tokenizer's description, 32 hexadecimal digits: equal ones give equal ids."""
        return hashlib.sha256(self._core.to_str().encode()).hexdigest()[:32]

    def encode(self, text: str) -> list[int]:
        """The ids of a text; nothing is added in front or behind.

        A lone surrogate, such as Python keeps for a byte of the command line that is no UTF-8, is no character, and is
        read as U+FFFD; the log says so.
        """
        read = re.sub("[\ud800-\udfff]", "\ufffd", text)
        if read != text:
            _log.warning("what is no Unicode in %r is read as U+FFFD", text)
        return self._core.encode(read, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text of ids.

        Ids past the vocabulary (rows that only pad the embedding table) stand for no text and are left out.

        Args:
            ids: token ids.
            skip_special: leave <|endoftext|> and <|padding|> out.
        """
        return self._core.decode(list(ids), skip_special_tokens=skip_special)

    def answer(self, ids: Sequence[int]) -> str:
        """The text of an answer: without special tokens, and as in the released code without white space around it."""
        return self.decode(ids).strip()


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One of the parts of a tokenizer.json; `Sequence` holds more of them."""

    type: str | None = None
    pattern: dict[str, Any] | None = None
    content: str | None = None
    normalizers: tuple["_Part", ...] = ()
    pretokenizers: tuple["_Part", ...] = ()
    decoders: tuple["_Part", ...] = ()

    @property
    def kind(self) -> str:
        """Its type; of a `Replace` also what makes it take long: a pattern of its own, or a text that grows."""
        fixed = (self.pattern or {}).get("String")
        if self.type == "Split" and (
            isinstance(fixed, str) or (self.pattern or {}).get("Regex") in _RELEASED
        ):
            return "Split by a released pattern"
        if self.pattern is not None and not isinstance(fixed, str):
            return f"{self.type} by a pattern"
        if isinstance(fixed, str) and len(self.content or "") > len(fixed):
            return f"{self.type} by a longer text"
        return str(self.type)


@dataclass(frozen=True, kw_only=True)
class _File:
    """A tokenizer.json, as far as it decides what can happen to a text."""

    model: _Part
    normalizer: _Part | None = None
    pre_tokenizer: _Part | None = None
    decoder: _Part | None = None


def require_plain(path: Path) -> bytes:
    """The content of a tokenizer.json that runs no pattern of its own over a text: they can take for ever.

    Raises:
        CheckpointError: there is no such file, it has such parts, or its model is no BPE.
    """
    data, where = read_bytes(path, limit=_FILE.size, error=CheckpointError), str(path)
    value = parse_json(data, where=where, error=CheckpointError, budget=_FILE)
    file = shape(value, _File, where=where, error=CheckpointError, spare=True)
    written = (file.normalizer, file.pre_tokenizer)
    odd = [kind for part in written if part is not None for kind in _kinds(part) if kind not in _PARTS]
    if file.decoder is not None:
        odd += [kind for kind in _kinds(file.decoder) if " by a " in kind]
    if file.model.type not in ("BPE", None) or odd:
        raise CheckpointError(
            f"{where}: expected a tokenizer.json of the kind of GPT-NeoX, GPT-2, Llama or InternLM2 (BPE), got the "
            f"model {file.model.type!r:.50}{' with ' + ', '.join(odd)[:100] if odd else ''}; such a "
            "tokenizer is not run."
        )
    return data


def _kinds(part: _Part) -> list[str]:
    """The kinds of a part and of all that it holds."""
    within = (*part.normalizers, *part.pretokenizers, *part.decoders)
    return [part.kind, *(kind for each in within for kind in _kinds(each))]


def _token_id(core: tokenizers.Tokenizer, tokens: Sequence[str], name: str) -> int:
    """The first of some tokens that there is."""
    found = [identifier for token in tokens if (identifier := core.token_to_id(token)) is not None]
    if not found:
        raise CheckpointError(
            f"{name} has no token {' or '.join(tokens)}: expected a tokenizer.json of the kind of GPT-NeoX, GPT-2 or "
            "Llama, such as EleutherAI/gpt-neox-20b's"
        )
    return found[0]


def train_tokenizer(
    texts: Iterable[str], *, vocab_size: int, min_frequency: int = 2, phrases: Sequence[str] = ()
) -> Tokenizer:
    """Train a small byte-level BPE tokenizer of the GPT-NeoX kind.

    Any text can be encoded, as all 256 bytes are in it. <|endoftext|> has id 0 and <|padding|> id 1, as in
    GPT-NeoX.

    Args:
        texts: read once.
        vocab_size: the most ids it may have, phrases not counted; fewer come out when the texts hold no more pairs.
        min_frequency: how often a pair must occur to be merged.
        phrases: strings that become one token each wherever they stand (the longest, where several do), with the ids
            that come last.

    Raises:
        InputError: the vocabulary is too small to hold all bytes.
    """
    if vocab_size < _SMALLEST:
        raise InputError(
            f"vocab_size is {vocab_size}: at least {_SMALLEST} are needed for 2 special tokens and all bytes"
        )
    core = tokenizers.Tokenizer(models.BPE())
    core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.post_processor = processors.ByteLevel(trim_offsets=True)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[EOS_TOKEN, PAD_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    core.add_tokens([tokenizers.AddedToken(phrase, normalized=False) for phrase in phrases])
    return Tokenizer(core, name="the trained tokenizer")
