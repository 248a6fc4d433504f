"""Small lenses, traces and decodings built by hand."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from emma_viz.capture.trace import Trace
from emma_viz.data.geometry import Geometry
from emma_viz.data.provenance import ModelInfo
from emma_viz.lens.info import LensInfo
from emma_viz.maps.decoding import Decoding

PATCH, SIDE = 4, 3
SIZE = PATCH * SIDE + 1  # one row and column of pixels that no patch sees
WIDTH = 6


@pytest.fixture
def make_model() -> Callable[..., ModelInfo]:
    def make(**changes) -> ModelInfo:
        fields = {
            "name": "toy",
            "source": "toy",
            "family": "emma",
            "fingerprint": "f" * 32,
            "dtype": "float32",
            "n_layer": 4,
            "d_model": WIDTH,
            "ssm": "mamba1",
            "grid": (SIDE, SIDE),
            "taps": (0, 1, 2),
        }
        return ModelInfo(**fields | changes)

    return make


@pytest.fixture
def make_info() -> Callable[..., LensInfo]:
    def make(**changes) -> LensInfo:
        fields = {
            "kind": "ridge",
            "model_name": "toy",
            "model_fingerprint": "f" * 32,
            "site": "resid_post",
            "layers": (0, 2),
            "patch": PATCH,
            "grid": (SIDE, SIDE),
            "fitted_on": "noise",
            "n_fit": 5,
            "n_heldout": 0,
        }
        return LensInfo(**fields | changes)

    return make


@pytest.fixture
def make_views() -> Callable[..., np.ndarray]:
    def make(batch: int, seed: int = 0) -> np.ndarray:
        shape = (batch, SIZE, SIZE, 3)
        return np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8)

    return make


@pytest.fixture
def make_decoding(make_model, make_info, make_views) -> Callable[..., Decoding]:
    """A decoding whose patches are the true ones put through `change(layer, patches)`."""

    def make(
        change: Callable[[int, np.ndarray], np.ndarray] = lambda layer, patches: patches,
        *,
        layers: tuple[int, ...] = (0, 2),
        batch: int = 2,
        views: np.ndarray | None = None,
        **fields,
    ) -> Decoding:
        views = make_views(batch) if views is None else views
        place = Geometry(image_size=(30, 20), strategy="resize-naive", size=SIZE, patch=PATCH)
        true = np.stack([place.patches(view) for view in views]).astype(np.float32) / 255
        patches = np.stack([change(layer, true) for layer in layers]).astype(np.float32)
        given = {
            "patches": patches,
            "true": true,
            "layers": layers,
            "site": "resid_post",
            "model": make_model(),
            "lens": make_info(),
            "geometry": (place,) * len(views),
            "views": views,
            "images": tuple(Image.new("RGB", (30, 20), (index, 0, 0)) for index in range(len(views))),
            "image_hashes": tuple(f"hash{index}" for index in range(len(views))),
            "prompts": ("what?",) * len(views),
            "answers": ("this.",) * len(views),
        }
        return Decoding(**given | fields)

    return make


@pytest.fixture
def make_trace(make_model, make_views) -> Callable[..., Trace]:
    """A trace of random states; two text tokens follow the image tokens when `tokens` is "all"."""

    def make(
        *,
        sites: tuple[str, ...] = ("resid_post",),
        layers: tuple[int, ...] = (0, 1, 2, 3),
        batch: int = 2,
        tokens: str = "image",
        model: ModelInfo | None = None,
        patch: int = PATCH,
    ) -> Trace:
        model = model or make_model()
        generator = torch.Generator().manual_seed(0)
        n_tokens = SIDE * SIDE + (2 if tokens == "all" else 0)

        def states(site: str) -> torch.Tensor:
            n_layers = 1 if site == "norm_f" else len(layers)
            return torch.randn(n_layers, batch, n_tokens, model.d_model, generator=generator)

        place = Geometry(image_size=(30, 20), strategy="resize-naive", size=SIZE, patch=patch)
        return Trace(
            model=model,
            sites=sites,
            layers=layers,
            token_kind=tokens,
            states={site: states(site) for site in sites},
            geometry=(place,) * batch,
            views=make_views(batch),
            images=tuple(Image.new("RGB", (30, 20), (index, 0, 0)) for index in range(batch)),
            image_hashes=tuple(f"hash{index}" for index in range(batch)),
            prompts=("what?",) * batch,
            prompt_ids=((5, 6),) * batch,
            answers=("this.",) * batch,
            answer_ids=((7,),) * batch,
        )

    return make
