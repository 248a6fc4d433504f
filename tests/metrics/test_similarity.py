"""Alignment and spread: against slow formulas written another way, and on what is known beforehand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emma_viz.errors import InputError
from emma_viz.metrics.similarity import alignment, cka, hsic, shared_neighbours
from emma_viz.metrics.spread import anisotropy, effective_rank, intrinsic_dimension, morans_i, rogue_share


def test_hsic_is_the_u_statistic_over_four_different_things():
    draw = np.random.default_rng(0)
    one, two = draw.normal(size=(7, 3)), draw.normal(size=(7, 2))
    k, q = one @ one.T, two @ two.T
    found = []
    for i in range(7):
        for j in range(7):
            for r in range(7):
                for s in range(7):
                    if len({i, j, r, s}) == 4:
                        found.append(k[i, j] * (q[i, j] + q[r, s] - 2 * q[i, r]))
    assert hsic(one, two) == pytest.approx(np.mean(found), rel=1e-10)


def test_independent_vectors_align_by_nothing_although_they_are_wide():
    draw = np.random.default_rng(1)
    found = [cka(draw.normal(size=(60, 200)), draw.normal(size=(60, 200))) for _ in range(20)]
    assert abs(np.mean(found)) < 0.02


@given(st.integers(0, 1000))
def test_a_rotation_a_shift_and_a_scale_align_wholly(seed):
    draw = np.random.default_rng(seed)
    vectors = draw.normal(size=(12, 5))
    turn, _ = np.linalg.qr(draw.normal(size=(5, 5)))
    assert cka(vectors, 3 * vectors @ turn + 7) == pytest.approx(1.0)


def test_what_does_not_vary_has_no_alignment():
    assert np.isnan(cka(np.ones((6, 2)), np.random.default_rng(0).normal(size=(6, 2))))
    assert np.isnan(alignment(1.0, -1.0, 1.0))
    with pytest.raises(InputError, match="four things"):
        hsic(np.ones((3, 2)), np.ones((3, 2)))


def test_neighbours_are_those_found_one_by_one_and_of_independent_vectors_few_are_shared():
    draw = np.random.default_rng(5)
    one, two = draw.normal(size=(30, 4)), draw.normal(size=(30, 6))
    nearest = []
    for vectors in (one, two):
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        cosines = unit @ unit.T - 9 * np.eye(30)
        nearest.append([set(np.argsort(-row)[:5].tolist()) for row in cosines])
    expected = np.mean([len(a & b) / 5 for a, b in zip(*nearest, strict=True)])
    assert shared_neighbours(one, two, 5) == pytest.approx(expected)
    turn, _ = np.linalg.qr(draw.normal(size=(4, 4)))
    assert shared_neighbours(one, 3 * one @ turn) == 1.0
    chance = [shared_neighbours(draw.normal(size=(40, 8)), draw.normal(size=(40, 8))) for _ in range(20)]
    assert np.mean(chance) == pytest.approx(10 / 39, abs=0.03)
    assert np.isnan(shared_neighbours(one, np.zeros((30, 2))))
    assert np.isnan(shared_neighbours(one, np.full((30, 2), np.nan)))
    with pytest.raises(InputError, match="four things"):
        shared_neighbours(one[:3], two[:3])


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_the_dimension_of_a_cube_is_found_however_it_is_bent_into_more(dimension):
    draw = np.random.default_rng(6)
    cube = draw.random((1000, dimension))
    assert intrinsic_dimension(cube) == pytest.approx(dimension, rel=0.12)
    turn, _ = np.linalg.qr(draw.normal(size=(20, 20)))
    bent = np.concatenate([cube, 0.3 * np.sin(3 * cube), np.zeros((1000, 20 - 2 * dimension))], axis=1) @ turn
    assert intrinsic_dimension(bent) == pytest.approx(dimension, rel=0.15)
    assert intrinsic_dimension(np.concatenate([cube, cube])) == intrinsic_dimension(cube)
    assert np.isnan(intrinsic_dimension(np.ones((50, 3))))
    assert np.isnan(intrinsic_dimension(np.full((50, 3), np.nan)))


def test_equal_directions_are_counted():
    vectors = np.concatenate([np.eye(7), -np.eye(7)])
    assert effective_rank(vectors) == pytest.approx(7.0)
    assert np.isnan(effective_rank(np.ones((5, 3))))
    assert np.isnan(effective_rank(np.full((5, 3), np.nan)))


def test_cosines_are_those_of_all_pairs():
    draw = np.random.default_rng(2)
    vectors = draw.normal(size=(9, 4)) + 1
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = [unit[i] @ unit[j] for i in range(9) for j in range(9) if i != j]
    assert anisotropy(vectors) == pytest.approx(np.mean(pairs))
    assert anisotropy(np.ones((4, 3))) == pytest.approx(1.0)
    assert np.isnan(anisotropy(np.zeros((4, 3))))


def test_a_dimension_that_holds_all_is_rogue():
    vectors = np.random.default_rng(3).normal(size=(50, 20))
    even = rogue_share(vectors, 1)
    vectors[:, 4] += 100
    assert even < 0.2
    assert rogue_share(vectors, 1) > 0.99


def test_moran_knows_a_chessboard_two_halves_and_noise():
    rows, columns = np.indices((8, 8))
    chess = ((rows + columns) % 2).reshape(-1, 1).astype(float)
    halves = (columns > 3).reshape(-1, 1).astype(float)
    assert morans_i(chess, (8, 8)) == pytest.approx(-1.0)
    assert morans_i(halves, (8, 8)) == pytest.approx(0.857, abs=1e-3)
    draw = np.random.default_rng(4)
    noise = [morans_i(draw.normal(size=(64, 3)), (8, 8)) for _ in range(300)]
    assert np.mean(noise) == pytest.approx(-1 / 63, abs=0.01)
    assert np.isnan(morans_i(np.ones((64, 1)), (8, 8)))
    # The mean over principal axes, weighted by variance, done as it is said.
    vectors = draw.normal(size=(64, 3)) * [3, 1, 0.2]
    centred = vectors - vectors.mean(0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    each = [morans_i((centred @ axis)[:, None], (8, 8)) for axis in axes]
    assert morans_i(vectors, (8, 8)) == pytest.approx(np.average(each, weights=sizes**2))
