"""Twins: the same tabletop scene with and without one object, as pairs for causal questions."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from emma_viz.data.tabletop.language import SceneTurn, existence, single_things
from emma_viz.data.tabletop.scenes import Rendering, Scene, draw_scene, make_scene


@dataclass(frozen=True, kw_only=True)
class Twins:
    """One scene, and one of its objects that can be taken away."""

    scene: Scene
    """The scene with the object."""
    number: int
    """Its place among `scene.things`; in a drawn mask it is `number + 1`."""

    @property
    def kind(self) -> str:
        """What is taken away; the only one of its kind."""
        return self.scene.things[self.number].kind

    @property
    def question(self) -> SceneTurn:
        """Whether it is there: "Yes." of the scene, "No." of its twin."""
        return existence(self.scene, self.kind)

    @property
    def without(self) -> Scene:
        """The scene without the object; everything else is drawn as it was."""
        left = (*self.scene.things[: self.number], *self.scene.things[self.number + 1 :])
        return replace(self.scene, things=left)

    def draw(self) -> tuple[Rendering, Rendering]:
        """The scene with the object, and without it."""
        return draw_scene(self.scene), draw_scene(self.without)


def twins(split: str) -> Iterator[Twins]:
    """The scenes of a split, in order, that have an object to take away and one to leave.

    Charts are left out; the object is the last painted of those that are the only one of their kind, which nothing
    hides.

    Raises:
        InputError: there is no such split.
    """
    index = 0
    while True:
        scene = make_scene(split, index)
        index += 1
        single = single_things(scene)
        if scene.chart is None and single and len(scene.things) > 1:
            yield Twins(scene=scene, number=scene.things.index(single[-1]))
