"""Retention finds a loss where it was built in; and the folded ridge is a ridge."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from emma_viz.errors import InputError
from emma_viz.evidence.intervention import Intervention
from emma_viz.evidence.interventions import intervene
from emma_viz.metrics.folded_ridge import Products, fold_of, held_out_error, products
from probes.examination import examine
from probes.findings import find
from probes.numbers import drop
from probes.protocol import Result
from probes.retention import Retention


def test_errors_from_sums_are_those_of_a_ridge_that_saw_the_rows():
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(6, 40, 5)), draw.normal(size=(6, 40, 3))
    y[..., 0] += 3 * x[..., 1] + 2
    parts = [products(*pair) for pair in zip(x, y, strict=True)]
    sums = Products(**{name: np.stack([part[name] for part in parts]) for name in ("xx", "xy", "yy")})
    errors, fold = held_out_error(sums), fold_of(6)
    for group in range(6):
        train = fold != fold[group]
        rows, targets = x[train].reshape(-1, 5), y[train].reshape(-1, 3)
        spread = np.square(rows - rows.mean(0)).sum(0).mean()
        tried = [
            np.square(Ridge(alpha=alpha * spread).fit(rows, targets).predict(x[group]) - y[group]).sum()
            for alpha in (1e-8, 1e-6, 1e-4, 1e-2, 1.0)
        ]
        assert np.min(np.abs(np.array(tried) - errors[group])) < 1e-6 * errors[group]


def test_one_group_has_nothing_to_be_judged_on():
    one = products(np.ones((3, 2)), np.ones((3, 1)))
    with pytest.raises(InputError, match="two groups"):
        held_out_error(Products(**{name: each[None] for name, each in one.items()}))


@pytest.mark.parametrize("layer", [1, 2])
def test_a_loss_that_was_built_in_is_found_at_its_layer(tiny, plan, layer):
    """Before one block, all image tokens are emptied: the picture ends there."""
    count = tiny.vlm.n_image_tokens
    wipe = Intervention(kind="zero", site="resid_pre", tokens=tuple(range(count)), layers=(layer,))
    with intervene(tiny, [wipe]):
        _, found = examine(tiny, plan(Retention()))["retention"]
    findings = find(Retention().measures(found))
    result = Result(gathered=found, findings=findings)
    curve = result.curve("retention.r2")
    where = drop(curve)
    assert where is not None
    assert where.measure.layer == layer
    assert all(each.beats for each in curve if each.measure.layer < layer)
    assert not any(each.beats for each in curve if each.measure.layer >= layer)
    assert f"layer {layer}" in Retention().summary([result])


def test_states_that_are_not_finite_are_said_in_a_sentence(tiny, plan):
    weight = tiny.vlm.llm.backbone.layers[1].mixer.out_proj.weight
    before = weight.detach().clone()
    with torch.no_grad():
        weight[0, 0] = float("nan")
    try:
        _, found = examine(tiny, plan(Retention()))["retention"]
    finally:
        with torch.no_grad():
            weight.copy_(before)
    findings = find(Retention().measures(found))
    said = {each.measure.layer: each.sentence for each in findings}
    assert "not defined" in said[1]
    assert "not defined" not in said[0]
    assert any("layer 1" in note for note in found.notes)
