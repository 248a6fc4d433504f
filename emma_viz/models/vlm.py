"""The vision-language model: image tokens, then the text, one causal language model over both."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from emma_viz.data.instructions import InstructionTokenizer
from emma_viz.errors import InputError, SiteError
from emma_viz.models.attention_sites import sites_of
from emma_viz.models.cache import MambaCache
from emma_viz.models.config import VLMConfig
from emma_viz.models.hookpoint import HookPoint, unhooked
from emma_viz.models.language_model import MambaLM
from emma_viz.models.projectors import Projector
from emma_viz.models.ranges import Grid
from emma_viz.models.towers.vision import VisionEncoder

LogitsOf = Literal["all", "text", "last", "none"]


@dataclass(frozen=True, kw_only=True)
class VLMOutput:
    """What one pass of a VLM gives."""

    hidden: Float[Tensor, "B L D"]
    """Final states (after the last norm) of the image and text tokens of this pass."""
    logits: Float[Tensor, "B rows V"] | None
    """Next-token scores over the padded vocabulary; see `VLM.forward` for which rows."""
    n_image: int
    """Image tokens T at the front of `hidden`; 0 without an image."""


class VLM(nn.Module):
    """Frozen encoders → projector → language model.

    The sequence is [T image tokens ; text tokens]: no placeholder id and no beginning-of-text token. What some families
    put before the image (`lead`) is read into the cache first, unseen by hooks, so that the sequence begins with the
    image for them, too.
    Submodules are `vision`, `projector` and `llm`; `projector.…` and `llm.…` are the official keys of the
    components `projector` (one level deeper: `projector.projector.0.weight`) and `llm_backbone`.

    Args:
        config: what to build. Inside `on_meta()` it is built without memory, to be filled by
            `load_state_dict(assign=True)`; no buffer is left behind.
        backend: kernel backend; "auto" picks by device.
    """

    def __init__(self, config: VLMConfig, *, backend: str = "auto"):
        super().__init__()
        self.interventions: tuple[Any, ...] = ()
        """Records of what is changed while the model runs, by `emma_viz.evidence.interventions`."""
        self.intervened: frozenset[str] = frozenset()
        """Paths of the modules that this is done at."""
        self.config = config
        self.backend = backend
        self.lead: tuple[int, ...] = ()
        """Token ids that stand before the image and all text."""
        self.reader: InstructionTokenizer | None = None
        """What makes ids of an instruction, for a model whose image tokens depend on it."""
        self.vision = VisionEncoder(config.vision, backend=backend)
        self.projector = Projector(
            config.projector,
            features=config.vision.width,
            width=config.llm.d_model,
            grid=config.vision.grid,
            mixer=config.llm,
            text=config.vision.text,
            backend=backend,
        )
        self.llm = MambaLM(config.llm, backend=backend)

    @property
    def grid(self) -> Grid:
        """Rows and columns (R, C) of the image tokens in the language model."""
        return self.config.grid

    def hook_point(self, name: str) -> HookPoint:
        """The module to hook for a name such as `blocks.5.hook_mixer_out` or `hook_norm_f`.

        Raises:
            SiteError: there is no such point.
        """
        named = re.fullmatch(r"blocks\.(\d+)\.(?:mixer\.)?hook_(\w+)", name)
        site = named and sites_of(self.config.llm).get(named[2])
        path = site.path.format(i=named[1]) if named and site and site.layered else name
        found = dict(self.llm.backbone.named_modules()).get(path)
        if isinstance(found, HookPoint):
            return found
        raise SiteError(
            f"There is no hook point {name!r}; expected blocks.0.hook_resid_pre … "
            f"blocks.{self.config.llm.n_layer - 1}.hook_y, or hook_norm_f."
        )

    @property
    def n_image_tokens(self) -> int:
        """Image tokens T in front of the text."""
        return self.config.n_image_tokens

    @property
    def device(self) -> torch.device:
        """Where the language model is."""
        return self.llm.backbone.embedding.weight.device

    def instruct(self, messages: Sequence[str]) -> Int[Tensor, "B Q"] | None:
        """What `instruction` has to be for some messages; None for a model whose image tokens do not depend on it.

        Raises:
            InputError: they do, and the model was built without the tokenizer of its instructions.
        """
        if self.config.vision.text is None:
            return None
        if self.reader is None:
            raise InputError(
                "The image tokens of this model depend on the instruction, and it has no tokenizer for it: set "
                "vlm.reader = InstructionTokenizer.load(CLIP's tokenizer.json)."
            )
        return self.reader.encode(messages)

    def embed_image(
        self,
        pixels: Sequence[Float[Tensor, "B 3 S S"]] | None = None,
        *,
        features: Float[Tensor, "B P F"] | None = None,
        instruction: Int[Tensor, "B Q"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Image tokens, from normalised pixels or from features computed before.

        Args:
            pixels: one tensor a tower.
            features: output of `vision`, to skip the frozen encoder.
            instruction: what is asked (`instruct`), for a model whose image tokens depend on it, and for no other.

        Raises:
            InputError: both or neither of pixels and features are given, or an instruction is lacking or too much.
        """
        # Training on cached features drops the encoders, which have nothing to read then.
        plain = instruction is None and self.config.vision.text is None
        text = None if plain else self.vision.read(instruction)
        if pixels is not None and features is None:
            features = self.vision([tensor.to(self.device) for tensor in pixels])
        elif pixels is not None or features is None:
            raise InputError("Give either pixels or features, not both and not neither.")
        seen = features.to(self.device)
        return self.projector(seen) if text is None else self.projector(seen, text)

    def states(
        self,
        embeddings: Float[Tensor, "B L D"],
        *,
        cache: MambaCache | None = None,
        lengths: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B L D"]:
        """Final states of image and text tokens that are embedded already, after the `lead` where nothing was read yet;
        arguments as `MambaBackbone.forward`.

        Args:
            embeddings: image tokens, then text.
            cache: start from its states and leave the new ones in it.
            lengths: tokens of each right-padded sample.
        """
        if self.lead and (cache is None or cache.empty):
            if cache is None:
                cache = self.llm.new_cache()
                cache.kept = False
            ids = torch.tensor([self.lead], device=self.device)
            with unhooked(self.llm.backbone):  # one sample, which all later ones go on from
                self.llm.backbone(self.llm.embed(ids).to(embeddings.dtype), cache=cache)
        return self.llm.backbone(embeddings, cache=cache, lengths=lengths)

    def forward(
        self,
        pixels: Sequence[Float[Tensor, "B 3 S S"]] | None = None,
        input_ids: Int[Tensor, "B M"] | None = None,
        *,
        features: Float[Tensor, "B P F"] | None = None,
        instruction: Int[Tensor, "B Q"] | None = None,
        lengths: Int[Tensor, " B"] | None = None,
        cache: MambaCache | None = None,
        logits: LogitsOf = "text",
    ) -> VLMOutput:
        """Run the model over an image, a text, or an image and a text.

        Args:
            pixels: one normalised tensor a tower; None for text alone.
            input_ids: token ids, right-padded; None for an image alone.
            features: precomputed encoder features instead of pixels.
            instruction: what is asked, for a model whose image tokens depend on it; see `embed_image`.
            lengths: text tokens of each sample, without padding; None when nothing is padded. They matter
                for `cache` and for `logits="last"` only: the model is causal, padding on the right changes
                nothing before it.
            cache: continue from these states and leave the new ones there (`llm.new_cache()` to begin).
            logits: "text" scores the positions that predict text: T−1 … T+M−1, M+1 rows after an image
                (row t predicts text token t), or M rows without one; "all" every position; "last" one row,
                at each sample's own end; "none" no scores.

        Returns:
            Final states and scores.

        Raises:
            InputError: there is nothing to run over, or lengths do not fit the ids.
        """
        seen = pixels is not None or features is not None
        image = self.embed_image(pixels, features=features, instruction=instruction) if seen else None
        return _read(self, image, input_ids, lengths=lengths, cache=cache, logits=logits)


class TextNetwork(nn.Module):
    """A language model alone that is run as a VLM is, over text.

    Args:
        llm: the model; it is used as it is, not copied.
    """

    interventions: tuple[Any, ...] = ()
    """Nothing is changed while it runs: that is done in a VLM."""
    intervened: frozenset[str] = frozenset()
    """Nowhere."""
    lead: tuple[int, ...] = ()
    """Nothing stands before its text."""
    n_image_tokens = 0
    """It has no image tokens."""

    def __init__(self, llm: MambaLM):
        super().__init__()
        self.llm = llm

    def states(
        self,
        embeddings: Float[Tensor, "B L D"],
        *,
        cache: MambaCache | None = None,
        lengths: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B L D"]:
        """Final states of a text that is embedded already; arguments as `MambaBackbone.forward`.

        Args:
            embeddings: of the text.
            cache: start from its states and leave the new ones in it.
            lengths: tokens of each right-padded sample.
        """
        return self.llm.backbone(embeddings, cache=cache, lengths=lengths)

    def forward(
        self,
        pixels: None = None,
        input_ids: Int[Tensor, "B M"] | None = None,
        *,
        features: None = None,
        instruction: None = None,
        lengths: Int[Tensor, " B"] | None = None,
        cache: MambaCache | None = None,
        logits: LogitsOf = "text",
    ) -> VLMOutput:
        """Run the model over a text.

        Args:
            pixels: None; there for the sake of `VLM.forward`.
            input_ids: token ids, right-padded.
            features: None, likewise.
            instruction: None, likewise.
            lengths: tokens of each sample, without padding; None when nothing is padded.
            cache: continue from these states and leave the new ones there.
            logits: as for `VLM.forward`.

        Raises:
            InputError: an image is given, or there is nothing to run over, or lengths do not fit the ids.
        """
        if pixels is not None or features is not None:
            raise InputError("expected text alone, got an image: a language model takes none.")
        return _read(self, None, input_ids, lengths=lengths, cache=cache, logits=logits)


def _read(
    network: VLM | TextNetwork,
    image: Float[Tensor, "B T D"] | None,
    input_ids: Int[Tensor, "B M"] | None,
    *,
    lengths: Int[Tensor, " B"] | None,
    cache: MambaCache | None,
    logits: LogitsOf,
) -> VLMOutput:
    """Image tokens, where there are some, then the text, through the language model."""
    llm = network.llm
    device = llm.backbone.embedding.weight.device
    parts = [] if image is None else [image]
    n_image = 0 if image is None else image.shape[1]
    if input_ids is not None:
        parts.append(llm.embed(_checked_ids(llm, input_ids.to(device))))
    if not parts:
        raise InputError("Give pixels, features or input_ids; there is nothing to run over.")
    embeddings = torch.cat([part.to(parts[-1].dtype) for part in parts], dim=1)
    ends = None
    if lengths is not None:
        ends = n_image + _checked_lengths(lengths.to(device), input_ids, n_image)
    hidden = network.states(embeddings, cache=cache, lengths=ends)
    rows = _rows(hidden, logits, n_image, ends)
    scores = None if rows is None else llm.logits(rows)
    return VLMOutput(hidden=hidden, logits=scores, n_image=n_image)


def _checked_ids(llm: MambaLM, ids: Int[Tensor, "B M"]) -> Int[Tensor, "B M"]:
    known = llm.config.padded_vocab_size
    low, high = (int(ids.min()), int(ids.max())) if ids.numel() else (0, 0)
    if low < 0 or high >= known:
        raise InputError(
            f"Token ids must lie in 0…{known - 1}, got {low}…{high}; is this the model's own tokenizer?"
        )
    return ids


def _checked_lengths(
    lengths: Int[Tensor, " B"], ids: Int[Tensor, "B M"] | None, n_image: int
) -> Int[Tensor, " B"]:
    longest = 0 if ids is None else ids.shape[1]
    least = 0 if n_image else 1
    if not (least <= int(lengths.min()) and int(lengths.max()) <= longest):
        raise InputError(
            f"lengths must lie in {least}…{longest} (the width of input_ids), got {lengths.tolist()}."
        )
    return lengths


def _rows(
    hidden: Float[Tensor, "B L D"], logits: LogitsOf, n_image: int, ends: Int[Tensor, " B"] | None
) -> Float[Tensor, "B rows D"] | None:
    """The final states that are to be scored."""
    if logits == "none":
        return None
    if logits == "all":
        return hidden
    if logits == "text":
        return hidden[:, max(n_image - 1, 0) :]
    if ends is None:
        return hidden[:, -1:]
    return hidden[torch.arange(hidden.shape[0], device=hidden.device), ends - 1][:, None]
