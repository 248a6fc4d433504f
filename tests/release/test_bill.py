"""Which licences of what is installed beside the package are refused."""

import pytest

from release.bill import NAMELESS, licences, require_licences
from release.failing import ReleaseError


def bill(*stated):
    return {"components": [{"name": "x", "licenses": [*stated]}]}


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ([{"license": {"id": "MIT"}}], "MIT"),
        ([{"expression": "MIT OR GPL-2.0-only"}], "MIT OR GPL-2.0-only"),
        ([{"license": {"name": "License :: OSI Approved :: LGPLv3"}}], "License :: OSI Approved :: LGPLv3"),
        ([], NAMELESS),
    ],
)
def test_licences_are_listed(stated, words):
    found = bill(*stated)
    assert licences(found) == {"x": words}
    require_licences(found)


@pytest.mark.parametrize(
    "stated",
    [
        {"license": {"id": "GPL-3.0-only"}},
        {"license": {"id": "AGPL-3.0-or-later"}},
        {"license": {"name": "License :: OSI Approved :: GNU General Public License v3 (GPLv3)"}},
    ],
)
def test_the_gpl_is_refused(stated):
    with pytest.raises(ReleaseError, match=r"under the GPL: x \("):
        require_licences(bill(stated))
