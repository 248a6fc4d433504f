"""Retention finds a loss where it was built in; and the folded ridge is a ridge."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from emma_viz.errors import InputError
from emma_viz.evidence.intervention import Intervention
from emma_viz.evidence.interventions import intervene
from emma_viz.metrics.readouts.folded_ridge import Products, fold_of, held_out_error, products
from probes.content.retention import Retention
from probes.examination import examine, gathered
from probes.findings import find
from probes.ledger import Ledger
from probes.numbers import drop
from probes.protocol import Batch, Result, Subject
from probes.subjects import Scenes
from tests.unchecked import types_unchecked


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
        _, found = examine(tiny, plan(Retention(), subjects=Scenes(12)))["retention"]
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


@pytest.fixture(scope="module")
def planted():
    with types_unchecked():
        return planted_losses()


def planted_losses():
    """Twelve pictures of 6×6 patches of 4×4 grey pixels, and tokens that hold them in three ways: all pixels; whether
    a patch is bright, with a random sign; the mean alone."""
    draw = np.random.default_rng(0)
    ledger, probe = Ledger(), Retention()
    turn = draw.normal(size=(16, 16))
    for number in range(12):
        grey = draw.uniform(size=(1, 36, 1, 1)) * 0.3 + draw.uniform(size=(1, 36, 4, 4)) * 0.7
        mean = grey.mean(axis=(2, 3))[..., None]
        sign = draw.choice([-1.0, 1.0], size=mean.shape)
        blurred = np.concatenate([mean, 1e-3 * draw.normal(size=(1, 36, 15))], axis=-1)
        states = [grey.reshape(1, 36, 16) @ turn, (blurred - mean.min()) * sign, blurred]
        trace = {("resid_post", layer): torch.tensor(each) for layer, each in enumerate(states)}
        batch = Batch(
            trace=_Trace(trace), subjects=(Subject(number=number, name="", image=None, prompt=""),),
            patches=np.repeat(grey[..., None], 3, axis=-1), layers=(0, 1, 2), group=number, first=True, others=(),
        )  # fmt: skip
        ledger.add(number, [number], probe.see(batch))
    plan = SimpleNamespace(subjects=SimpleNamespace(names=[""] * 12), quick=True)
    model = SimpleNamespace(name="planted", n_layer=3)
    found = gathered(ledger, model, plan, (0, 1, 2))
    return Result(gathered=found, findings=find(probe.measures(found)))


class _Trace(dict):
    """As much of a trace as the probe reads."""

    model = SimpleNamespace(d_model=16)
    geometry = (SimpleNamespace(grid=(6, 6)),)


def test_what_is_there_but_not_linearly_is_read_by_the_nonlinear_lens_alone(planted):
    linear, other = (planted.curve(name) for name in ("retention.r2", "retention.r2_nonlinear"))
    assert [each.number.value > 0.98 for each in linear] == [True, False, False]
    assert linear[1].number.value < 0.02
    assert other[1].beats
    assert other[1].number.value > 0.4 * linear[2].number.value
    assert not other[2].beats


def test_detail_that_was_taken_away_is_missed_at_its_frequencies(planted):
    half = planted.curve("retention.k_half")
    assert half[0].number.value == 12
    assert half[0].beats
    assert half[0].control.value < 4
    assert 2 <= half[2].number.value <= 6
    for layer, finest in ((0, True), (2, False)):
        fine, coarse = (planted.curve(f"retention.coherence.{low}")[layer] for low in (8, 1))
        assert (fine.number.value > 0.9) == finest
        assert coarse.number.value > 0.9
    power = planted.curve("retention.power.8")
    assert power[0].number.value == pytest.approx(1, abs=0.05)
    assert power[2].number.value < 0.5 * power[0].number.value
    edges = planted.curve("retention.edges")
    assert edges[0].number.value > 0.99 > edges[2].number.value
    assert abs(edges[0].control.value) < 0.2
    names = ["r2", "nonlinear", "coherence", "power", "k_half", "edges"]
    assert [chart.name for chart in Retention().plots([planted])] == names
