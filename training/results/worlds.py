"""The worlds that families are trained in, as measuring needs them: what is shown, what is asked, what was before."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from einops import rearrange

from emma_viz.checkpoints import LoadedModel
from emma_viz.data.photos import (
    PHOTO_CATEGORIES,
    PhotoLibrary,
    PhotoScene,
    draw_photos,
    make_single,
    named_categories,
    plan_scene,
)
from emma_viz.data.tabletop import KINDS, make_scene, named_kinds
from emma_viz.errors import TrainingError
from emma_viz.files.schema import shape
from emma_viz.models.vlm import VLM
from training.photos.pictures import shown_order
from training.photos.recipe import photo_recipe
from training.photos.work import asked_of_picture, fresh_member, rivals_of
from training.pocket.bundle_reading import Bundle, untrained_model
from training.pocket.questions import Answered, answered, tabletop_answers
from training.pocket.scenes import PATCH_COVERED, drawn_scenes

PHOTO_WORLD, PHOTO_PAGE, PHOTO_ANSWERS = "photos", "results-photo", 1000
"""Of the photo pair: its world's name, its page, and the test pictures that questions are asked about."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Views:
    """Pictures of a world."""

    images: np.ndarray
    """uint8 (n, S, S, 3)."""
    kinds: np.ndarray
    """uint8 (n, R, C): 0 where nobody says what a patch is of, else 1 + the kind's number."""

    @property
    def digest(self) -> str:
        """Hash of every 50th image."""
        return hashlib.sha256(np.ascontiguousarray(self.images[::50]).tobytes()).hexdigest()[:16]


@runtime_checkable
class World(Protocol):
    """A world."""

    name: str
    """As members' provenance has it."""
    title: str
    """Of the page."""
    page: str
    """The page's file, and that of its figure without ending."""
    pictures: str
    """What its pictures are called, in the plural."""
    parts: tuple[str, ...]
    """Kinds of pictures, in the plural, that take turns in this order from number 0 on; empty where all are alike."""
    about: str
    """What is to be said of the pictures; may be empty."""
    before: str
    """What training began from, in words."""
    shared: str
    """What a member's seeds have in common."""
    compared: tuple[tuple[str, str], ...]
    """Members that are set against each other."""
    fusion: tuple[str, str] | None
    """Of those, the pair that shows what MFF does."""
    answers: int
    """Held-out pictures that questions are asked about."""
    n_kinds: int

    def views(self, split: str, count: int) -> Views:
        """The first pictures of a split."""
        ...

    def asked(self, model: LoadedModel, features: np.ndarray) -> Iterator[Answered]:
        """Every held-out question about the first test pictures, answered; (n, T, F) are the encoder's tokens."""
        ...

    def named(self, text: str) -> frozenset[str]:
        """The kinds that a text names."""
        ...

    def present(self, number: int) -> frozenset[str]:
        """The kinds that are in a test picture."""
        ...

    def untrained(self, bundle: Bundle, model: LoadedModel, member: str) -> VLM:
        """A member as the training that its bundle speaks of found it."""
        ...


class Tabletop:
    """Drawn scenes: the pocket family's."""

    name = "tabletop"
    title = "What the pocket family keeps of a picture, and what it answers"
    page = "results"
    pictures = "scenes"
    parts: tuple[str, ...] = ()
    about = ""
    before = "a fresh projector before the language model that has read text alone"
    shared = "All seeds share the encoder and the language model's text stage; the joint stage differs."
    fusion: tuple[str, str] | None = ("emma-v1-pocket-nomff", "emma-v1-pocket")
    compared: tuple[tuple[str, str], ...] = (
        ("cobra-pocket", "emma-v1-pocket"),
        ("cobra-pocket", "emma-v2-pocket"),
        fusion,
        ("cobra-pocket", "llava-pocket"),
        ("emma-v1-pocket", "llava-pocket"),
    )
    answers = 500
    n_kinds = len(KINDS)

    def views(self, split: str, count: int) -> Views:
        """As `World` says."""
        drawn = drawn_scenes(split, count)
        return Views(images=drawn.images, kinds=drawn.kinds)

    def asked(self, model: LoadedModel, features: np.ndarray) -> Iterator[Answered]:
        """As `World` says."""
        return tabletop_answers(model.vlm, features, model.tokenizer)

    def named(self, text: str) -> frozenset[str]:
        """As `World` says."""
        return named_kinds(text)

    def present(self, number: int) -> frozenset[str]:
        """As `World` says."""
        return frozenset(make_scene("test", number).kinds)

    def untrained(self, bundle: Bundle, model: LoadedModel, member: str) -> VLM:
        """As `World` says."""
        return untrained_model(bundle, model, member)


@dataclass
class PhotoPair:
    """Photographs and scenes of several, by turns: the photo pair's.

    Args:
        folder: Caltech-101's.
        confused: for each category, those that the pair's encoder confuses with it; empty where nothing is asked.
    """

    folder: Path
    confused: tuple[tuple[int, ...], ...]
    name: str = field(default=PHOTO_WORLD, init=False)
    title: str = field(default="What the photo pair keeps of a picture, and what it answers", init=False)
    page: str = field(default=PHOTO_PAGE, init=False)
    pictures: str = field(default="pictures", init=False)
    parts: tuple[str, ...] = field(default=("photographs", "scenes"), init=False)
    about: str = field(
        default="By turns, a picture is one photograph of Caltech-101 or a scene of one to five of them; photographs "
        "of training are in no held-out picture. What, and nothing else but existence and the caption, is asked about "
        "single photographs; where, relation and count about scenes alone.",
        init=False,
    )
    before: str = field(
        default="a projector that lets every feature through before a fresh language model", init=False
    )
    shared: str = field(
        default="All seeds share the encoder; the language model's start and the order of the pictures differ.",
        init=False,
    )
    compared: tuple[tuple[str, str], ...] = field(default=(("cobra-photo", "emma-v1-photo"),), init=False)
    fusion: tuple[str, str] | None = field(default=None, init=False)
    answers: int = field(default=PHOTO_ANSWERS, init=False)
    n_kinds: int = field(default=len(PHOTO_CATEGORIES), init=False)

    @cached_property
    def library(self) -> PhotoLibrary:
        """The photographs."""
        return PhotoLibrary.open(self.folder)

    def plan(self, split: str, number: int) -> PhotoScene:
        """The plan of a picture: an even number's is a photograph, an odd one's a scene.

        Raises:
            TrainingError: the split has not so many photographs.
        """
        photos = self.library.split(split)
        if number % 2:
            return plan_scene(photos, split, number // 2)
        if number // 2 >= len(photos):
            raise TrainingError(
                f"{self.folder} has {len(photos)} photographs for {split}, so that {2 * len(photos)} pictures can be "
                "shown at most (--scenes)."
            )
        return make_single(photos, int(shown_order(len(photos))[number // 2]))

    def views(self, split: str, count: int) -> Views:
        """As `World` says; of what a patch of a single photograph is, nobody has said."""
        images, kinds = [], []
        for number in range(count):
            scene = self.plan(split, number)
            drawn = draw_photos(scene, self.library.split(split))
            images.append(drawn.image)
            kinds.append(np.zeros((16, 16), np.uint8) if scene.whole else _kinds_of(scene, drawn.mask))
        return Views(images=np.stack(images), kinds=np.stack(kinds))

    def asked(self, model: LoadedModel, features: np.ndarray) -> Iterator[Answered]:
        """As `World` says."""
        rivals = rivals_of(self.library, self.confused)
        return answered(
            model.vlm,
            model.tokenizer,
            len(features),
            features=lambda numbers: features[numbers.start : numbers.stop],
            asked=lambda number: asked_of_picture(self.plan("test", number), number, rivals),
        )

    def named(self, text: str) -> frozenset[str]:
        """As `World` says."""
        return _names(named_categories(text))

    def present(self, number: int) -> frozenset[str]:
        """As `World` says."""
        return _names(self.plan("test", number).categories)

    def untrained(self, bundle: Bundle, model: LoadedModel, member: str) -> VLM:
        """As `World` says."""
        recipe = photo_recipe().joint.of_member(member, model.config, seed=bundle.seed(member))
        return fresh_member(model.config, recipe).vlm.eval()


def photo_world(bundles: Sequence[Bundle], folder: Path | None) -> PhotoPair:
    """The world of photo members.

    Args:
        bundles: that are to be measured; without any, the world shows and asks nothing.
        folder: of the photographs.

    Raises:
        TrainingError: there is no folder, or the members were trained on other photographs, or do not say what their
            encoder confuses.
    """
    if folder is None:
        raise TrainingError(
            "The photo pair is measured on photographs: name Caltech-101's folder (--photos)."
        )
    if not bundles:
        return PhotoPair(folder=folder, confused=())
    origins = [bundle.provenance(member) for bundle in bundles for member in bundle.members]
    kept = [
        shape(
            each.data.get("confused"),
            list[tuple[int, ...]],
            where="provenance.data.confused",
            error=TrainingError,
        )
        for each in origins
    ]
    world = PhotoPair(folder=folder, confused=tuple(kept[0]))
    for each, confused in zip(origins, kept, strict=True):
        if each.data.get("digest") != world.library.digest or confused != kept[0]:
            raise TrainingError(
                f"{folder} holds photographs with the digest {world.library.digest}; a member was trained on "
                f"{each.data.get('digest')}, or with another encoder. Name the photographs that it was trained on."
            )
    return world


def _kinds_of(scene: PhotoScene, mask: np.ndarray) -> np.ndarray:
    """What each patch is of: the thing that covers most of it, if that is enough."""
    patches = rearrange(mask, "(R p) (C q) -> R C (p q)", R=16, C=16)
    cover = np.stack([(patches == n).mean(-1) for n in range(1, len(scene.things) + 1)])
    number = np.array([1 + thing.category for thing in scene.things], dtype=np.uint8)
    return np.where(cover.max(0) >= PATCH_COVERED, number[cover.argmax(0)], 0).astype(np.uint8)


def _names(numbers: Sequence[int] | frozenset[int]) -> frozenset[str]:
    return frozenset(PHOTO_CATEGORIES[number].name for number in numbers)
