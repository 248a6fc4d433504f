"""A missing browser may be skipped by a developer, and never by CI."""

import sys

import pytest

from tests.apps.programs import MEND, program


def test_the_first_that_is_installed_is_taken():
    assert program("no-such-browser", "sh").endswith("/sh")


def test_a_developer_is_told_how_to_mend_it(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=MEND):
        program("no-such-browser")


def test_ci_fails_without_it(monkeypatch):
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=MEND):
        program("no-such-browser", sys.executable + "-not")
