"""Steps of the contract that every family keeps (test_contract), taken by the page of new families too."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from emma_viz.checkpoints import LoadedModel
from emma_viz.models.attention_sites import ATTENTION_SITES

SCENES = 4


def from_lens_to_figure_and_page(
    model: LoadedModel, named: Any, images: list[np.ndarray], folder: Path
) -> None:
    """A lens is fitted, a figure drawn with it, and the explorer's page told.

    Args:
        model: the model.
        named: the same as a user may name it.
        images: two thirds are to fit on, one to draw.
        folder: where files go.
    """
    from emma_viz.lens import load_lens, save_lens
    from emma_viz.session import compare, figure, fit_ridge
    from emma_viz.session.payload import payload

    end = 2 * len(images) // 3
    lens = fit_ridge(model, images[:end], heldout=images[end:], fitted_on="images of noise", layers=[-1, 2])
    save_lens(lens, folder / "ridge.lens")
    assert load_lens(folder / "ridge.lens").info.to_json() == lens.info.to_json()
    comparison = compare(images[end], [named], lenses=[folder / "ridge.lens"])
    (maps,) = comparison.maps()
    place = model.transform.geometry(Image.fromarray(images[end]))
    assert maps.values.shape[2:] == place.grid
    figure(maps).savefig(folder / "figure.png", dpi=40)
    assert (folder / "figure.png").stat().st_size > 5000
    assert [note for note in comparison.spec().notes if place.said in note] or not place.said
    sent = json.loads(json.dumps(payload(comparison), allow_nan=False))
    assert (tuple(sent["models"][0]["grid"]), sent["models"][0]["n_layer"]) == (
        place.grid,
        model.info.n_layer,
    )


def geometry_there_and_back(model: LoadedModel, image: Image.Image) -> Any:
    """The middle of each token's box is that token's; the geometry."""
    place = model.transform.geometry(image)
    boxes = place.token_boxes()
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert place.tokens_at(centres).tolist() == list(range(place.n_tokens))
    return place


def quick_probes(model: LoadedModel, folder: Path, *, ours: bool) -> None:
    """All default probes that a model has sites for see a few scenes; the others say which they lack."""
    from probes.causes.knockout import Knockout
    from probes.content.geometry import GeometryProbe
    from probes.content.patch_classes import PatchClasses
    from probes.content.retention import Retention
    from probes.content.sinks import Sinks
    from probes.content.words import Words
    from probes.examination import Plan, able, examine, require_one_grid
    from probes.parity import checks
    from probes.subjects import Scenes
    from probes.table import chosen

    scenes, mamba = Scenes(SCENES), model.info.ssm != "attention"
    kept, said = able(chosen(None), scenes, models=2, mixers=mamba, ours=ours)
    for probe in chosen(None):
        lacking = bool(probe.needs().scan) and not mamba
        refused = lacking or probe.needs().infused or (probe.needs().between and not ours)
        assert (probe.name in {each.name for each in kept}) != refused
        if lacking:
            (sentence,) = (each for each in said if each.startswith(f"{probe.name} was left out"))
            named = set(probe.needs().scan)
            assert all(site in sentence for site in named)
            assert not named & set(ATTENTION_SITES)
    asked = [Retention(), GeometryProbe(), *([Sinks()] if mamba else [Words(), PatchClasses(), Knockout()])]
    require_one_grid(model, scenes)
    found = examine(model, Plan(subjects=scenes, probes=tuple(asked), folder=folder, quick=True))
    assert {gathered.images for _, gathered in found.values()} == {SCENES}
    assert all(check.passed for check in checks(model, scenes.take(0)))
    if not mamba:
        falls = found["knockout"][1].columns
        assert np.isfinite(falls["replace_all"]).all()
        assert (falls["replace_all"] != 0).any()
        assert np.isnan(falls["write"]).all()
        assert any("act at B, delta" in note for note in found["knockout"][1].notes)
        assert np.isfinite(found["words"][1].columns["logit_area"]).any()
