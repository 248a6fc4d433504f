"""What is measured of a bundle's members, and what they were shown for it."""

from dataclasses import dataclass, fields
from typing import Any, Protocol, runtime_checkable

from tqdm import tqdm

from emma_viz.errors import TrainingError
from emma_viz.lens.headers import read_info
from training.pocket.bundle_reading import Bundle, weights_digest
from training.results.examination import (
    UNSEEN_PHOTOS,
    Examined,
    Material,
    examine_member,
    images_shown,
    lenses_of_member,
    prepare_material,
)
from training.results.worlds import World

RETENTION = 150
"""So many of the held-out scenes are decoded."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What members were shown. Numbers stand side by side only when it is equal, and their origins are alike."""

    answers: int
    """Held-out scenes that questions were asked about."""
    retention: int
    """The first of them, which were decoded."""
    fit: int
    """Training scenes that lenses and probes were fitted on."""
    photos: tuple[str, ...]
    scenes: str
    """Digest of the held-out scenes, of every 50th."""

    def differences(self, other: "Shown") -> str:
        """The fields that differ, with both values, in words; empty when none does."""
        pairs = ((each.name, getattr(self, each.name), getattr(other, each.name)) for each in fields(self))
        return ", ".join(f"{name} {mine} and {others}" for name, mine, others in pairs if mine != others)


@runtime_checkable
class DescribedBundle(Protocol):
    """What decides whether a bundle may stand beside others, measured or not."""

    @property
    def name(self) -> str:
        """Of the bundle, as the page calls it."""
        ...

    @property
    def shown(self) -> Shown:
        """What its members are shown."""
        ...

    @property
    def origins(self) -> dict[str, dict[str, Any]]:
        """Member → `Bundle.origin`, in the order of the recipes."""
        ...

    @property
    def fingerprints(self) -> dict[str, str]:
        """Member → that of its weights."""
        ...


@dataclass(frozen=True, kw_only=True)
class Announced:
    """One bundle that can be measured: all that is known of it before, as `DescribedBundle` says."""

    name: str
    shown: Shown
    origins: dict[str, dict[str, Any]]
    fingerprints: dict[str, str]


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """One bundle, measured."""

    name: str
    """Of the bundle, as the page calls it."""
    shown: Shown
    members: dict[str, Examined]
    """In the order of the recipes."""
    origins: dict[str, dict[str, Any]]
    """Member → `Bundle.origin`."""

    @property
    def fingerprints(self) -> dict[str, str]:
        """Member → that of its weights."""
        return {member: found.fingerprint for member, found in self.members.items()}


def announce_bundle(bundle: Bundle, world: World, *, answers: int) -> Announced:
    """Open everything that measuring a bundle needs, which takes seconds where measuring takes many minutes.

    Args:
        bundle: with lenses and, where the members began from them, the language models that have read text alone.
        world: the members'.
        answers: held-out pictures that questions are to be asked about.

    Raises:
        TrainingError: a lens is missing or of another kind, or what a member began from cannot be made.
    """
    prints: dict[str, str] = {}
    for member in bundle.members:
        model = bundle.load(member)
        lenses_of_member(model)
        world.untrained(bundle, model, member)
        prints[member] = model.info.fingerprint
    return Announced(
        name=bundle.name,
        shown=shown_to(bundle, world, answers=answers),
        origins={member: bundle.origin(member) for member in bundle.members},
        fingerprints=prints,
    )


def measure_bundle(bundle: Bundle, world: World, announced: Announced) -> Measured:
    """Examine every member of a bundle.

    Args:
        bundle: to be measured.
        world: the members'.
        announced: of this bundle.
    """
    shown, answers = announced.shown, announced.shown.answers
    found: dict[str, Examined] = {}
    material: dict[str, Material] = {}
    for member in bundle.members:
        model = bundle.load(member)
        key = weights_digest(bundle.encoder(member))
        if key not in material:
            with tqdm(total=answers + shown.fit + len(UNSEEN_PHOTOS), desc=f"encode {world.pictures}") as bar:
                material[key] = prepare_material(
                    model, world, scenes=answers, retention=shown.retention, fit=shown.fit, step=bar.update
                )
        control = world.untrained(bundle, model, member)
        with tqdm(total=images_shown(material[key]), desc=f"{member}, bundle {bundle.name}") as bar:
            found[member] = examine_member(model, material[key], bar.update, untrained=control)
    return Measured(name=announced.name, shown=shown, members=found, origins=announced.origins)


def shown_to(bundle: Bundle, world: World, *, answers: int) -> Shown:
    """What is shown to the members of a bundle.

    Raises:
        TrainingError: the members' ridge lenses were fitted on different numbers of scenes.
    """
    fits = {read_info(bundle.folder / member / "ridge.lens").n_fit for member in bundle.members}
    if len(fits) > 1:
        raise TrainingError(
            f"The ridge lenses of {bundle.folder} were fitted on different numbers of scenes: {sorted(fits)}. Fit them "
            "alike."
        )
    return Shown(
        answers=answers,
        retention=min(RETENTION, answers),
        fit=fits.pop(),
        photos=UNSEEN_PHOTOS,
        scenes=world.views("test", answers).digest,
    )
