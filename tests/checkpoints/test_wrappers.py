"""Keys as wrappers of training write them: stripped when the rest fits as a whole, and said; refused otherwise."""

import pytest
import torch
from safetensors.torch import save_file

from emma_viz.checkpoints import inspect
from emma_viz.errors import CheckpointError


def leading(prefix):
    return lambda state: {prefix + key: value for key, value in state.items()}


def inside(state):
    """As FSDP wraps blocks one by one."""
    return {
        key.replace(".layers.1.", ".layers.1._fsdp_wrapped_module."): value for key, value in state.items()
    }


WRAPPED = {
    "module.": (leading("module."), "module."),
    "_orig_mod.": (leading("_orig_mod."), "_orig_mod."),
    "_fsdp_wrapped_module.": (leading("_fsdp_wrapped_module."), "_fsdp_wrapped_module."),
    "model.": (leading("model."), "model."),
    "module._orig_mod.": (leading("module._orig_mod."), "module., _orig_mod."),
    "_orig_mod.module.model.": (leading("_orig_mod.module.model."), "_orig_mod., module., model."),
    "blocks alone": (inside, "_fsdp_wrapped_module."),
    "blocks in a module": (lambda state: leading("module.")(inside(state)), "module., _fsdp_wrapped_module."),
    "state_dict": (lambda state: {"state_dict": state}, "state_dict."),
    "state_dict of a module": (
        lambda state: {"state_dict": leading("module.")(state)},
        "state_dict., module.",
    ),
    "state_dict beside others": (lambda state: {"state_dict": state, "epoch": 3, "lr": 0.1}, "state_dict."),
    "model of a state_dict": (lambda state: {"model": leading("module.")(state)}, "module."),
}
REFUSED = {
    "some keys alone": lambda state: {
        (f"module.{key}" if "projector" in key else key): value for key, value in state.items()
    },
    "no keys": lambda state: {},
    "another prefix": leading("student."),
    "one key too many": lambda state: leading("module.")(state | {"ema.decay": torch.ones(1)}),
    "two that become one": lambda state: (
        leading("module.")(state)
        | {f"module._orig_mod.{key}": value for key, value in list(state.items())[:1]}
    ),
}


def flat(state):
    return {f"{part}.{key}": value for part, keys in state.items() for key, value in keys.items()}


@pytest.mark.parametrize("name", WRAPPED)
def test_prefixes_are_stripped_and_said(run_directory, reduced, caplog, name):
    wrap, said = WRAPPED[name]
    folder = run_directory()
    plain = inspect(folder)
    assert not plain.problems
    state = flat(reduced("cobra-3b", 4)[0])
    torch.save(wrap(state), folder / "checkpoints/latest-checkpoint.pt")
    found = inspect(folder)
    assert (found.problems, found.fingerprint) == ((), plain.fingerprint)
    assert f"keys without {said}" in found.format
    assert f"read without {said}, which a wrapper" in caplog.text


@pytest.mark.parametrize("name", REFUSED)
def test_keys_that_do_not_fit_as_a_whole_are_not_touched(run_directory, reduced, name):
    folder = run_directory()
    torch.save(REFUSED[name](flat(reduced("cobra-3b", 4)[0])), folder / "checkpoints/latest-checkpoint.pt")
    if name != "some keys alone":
        with pytest.raises(CheckpointError, match="no known layout"):
            inspect(folder)
        return
    found = inspect(folder)
    assert found.problems
    assert "without" not in found.format


def test_safetensors_too(run_directory, reduced, tmp_path):
    folder = run_directory()
    plain = inspect(folder)
    (folder / "checkpoints/latest-checkpoint.pt").unlink()
    state = {key: value.clone() for key, value in leading("module.")(flat(reduced("cobra-3b", 4)[0])).items()}
    save_file(state, folder / "checkpoints/latest-checkpoint.safetensors")
    assert inspect(folder).fingerprint == plain.fingerprint
