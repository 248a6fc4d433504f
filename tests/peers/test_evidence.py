"""Evidence of a case of models that transformers' classes run: its numbers against runs made here."""

import numpy as np
import pytest
from PIL import Image

from emma_viz.cases.case import KNOCK_OUT, KNOCKED_OUT
from emma_viz.evidence.case import Case
from emma_viz.evidence.regions import tokens_showing
from emma_viz.evidence.replacements import image_tokens
from emma_viz.session.answering import FIRST_WORDS
from emma_viz.session.evidence.asked import AskedCase
from emma_viz.session.evidence.document import CaseEvidence
from emma_viz.session.evidence.measuring import EvidenceRoom
from emma_viz.session.evidence.references import ReferenceImage, References

pytestmark = pytest.mark.slow  # the package's models take seconds to import

PROMPT, KINDS, SQUARE = "Is there a cup?", ("cup", "hat", "bag"), 12


def scene(seed: int, kind: int, size: tuple[int, int]) -> ReferenceImage:
    """A noisy image of (height, width) with a square, whose brightness says what it is; its mask."""
    draw = np.random.default_rng(seed)
    pixels = draw.integers(90, 130, (*size, 3)).astype(np.uint8)
    row, column = (SQUARE * int(draw.integers(0, side // SQUARE)) for side in size)
    mask = np.zeros(size, np.uint8)
    mask[row : row + SQUARE, column : column + SQUARE] = 1
    pixels[mask == 1] = (255, 0, 180)[kind]
    return ReferenceImage(image=Image.fromarray(pixels), mask=mask, kinds=(KINDS[kind],))


@pytest.fixture(scope="module")
def references():
    return References(tuple(scene(seed, seed // 2 % 3, (48, 48)) for seed in range(24)), title="squares")


@pytest.mark.parametrize("size", [(48, 48), (36, 96)])
def test_numbers_are_those_of_runs_with_other_tokens(peer, references, size):
    """Also where the references become grids of another shape than the case's image."""
    _, model = peer
    shown = scene(1000, 0, size)
    (found,) = EvidenceRoom(model, references).evidence(
        [AskedCase(image=shown.image, prompt=PROMPT, object="cup", mask=shown.mask == 1)]
    )
    place, numbers = model.transform.geometry(shown.image), {each.name: each for each in found.numbers}
    case = Case.of(model, shown.image, PROMPT, words=FIRST_WORDS)
    (plain,), (blind,) = (case.scores([case.tokens[0, :end]]) for end in (None, 0))
    assert found.grid == place.grid
    assert numbers["answer difference"].value == pytest.approx(plain, abs=1e-5)
    assert numbers["prior: no image"].value == pytest.approx(blind, abs=1e-5)
    curves = {each.name: each for each in found.curves}
    assert curves["answer"].values[-1] == pytest.approx(plain, abs=1e-4)
    assert len(curves["presence"].values) == model.info.n_layer + 1
    others = [Case.of(model, each.image, PROMPT, words=FIRST_WORDS)
              for each in references.held_out if "cup" not in each.kinds]  # fmt: skip
    swapped = np.mean([each.scores([each.tokens[0]])[0] for each in others])
    assert numbers["prior: another image"].value == pytest.approx(swapped, abs=1e-4)
    assert not {"image part", "text part", "bias part"} & set(numbers)
    assert any("no Mamba's routing" in each for each in found.lacking)
    assert CaseEvidence.from_json(found.to_json(), where="the evidence") == found
    if not found.region:  # of few tokens it is half or more, with those beside it; a crop may leave none
        assert min(place.grid) < 4 or size != (48, 48)
        assert KNOCKED_OUT not in numbers
        assert any("no region" in each for each in found.lacking)
        return
    assert len(curves["logit lens"].values) == len(curves["contextual lens"].values) == model.info.n_layer + 1
    region = np.zeros(place.grid, bool)
    region.ravel()[list(found.region)] = True
    means = [image_tokens(model, each.image).mean(dim=0) for each in references.fitted]
    mean = sum(means) / len(means)
    (knocked,) = case.scores([case.with_tokens(tokens_showing(region, place), mean)])
    assert numbers[KNOCKED_OUT].value == pytest.approx(knocked, abs=1e-4)
    assert numbers[KNOCK_OUT].value == pytest.approx(abs(knocked - plain), abs=1e-4)
    assert knocked != plain
