"""What a family of models has to say of itself."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

from emma_viz.data.prompts import Turn, lead
from emma_viz.errors import InputError
from emma_viz.models.config import VLMConfig
from emma_viz.models.families.layout import Layout
from emma_viz.models.sites import Site

ImagePlace = Literal["first", "placeholders"]
"""Where the image tokens stand: before all text, or where the prompt has their placeholders."""


def missing_of(family: "Family") -> str:
    """What is open or missing of a family, for the table of models: its `missing`, or "" where it says nothing."""
    return getattr(family, "missing", "")


def lead_of(family: "Family", config: VLMConfig) -> str:
    """The text that stands before a member's image: what its `lead` says, or that of the member's prompt style where it
    says nothing; empty where the image comes first.

    Raises:
        InputError: there is one, and the language model is a Mamba, which has its image first here.
    """
    own = getattr(family, "lead", None)
    text = lead(config.prompt_style) if own is None else own(config)
    if text and config.llm.ssm != "attention":
        raise InputError(
            f"The family {family.name!r} puts the text {text[:40]!r} before the image, which is supported for "
            f"attention alone; llm.ssm is {config.llm.ssm}."
        )
    return text


@runtime_checkable
class Family(Protocol):
    """One family: how its files are told from others', what they hold, and how its members are asked.

    A family is one file with one such value. Ours are lines of `emma_viz.models.families.table`; an installed package
    brings others as entry points of the group `emma_viz.families` (docs/extending/add-a-model.md). It may have a text
    `missing` beside what is listed: what of it is open or not supported (`missing_of`); and a method `lead(config)`:
    the text before the image of a family with prompts of its own (`lead_of`).
    """

    @property
    def name(self) -> str:
        """The word that descriptions, traces, lenses and pictures hold."""
        ...

    @property
    def title(self) -> str:
        """What the family is, in a sentence."""
        ...

    @property
    def image_tokens(self) -> ImagePlace:
        """Where its image tokens stand."""
        ...

    @property
    def layout(self) -> Layout:
        """Its key table: what its files call the weights."""
        ...

    @property
    def sites(self) -> Mapping[str, Site]:
        """Its hook sites, by name."""
        ...

    @property
    def presets(self) -> Mapping[str, Callable[[], VLMConfig]]:
        """Its members that have a name."""
        ...

    @property
    def published(self) -> Mapping[str, str]:
        """Presets whose weights are published, and the hub id of each."""
        ...

    def describe(self, values: Mapping[str, Any]) -> VLMConfig | None:
        """The model that a `config.json` in the family's own form describes; None where it is of another form."""
        ...

    def prompt(self, message: str | Sequence[Turn], config: VLMConfig) -> str:
        """The text that stands between the image tokens of a member and its answer."""
        ...
