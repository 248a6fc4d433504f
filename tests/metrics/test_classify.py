"""Classifiers are scikit-learn's, judged on images they did not see; the control task unmasks what only knows looks."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import StandardScaler

from emma_viz.errors import InputError
from emma_viz.metrics.classify import FOLDS, STRENGTHS, balanced_hits, control_labels, out_of_fold


@pytest.fixture(scope="module")
def things():
    """120 things in 30 images: features that hold the class, and some that hold nothing."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 4, 120)
    told = draw.normal(size=(120, 8)) + 3 * np.eye(4)[labels] @ draw.normal(size=(4, 8))
    return told, draw.normal(size=(120, 8)), labels, np.repeat(np.arange(30), 4)


@pytest.mark.parametrize(
    ("method", "make"),
    [
        ("ridge", lambda: RidgeClassifierCV(alphas=STRENGTHS)),
        ("logistic", lambda: LogisticRegression(C=0.1, max_iter=500)),
    ],
)
def test_each_image_is_judged_by_a_classifier_of_the_others(things, method, make):
    told, _, labels, images = things
    found = out_of_fold(told, labels, images, method=method)
    for held in range(FOLDS):
        rows = images % FOLDS == held
        scale = StandardScaler().fit(told[~rows])
        wanted = make().fit(scale.transform(told[~rows]), labels[~rows]).predict(scale.transform(told[rows]))
        np.testing.assert_array_equal(found[rows], wanted)


def test_hits_make_balanced_accuracy(things):
    told, _, labels, images = things
    found = out_of_fold(told, labels, images)
    hits = balanced_hits(found, labels, images, 31)
    assert hits["right"].shape == (31,)
    assert hits["all"].sum() == pytest.approx(1)
    assert hits["right"].sum() == pytest.approx(balanced_accuracy_score(labels, found))
    assert hits["right"].sum() > 0.8


def test_features_that_hold_nothing_read_nothing(things):
    _, empty, labels, images = things
    found = out_of_fold(empty, labels, images)
    assert balanced_hits(found, labels, images, 30)["right"].sum() < 0.45


def test_a_leak_between_things_of_an_image_does_not_help():
    """Features that are the image's own, and a class that is the image's own: by patches it would be read wholly."""
    draw = np.random.default_rng(1)
    images = np.repeat(np.arange(40), 5)
    features, classes = draw.normal(size=(40, 30)), draw.integers(0, 2, 40)
    found = out_of_fold(features[images], classes[images], images)
    assert balanced_hits(found, classes[images], images, 40)["right"].sum() < 0.7


def test_a_control_task_has_one_class_for_each_look():
    draw = np.random.default_rng(2)
    looks = draw.integers(0, 5, 200)
    raw = 10 * np.eye(5)[looks] + 0.01 * draw.normal(size=(200, 5))
    labels = draw.integers(0, 3, 200)
    control = control_labels(raw, labels)
    assert set(control) <= set(labels)
    for look in range(5):
        # Clusters are within looks: things that look the very same share their class more often than not.
        values = control[looks == look]
        assert len(np.unique(values)) <= 3
    images = np.arange(200)
    read = balanced_hits(out_of_fold(raw, control, images), control, images, 200)["right"].sum()
    true = balanced_hits(out_of_fold(raw, labels, images), labels, images, 200)["right"].sum()
    assert read > true


def test_one_image_has_nothing_to_be_judged_on():
    with pytest.raises(InputError, match="two images"):
        out_of_fold(np.ones((3, 2)), np.arange(3), np.zeros(3, dtype=int))
