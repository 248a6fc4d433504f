"""A model that learnt nothing shows the picture, and its lens says that an untrained one shows it too."""

import numpy as np
import pytest
from PIL import Image

from emma_viz.cli.main import main
from emma_viz.errors import LensError
from emma_viz.lens.controls import verdicts
from emma_viz.session import View, compare
from emma_viz.session.fitting import fit_lens
from emma_viz.session.options import Asking, LensRecipe
from tests.tiny_model import tiny_model, tiny_tokenizer


def pictures(count: int) -> list[Image.Image]:
    """Soft colours, each image its own."""
    draw = np.random.default_rng(7)
    coarse = [draw.integers(0, 256, (4, 4, 3), dtype=np.uint8) for _ in range(count)]
    return [Image.fromarray(each).resize((48, 48), Image.Resampling.BICUBIC) for each in coarse]


@pytest.mark.slow
def test_an_untrained_model_is_marked_at_every_layer_wherever_it_is_shown():
    model, images = tiny_model("tiny-cobra", tiny_tokenizer()), pictures(40)
    before = {name: each.clone() for name, each in model.vlm.state_dict().items()}
    lens = fit_lens(model, LensRecipe(), images[:28], images[28:], fitted_on="noise", untrained=4)
    assert all(each.equal(before[name]) for name, each in model.vlm.state_dict().items())
    found = verdicts(lens.info.controls, lens.info.layers)
    assert [each.beats for each in found] == [False] * len(found)
    assert all("untrained" in each.against for each in found)
    beaten = [each for each in found if "place" not in each.against]
    assert beaten, "an untrained stream carries the picture on: the place alone does not mark it"
    comparison = compare(images[-1], [model], lenses=[lens], asking=Asking(max_new_tokens=1))
    (case,) = comparison.spec(View(layers=(-1, "all"))).images[0].models
    assert case.marked == lens.info.layers
    assert "does not beat the same lens on the same model untrained" in case.controls


def test_too_few_untrained_models_are_refused(capsys, tmp_path):
    with pytest.raises(LensError, match="at least 3"):
        fit_lens(tiny_model("tiny-cobra", tiny_tokenizer()), LensRecipe(), [], [], fitted_on="", untrained=2)
    given = ["--images", str(tmp_path), "--out", str(tmp_path / "x.lens")]
    assert main(["fit", "cobra-pocket", *given, "--untrained", "2"]) == 1
    assert "at least 3 (--untrained)" in capsys.readouterr().err
    assert main(["fit", "cobra-pocket", *given, "--untrained", "3", "--kind", "tuned"]) == 1
    assert "for ridge lenses" in capsys.readouterr().err
