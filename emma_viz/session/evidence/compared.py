"""What the numbers of a case are compared with: other images of its own benchmark, where labels say enough of them.

Photographs are held against photographs, and drawn scenes against drawn scenes. Where labels are too few, the
references stand in, which the evidence says.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from emma_viz.capture.questions import peer_network
from emma_viz.checkpoints import LoadedModel
from emma_viz.evidence.replacements import image_tokens
from emma_viz.session.evidence.asked import AskedCase
from emma_viz.session.evidence.labelled import COMPARED_WITH, LabelledImages
from emma_viz.session.evidence.references import References, without_kind

MEAN_OF = 32
"""Images whose mean token stands for no picture."""
_KEPT = 64
"""Images whose tokens stay in memory."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparedImages:
    """Images by their names."""

    without: tuple[str, ...]
    """The first COMPARED_WITH without the object that is asked about."""
    some: tuple[str, ...]
    """The first MEAN_OF, with it or without."""
    title: str
    """What they are, for texts."""
    picture: Callable[[str], Image.Image]
    """The image of a name."""


def compared_images(references: References, case: AskedCase, image: str) -> tuple[ComparedImages, str]:
    """What a case is compared with, and a sentence where that is no image of its own benchmark.

    Args:
        references: stand in.
        case: the case.
        image: hash of its image, which is never compared with itself.
    """
    if case.labelled is None:
        return _of_references(references, case.object), ""
    known = case.labelled.others(case.object, image)
    lack = case.labelled.lack_of_others(case.object, image)
    if not lack:
        return _of_benchmark(case.labelled, known), ""
    stood = f"{lack} Mean tokens and other images are of {references.title} instead."
    return _of_references(references, case.object), stood


def _of_references(references: References, kind: str) -> ComparedImages:
    """Those without the object of the held-out half, some of the fitted half."""
    places = {id(each): str(place) for place, each in enumerate(references.images)}
    return ComparedImages(
        without=tuple(places[id(each)] for each in without_kind(references.held_out, kind)[:COMPARED_WITH]),
        some=tuple(places[id(each)] for each in references.fitted[:MEAN_OF]),
        title="other images",
        picture=lambda name: references.images[int(name)].image,
    )


def _of_benchmark(labelled: LabelledImages, known: dict[str, bool]) -> ComparedImages:
    return ComparedImages(
        without=tuple([name for name, there in known.items() if not there][:COMPARED_WITH]),
        some=tuple(known)[:MEAN_OF],
        title=f"other images of {labelled.benchmark}",
        picture=labelled.picture,
    )


class ComparedTokens:
    """Image tokens of what is compared with, each read once while it is remembered.

    Args:
        model: the model.
    """

    def __init__(self, model: LoadedModel):
        self._model = model
        self._infused = peer_network(model) is None and model.config.projector.infused
        self._prompt = ""
        self._tokens: dict[str, Float[Tensor, "T D"]] = {}
        self._means: dict[str, Float[Tensor, " D"]] = {}

    def of(self, images: ComparedImages, name: str, prompt: str) -> Float[Tensor, "T D"]:
        """The image tokens of one.

        Args:
            images: which are compared with.
            name: of the one.
            prompt: what is asked, for a model that mixes it into an image's tokens.
        """
        self._ask(prompt)
        if name not in self._tokens:
            self._tokens[name] = image_tokens(self._model, images.picture(name), prompt)
            while len(self._tokens) > _KEPT:
                del self._tokens[next(iter(self._tokens))]
        return self._tokens[name]

    def mean(self, images: ComparedImages, prompt: str) -> Float[Tensor, " D"]:
        """The mean over the tokens of some; arguments as `of`."""
        self._ask(prompt)
        for name in images.some:
            if name not in self._means:
                self._means[name] = self.of(images, name, prompt).mean(dim=0)
        return torch.stack([self._means[name] for name in images.some]).mean(dim=0)

    def _ask(self, prompt: str) -> None:
        """Forget tokens that another question was mixed into."""
        if self._infused and prompt != self._prompt:
            self._tokens.clear()
            self._means.clear()
            self._prompt = prompt
