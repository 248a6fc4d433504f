"""What a release is refused for: made-up files with one thing wrong each, and what this checkout says of itself."""

import io
import re
import tarfile
import tomllib
import zipfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from release.building import Built, require_same
from release.contents import LICENCES, check, differing
from release.failing import ReleaseError

ROOT = Path(__file__).resolve().parent.parent.parent
EPOCH = 1_700_000_000
FACTS = "emma_viz-9.0.dist-info"
METADATA = "\n".join(
    (
        "Metadata-Version: 2.4",
        "Name: emma-viz",
        "Version: 9.0",
        "License-Expression: MIT AND Apache-2.0",
        *(f"License-File: {name}" for name in LICENCES),
        "Requires-Dist: torch<3,>=2.6",
        "Requires-Dist: emma-viz[gradio]; extra == 'dev'",
        "",
    )
)
WHEEL = {
    "emma_viz/__init__.py": "",
    f"{FACTS}/METADATA": METADATA,
    **{f"{FACTS}/licenses/{name}": "" for name in LICENCES},
}
SOURCE = {
    "emma_viz/__init__.py": '__version__ = "9.0"\n',
    "CITATION.cff": "cff-version: 1.2.0\nversion: 9.0\n",
    "CHANGELOG.md": "# Changelog\n\n## 9.0\n",
    "SECURITY.md": "",
}


class Release:
    """A release in a folder, each part of which may be changed."""

    def __init__(self, folder: Path):
        self.folder, self.wheel, self.source = folder, dict(WHEEL), dict(SOURCE)
        self.sdist, self.mode, self.owner, self.second = {**SOURCE, "PKG-INFO": ""}, 0o644, "", 0

    def built(self) -> tuple[Built, Path]:
        source = self.folder / "source"
        for name, text in self.source.items():
            path = source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        wheel, sdist = self.folder / "emma_viz-9.0-py3-none-any.whl", self.folder / "emma_viz-9.0.tar.gz"
        with zipfile.ZipFile(wheel, "w") as file:
            for name, text in self.wheel.items():
                entry = zipfile.ZipInfo(
                    name, datetime.fromtimestamp(EPOCH + self.second, UTC).timetuple()[:6]
                )
                entry.external_attr = (0o100000 | self.mode) << 16
                file.writestr(entry, text)
        with tarfile.open(sdist, "w:gz") as file:
            for name, text in self.sdist.items():
                member = tarfile.TarInfo(f"emma_viz-9.0/{name}")
                member.size, member.mtime, member.uname = len(text), EPOCH, self.owner
                file.addfile(member, io.BytesIO(text.encode()))
        return Built(sdist, wheel, EPOCH), source


@pytest.fixture
def release(tmp_path):
    return Release(tmp_path)


def test_a_sound_release_passes(release):
    check(*release.built())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r.wheel.update({"apps/x.py": ""}), "holds apps beside emma_viz"),
        (
            lambda r: r.wheel.update({"emma_viz/__pycache__/x.pyc": ""}),
            "__pycache__/x.pyc, which nobody needs",
        ),
        (lambda r: r.wheel.update({"emma_viz/_programs/tests/x.py": ""}), "tests/x.py, which nobody needs"),
        (lambda r: r.wheel.pop(f"{FACTS}/licenses/NOTICE"), "lacks emma_viz-9.0.dist-info/licenses/NOTICE"),
        (
            lambda r: r.wheel.update({f"{FACTS}/METADATA": METADATA.replace("MIT AND ", "")}),
            "states the licence",
        ),
        (
            lambda r: r.wheel.update({f"{FACTS}/METADATA": METADATA.replace("<3,>=2.6", "")}),
            "without a lowest",
        ),
        (lambda r: setattr(r, "mode", 0o600), "has the mode 600"),
        (lambda r: setattr(r, "second", 3600), "has a time of its own"),
        (lambda r: setattr(r, "owner", "ana"), "names the user who built it"),
        (lambda r: r.sdist.pop("SECURITY.md"), "lacks 1 files of the commit: SECURITY.md"),
        (lambda r: r.sdist.update({"runs/x": ""}), "holds runs/x, which the commit has not"),
        (
            lambda r: r.source.update({"CITATION.cff": "version: 8.0\n"}),
            "CITATION.cff states the version 8.0",
        ),
        (lambda r: r.source.update({"CHANGELOG.md": "## 10.0\n"}), "CHANGELOG.md states the version 10.0"),
        (lambda r: (r.source.pop("SECURITY.md"), r.sdist.pop("SECURITY.md")), "SECURITY.md is missing"),
    ],
)
def test_what_is_wrong_is_named(release, change, said):
    change(release)
    with pytest.raises(ReleaseError, match=re.escape(said)):
        check(*release.built())


def test_builds_that_differ_are_refused(release, tmp_path):
    one, _ = release.built()
    (tmp_path / "other").mkdir()
    other = Release(tmp_path / "other")
    require_same(one, other.built()[0])
    other.wheel["emma_viz/__init__.py"] = " "
    with pytest.raises(ReleaseError, match=r"two builds .* differ: .*\.whl"):
        require_same(one, other.built()[0])


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_this_checkout_says_one_version():
    assert not list(differing(PROJECT["version"], ROOT))


def test_what_is_installed_here_is_within_the_bounds():
    given = [Requirement(each) for each in PROJECT["dependencies"]]
    for extra in ("casebook", "gradio", "train"):
        given += [Requirement(each) for each in PROJECT["optional-dependencies"][extra]]
    assert len(given) > 20
    for each in given:
        assert version(each.name) in each.specifier, f"{each} does not admit {version(each.name)}"
