"""Which backend runs, what the log says about it, and what a wrong call is told."""

import inspect
import logging
import subprocess
import sys

import pytest
import torch

from emma_viz import kernels
from emma_viz.errors import BackendError, InputError
from emma_viz.kernels import backends

pytestmark = pytest.mark.usefixtures("forget")


def test_auto_picks_by_device_and_dtype():
    assert kernels.resolve_backend("cpu", torch.float32) == "cpu"
    assert kernels.resolve_backend("cpu", torch.bfloat16) == "cpu"
    assert kernels.resolve_backend("cpu", torch.float64) == "torch"
    assert kernels.resolve_backend("meta", torch.float32) == "torch"


def test_auto_says_once_which_backend_runs_and_why(caplog):
    with caplog.at_level(logging.INFO, logger="emma_viz.kernels"):
        for _ in range(3):
            kernels.resolve_backend("cpu", torch.float64, kernel="ssd")
    assert len(caplog.records) == 1
    assert "ssd on cpu (torch.float64) runs on the torch backend" in caplog.text
    assert "fp64" in caplog.text


def convolved():
    """A kernel by whatever "auto" picks, three times, for the log's sake."""
    for dtype in (torch.float32, torch.bfloat16, torch.float32):
        y, _ = kernels.causal_conv1d(torch.ones(1, 3, 5, dtype=dtype), torch.ones(5, 2, dtype=dtype))
        assert y[0, :, 0].tolist() == [1, 2, 2]


def warned(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_auto_falls_back_without_numba_and_warns_once(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "numba", None)  # as Python sees a package that is not there
    with caplog.at_level(logging.INFO, logger="emma_viz.kernels"):
        convolved()
        assert kernels.resolve_backend("cpu", torch.float32, kernel="ssd") == "torch"
    (warning,) = warned(caplog)
    assert "numba is not installed (pip install numba); the torch backend runs in its place" in warning
    assert "runs on the torch backend" in caplog.text
    assert kernels.available_backends()["cpu"].startswith("unavailable: numba is not installed")
    with pytest.raises(BackendError, match="pip install numba"):
        kernels.resolve_backend("cpu", torch.float32, "cpu")


@pytest.mark.parametrize("error", [ImportError, SystemError])
def test_auto_falls_back_where_numba_cannot_be_imported(error, monkeypatch, tmp_path, caplog):
    """Numba refuses a NumPy that is newer than it knows."""
    tried = tmp_path / "tried"
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba" / "__init__.py").write_text(
        f"with open({str(tried)!r}, 'a') as file:\n    file.write('x')\n"
        f"raise {error.__name__}('Numba needs NumPy 2.2 or less. Got NumPy 2.9.')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with monkeypatch.context() as patch:
        for name in list(sys.modules):
            if name.partition(".")[0] == "numba" or name.startswith(
                ("emma_viz.kernels.numba", "emma_viz.kernels.cpu")
            ):
                patch.delitem(sys.modules, name)
        with caplog.at_level(logging.WARNING, logger="emma_viz.kernels"):
            convolved()
        with pytest.raises(BackendError, match=r"cannot be imported: .*NumPy 2\.2 or less"):
            kernels.resolve_backend("cpu", torch.float32, "cpu")
        assert "NumPy 2.2 or less" in kernels.available_backends()["cpu"]
    (warning,) = warned(caplog)
    assert "NumPy 2.2 or less" in warning
    assert tried.read_text() == "x"


def test_what_torch_computes_by_right_is_no_warning(caplog):
    with caplog.at_level(logging.INFO, logger="emma_viz.kernels"):
        assert kernels.resolve_backend("cpu", torch.float64) == "torch"
        assert kernels.resolve_backend("meta", torch.float32) == "torch"
    assert not warned(caplog)


@pytest.fixture
def triton_on_a_card(monkeypatch, tmp_path):
    """Triton's own start on a card, up to the compiler that makes its driver."""
    pytest.importorskip("triton")
    from triton.backends.nvidia import driver as nvidia
    from triton.runtime import build, driver

    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(nvidia.CudaDriver, "is_active", staticmethod(lambda: True))
    monkeypatch.setattr(nvidia, "library_dirs", list)
    for name in ("_default", "_active"):
        monkeypatch.setattr(driver, name, None)
    build._find_compiler.cache_clear()
    yield
    build._find_compiler.cache_clear()


@pytest.mark.parametrize("compiler", [None, "/no/such/compiler", "/bin/false"])
def test_a_card_without_a_compiler_runs_on_torch(triton_on_a_card, compiler, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("PATH", str(tmp_path))
    if compiler:
        monkeypatch.setenv("CC", compiler)
    with caplog.at_level(logging.WARNING, logger="emma_viz.kernels"):
        for kernel in backends.KERNELS:
            assert kernels.resolve_backend("cuda", torch.bfloat16, kernel=kernel) == "torch"
    (warning,) = warned(caplog)
    assert (compiler or "Failed to find C compiler") in warning
    assert "install gcc or clang" in warning
    assert "install gcc or clang" in kernels.available_backends()["triton"]
    with pytest.raises(BackendError, match="install gcc or clang"):
        kernels.resolve_backend("cuda", torch.bfloat16, "triton")


@pytest.mark.parametrize("error", [ImportError, RuntimeError])
def test_a_compiled_package_that_cannot_be_imported_is_tried_once_and_passed_over(
    error, monkeypatch, tmp_path
):
    tried = tmp_path / "tried"
    noted = f"with open({str(tried)!r}, 'a') as file:\n    file.write('x')\n"
    (tmp_path / "causal_conv1d.py").write_text(f"{noted}raise {error.__name__}('built for another torch')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "causal_conv1d", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for _ in range(3):
        assert kernels.resolve_backend("cuda", torch.float32, kernel="causal_conv1d") != "cuda"
    assert tried.read_text() == "x"
    with pytest.raises(BackendError, match="built for another torch"):
        kernels.resolve_backend("cuda", torch.float32, "cuda", kernel="causal_conv1d")
    assert "built for another torch" in kernels.available_backends()["cuda"]


def test_a_backend_that_cannot_run_says_why(scan_case):
    case = scan_case()
    with pytest.raises(BackendError, match="'cuda' cannot run selective_scan here: it runs on cuda tensors"):
        case.call(*case.tensors, backend="cuda")
    with pytest.raises(BackendError, match="computes in fp32"):
        case.call(*(t.double() for t in case.tensors), backend="cpu")
    with pytest.raises(BackendError, match="these are on meta"):
        kernels.resolve_backend("meta", torch.float32, "cpu")
    with pytest.raises(
        InputError, match=r"no kernel backend 'mps'; expected auto, reference, torch, cpu, cuda, triton"
    ):
        kernels.resolve_backend("cpu", torch.float32, "mps")
    with pytest.raises(InputError, match="no kernel 'attention'"):
        kernels.resolve_backend("cpu", torch.float32, kernel="attention")


def test_every_backend_states_its_availability():
    answers = kernels.available_backends()
    assert set(answers) == set(backends.BACKENDS)
    assert all(answer.startswith(("available: ", "unavailable: ")) for answer in answers.values())
    assert answers["cpu"].startswith("available")


def test_importing_the_kernels_does_not_import_numba():
    code = "import sys, emma_viz.kernels; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def unchecked(monkeypatch):
    """The kernels as users run them, without the shape checks that the test suite adds in front."""
    for name in kernels.__all__:
        monkeypatch.setattr(kernels, name, inspect.unwrap(getattr(kernels, name)))


def test_misshapen_arguments_are_named(unchecked, scan_case, ssd_case, conv_case):
    def call(case, index, tensor):
        tensors = (tensor if i == index else t for i, t in enumerate(case.tensors))
        return case.call(*tensors, backend="torch")

    scan, ssd, conv = scan_case(2, 9, 5, 3), ssd_case(2, 9, 4, 5, 2, 3), conv_case(2, 9, 5, 4)
    for case, index, tensor, message in (
        (
            scan,
            3,
            torch.ones(2, 9, 4),
            r"B must have the shape \(B L N\) = \(2, 9, 3\), but it has \(2, 9, 4\)",
        ),
        (scan, 8, torch.ones(2, 3, 5), r"initial_state must have the shape \(B E N\)"),
        (scan, 5, torch.ones(5, dtype=torch.int64), "D must be a floating-point tensor"),
        (scan, 5, torch.ones(5, device="meta"), "D is on meta"),
        (ssd, 1, torch.ones(2, 9, 3), r"dt must have the shape \(B L H\)"),
        (conv, 3, torch.ones(2, 4, 5), r"initial_state must have the shape \(B J E\) = \(2, 3, 5\)"),
    ):
        with pytest.raises(InputError, match=message):
            call(case, index, tensor)
    thirds = [torch.ones(2, 9, 3, 3) for _ in range(2)]
    with pytest.raises(InputError, match="4 heads cannot be shared evenly by 3 groups"):
        kernels.ssd(*ssd.tensors[:3], *thirds)
    with pytest.raises(InputError, match="at least one token"):
        kernels.causal_conv1d(torch.ones(2, 0, 5), torch.ones(5, 4))
    with pytest.raises(InputError, match="activation must be None or 'silu', not 'gelu'"):
        kernels.causal_conv1d(torch.ones(2, 3, 5), torch.ones(5, 4), activation="gelu")
    x = torch.ones(2, 3, 6)
    with pytest.raises(InputError, match=r"gated_rms_norm: gate must have the shape \(B L E\) = \(2, 3, 6\)"):
        kernels.gated_rms_norm(x, torch.ones(2, 1, 6), torch.ones(6), groups=1, eps=1e-5)
    with pytest.raises(InputError, match="6 channels cannot be shared evenly by 4 groups"):
        kernels.gated_rms_norm(x, x, torch.ones(6), groups=4, eps=1e-5)


def test_misshapen_steps_are_named(unchecked):
    state = torch.zeros(2, 5, 3)
    with pytest.raises(InputError, match=r"selective_scan_step: u must have the shape \(B E\) = \(2, 5\)"):
        kernels.selective_scan_step(
            state, torch.ones(2, 4), torch.ones(2, 5), torch.ones(5, 3), torch.ones(2, 3), torch.ones(2, 3)
        )
    with pytest.raises(InputError, match="weight must have the shape"):
        kernels.causal_conv1d_step(torch.zeros(2, 3, 5), torch.ones(2, 5), torch.ones(5, 3))
    with pytest.raises(InputError, match="cannot be shared evenly"):
        kernels.ssd_step(
            torch.zeros(2, 4, 5, 3), torch.ones(2, 4, 5), torch.ones(2, 4), torch.ones(4), torch.ones(2, 3, 3),
            torch.ones(2, 3, 3),
        )  # fmt: skip
