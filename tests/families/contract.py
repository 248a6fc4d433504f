"""Steps of the contract that every family keeps (test_contract), taken by the page of new families too."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
from PIL import Image

from emma_viz.checkpoints import LoadedModel
from emma_viz.models.attention_sites import ATTENTION_SITES

if TYPE_CHECKING:
    from probes.protocol import Gathered, Probe

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
    """All default probes that a model has sites for see a few scenes and measure; the others say which they lack."""
    from probes.causes import patching, prompts
    from probes.examination import Plan, able, examine, require_one_grid
    from probes.parity import checks
    from probes.subjects import Scenes
    from probes.table import chosen

    scenes, info = Scenes(SCENES), model.info
    infused = ours and model.config.projector.infused
    kept, said = able(
        chosen(None), scenes, models=2, mixers=bool(info.mixer_layers), apart=info.mixers_alone, ours=ours,
        infused=infused,
    )  # fmt: skip
    for probe in chosen(None):
        needs = probe.needs()
        lacking = bool(needs.scan) and not info.mixer_layers
        refused = lacking or (needs.apart and not info.mixers_alone) or (needs.between and not ours)
        refused = refused or (needs.infused and not infused)
        assert (probe.name in {each.name for each in kept}) != refused
        if refused:
            (sentence,) = (each for each in said if each.startswith(f"{probe.name} was left out"))
        if lacking:
            assert all(site in sentence for site in needs.scan)
            assert not {*needs.scan} & {*ATTENTION_SITES}
    require_one_grid(model, scenes)
    # Probes that compare two checkpoints are given the one twice.
    plan = Plan(subjects=scenes, probes=kept, folder=folder, quick=True, other=model)
    # An untrained model's two answers are nearly the same: no difference is too small here.
    with patch.object(patching, "LEAST", 0.0), patch.object(prompts, "LEAST", 0.0):
        found = examine(model, plan)
    assert {gathered.images for _, gathered in found.values()} == {SCENES}
    assert not [probe.name for probe in kept if not _measures(probe, found[probe.name][1])]
    assert all(check.passed for check in checks(model, scenes.take(0)))
    falls = found["knockout"][1]
    changed = {kind: falls.columns[f"{kind}_all"] for kind in ("replace", "write", "skip", "cut")}
    measured = {kind: fall[np.isfinite(fall)] for kind, fall in changed.items()}
    inside = {kind: bool(len(fall)) for kind, fall in measured.items()}
    assert inside == {
        "replace": True,
        "write": bool(info.mixer_layers),
        "skip": bool(info.mixer_layers),
        "cut": info.mixers_alone,
    }
    assert len(measured["replace"]) == SCENES
    # Each does something: what changes nothing has falls of exactly 0.
    assert all((measured[kind] != 0).any() for kind, there in inside.items() if there)
    assert any("were left out: they" in note for note in falls.notes) != info.mixers_alone


def _measures(probe: "Probe", gathered: "Gathered") -> bool:
    """Whether a probe has a number of something."""
    for each in probe.measures(gathered):
        sums = {name: np.nansum(column, axis=0) for name, column in each.columns.items()}
        if np.isfinite(each.statistic(sums)).all():
            return True
    return False
