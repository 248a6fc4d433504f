"""Lenses, benchmarks and probes that an installed package brings are found, and refused, by one rule."""

import pytest

from emma_viz.errors import InputError, LensError
from emma_viz.lens.kinds import kind_names, kind_of
from emma_viz.models.families.table import family_named, family_names
from emma_viz.records.benchmarks import benchmark, names
from probes.table import chosen, known
from tests.installed import install

GROUPS = [
    pytest.param("emma_viz.families", family_names, family_named, InputError, "Family", "cobra", id="family"),
    pytest.param("emma_viz.lenses", kind_names, kind_of, LensError, "LensKind", "ridge", id="lens"),
    pytest.param("emma_viz.benchmarks", names, benchmark, InputError, "Benchmark", "pope", id="benchmark"),
    pytest.param(
        "emma_viz.probes", known, lambda name: chosen([name]), InputError, "type", "words", id="probe"
    ),
]
each_group = pytest.mark.parametrize(("group", "names_of", "one", "error", "expected", "ours"), GROUPS)


@each_group
@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import nothing_like_it", "brought by stranger:THING, which fails: No module named"),
        ("", "brought by stranger:THING, which fails: .*THING"),
        ("THING = 3", "brought by stranger:THING; expected a {expected} there, got a int"),
    ],
)
def test_a_package_that_brings_none_is_named_when_its_name_is_asked_for(
    group, names_of, one, error, expected, ours, code, said, tmp_path, monkeypatch
):
    install(tmp_path, monkeypatch, "stranger", code, group, "another = stranger:THING")
    assert list(names_of())[-1] == "another"
    with pytest.raises(error, match=said.format(expected=expected)):
        one("another")
    assert one(ours)


@each_group
def test_a_package_cannot_take_the_place_of_one_of_ours(
    group, names_of, one, error, expected, ours, tmp_path, monkeypatch, caplog
):
    before = list(names_of())
    install(tmp_path, monkeypatch, "stranger", "THING = 3", group, f"{ours} = stranger:THING")
    assert list(names_of()) == before
    assert one(ours)
    assert f"{ours!r} of stranger:THING is passed over" in caplog.text


@each_group
def test_a_name_that_nobody_brings_is_named(group, names_of, one, error, expected, ours):
    with pytest.raises(error, match=r"There is no .* 'another'.*" + ours):
        one("another")


def test_a_probe_of_a_package_is_made_from_its_class(tmp_path, monkeypatch):
    code = "class Other:\n    name = 'other'\n"
    install(tmp_path, monkeypatch, "stranger", code, "emma_viz.probes", "other = stranger:Other")
    with pytest.raises(InputError, match=r"other: expected a probe .*, got Other"):
        chosen(["other"])
