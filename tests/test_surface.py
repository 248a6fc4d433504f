"""The public surface, and what an import may cost."""

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import emma_viz
from emma_viz import errors
from emma_viz.cli.main import COMMANDS
from emma_viz.cli.programs import PROGRAMS

PUBLIC = [
    "ActivationMaps",
    "Decoding",
    "EmmaVizError",
    "LoadedModel",
    "Study",
    "Trace",
    "compare",
    "decode",
    "figure",
    "load_lens",
    "load_model",
    "open_study",
    "record",
]
HEAVY = {
    "torch",
    "transformers",
    "matplotlib",
    "plotly",
    "numba",
    "skimage",
    "gradio",
    "streamlit",
    "numpy",
    "PIL",
}


def test_public_names():
    assert sorted(emma_viz.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(emma_viz, name).__doc__


def test_subcommands():
    assert list(COMMANDS) == [
        "figure",
        "capture",
        "decode",
        "compare",
        "benchmark",
        "fit",
        "cases",
        "inspect",
        "models",
    ]
    assert list(PROGRAMS) == ["casebook", "explore", "probe", "train"]


def test_console_script():
    (script,) = [entry for entry in entry_points(group="console_scripts") if entry.name == "emma-viz"]
    assert script.value == "emma_viz.cli.main:entry"


def test_every_error_has_one_root_and_is_in_the_tree():
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, Exception):
            assert issubclass(kind, errors.EmmaVizError)
            assert name in errors.__doc__


def _loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(' '.join(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_import_is_light():
    assert not _loaded_by("import emma_viz") & HEAVY


def test_help_is_light():
    code = "from emma_viz.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    assert not _loaded_by(code) & HEAVY


def test_a_model_loads_without_a_user_interface_or_a_compiler():
    loaded = _loaded_by("import emma_viz; emma_viz.load_model('emma-v2-pocket'), emma_viz.record")
    assert not loaded & {"gradio", "streamlit", "plotly", "matplotlib"}
    assert "sympy" not in loaded  # comes with PyTorch's compiler, which initial weights on meta would import


def test_a_type_checker_knows_the_public_names(tmp_path):
    """Names are imported when first used; what they are stands in stubs beside them, which the loader itself reads."""
    source = "\n".join(f"reveal_type(emma_viz.{name})" for name in PUBLIC)
    (tmp_path / "use.py").write_text(f"from typing import reveal_type\nimport emma_viz\n{source}\n")
    checker = Path(sys.executable).with_name("ty")
    root = Path(emma_viz.__file__).parent.parent
    command = [
        checker,
        "check",
        "--python",
        sys.prefix,
        "--extra-search-path",
        root,
        "--output-format",
        "concise",
    ]
    said = subprocess.run([*command, tmp_path], capture_output=True, text=True).stdout
    assert said.count("Revealed type") + said.count("revealed-type") >= len(PUBLIC), said
    assert "Unknown" not in said
    assert (Path(emma_viz.__file__).parent / "py.typed").is_file()
