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


def component(wrap, name="projector"):
    """A wrapper inside one component of the official dictionaries, or inside both of them."""

    def change(state):
        nested = {"projector": {}, "llm_backbone": {}}
        for key, value in state.items():
            part, _, rest = key.partition(".")
            nested[part][rest] = value
        return {
            "model": {part: wrap(keys) if name in (part, "both") else keys for part, keys in nested.items()}
        }

    return change


WRAPPED |= {
    **{
        f"{prefix} in the projector": (component(leading(prefix)), f"{prefix} in projector")
        for prefix in ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "model.")
    },
    "module. in the language model": (
        component(leading("module."), "llm_backbone"),
        "module. in llm_backbone",
    ),
    "module. in both": (
        component(leading("module."), "both"),
        "module. in projector, module. in llm_backbone",
    ),
    "module.model. in both": (
        component(leading("module.model."), "both"),
        "module. in projector, model. in projector, module. in llm_backbone, model. in llm_backbone",
    ),
    "state_dict in the projector": (
        component(lambda keys: {"state_dict": keys}),
        "state_dict. in projector",
    ),
    "state_dict of a module, beside others, in both": (
        component(lambda keys: {"state_dict": leading("module.")(keys), "epoch": 3}, "both"),
        "state_dict. in projector, module. in projector, state_dict. in llm_backbone, module. in llm_backbone",
    ),
    "module. around all and in a component": (
        lambda state: {
            "model": {"module": component(leading("_orig_mod."))(state)["model"]},
        },
        "module., _orig_mod. in projector",
    ),
    "one layer of the projector": (
        lambda state: {
            key.replace("projector.projector.2", "projector.projector.module.2"): v
            for key, v in state.items()
        },
        "module.",
    ),
}
REFUSED = {
    "some keys alone": lambda state: {
        (f"module.{key}" if "projector" in key else key): value for key, value in state.items()
    },
    "no keys": lambda state: {},
    "another prefix": leading("student."),
    "one key too many": lambda state: leading("module.")(state | {"ema.decay": torch.ones(1)}),
    "a wrapper nobody knows, in a component": component(leading("student.")),
    "one key too many in a component": component(
        lambda keys: leading("module.")(keys) | {"module.ema": torch.ones(1)}
    ),
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
    if name != "some keys alone" and "in a component" not in name:
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
