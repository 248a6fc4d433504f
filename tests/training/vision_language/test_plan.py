"""Which records a step sees."""

import numpy as np
import pytest

from emma_viz.errors import TrainingError
from training.loop.prefetch import Prefetcher
from training.vision_language.plan import BatchPlan

ROWS = np.arange(100, 170)
LENGTHS = np.random.default_rng(0).integers(5, 400, 70)
IMAGE = np.arange(70) % 7 != 0


def plan(batch=8, seed=3):
    return BatchPlan(ROWS, LENGTHS, IMAGE, batch=batch, seed=seed)


def test_an_epoch_sees_every_record_and_each_batch_one_kind():
    found = plan()
    assert found.partial
    assert not BatchPlan(ROWS, LENGTHS, np.ones(70, bool), batch=8, seed=3).partial
    assert found.steps_per_epoch == 8 + 2
    for epoch in range(2):
        seen = [found.batch_of(epoch * 10 + step) for step in range(10)]
        assert set(np.concatenate(seen)) == set(ROWS)
        for batch in seen:
            assert len(batch) == 8
            assert len({bool(IMAGE[row - 100]) for row in batch}) == 1
            assert (np.diff(LENGTHS[batch - 100]) >= 0).all()
    assert not np.array_equal(found.batch_of(0), found.batch_of(10))


def test_batches_hold_records_of_similar_length():
    spread = [np.ptp(LENGTHS[plan().batch_of(step) - 100]) for step in range(10)]
    alone = [np.ptp(LENGTHS[start : start + 8]) for start in range(0, 64, 8)]
    assert np.mean(spread) < 0.5 * np.mean(alone)


def test_a_batch_depends_on_its_step_alone():
    walked = [plan().batch_of(step) for step in range(25)]
    jumped = plan()
    for step in (24, 3, 17):
        assert np.array_equal(jumped.batch_of(step), walked[step])
    assert not np.array_equal(plan(seed=4).batch_of(0), walked[0])


@pytest.mark.parametrize(("world", "micro"), [(1, 8), (1, 3), (2, 2), (4, 1)])
def test_processes_share_a_batch_whatever_their_number(world, micro):
    found = plan()
    shares = [found.share_of(5, rank=rank, world=world, micro=micro) for rank in range(world)]
    assert {len(share) for share in shares} == {-(-8 // (world * micro))}
    assert all(len(part) <= micro for share in shares for part in share)
    together = np.concatenate([part for share in shares for part in share])
    assert sorted(together) == sorted(found.batch_of(5))


def test_a_batch_that_cannot_be_shared_is_an_error():
    with pytest.raises(TrainingError, match="8 records cannot be shared by 3 processes"):
        plan().share_of(0, rank=0, world=3, micro=1)
    with pytest.raises(TrainingError, match="needs records"):
        BatchPlan(ROWS[:0], LENGTHS[:0], IMAGE[:0], batch=8, seed=0)


def test_batches_come_in_order_whatever_the_threads_do():
    import threading

    gates = {0: threading.Event(), 1: threading.Event()}
    finished: list[int] = []

    def make(step):
        if step == 0:  # finishes after its successor
            assert gates[1].wait(30)
        finished.append(step)
        if step in gates:
            gates[step].set()
        return step * step

    with Prefetcher(make, range(5), ahead=2, workers=2) as batches:
        assert list(batches) == [0, 1, 4, 9, 16]
    with Prefetcher(lambda step: step * step, range(5), workers=0) as batches:
        assert list(batches) == [0, 1, 4, 9, 16]
    assert finished.index(1) < finished.index(0)
    assert batches.waited > 0


def test_no_more_is_prepared_than_asked_for_and_errors_come_at_their_step():
    made: list[int] = []

    def make(step):
        made.append(step)
        if step == 3:
            raise TrainingError("step 3 is broken")
        return step

    with Prefetcher(make, range(2, 100), ahead=3, workers=1) as batches:
        assert next(batches) == 2
        with pytest.raises(TrainingError, match="step 3"):
            next(batches)
    assert max(made) <= 2 + 1 + 3
