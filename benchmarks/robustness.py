"""Tries to break the programs: hostile and damaged files, kills at any moment, forged requests; counts what goes wrong.

    python -m benchmarks.robustness                                all of it, about an hour on one core
    python -m benchmarks.robustness --part mutants --share 0.1     a tenth of one part
    python -m benchmarks.robustness --part mutants --only images/173        one trial again, with what it said
    python -m benchmarks.robustness --write docs/robustness.md     also put the counts into that page
    python -m benchmarks.robustness --keep runs/robustness         keep the outcomes of each part there as it ends; try
                                                                   no part again whose outcomes are there

Everything that is tried follows from --seed. Ends with 0 when nothing went wrong, and with 1 otherwise.
"""

import argparse
import os
import sys

PARTS = ("made", "mutants", "kills", "requests")


def main(arguments: list[str] | None = None) -> int:
    """Try, print the counts, and return 1 if any of them is not 0."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.robustness",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of everything that is tried (default: %(default)s)"
    )
    parser.add_argument("--part", choices=PARTS, nargs="+", default=PARTS, help="(default: all)")
    parser.add_argument("--share", type=float, default=1.0, help="of each part (default: %(default)s)")
    parser.add_argument("--minutes", type=float, help="stop beginning new trials after that")
    parser.add_argument("--jobs", type=int, default=2, help="trials at once (default: %(default)s)")
    parser.add_argument(
        "--only", metavar="TEXT", help="only trials whose name holds TEXT; of mutants: KIND/ or KIND/NUMBER"
    )
    parser.add_argument("--keep", metavar="FOLDER", help="write the outcomes of each part there as it ends")
    parser.add_argument("--write", metavar="PAGE", help="put the counts into this page")
    options = parser.parse_args(arguments)
    from benchmarks.hostile.campaign import run
    from emma_viz.cli.guard import guarded
    from emma_viz.files.room import require_writable

    def tried() -> int:
        if options.keep:
            require_writable(options.keep, folder=True)
        if options.write:
            require_writable(options.write)
        return run(options)

    return guarded(tried, program="python -m benchmarks.robustness")


if __name__ == "__main__":
    # Before anything large is imported; a test that calls `main` keeps its own environment.
    os.environ.update({"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"})
    os.environ.update({"TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"})
    sys.exit(main())
