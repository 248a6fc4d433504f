"""The example in docs/extending/add-a-model.md works as printed."""

import re
from pathlib import Path

import torch


def test_the_documented_example_builds_a_model():
    page = Path(__file__).parents[2] / "docs" / "extending" / "add-a-model.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    names = {}
    exec(code, names)
    model = names["model"]
    output = model(tuple(torch.randn(1, 3, 60, 60) for _ in range(2)), torch.tensor([[1, 2]]))
    assert output.hidden.shape == (1, 16 + 2, 64)
