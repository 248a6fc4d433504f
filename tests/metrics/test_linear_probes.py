"""Linear probes from sums are those of scikit-learn, and find what was planted and nothing else."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

from emma_viz.errors import InputError
from emma_viz.metrics.masks import won_pairs
from emma_viz.metrics.pseudo_labels import TYPES, control_label, edge, patch_type, tint
from emma_viz.metrics.readouts.folded_discriminant import (
    UNKNOWN,
    discriminant,
    held_out_classes,
    hits,
    one_hot,
)
from emma_viz.metrics.readouts.folded_ridge import (
    Products,
    fold_of,
    held_out_error,
    held_out_values,
    products,
)
from emma_viz.metrics.readouts.logistic_probe import held_out_logistic, online_bits


@pytest.fixture(scope="module")
def planted():
    """Ten images of 24 states with 3 classes, which two dimensions of very different scale tell apart."""
    draw = np.random.default_rng(1)
    labels = draw.integers(0, 3, (10, 24))
    rows = draw.normal(size=(10, 24, 6)) * [1, 100, 0.01, 1, 1, 1] + 50
    rows[..., 2] += 0.05 * labels
    return rows, labels


def sums_of(rows, labels, classes=3):
    """The products of each image, as a group of its own."""
    parts = [products(x, one_hot(y, classes)) for x, y in zip(rows, labels, strict=True)]
    return np.stack([part["xx"] for part in parts]), np.stack([part["xy"] for part in parts])


def test_a_discriminant_from_sums_is_that_of_scikit_learn(planted):
    rows, labels = planted
    flat, wanted = rows.reshape(-1, 6), labels.ravel()
    scaler = StandardScaler().fit(flat)
    other = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.2).fit(scaler.transform(flat), wanted)
    xx, xy = (each.sum(axis=0) for each in sums_of(rows, labels))
    weights = discriminant(xx, xy, shrinkage=0.2)
    ours = flat @ weights[:-1] + weights[-1]
    theirs = other.decision_function(scaler.transform(flat)) - np.log(other.priors_)
    np.testing.assert_allclose(ours - ours[:, :1], theirs - theirs[:, :1], atol=1e-6)


def test_held_out_classes_are_those_of_discriminants_that_saw_the_other_rows(planted):
    rows, labels = planted
    found = held_out_classes(*sums_of(rows, labels), rows, np.arange(10))
    fold = fold_of(10)
    for held in range(5):
        train = fold != held
        scaler = StandardScaler().fit(rows[train].reshape(-1, 6))
        other = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.01, priors=np.full(3, 1 / 3))
        # scikit-learn weighs the scatter by the priors too; nearly equal classes make that a small difference.
        other.fit(scaler.transform(rows[train].reshape(-1, 6)), labels[train].ravel())
        theirs = other.predict(scaler.transform(rows[~train].reshape(-1, 6)))
        assert (found[~train].ravel() == theirs).mean() > 0.97
    sums = hits(found, labels)
    assert sums["hit"].sum() / sums["count"].sum() == pytest.approx(
        balanced_accuracy_score(labels.ravel(), found.ravel())
    )
    assert sums["hit"].sum() / sums["count"].sum() > 0.9


def test_labels_that_mean_nothing_are_read_at_chance(planted):
    rows, _ = planted
    random = np.random.default_rng(7).integers(0, 3, rows.shape[:2])
    found = hits(held_out_classes(*sums_of(rows, random), rows, np.arange(10)), random)
    assert found["hit"].sum() / found["count"].sum() == pytest.approx(1 / 3, abs=0.1)


def test_a_class_that_was_never_seen_is_never_said_and_rows_without_class_count_nothing():
    rows = np.random.default_rng(0).normal(size=(4, 5, 2))
    labels = np.tile([0, 1, 0, 1, 0], (4, 1))
    assert set(np.unique(held_out_classes(*sums_of(rows, labels, 9), rows, np.arange(4)))) <= {0, 1}
    labels[0] = UNKNOWN
    assert hits(labels, labels)["count"][0] == 0


def test_one_group_and_values_that_are_not_finite(planted):
    rows, labels = planted
    xx, xy = sums_of(rows, labels)
    with pytest.raises(InputError, match="two groups"):
        held_out_classes(xx[:1], xy[:1], rows[:1], np.zeros(1, int))
    xx[3, 0, 0] = np.nan
    found = held_out_classes(xx, xy, rows, np.arange(10))
    assert (found == UNKNOWN).all()
    assert np.isnan(hits(found, labels)["hit"]).all()


def test_values_of_the_folded_ridge_have_the_error_it_gives(planted):
    rows, labels = planted
    y = one_hot(labels.ravel(), 3).reshape(10, 24, 3)
    parts = [products(*pair) for pair in zip(rows, y, strict=True)]
    sums = Products(**{name: np.stack([part[name] for part in parts]) for name in ("xx", "xy", "yy")})
    values = held_out_values(sums, rows.reshape(-1, 6), np.repeat(np.arange(10), 24)).reshape(y.shape)
    np.testing.assert_allclose(np.square(values - y).sum(axis=(1, 2)), held_out_error(sums), rtol=1e-5)


def test_won_pairs_are_the_area_under_the_curve():
    draw = np.random.default_rng(2)
    scores, inside = draw.integers(0, 5, (40, 3)).astype(float), draw.random((40, 3)) < 0.4
    inside[:, 2] = True
    found = won_pairs(scores, inside)
    areas = [roc_auc_score(inside[:, k], scores[:, k]) for k in range(2)]
    weights = inside[:, :2].sum(axis=0)
    assert found["sum"].sum() / found["count"].sum() == pytest.approx(np.average(areas, weights=weights))


def test_the_last_probe_is_scikit_learns_and_by_image(planted):
    rows, labels = planted
    found = held_out_logistic(rows, labels)
    assert (found == labels).mean() > 0.9
    train = np.arange(10) % 5 != 0
    scaler = StandardScaler().fit(rows[train].reshape(-1, 6))
    tried = [
        LogisticRegression(C=strength, tol=1e-8, max_iter=5000)
        .fit(scaler.transform(rows[train].reshape(-1, 6)), labels[train].ravel())
        .predict(scaler.transform(rows[~train].reshape(-1, 6)))
        for strength in (0.01, 1.0)
    ]
    assert any((each == found[~train].ravel()).all() for each in tried)


def test_an_online_code_compresses_what_can_be_learnt_and_nothing_else(planted):
    rows, labels = planted
    found = online_bits(rows, labels, 3)
    assert found["uniform"].sum() / found["bits"].sum() > 1.3
    random = online_bits(rows, np.random.default_rng(3).integers(0, 3, labels.shape), 3)
    assert random["uniform"].sum() / random["bits"].sum() < 1.05


def test_pseudo_labels_and_types_of_patches():
    flat = np.zeros((2, 4, 4, 3))
    flat[1] = [1.0, 0.2, 0.2]
    board = np.indices((4, 4)).sum(axis=0)[..., None] % 2 * np.ones(3)
    patches = np.concatenate([flat, board[None]])
    assert edge(patches).tolist() == [0, 0, 2]
    assert tint(patches, np.array([[0.9, 0.1, 0.1], [0.0, 0.0, 0.0]])).tolist()[:2] == [1, 0]
    types = patch_type(patches)
    assert len(set(types.tolist())) == 3
    assert types.max() < TYPES
    labels = control_label(np.arange(TYPES).repeat(2), 5, seed=0)
    assert (labels[::2] == labels[1::2]).all()
    assert set(labels) == set(range(5))
