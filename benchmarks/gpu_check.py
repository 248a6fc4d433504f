"""What a GPU makes of the package: tests of the kernels, a figure, a 3B model, FSDP2. See scripts/gpu-check.

    scripts/gpu-check                               # on the first GPU; some minutes, 8 GB of disk and of GPU memory
    scripts/gpu-check --device cpu --tiny           # everything but the device, with tiny models
    PYTHON=/path/to/python scripts/gpu-check        # with the torch of another Python than .venv's

Ends with 0 when all stages went well, 1 when one failed, and 3 when no GPU was found.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed.rows import number
from emma_viz.cli.guard import guarded
from emma_viz.kernels import cuda
from emma_viz.kernels.backends import KERNELS

NO_GPU = 3
"""The exit code where there is no GPU."""
TRITON_TESTS = ("tests/kernels/test_triton.py", "tests/evidence/test_triton.py")
"""Of the kernels; of implicit attention and the frozen decomposition on them."""
_STEPS = 5


def kernels(device: str, tiny: bool, folder: Path) -> str:
    """Tests of the triton backend, and of what is computed by it: on the GPU, or under Triton's interpreter."""
    chosen = [*TRITON_TESTS, *(["-k", "test_conv or test_rows"] if tiny else [])]
    return _pytest(*chosen)


def compiled(device: str, tiny: bool, folder: Path) -> str:
    """The kernels of mamba_ssm and causal_conv1d against the reference, those that are there."""
    lacking = {kernel: reason for kernel in KERNELS if (reason := cuda.missing(kernel))}
    words = "; ".join(f"no {kernel}: {reason}" for kernel, reason in lacking.items())
    if device != "cuda" or len(lacking) == len(KERNELS):
        return f"not run: {words or 'they run on a GPU alone'}"
    said = _pytest("tests/kernels/test_cuda_adapter.py", "-k", "test_on_a_gpu")
    return "; ".join(filter(None, (said, words)))


def figure(device: str, tiny: bool, folder: Path) -> str:
    """A comparison of the bundled pair, as a user draws it."""
    from PIL import Image

    from emma_viz.data.tabletop import draw_scene, make_scene

    Image.fromarray(draw_scene(make_scene("test", 0)).image).save(folder / "scene.png")
    words = ["figure", str(folder / "scene.png"), "--models", "cobra-pocket", "emma-v1-pocket"]
    said = _run(
        [
            sys.executable,
            "-m",
            "emma_viz",
            "--verbose",
            *words,
            "--device",
            device,
            "--out",
            str(folder / "figure.png"),
        ]
    )
    ran = [line.split(": ", 1)[1] for line in said.splitlines() if "backend: " in line]
    return "; ".join(dict.fromkeys(ran)) or "drawn"


def full_size(device: str, tiny: bool, folder: Path) -> list[dict[str, Any]]:
    """Load, record, decode and answer with made-up weights of both Mambas; on Triton too where others are compiled."""
    from benchmarks.full_size import whole

    others = device == "cuda" and not all(map(cuda.missing, KERNELS))
    names = ("tiny-cobra", "tiny-emma-v2") if tiny else ("cobra-3b", "emma-v2-3b")
    dtype = "float32" if tiny else "bfloat16"
    return [
        row
        for name in names
        for backend in ("auto", *(["triton"] if others else []))
        for row in whole(name, device=device, dtype=dtype, backend=backend, place=folder)
    ]


def shards(device: str, tiny: bool, folder: Path) -> str:
    """Some steps of training with FSDP2 on two GPUs."""
    from benchmarks.training import write_data

    count = torch.cuda.device_count() if device == "cuda" else 0
    data = write_data(folder, images=8, side=64, words=2)
    options = ["joint", "--recipe", "tiny-emma-v1", "--data", str(data), "--images", str(folder)]
    options += ["--steps", str(_STEPS), "--batch", "4", "--work", str(folder / "work"), "--llm", "fresh"]
    options += ["--vision", "fresh", "--held-out", "1"]
    launcher = [
        "accelerate.commands.launch",
        "--config_file",
        "training/launch/fsdp2.yaml",
        "--num_processes",
        "2",
        "-m",
    ]
    _run([sys.executable, "-m", *(launcher if count >= 2 else []), "training.train", *options])
    lines = (folder / "work" / "metrics.jsonl").read_text().splitlines()
    done = f"{len(lines)} steps, loss {json.loads(lines[-1])['loss']:.3f}"
    if count < 2:
        return f"not run: it takes two GPUs, and there are {count}; one process went well: {done}"
    return f"2 of {count} GPUs: {done}"


STAGES: dict[str, Callable[[str, bool, Path], str | list[dict[str, Any]]]] = {
    "the triton backend's tests": kernels,
    "the compiled kernels against the reference": compiled,
    "a figure of the pocket pair": figure,
    "a model of made-up weights": full_size,
    "FSDP2": shards,
}


def _pytest(*chosen: str) -> str:
    """The last line of what pytest said."""
    said = _run([sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *chosen]).splitlines()
    return said[-1].strip("= ")


def _run(command: list[str]) -> str:
    """What a command said, which must end with 0."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return (done.stdout + done.stderr).strip()


def check(device: str, tiny: bool, place: Path | None) -> tuple[list[dict[str, Any]], bool]:
    """Run all stages; the rows of the table, and whether all went well."""
    rows: list[dict[str, Any]] = []
    well = True
    for what, stage in STAGES.items():
        begun = time.perf_counter()
        try:
            with tempfile.TemporaryDirectory(dir=place) as folder:
                said = stage(device, tiny, Path(folder))
        except subprocess.CalledProcessError as error:
            well, said = (
                False,
                f"FAILED: {((error.stdout or '') + (error.stderr or '')).strip()[-2000:] or error}",
            )
        seconds = time.perf_counter() - begun
        new = said if isinstance(said, list) else [{"what": what, "said": said, "seconds": seconds}]
        for row in new:
            print(f"| {row['what']} | {row['said']} | {number(row['seconds'])} s |", flush=True)
        rows += new
    return rows, well


def about(device: str) -> dict[str, str]:
    """The card and the versions."""
    if device == "cuda":
        found = torch.cuda.get_device_properties(0)
        name = f"{found.name}, {found.total_memory / 2**30:.0f} GiB, compute capability {found.major}.{found.minor}"
    else:
        name = "a CPU (a dry run, no GPU)"
    versions = [f"torch {torch.__version__}", f"CUDA {torch.version.cuda}"]
    for package in ("triton", "mamba_ssm", "causal_conv1d"):
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            versions.append(f"no {package}")
    return {"device": name, "versions": ", ".join(versions)}


def main(argv: Sequence[str] | None = None) -> int:
    """Check, print the table, write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: a dry run")
    parser.add_argument("--tiny", action="store_true", help="tiny models and few tests")
    parser.add_argument("--json", type=Path, default=Path("gpu-check.json"))
    parser.add_argument(
        "--place", type=Path, help="a folder with 8 GB of room (default: the temporary folder)"
    )
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a build without CUDA"
        print(
            f"No GPU found: the torch of {sys.executable} ({torch.__version__}, {build}) sees no CUDA device. Nothing "
            f"was checked (exit code {NO_GPU}). With a GPU, install a CUDA build of torch there, or name a Python that "
            "has one: PYTHON=/path/to/python scripts/gpu-check. `--device cpu --tiny` runs everything but the device.",
            file=sys.stderr,
        )
        return NO_GPU
    found = about(args.device)
    print(f"{found['device']}; {found['versions']}\n\n| what | found | time |\n|---|---|---|", flush=True)
    rows, well = check(args.device, args.tiny, args.place)
    args.json.write_text(json.dumps({**found, "rows": rows}, indent=1, ensure_ascii=False) + "\n")
    print(
        f"\nWritten: {args.json}. `python -m benchmarks.run --from … --gpu {args.json} --page docs/benchmarks.md`"
    )
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(guarded(main, program="scripts/gpu-check"))
