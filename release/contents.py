"""What must be, and what must not be, in a wheel and an sdist."""

import re
import tarfile
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from email.message import Message
from email.parser import Parser
from pathlib import Path, PurePosixPath

from release.building import Built
from release.failing import ReleaseError

PACKAGE = "emma_viz"
LARGEST_WHEEL = 55_000_000
"""Bytes of the wheel."""
LARGEST_SDIST = 95_000_000
"""Bytes of the sdist; PyPI takes 100 MB a file."""
LICENCES = ("LICENSE", "NOTICE", "LICENSES/Apache-2.0.txt")
"""Files that go with every copy."""
UNWANTED = re.compile(
    r"(^|/)(__pycache__|\.git|\.venv|\.ci|node_modules|tests?)(/|$)|\.py[co]$|\.(tmp|orig|rej|swp)$|\.egg-info"
)
"""Names that no wheel has."""
STATED = {
    f"{PACKAGE}/__init__.py": r'^__version__ = "(.+)"$',
    "CITATION.cff": r"^version: (\S+)$",
    "CHANGELOG.md": r"^## (\S+)",
}
"""Where else than in pyproject.toml the version stands."""
BOUND = re.compile(r">=\s*\d")


def check(built: Built, source: Path) -> None:
    """Refuse a release whose files are not what they should be.

    Args:
        built: the files.
        source: the files of the commit that they were built from.

    Raises:
        ReleaseError: names everything that is wrong.
    """
    if found := [
        *_of_wheel(built),
        *_of_sdist(built, source),
        *differing(metadata(built.wheel)["Version"], source),
    ]:
        raise ReleaseError("\n".join(found))


def metadata(wheel: Path) -> Message:
    """What a wheel says of itself."""
    with zipfile.ZipFile(wheel) as file:
        (name,) = [name for name in file.namelist() if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(file.read(name).decode("utf-8"))


def _of_wheel(built: Built) -> Iterator[str]:
    about = metadata(built.wheel)
    facts = f"{PACKAGE}-{about['Version']}.dist-info"
    when = datetime.fromtimestamp(built.epoch, UTC).timetuple()[:6]
    if (size := built.wheel.stat().st_size) > LARGEST_WHEEL:
        yield f"{built.wheel.name} has {size:,} bytes; expected at most {LARGEST_WHEEL:,}."
    with zipfile.ZipFile(built.wheel) as file:
        if (broken := file.testzip()) is not None:
            yield f"{built.wheel.name}: {broken} is damaged."
        names = file.namelist()
        if strange := sorted({name.split("/")[0] for name in names} - {PACKAGE, facts}):
            yield f"{built.wheel.name} holds {', '.join(strange)} beside {PACKAGE}."
        for entry in file.infolist():
            if UNWANTED.search(entry.filename.removeprefix(f"{PACKAGE}/")):
                yield f"{built.wheel.name} holds {entry.filename}, which nobody needs."
            if (mode := entry.external_attr >> 16 & 0o777) not in (0o644, 0o755):
                yield f"{built.wheel.name}: {entry.filename} has the mode {mode:o}."
            if abs(when[5] - entry.date_time[5]) > 1 or entry.date_time[:5] != when[:5]:
                yield f"{built.wheel.name}: {entry.filename} has a time of its own, {entry.date_time}."
        lacking = [f"{facts}/licenses/{name}" for name in LICENCES if f"{facts}/licenses/{name}" not in names]
        if lacking:
            yield f"{built.wheel.name} lacks {', '.join(lacking)}."
    if about["License-Expression"] != "MIT AND Apache-2.0":
        yield f"{built.wheel.name} states the licence {about['License-Expression']!r}."
    if sorted(about.get_all("License-File", [])) != sorted(LICENCES):
        yield f"{built.wheel.name} names the licence files {about.get_all('License-File')}."
    for each in about.get_all("Requires-Dist", []):
        if not BOUND.search(each) and not each.startswith("emma-viz["):
            yield f"{built.wheel.name} requires {each!r} without a lowest version."


def _of_sdist(built: Built, source: Path) -> Iterator[str]:
    if (size := built.sdist.stat().st_size) > LARGEST_SDIST:
        yield f"{built.sdist.name} has {size:,} bytes; expected at most {LARGEST_SDIST:,}."
    top = built.sdist.name.removesuffix(".tar.gz")
    with tarfile.open(built.sdist) as file:
        members = file.getmembers()
    names = {str(PurePosixPath(member.name).relative_to(top)) for member in members if not member.isdir()}
    wanted = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    if lacking := sorted(wanted - names):
        yield f"{built.sdist.name} lacks {len(lacking)} files of the commit: {', '.join(lacking[:5])}."
    if strange := sorted(names - wanted - {"PKG-INFO"}):
        yield f"{built.sdist.name} holds {', '.join(strange[:5])}, which the commit has not."
    for member in members:
        if not (member.isfile() or member.isdir()):
            yield f"{built.sdist.name}: {member.name} is neither a file nor a folder."
        if member.uid or member.gid or member.uname or member.gname:
            yield f"{built.sdist.name}: {member.name} names the user who built it."
        if member.mtime != built.epoch:
            yield f"{built.sdist.name}: {member.name} has a time of its own."


def differing(version: str, source: Path) -> Iterator[str]:
    """What the files of a checkout say that does not fit a version, in sentences."""
    for name, pattern in STATED.items():
        found = re.search(pattern, (source / name).read_text("utf-8"), re.MULTILINE)
        if found is None or found[1] != version:
            yield f"{name} states the version {found and found[1]}; expected {version}, which pyproject.toml has."
    if not (source / "SECURITY.md").is_file():
        yield "SECURITY.md is missing."
