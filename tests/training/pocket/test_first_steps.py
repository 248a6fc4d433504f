"""The training code computes what it computed when the models that ship were trained."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.training.pocket.first_steps import A_PHASE, STEPS, measured

REFERENCE = json.loads(Path(__file__).with_name("first_steps.json").read_text())
ROUNDING = {"text": 2e-5, "pixels": 2e-5, "loss": 2e-5, "grad_norm": 2e-4}
"""Ten times what the rounding of fp32 comes to in so many steps, measured with kernels of other instruction sets."""


@pytest.mark.slow
def test_the_first_steps_of_the_pair_are_those_of_before():
    found = measured()
    for run, members in REFERENCE.items():
        for member, numbers in members.items():
            assert found[run][member].keys() == numbers.keys()
            for name, values in numbers.items():
                assert len(values) == (STEPS if run == "first" else 3 * A_PHASE)
                np.testing.assert_allclose(
                    found[run][member][name], values, rtol=ROUNDING[name], err_msg=f"{run} {member} {name}"
                )
