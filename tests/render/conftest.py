"""Synthetic figures: a photograph decoded from one model that loses it with depth and one that keeps it."""

import dataclasses
import hashlib

import numpy as np
import pytest
from skimage import data, filters, transform

from emma_viz.render.spans import GridSpans
from emma_viz.render.spec import FigureSpec, ImageCase, ModelCase

GRID, PATCH = 6, 4
_STARTS = np.array([0, 4, 8, 14, 18, 22]) / 28
TILES = GridSpans(across=np.stack([_STARTS, _STARTS + 4 / 28]), down=np.stack([_STARTS, _STARTS + 4 / 28]))
"""Two tiles of 14 pixels a side, each of three patches of 4: columns and rows 12, 13, 26 and 27 are seen by none."""


def patch_map(pixels: np.ndarray) -> np.ndarray:
    """Distance of each patch to the median patch."""
    patches = pixels.reshape(GRID, PATCH, GRID, PATCH, 3).swapaxes(1, 2).reshape(GRID, GRID, -1)
    return np.sqrt(((patches - np.median(patches, axis=(0, 1))) ** 2).mean(axis=2)).astype(np.float32)


class SpecMaker:
    """Builds specs; every argument changes one thing."""

    def model(
        self,
        view: np.ndarray,
        limits: tuple[float, float],
        *,
        name: str,
        answer: str,
        loss: float,
        layers: tuple[int, ...],
        scale: str = "shared",
        **fields,
    ) -> ModelCase:
        decoded = []
        for layer in layers:
            share = min(0.9, loss * (layer + 2) / 10)
            blurred = filters.gaussian(view, sigma=0.3 + 4 * share, channel_axis=2)
            decoded.append(np.clip((1 - share) * blurred + share * view.mean(), 0, 1).astype(np.float32))
        maps = np.stack([patch_map(pixels) for pixels in decoded])
        true_map = patch_map(view)
        ranges = np.tile(np.array(limits, dtype=np.float32), (len(layers), 1))
        if scale == "per_map":
            ranges = np.stack([np.percentile(values, [2, 98]) for values in maps]).astype(np.float32)
        if scale == "per_row":
            ranges[:] = np.percentile(maps, [2, 98])
        correlation = [np.corrcoef(values.ravel(), true_map.ravel())[0, 1] for values in maps]
        return ModelCase(
            name=name,
            answer=answer,
            layers=layers,
            decoded=np.stack(decoded),
            maps=maps,
            limits=ranges,
            correlation=np.array(correlation, dtype=np.float32),
            retention=tuple((layer, 1 - loss * (layer + 2) / 10) for layer in range(9)),
            lens=f"ridge, held-out R² of {name} 0.17 to 0.26",
            revision="main@1a2b3c4",
            site="resid_post",
            **fields,
        )

    def case(
        self,
        *,
        names: tuple[str, ...] = ("cobra-pocket", "emma-v1-pocket", "emma-v2-pocket", "fourth"),
        answers: tuple[str, ...] = (
            "A white cup on a table.",
            "A cup of coffee with a spoon.",
            "Cup.",
            "Plate.",
        ),
        models: int = 2,
        layers: tuple[int, ...] = (0, 4, 8),
        scale: str = "shared",
        image: np.ndarray | None = None,
        extent=(0.0, 0.0, 1.0, 1.0),
        spans: GridSpans | None = None,
        title: str = "coffee.png",
        prompt: str = "Describe the image in detail.",
        truth: str | None = None,
        forced: tuple[int, ...] = (),
    ) -> ImageCase:
        if image is None:
            image = np.ascontiguousarray(data.coffee()[::8, ::8])
        view = transform.resize(image, (GRID * PATCH, GRID * PATCH), anti_aliasing=True)
        true_map = patch_map(view)
        low, high = (float(value) for value in np.percentile(true_map, [2, 98]).astype(np.float32))
        cases = [
            self.model(
                view,
                (low, high),
                name=names[index],
                answer=answers[index],
                loss=(0.9, 0.1, 0.3, 0.5)[index],
                layers=layers,
                scale=scale,
                forced=index in forced,
            )
            for index in range(models)
        ]
        return ImageCase(
            title=title,
            image=image,
            image_hash=hashlib.sha256(image.tobytes()).hexdigest(),
            prompt=prompt,
            spans=spans or GridSpans.even(extent, (GRID, GRID)),
            true_map=true_map,
            true_limits=(low, high),
            models=tuple(cases),
            truth=truth,
        )

    def spec(
        self,
        *,
        scale: str = "shared",
        images: int = 1,
        figure: dict | None = None,
        evidence: float | None = None,
        **case,
    ) -> FigureSpec:
        cases = tuple(self.case(scale=scale, **case) for _ in range(images))
        spec = FigureSpec(images=cases, scale=scale, **(figure or {}))
        return spec if evidence is None else with_evidence(spec, evidence)


def with_evidence(spec: FigureSpec, strength: float = 1.0) -> FigureSpec:
    """The figure with evidence for a word, whose largest change in the first model is `strength` nats."""
    draw, images = np.random.default_rng(3), []
    for case in spec.images:
        models = []
        for index, model in enumerate(case.models):
            values = draw.uniform(-1, 1, model.maps.shape[1:]).astype(np.float32)
            values *= strength / (1 + index) / np.abs(values).max()
            models.append(dataclasses.replace(model, evidence=values, score=-2.0 - index))
        word = f"“cup” of {case.models[0].name}, gradient × input"
        images.append(dataclasses.replace(case, models=tuple(models), word=word))
    return dataclasses.replace(spec, images=tuple(images))


@pytest.fixture(scope="session")
def make() -> SpecMaker:
    return SpecMaker()
