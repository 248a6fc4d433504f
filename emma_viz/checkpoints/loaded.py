"""What loading gives: a model with everything it needs to be asked a question."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from torch import Tensor, nn

from emma_viz.checkpoints.fingerprint import fingerprint
from emma_viz.checkpoints.followed import FollowedInfo
from emma_viz.data.image_grid import ImageGrid
from emma_viz.data.images import ImageTransform, TowerNorm
from emma_viz.data.prompts import Turn
from emma_viz.data.provenance import ModelInfo
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.models.config import VLMConfig
from emma_viz.models.families.family import lead_of
from emma_viz.models.families.table import family_named
from emma_viz.models.hookpoint import HookPoint
from emma_viz.models.language_model import MambaLM
from emma_viz.models.vlm import VLM


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedModel:
    """A vision-language model, its tokenizer and its image preprocessing."""

    vlm: VLM
    """The model, in evaluation mode."""
    tokenizer: Tokenizer
    transform: ImageTransform
    info: ModelInfo = FollowedInfo()  # ty: ignore[invalid-assignment]
    """What results say about where they come from; its fingerprint follows weights that are changed in place."""
    folder: Path | None = None
    """Where files that belong to the model, such as its lenses, are looked for; None for one built in memory."""

    def __repr__(self) -> str:
        return _said(self, self.vlm)

    @property
    def name(self) -> str:
        """The short name that pictures print."""
        return self.info.name

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of its pictures and answers should know of how it is asked."""
        return ()

    @property
    def network(self) -> nn.Module:
        """The module that holds all weights."""
        return self.vlm

    def weights(self) -> Mapping[str, Tensor]:
        """All weights, by the names that the fingerprint has."""
        return self.vlm.state_dict()

    @property
    def config(self) -> VLMConfig:
        """What the model is made of."""
        return self.vlm.config

    def hook_point(self, name: str) -> HookPoint:
        """The module to hook for a name such as `blocks.5.hook_mixer_out`.

        Raises:
            SiteError: there is no such point.
        """
        return self.vlm.hook_point(name)

    def prompt(self, message: str | Sequence[Turn]) -> str:
        """The text that stands between the image tokens and the answer.

        Args:
            message: one question, or the turns of a conversation that ends with one.
        """
        return family_named(self.vlm.config.family).prompt(message, self.vlm.config)

    @classmethod
    def from_vlm(cls, vlm: VLM, tokenizer: Tokenizer, *, name: str, source: str = "memory") -> "LoadedModel":
        """Wrap a model that was built, or is being trained, in memory.

        Args:
            vlm: the model; it is used as it is, not copied. Where its image tokens depend on the instruction, set
                `vlm.reader`.
            tokenizer: the tokenizer its ids belong to.
            name: what pictures print.
            source: what stands for a path in the model's record.
        """
        vlm.lead = lead_ids(vlm.config, tokenizer)
        return cls(
            vlm=vlm,
            tokenizer=tokenizer,
            transform=image_transform(vlm.config),
            info=model_info(
                vlm.config,
                name=name,
                source=source,
                fingerprint=fingerprint(vlm.state_dict()),
                dtype=str(vlm.llm.backbone.embedding.weight.dtype).removeprefix("torch."),
            ),
        )


@dataclass(frozen=True, kw_only=True)
class FoundModel:
    """A model that is not loaded: what is known of it, and where its files are."""

    info: ModelInfo
    folder: Path | None
    """Where files that belong to the model, such as its lenses, are looked for; None for one that is nowhere."""
    geometry: Callable[[Image.Image], ImageGrid] | None = field(default=None, repr=False, compare=False)
    """Gives where the tokens of an image will lie; None where no more than the record is known."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedLanguageModel:
    """A language model alone: it has no projector, so no image can be shown to it."""

    llm: MambaLM
    """The model, in evaluation mode."""
    tokenizer: Tokenizer | None
    """None where it was loaded without one: it then reads token ids alone."""
    info: ModelInfo = FollowedInfo()  # ty: ignore[invalid-assignment]
    """What results say about where they come from; its fingerprint follows weights that are changed in place."""

    def __repr__(self) -> str:
        return _said(self, self.llm)

    @property
    def name(self) -> str:
        """The short name that pictures print."""
        return self.info.name

    @property
    def network(self) -> nn.Module:
        """The module that holds all weights."""
        return self.llm

    def weights(self) -> Mapping[str, Tensor]:
        """All weights, by the names that the fingerprint has."""
        return {f"llm.{name}": value for name, value in self.llm.state_dict().items()}


def _said(model: "LoadedModel | LoadedLanguageModel", network: nn.Module) -> str:
    """A model in one line."""
    info = model.info
    count = sum(each.numel() for each in network.parameters())
    grid = f", {info.grid[0]}×{info.grid[1]} image tokens" if info.grid else ""
    return (
        f"{type(model).__name__}({info.name}, {info.family}, {info.n_layer} × {info.ssm} blocks, {info.d_model} wide"
        f"{grid}, {count / 1e6:.3g} M parameters, {info.dtype})"
    )


def lead_ids(config: VLMConfig, tokenizer: Tokenizer) -> tuple[int, ...]:
    """The ids of what stands before the image, Llama's first token among them."""
    text = lead_of(family_named(config.family), config)
    if not text:
        return ()
    begin = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    return (*begin, *tokenizer.encode(text))


def image_transform(config: VLMConfig) -> ImageTransform:
    """The preprocessing that a model's encoders expect."""
    return ImageTransform(
        strategy=config.resize_strategy,
        size=config.vision.image_size,
        patch=config.patch,
        towers=tuple(TowerNorm(name=t.kind, mean=t.mean, std=t.std) for t in config.vision.towers),
    )


def model_info(
    config: VLMConfig, *, name: str, source: str, fingerprint: str, dtype: str, revision: str | None = None
) -> ModelInfo:
    """The record of a vision-language model."""
    return ModelInfo(
        name=name,
        source=source,
        revision=revision,
        family=config.family,
        fingerprint=fingerprint,
        dtype=dtype,
        n_layer=config.llm.n_layer,
        d_model=config.llm.d_model,
        ssm=config.llm.ssm,
        mamba_layers=config.llm.mamba_layers,
        grid=config.grid,
        prompt_style=config.prompt_style,
        taps=config.taps,
    )
