"""What a file may state as the version of its form."""

import pytest

from emma_viz.errors import InputError
from emma_viz.files.versions import require_version


def judge(value, absent=None):
    require_version(value, "schema", 2, where="a.json", error=InputError, absent=absent)


@pytest.mark.parametrize("version", [1, 2])
def test_every_version_up_to_the_newest_is_read(version):
    judge({"schema": version})


def test_a_newer_one_is_named():
    with pytest.raises(
        InputError,
        match=r"^a\.json was written by a newer emma_viz: its schema version is 3, this one reads up to 2\. Upgrade",
    ):
        judge({"schema": 3})


@pytest.mark.parametrize("version", [0, -1, True, "2", 1.0, None, [2]])
def test_what_is_no_version_is_refused(version):
    with pytest.raises(InputError, match=r"a\.json: expected a schema version from 1 to 2 as 'schema', got "):
        judge({"schema": version})


def test_a_form_that_once_stated_none_has_a_version_for_that():
    judge({}, absent=1)
    with pytest.raises(InputError, match="got None"):
        judge({})


def test_what_is_no_object_is_left_to_the_reader_of_the_form():
    judge([1])
