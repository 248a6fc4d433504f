"""From JSON to dataclasses: types, ranges, what is missing and what is unknown."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pytest

from emma_viz.errors import InputError, LensError
from emma_viz.files.schema import Positive, Size, require_ranges, shape


@dataclass(frozen=True, kw_only=True)
class Inner:
    eps: Positive = 1e-5


@dataclass(frozen=True, kw_only=True)
class Outer:
    width: Size
    kind: Literal["ridge", "tuned"] = "ridge"
    layers: tuple[int, ...] = ()
    grid: tuple[int, int] | None = None
    inner: Inner | None = None
    each: tuple[Inner, ...] = ()
    named: Mapping[str, Inner] = field(default_factory=dict)

    def __post_init__(self):
        if self.width == 13:
            raise InputError("13 is no width; give another")


def build(value, **options):
    return shape(value, Outer, where="a.lens", error=LensError, **options)


def test_lists_become_tuples_and_objects_dataclasses():
    built = build(
        {"width": 4, "layers": [0, 1], "grid": [2, 3], "inner": {"eps": 1}, "each": [{}], "named": {"a": {}}}
    )
    assert built == Outer(
        width=4, layers=(0, 1), grid=(2, 3), inner=Inner(eps=1.0), each=(Inner(),), named={"a": Inner()}
    )


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({}, "width"),
        ({"width": "4"}, "width"),
        ({"width": True}, "width"),
        ({"width": 4.5}, "width"),
        ({"width": 0}, "width"),
        ({"width": 2**30}, "width"),
        ({"width": 13}, "13 is no width"),
        ({"width": 4, "kind": "evil"}, "kind|evil"),
        ({"width": 4, "layers": ["0"]}, "layers"),
        ({"width": 4, "grid": [1]}, "grid"),
        ({"width": 4, "inner": {"eps": "x"}}, r"inner\.eps"),
        ({"width": 4, "inner": {"eps": -1.0}}, r"inner\.eps"),
        ({"width": 4, "inner": {"epz": 1.0}}, r"inner\.epz"),
        ({"width": 4, "each": [{"epz": 1.0}]}, r"each\.0\.epz"),
        ({"width": 4, "named": {"a": {"epz": 1.0}}}, r"named\.a\.epz"),
        ({"width": 4, "depth": 1}, "depth"),
        ([], "a.lens"),
        (None, "a.lens"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(value, said):
    with pytest.raises(LensError, match=said):
        build(value)


def test_fields_of_other_programs_may_be_passed_over():
    assert build({"width": 4, "depth": 1}, spare=True) == Outer(width=4)


@dataclass(frozen=True, kw_only=True)
class Held:
    width: Size
    kind: Literal["ridge", "tuned"] = "ridge"

    def __post_init__(self):
        require_ranges(self, error=InputError)


def test_what_a_program_passes_is_held_to_the_same_ranges():
    assert Held(width=3).width == 3
    with pytest.raises(InputError, match=r"Held: Expected `int` >= 1 - at `width`, got 0"):
        Held(width=0)
    with pytest.raises(InputError, match=r"Held: Invalid enum value 'x' - at `kind`, got 'x'"):
        Held(width=1, kind="x")  # type: ignore


def test_unpaired_surrogates_are_refused_where_text_is_looked_up():
    with pytest.raises(LensError, match=r"a\.lens: it holds unpaired surrogates"):
        build({"width": 1, "kind": "\ud800"})
    with pytest.raises(InputError, match="kind"):
        Held(width=1, kind="\ud800")  # type: ignore
