"""Calls within the tests are checked as jaxtyping's own hook checks them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from jaxtyping import Float, TypeCheckError

from tests.checked import checked
from tests.unchecked import types_unchecked

Row = Float[np.ndarray, "n"]


@checked
def summed(row: Row, others: tuple[Row, ...] = (), *, length: int = 2) -> Row:
    return sum(others, row)[:length]


@checked
@dataclass
class Node:
    size: int
    after: "Node | None" = None

    @checked
    def rows(self, start: int = 0) -> Iterator[Row]:
        yield from (np.ones(n) for n in range(start, self.size))

    @checked
    def last(self) -> "Node":
        return self.after


def test_types_and_shapes_that_agree_pass():
    assert summed(np.ones(2), (np.ones(2),)).tolist() == [2, 2]
    assert [len(row) for row in Node(2).rows()] == [0, 1]
    assert Node(1, Node(2)).last() == Node(2)


@pytest.mark.parametrize(
    "call",
    [
        lambda: summed([1.0]),
        lambda: summed(np.ones(2, dtype=int)),
        lambda: summed(np.ones(2), (np.ones(3),)),
        lambda: summed(np.ones(2), length=1),
        lambda: summed(np.ones(2), length=1.5),
        lambda: Node("2"),
        lambda: Node(2, 3),
        lambda: Node(1).last(),
        lambda: Node(1).rows("0"),
    ],
)
def test_what_does_not_agree_is_refused_where_calls_are_checked(call):
    with pytest.raises(TypeCheckError):
        call()
    with types_unchecked():
        try:
            call()
        except (TypeError, AttributeError, ValueError) as error:
            assert not isinstance(error, TypeCheckError)  # noqa: PT017


def test_the_packages_are_checked(request):
    from emma_viz.data import image_hash

    if not request.config.getoption("jaxtyping_packages"):
        pytest.skip("these tests run without the hook")
    with pytest.raises(TypeCheckError):
        image_hash("a path")
