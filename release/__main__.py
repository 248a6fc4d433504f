"""The command line of `scripts/release`."""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from release import bill, building, contents, environments
from release.failing import ReleaseError, run

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "release"


def main(argv: Sequence[str] | None = None) -> int:
    """Run `scripts/release`.

    Returns:
        0, or 1 where a check did not pass.
    """
    parser = argparse.ArgumentParser(prog="scripts/release", description="Build, check and try a release.")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "dist", help="folder for what is made (default: dist)"
    )
    parser.add_argument(
        "--versions", choices=list(environments.RESOLUTION), help="install and try with these, too"
    )
    parser.add_argument("--python", default=sys.executable, help="version or path, for --versions")
    parser.add_argument("tests", nargs="*", help="after --: for pytest, in place of the wheel's tests")
    args = parser.parse_args(argv)
    if args.versions is None and args.tests:
        parser.error("tests run with --versions lowest or newest")
    try:
        with tempfile.TemporaryDirectory(prefix="emma-viz-release-") as place:
            _release(args, Path(place))
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


def _release(args: argparse.Namespace, place: Path) -> None:
    first, second = place / "a" / "source", place / "elsewhere" / "b"
    for source in (first, second):
        building.export(ROOT, source)
    epoch = building.commit_time(ROOT)
    built = building.build(first, place / "one", epoch=epoch)
    # Another place, another time zone, other rights: none of them may be seen in what is built.
    again = building.build(second, place / "two", epoch=epoch, umask=0o077, zone="Pacific/Auckland")
    building.require_same(built, again)
    run(sys.executable, "-m", "twine", "check", "--strict", *built.files)
    contents.check(built, first)
    args.out.mkdir(parents=True, exist_ok=True)
    kept = building.Built(*(Path(shutil.copy2(each, args.out)) for each in built.files), built.epoch)
    for each in kept.files:
        print(f"{building.sha256(each)}  {each.stat().st_size:,} bytes  {each}")
    if args.versions:
        _try(args, kept, first)


def _try(args: argparse.Namespace, built: building.Built, source: Path) -> None:
    name = f"{args.versions}-{Path(args.python).name if '/' not in args.python else _version(args.python)}"
    made = environments.install(built, source, args.versions, args.python, WORK / name)
    target = args.out / f"{built.wheel.name.split('-py3')[0]}-{name}.cdx.json"
    bill.write(made, built, source, target)
    listed = json.loads(target.read_text("utf-8"))
    bill.require_licences(listed)
    print(f"{len(listed['components'])} components in {target}; versions in {made.pins}")
    environments.add_tools(made, source)
    environments.try_out(made, built, ROOT, args.tests)


def _version(python: str) -> str:
    return run(python, "-c", "import sys; print('{}.{}'.format(*sys.version_info))").strip()


if __name__ == "__main__":
    sys.exit(main())
