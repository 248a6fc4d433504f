"""Families whose run directories are those of the released code: encoders, a projector, and a Mamba over both."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from emma_viz.data.prompts import PromptStyle, Turn, build_prompt, prompt_style
from emma_viz.errors import InputError
from emma_viz.models.backbones import (
    LLM_BACKBONES,
    VISION_BACKBONES,
    lite0_256,
    pocket_conv_128,
    tiny_dinosiglip_60,
)
from emma_viz.models.config import (
    PROJECTOR_KINDS,
    LensForm,
    ProjectorConfig,
    ProjectorKind,
    ResizeStrategy,
    VLMConfig,
)
from emma_viz.models.families.family import ImagePlace
from emma_viz.models.families.layout import OFFICIAL, Layout
from emma_viz.models.sites import SITES, Site
from emma_viz.models.vision_config import VisionConfig


def _no_taps(n_layer: int) -> tuple[int, ...]:
    return ()


@dataclass(frozen=True, kw_only=True)
class OfficialFamily:
    """A family in the layout of the released code; see `Family` for what is not said here."""

    name: str
    title: str
    model_ids: str
    """Pattern of the `model_id` of its run directories."""
    presets: Mapping[str, Callable[[], VLMConfig]] = field(default_factory=dict)
    published: Mapping[str, str] = field(default_factory=dict)
    unpublished: frozenset[str] = frozenset()
    """Presets of a paper whose weights nobody has published."""
    missing: str = ""
    """What of it is open or not supported, for the table of models."""
    taps: Callable[[int], tuple[int, ...]] = _no_taps
    """Blocks that feed a fusion in training, for a language model of so many blocks."""
    lens_form: LensForm | None = None
    """Form of the fusion and decoder that the official members were trained with."""
    prompt_style: PromptStyle | None = None
    """How all members are asked; None where the name of the language model decides it."""
    bidirectional: int = 0
    """Blocks that read the image in both directions before the projector."""
    kind: ProjectorKind = "fused-gelu-mlp"
    """The projector of its members, where a run does not say another."""
    layout: Layout = OFFICIAL
    sites: Mapping[str, Site] = field(default_factory=lambda: SITES)
    image_tokens: ImagePlace = "first"

    def claims(self, model_id: str) -> bool:
        """Whether a run directory of this id is of the family."""
        return re.fullmatch(self.model_ids, model_id) is not None

    def describe(self, values: Mapping[str, Any]) -> VLMConfig | None:
        """None: the form of an official `config.json` is every such family's (`emma_viz.checkpoints.run_config`)."""
        return None

    def prompt(self, message: str | Sequence[Turn], config: VLMConfig) -> str:
        """The prompt in the style of the member."""
        return build_prompt(message, config.prompt_style)

    def run(
        self,
        model_id: str,
        *,
        arch_specifier: str | None = None,
        vision_backbone_id: str = "dinosiglip-vit-so-384px",
        llm_backbone_id: str,
        image_resize_strategy: ResizeStrategy = "resize-naive",
        llm_max_length: int = 2048,
    ) -> VLMConfig:
        """The member of a run directory, from its official ids; arguments as `config_from_ids`.

        Raises:
            InputError: an id or the projector is not known.
        """
        for what, part, known, name in (
            ("vision_backbone_id", "image encoder", VISION_BACKBONES, vision_backbone_id),
            ("llm_backbone_id", "language model", LLM_BACKBONES, llm_backbone_id),
        ):
            if name not in known:
                raise InputError(
                    f"{what} must be one of {', '.join(known)}; got {name!r}. The run directory is in the layout of "
                    f"{self.name}, the nearest family ({self.title}), and what is missing is that {part}: describe it "
                    "in the `emma_viz` object of config.json (docs/checkpoints.md), or in a family of its own, which "
                    "is one file (docs/extending/add-a-model.md)."
                )
        kind = self.kind if arch_specifier is None else cast(ProjectorKind, arch_specifier.rsplit("+", 1)[-1])
        if kind not in PROJECTOR_KINDS:
            raise InputError(
                f"arch_specifier must end in one of {', '.join(PROJECTOR_KINDS)}; got {arch_specifier!r}."
            )
        return self._member(
            model_id,
            llm_backbone_id,
            VISION_BACKBONES[vision_backbone_id](),
            ProjectorConfig(kind=kind, bidirectional=self.bidirectional),
            self.lens_form,
            resize_strategy=image_resize_strategy,
            max_length=llm_max_length,
        )

    def pocket(self, model_id: str, llm_backbone_id: str) -> VLMConfig:
        """A member small enough to train and run on a CPU, trained in the form of the paper."""
        projector = ProjectorConfig(kind="fused-gelu-mlp", hidden_multiplier=2, positions=True)
        return self._member(model_id, llm_backbone_id, pocket_conv_128(), projector, self._paper_form)

    def photo(self, model_id: str, llm_backbone_id: str) -> VLMConfig:
        """A small member that sees photographs through an ImageNet encoder as wide as its language model."""
        projector = ProjectorConfig(kind="linear", positions=True)
        return self._member(model_id, llm_backbone_id, lite0_256(), projector, self._paper_form)

    def tiny(self, model_id: str, llm_backbone_id: str) -> VLMConfig:
        """A member for tests: two tiny transformer towers, 4×4 image tokens, 3 blocks."""
        projector = ProjectorConfig(kind=self.kind, bidirectional=self.bidirectional)
        return self._member(model_id, llm_backbone_id, tiny_dinosiglip_60(), projector, self._paper_form)

    @property
    def _paper_form(self) -> LensForm | None:
        return "paper" if self.lens_form else None

    def _member(
        self,
        model_id: str,
        llm_backbone_id: str,
        vision: VisionConfig,
        projector: ProjectorConfig,
        lens_form: LensForm | None,
        **rest: Any,
    ) -> VLMConfig:
        llm = LLM_BACKBONES[llm_backbone_id]()
        return VLMConfig(
            model_id=model_id,
            family=self.name,
            vision=vision,
            projector=projector,
            llm=llm,
            llm_backbone_id=llm_backbone_id,
            prompt_style=self.prompt_style or _prompt_style(llm_backbone_id),
            taps=self.taps(llm.n_layer),
            lens_form=lens_form,
            **rest,
        )


def _prompt_style(llm_backbone_id: str) -> PromptStyle:
    """Our own small language models are prompted as the official Mamba of their name's last part."""
    return prompt_style(re.sub("^(pocket|photo|tiny)-", "", llm_backbone_id))
