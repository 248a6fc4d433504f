"""Numbers of yes/no answers against scikit-learn and scipy, and without a division by zero anywhere."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve as sklearn_curve
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    precision_recall_fscore_support,
    roc_auc_score,
)

from emma_viz.metrics.intervals import difference, estimate, share, wilson
from emma_viz.metrics.paired import cluster_p, mcnemar
from emma_viz.metrics.verdicts import (
    CALIBRATION_STATISTICS,
    NEITHER,
    VERDICTS,
    calibration_columns,
    calibration_curve,
    clustered_error,
    mean_of_parts,
    ranking,
    ranking_difference,
    share_of_parts,
    share_of_rows,
    verdict_columns,
)


@pytest.fixture
def rows():
    rng = np.random.default_rng(1)
    truth = rng.random(300) < 0.5
    said = np.where(rng.random(300) < 0.75, truth, ~truth).astype(int)
    leaning = np.clip(0.5 + 0.3 * (said - 0.5) + rng.normal(0, 0.2, 300), 0, 1).round(2)
    return truth, said, leaning, np.arange(300) // 6


@pytest.mark.parametrize("positive", [True, False])
def test_precision_recall_and_f1_are_scikit_learns(rows, positive):
    truth, said, _, cluster = rows
    columns = verdict_columns(truth, said, said == truth, cluster, 50, positive=positive)
    precision, recall, f1, _ = precision_recall_fscore_support(
        truth, said, pos_label=positive, average="binary"
    )
    found = {name: estimate([columns], statistic) for name, statistic in VERDICTS.items()}
    assert [found[name].value for name in ("precision", "recall", "f1")] == pytest.approx(
        [precision, recall, f1]
    )
    assert found["accuracy"].value == pytest.approx((said == truth).mean())
    assert found["yes_rate"].value == pytest.approx(said.mean())
    assert found["accuracy"].images == 50
    assert found["accuracy"].low < found["accuracy"].value < found["accuracy"].high


def test_recall_with_and_without_rows_that_were_not_parsed():
    truth, said = np.array([True, True, True, False]), np.array([1, NEITHER, 0, 0])
    for counted, recall in ((True, 1 / 3), (False, 1 / 2)):
        columns = verdict_columns(truth, said, said == truth, np.arange(4), 4, recalls_unparsed=counted)
        assert estimate([columns], VERDICTS["recall"]).value == pytest.approx(recall)
        assert estimate([columns], VERDICTS["unparsed"]).value == 0.25


def test_nothing_is_divided_by_zero():
    truth, said = np.zeros(4, bool), np.zeros(4, int)
    columns = verdict_columns(truth, said, said == truth, np.arange(4), 4)
    for name in ("precision", "recall", "f1"):
        assert np.isnan(estimate([columns], VERDICTS[name]).value)
    assert estimate([columns], VERDICTS["accuracy"]).value == 1
    assert np.isnan(ranking(truth, np.full(4, 0.5), np.arange(4), 4)["auroc"][0])
    nothing = calibration_columns(truth, np.full(4, np.nan), np.arange(4), 4)
    assert np.isnan(estimate([nothing], CALIBRATION_STATISTICS["brier"]).value)


def test_rankings_are_scikit_learns_and_their_intervals_hold_them(rows):
    truth, _, leaning, cluster = rows
    found = ranking(truth, leaning, cluster, 50)
    assert found["auroc"][0] == pytest.approx(roc_auc_score(truth, leaning))
    assert found["auprc"][0] == pytest.approx(average_precision_score(truth, leaning))
    for value, low, high in found.values():
        assert low < value < high


def test_a_ranking_that_all_draws_share_claims_no_certainty():
    truth, leaning = np.array([True, True, False, False]), np.array([0.1, 0.2, 0.8, 0.9])
    assert ranking(~truth, leaning, np.arange(4), 4)["auroc"][0] == 1
    for each in (truth, ~truth):
        assert np.isnan(ranking(each, leaning, np.arange(4), 4)["auroc"][1:]).all()


def test_a_difference_of_rankings_is_drawn_on_the_same_clusters(rows):
    truth, _, leaning, cluster = rows
    other = np.where(np.arange(300) % 3 == 0, 1 - leaning, leaning)
    value, low, high = ranking_difference(truth, leaning, other, cluster, 50)
    assert value == pytest.approx(roc_auc_score(truth, leaning) - roc_auc_score(truth, other))
    assert 0 < low < value < high
    assert ranking_difference(truth, leaning, leaning, cluster, 50) == (0, 0, 0)
    # Better than two intervals of their own, which hold what both have in common.
    alone = [ranking(truth, each, cluster, 50)["auroc"] for each in (leaning, other)]
    assert high - low < sum(each[2] - each[1] for each in alone)
    half = np.where(np.arange(300) < 150, other, np.nan)
    assert ranking_difference(truth, leaning, half, cluster, 50)[0] == pytest.approx(
        roc_auc_score(truth[:150], leaning[:150]) - roc_auc_score(truth[:150], other[:150])
    )
    assert np.isnan(ranking_difference(truth, leaning, np.full(300, np.nan), cluster, 50)[0])


def test_a_difference_of_rankings_that_all_draws_share_claims_no_certainty():
    truth, leaning = np.array([True, True, False, False] * 2), np.tile([0.9, 0.8, 0.2, 0.1], 2)
    less = np.tile([0.9, 0.15, 0.2, 0.1], 2)
    one_image = np.zeros(8, int)
    for other, clusters in ((less, 1), (less, 5), (leaning, 5)):
        value, *ends = ranking_difference(truth, leaning, other, one_image, clusters)
        assert value == (0.25 if other is less else 0)
        assert np.isnan(ends).all()
    value, *ends = ranking_difference(truth, leaning, 1 - leaning, np.arange(8), 8)
    assert value == 1
    assert np.isnan(ends).all()


def test_brier_and_the_calibration_error(rows):
    truth, _, leaning, cluster = rows
    columns = calibration_columns(truth, leaning, cluster, 50)
    assert estimate([columns], CALIBRATION_STATISTICS["brier"]).value == pytest.approx(
        brier_score_loss(truth, leaning)
    )
    bins = np.minimum((leaning * 10).astype(int), 9)
    error = sum(
        abs(leaning[bins == b].mean() - truth[bins == b].mean()) * (bins == b).mean()
        for b in set(bins.tolist())
    )
    assert estimate([columns], CALIBRATION_STATISTICS["ece"]).value == pytest.approx(error)
    inner = 0.9987 * leaning + 0.0007  # on no bound of a bin, which the two count to different sides
    curve = calibration_curve(truth, np.where(np.arange(300) % 2 == 0, inner, np.nan), cluster)
    shares, means = sklearn_curve(truth[::2], inner[::2], n_bins=10)
    assert [each.leaning for each in curve] == pytest.approx(means)
    assert [each.share.value for each in curve] == pytest.approx(shares)
    assert sum(each.share.rows for each in curve) == 150


def test_a_calibration_over_one_image_has_no_interval():
    leaning = np.where(np.arange(4) == 2, 0.3, np.nan)
    columns = calibration_columns(np.ones(4, bool), leaning, np.arange(4), 4)
    for name, value in (("brier", 0.49), ("ece", 0.7)):
        found = estimate([columns], CALIBRATION_STATISTICS[name])
        assert found.value == pytest.approx(value)
        assert np.isnan([found.low, found.high]).all()


def test_the_bootstraps_spread_is_the_clustered_error(rows):
    truth, said, _, cluster = rows
    right = said == truth
    found = estimate([verdict_columns(truth, said, right, cluster, 50)], VERDICTS["accuracy"])
    error = clustered_error(right.astype(float), cluster)
    assert (found.high - found.low) / 2 / 1.96 == pytest.approx(error, rel=0.1)
    alone = clustered_error(right.astype(float), np.arange(300))
    assert alone == pytest.approx(right.std() / np.sqrt(300))


def test_a_share_of_rows_has_the_interval_of_the_draws(rows):
    truth, said, _, cluster = rows
    right = said == truth
    columns = verdict_columns(truth, said, right, cluster, 50)
    drawn, found = share(columns, VERDICTS["accuracy"]), share_of_rows(right, cluster)
    assert (found.value, found.rows) == (drawn.value, 300)
    assert (found.low, found.high) == pytest.approx((drawn.low, drawn.high), abs=0.01)
    blocks = share_of_rows(np.repeat(right[:50], 6), cluster)  # six rows that say the same are one
    once = share_of_rows(right[:50], np.arange(50))
    assert (blocks.low, blocks.high) == pytest.approx((once.low, once.high))
    every = share_of_rows(np.ones(300, bool), cluster)
    assert (every.low, every.high) == pytest.approx(wilson(1.0, 50))
    alone = share_of_rows(right, np.zeros(300, int))
    assert np.isnan(alone.low)
    thirds = share_of_rows(np.arange(30) % 3 == 0, np.arange(30) // 3)  # rounding is no spread
    assert (thirds.low, thirds.high) == pytest.approx(wilson(1 / 3, 10))


def test_the_mean_over_splits_weighs_them_alike():
    parts = {}
    for name, count, right in (("a", 2, 1), ("b", 8, 8)):
        truth = np.ones(count, bool)
        said = np.array([1] * right + [0] * (count - right))
        parts[name] = verdict_columns(truth, said, said == truth, np.arange(count), 8)
    found = estimate(
        *([each] if i == 0 else each for i, each in enumerate(mean_of_parts(parts, VERDICTS["accuracy"])))
    )
    assert found.value == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("parts", "trials"),
    [
        ([range(8), range(8)], 8),  # of the same images, each counts once
        ([range(10), range(10, 20)], 20),
        ([range(1), range(1, 20)], 3.8),  # a half of it rests on one image
        ([range(1), range(1)], None),
    ],
)
def test_the_mean_of_splits_that_no_draw_varies_rests_on_images_that_have_something(parts, trials):
    counted = {}
    for number, images in enumerate(parts):
        claimed = np.isin(np.arange(100), images).astype(float)
        counted[str(number)] = {"hit": claimed, "claimed": claimed}
    found = share_of_parts(counted, VERDICTS["precision"])
    assert found.value == 1
    ends = (np.nan, np.nan) if trials is None else wilson(1.0, trials)
    assert (found.low, found.high) == pytest.approx(ends, nan_ok=True)
    lacking = counted | {"none": {"hit": np.zeros(100), "claimed": np.zeros(100)}}
    assert np.isnan(share_of_parts(lacking, VERDICTS["precision"]).value)


def test_paired_differences_mcnemar_and_the_test_of_clusters():
    first = np.array([True] * 3 + [False] * 14 + [True] * 100)
    second = ~first
    second[17:] = True
    assert mcnemar(first, second) == pytest.approx(0.0127, abs=1e-4)
    assert mcnemar(first, second) == pytest.approx(binomtest(3, 17).pvalue)
    assert mcnemar(first, first) == 1
    assert cluster_p(first, second, np.arange(117)) == pytest.approx(0.0127, abs=0.004)
    # All discordant rows of one image are one observation.
    assert cluster_p(first, second, np.zeros(117, int)) == 1
    truth = np.ones(117, bool)
    a, b = (verdict_columns(truth, x.astype(int), x, np.arange(117), 117) for x in (first, second))
    gap = difference([b], [a], VERDICTS["accuracy"])
    assert gap.value == pytest.approx(11 / 117)
    assert gap.sign == 1
