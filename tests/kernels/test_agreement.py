"""Every backend gives the values and gradients of the reference."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

FAST_BACKENDS = ("torch", "cpu")
OPTIONS = [
    {},
    {"gate": False},
    {"skip": False, "bias": False},
    {"softplus": False},
    {"initial": False, "final": False},
    {"initial": False},
    {"final": False},
    {"gate": False, "skip": False, "bias": False, "softplus": False, "initial": False, "final": False},
]
SEARCH = settings(max_examples=12, derandomize=True)

pytestmark = pytest.mark.parametrize("backend", FAST_BACKENDS)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_scan_with_each_option(assert_agrees, scan_case, backend, options):
    assert_agrees(scan_case(2, 21, 11, 4, **options), backend)


@pytest.mark.parametrize(
    ("batch", "length", "inner", "states"),
    [
        (1, 1, 1, 1),
        (3, 1, 7, 16),
        (1, 16, 64, 16),
        (1, 17, 65, 16),
        (2, 70, 33, 5),
        (1, 33, 401, 2),
        (2, 8, 16, 70),
    ],
)
def test_scan_of_each_size(assert_agrees, scan_case, backend, batch, length, inner, states):
    assert_agrees(scan_case(batch, length, inner, states), backend)


@pytest.mark.parametrize("options", [o for o in OPTIONS if "gate" not in o], ids=str)
def test_ssd_with_each_option(assert_agrees, ssd_case, backend, options):
    assert_agrees(ssd_case(2, 21, 4, 6, 2, 5, **options), backend)


@pytest.mark.parametrize(
    ("batch", "length", "heads", "size", "groups", "states"),
    [
        (1, 1, 1, 1, 1, 1),
        (2, 1, 3, 4, 3, 16),
        (1, 64, 2, 64, 1, 32),
        (1, 65, 2, 32, 1, 128),
        (1, 131, 1, 3, 1, 7),
        (2, 210, 6, 4, 2, 5),
        (2, 10, 6, 33, 2, 9),
        (1, 6, 26, 32, 1, 2),
    ],
)
def test_ssd_of_each_size(assert_agrees, ssd_case, backend, batch, length, heads, size, groups, states):
    assert_agrees(ssd_case(batch, length, heads, size, groups, states), backend)


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"silu": False}, {"initial": False}], ids=str)
@pytest.mark.parametrize(
    ("batch", "length", "inner", "taps"),
    [(1, 1, 1, 1), (2, 1, 9, 4), (2, 2, 65, 4), (1, 3, 7, 4), (1, 40, 33, 2), (3, 12, 5, 7), (1, 9, 400, 3)],
)
def test_conv_of_each_size(assert_agrees, conv_case, backend, batch, length, inner, taps, options):
    assert_agrees(conv_case(batch, length, inner, taps, **options), backend)


def test_an_empty_batch(assert_agrees, scan_case, ssd_case, conv_case, backend):
    for case in (scan_case(0, 9, 5, 3), ssd_case(0, 130, 4, 5, 2, 3), conv_case(0, 9, 5, 4)):
        assert_agrees(case, backend)


@SEARCH
@given(data=st.data())
def test_scan_of_any_size(assert_agrees, scan_case, backend, data):
    sizes = [data.draw(st.integers(1, top)) for top in (3, 50, 40, 20)]
    options = {
        name: data.draw(st.booleans()) for name in ("gate", "skip", "bias", "softplus", "initial", "final")
    }
    assert_agrees(scan_case(*sizes, **options, seed=data.draw(st.integers(0, 99))), backend)


@SEARCH
@given(data=st.data())
def test_ssd_of_any_size(assert_agrees, ssd_case, backend, data):
    batch, length, per_group, size, groups, states = (
        data.draw(st.integers(1, top)) for top in (3, 80, 3, 40, 3, 20)
    )
    options = {name: data.draw(st.booleans()) for name in ("skip", "bias", "softplus", "initial", "final")}
    case = ssd_case(
        batch, length, per_group * groups, size, groups, states, **options, seed=data.draw(st.integers(0, 99))
    )  # fmt: skip
    assert_agrees(case, backend)


@SEARCH
@given(data=st.data())
def test_conv_of_any_size(assert_agrees, conv_case, backend, data):
    sizes = [data.draw(st.integers(1, top)) for top in (3, 20, 80, 6)]
    options = {name: data.draw(st.booleans()) for name in ("bias", "silu", "initial")}
    assert_agrees(conv_case(*sizes, **options, seed=data.draw(st.integers(0, 99))), backend)


def test_the_gradient_of_ssd_keeps_its_digits_where_it_cancels(ssd_case, backend):
    case = ssd_case(1, 76, 1, 1, 1, 7, skip=False, bias=False, seed=32)
    double = replace(
        case,
        tensors=tuple(None if t is None else t.double() for t in case.tensors),
        weights=tuple(None if t is None else t.double() for t in case.weights),
    )
    actual, expected = case.run(backend)[1][2], double.run("reference")[1][2]  # of A
    assert float((actual - expected).abs() / expected.abs()) < 1e-5
