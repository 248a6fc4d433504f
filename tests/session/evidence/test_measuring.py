"""The evidence of a case: its numbers against runs of the model made here, kept and read back, with their sentences."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from emma_viz.data import image_hash
from emma_viz.errors import InputError
from emma_viz.metrics.quality import r2
from emma_viz.session import fit_ridge
from emma_viz.session.answering import FIRST_WORDS
from emma_viz.session.evidence.asked import AskedCase
from emma_viz.session.evidence.compared import compared_images
from emma_viz.session.evidence.document import CaseCurve, CaseEvidence
from emma_viz.session.evidence.labelled import LabelledImages, labelled_presence
from emma_viz.session.evidence.measuring import EvidenceRoom
from emma_viz.session.evidence.references import ReferenceImage, References, without_kind
from emma_viz.session.evidence.sentences import crossover
from tests.tiny_model import tiny_model, tiny_tokenizer

PROMPT = "Is there a cup?"
SIDE, PATCH = 48, 12


def picture(seed, *, cup=True):
    """A noisy image with a bright square, which is a cup, or a dark one, which is a hat; its mask."""
    draw = np.random.default_rng(seed)
    pixels = draw.integers(90, 130, (SIDE, SIDE, 3)).astype(np.uint8)
    row, column = PATCH * draw.integers(0, SIDE // PATCH, 2)
    pixels[row : row + PATCH, column : column + PATCH] = 255 if cup else 0
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[row : row + PATCH, column : column + PATCH] = 1
    return ReferenceImage(image=Image.fromarray(pixels), mask=mask, kinds=("cup" if cup else "hat",))


@pytest.fixture(scope="module")
def model():
    return tiny_model("tiny-emma-v1", tiny_tokenizer())


@pytest.fixture(scope="module")
def references():
    return References(tuple(picture(seed, cup=seed % 4 < 2) for seed in range(48)), title="squares")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def room(model, references, kept):
    images = [each.image for each in references.images]
    lens = fit_ridge(model, images[:12], heldout=images[12:16], fitted_on="squares")
    return EvidenceRoom(model, references, lens=lens, kept=kept)


@pytest.fixture(scope="module")
def case():
    shown = picture(1000)
    return AskedCase(image=shown.image, prompt=PROMPT, object="cup", mask=shown.mask == 1)


@pytest.fixture(scope="module")
def found(room, case):
    (evidence,) = room.evidence([case])
    return evidence


def test_the_image_encoder_is_marked_once_for_all_cases(model, references, case, monkeypatch):
    marked = []

    def marks(model):
        marked.append(model)
        return {"image encoder": str(len(marked))}

    monkeypatch.setattr("emma_viz.session.evidence.measuring.marks_beside_weights", marks)
    one, other = (EvidenceRoom(model, references) for _ in range(2))
    assert one._key(case) == one._key(case)
    assert len(marked) == 1
    assert other._key(case) != one._key(case), "another encoder, another document"


def gap(model, embeddings):
    """logit of yes less that of no after a sequence."""
    with torch.no_grad():
        hidden = model.vlm.llm.backbone(embeddings)
        logits = model.vlm.llm.logits(hidden[:, -1:])[0, 0].float()
    yes, no = (model.tokenizer.encode(word)[0] for word in FIRST_WORDS)
    return float(logits[yes] - logits[no])


def sequence(model, image, prompt=PROMPT):
    """(tokens of the image, of the text), as they enter the language model."""
    with torch.no_grad():
        tokens = model.vlm.embed_image(model.transform.pixels([image]))
        ids = torch.tensor([model.tokenizer.encode(model.prompt(prompt))])
        return tokens, model.vlm.llm.embed(ids)


def test_the_answer_and_its_prior_are_those_of_plain_runs(found, room, model, case, references):
    tokens, text = sequence(model, case.image)
    whole = gap(model, torch.cat([tokens, text], dim=1))
    assert found.number("answer difference").value == pytest.approx(whole, abs=1e-4)
    assert found.curve("answer").values[-1] == pytest.approx(whole, abs=1e-4)
    assert found.number("prior: no image").value == pytest.approx(gap(model, text), abs=1e-4)
    mean = torch.stack(
        [sequence(model, each.image)[0][0].mean(dim=0) for each in references.fitted[:32]]
    ).mean(dim=0)
    blind = gap(model, torch.cat([mean.expand_as(tokens), text], dim=1))
    assert found.number("prior: mean tokens").value == pytest.approx(blind, abs=1e-3)
    others = without_kind(references.held_out, "cup")[:19]
    values = [gap(model, torch.cat([sequence(model, each.image)[0], text], dim=1)) for each in others]
    assert found.number("prior: another image").value == pytest.approx(np.mean(values), abs=1e-3)


def test_the_parts_sum_to_the_difference(found):
    parts = [found.number(f"{name} part").value for name in ("image", "text", "bias")]
    assert sum(parts) == pytest.approx(found.number("answer difference").value, abs=1e-3)


def test_the_knock_out_replaces_the_region_and_its_control_is_the_largest_of_others(found, room, model, case):
    tokens, text = sequence(model, case.image)
    changed = tokens.clone()
    compared, _ = compared_images(room.references, case, image_hash(case.image))
    changed[0, list(found.region)] = room.tokens.mean(compared, PROMPT)
    left, number = found.number("knock-out difference"), found.number("knock-out change")
    assert left.value == pytest.approx(gap(model, torch.cat([changed, text], dim=1)), abs=1e-3)
    assert number.value == pytest.approx(abs(left.value - found.number("answer difference").value), abs=1e-3)
    assert number.control > 0
    assert "other regions of the same shape" in number.control_title
    covered = set(found.region)
    assert 0 < len(covered) < np.prod(found.grid) / 2
    assert found.region_from == "mask"


def test_a_box_is_a_mask_of_its_pixels(room, case, found):
    rows, columns = np.nonzero(case.mask)
    box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
    (boxed,) = room.evidence([replace(case, mask=None, box=box)])
    assert boxed.region_from == "box"
    assert boxed.region == found.region
    assert boxed.number("knock-out change").value == pytest.approx(
        found.number("knock-out change").value, abs=1e-5
    )


def test_the_probe_finds_what_is_there_and_is_wrong_as_often_as_it_says(room, found, references):
    probes = room.probes
    number = probes.kinds.index("cup")
    without = probes.held_out[~probes.there[:, number], :, number]
    assert ((without > probes.thresholds("cup")).mean(axis=0) <= 0.05).all()
    assert probes.areas("cup")[0] > 0.9
    value, threshold = found.curve("presence").at(-1)
    assert value > threshold
    assert not probes.knows("zebra")


def test_retention_is_of_the_region_alone_and_falls_short_of_nothing_it_does_not_beat(found, room, case):
    decoded, true, layers = room.decoded(case.image)
    curve = found.curve("retention")
    assert curve.layers == layers
    expected = [r2(each[list(found.region)], true[list(found.region)]) for each in decoded]
    np.testing.assert_allclose(curve.values, expected, atol=1e-5)
    assert all(control >= 0 for control in curve.control)


def test_evidence_is_kept_and_read_back_as_it_was_measured(room, kept, case, found):
    assert CaseEvidence.from_json(json.loads(json.dumps(found.to_json()))) == found
    (file,) = [path for path in kept.glob("*.json") if '"region_from": "mask"' in path.read_text()]
    changed = file.read_text().replace('"object": "cup"', '"object": "mug"')
    file.write_text(changed)
    (again,) = room.evidence([case])
    assert again.object == "mug", "what is kept is read and not measured"
    file.write_text(changed.replace('"format": 1', '"format": 2'))
    with pytest.raises(InputError, match="newer emma_viz"):
        next(room.evidence([case]))
    file.unlink()
    (anew,) = room.evidence([case])
    assert anew == found


def test_what_cannot_be_measured_is_said(room, case):
    (found,) = room.evidence([AskedCase(image=case.image, prompt=PROMPT)])
    assert found.curve("presence") is None
    assert found.number("knock-out change") is None
    assert found.number("prior: no image") is not None
    assert any("no region" in each for each in found.lacking)
    (probed,) = room.evidence([AskedCase(image=case.image, prompt=PROMPT, object="cup")])
    assert probed.region_from == "probe"
    assert set(probed.region) & set(room_region(room, case)), "the probe points at the square"
    assert "the place that the presence probe takes for it" in probed.paragraph


def room_region(room, case):
    (found,) = room.evidence([case])
    return found.region


@pytest.fixture(scope="module")
def labelled():
    """Of 45 images of another benchmark it is known whether there is a cup; 30 have none."""
    found = {}
    for seed in range(2000, 2045):
        image = picture(seed, cup=seed % 3 == 0).image
        found[image_hash(image)] = (image, seed % 3 == 0)
    return LabelledImages(
        benchmark="pope",
        labels={"cup": {name: there for name, (_, there) in found.items()}},
        picture=lambda name: found[name][0],
    )


def test_a_probe_learns_from_labels_of_other_images_alone(room, case, labelled):
    asked = replace(case, labelled=labelled)
    (found,) = room.evidence([asked])
    curve = found.curve("presence")
    assert "labels of 45 other images of pope" in curve.title
    assert curve.control_title == "what 5 % of the 30 without it exceed"
    assert found.curve("presence area").values[0] > 0.9
    value, threshold = curve.at(-1)
    assert value > threshold
    # A label of its own image, a wrong one too, changes nothing.
    wrong = {"cup": {**labelled.labels["cup"], image_hash(case.image): False}}
    (again,) = room.evidence([replace(case, labelled=replace(labelled, labels=wrong))])
    assert again.curve("presence") == curve
    assert again.recipe != found.recipe, "other labels are another measurement"


def test_the_threshold_of_labels_is_exceeded_by_one_in_twenty_of_those_without():
    draw = np.random.default_rng(0)
    there = np.arange(120) < 20
    rows = draw.standard_normal((320, 1, 6))
    rows[..., -1] = 1
    asked = [
        labelled_presence("cup", "pope", there, rows[:120], each[None], image=f"{number:08x}")
        for number, each in enumerate(rows[120:])
    ]
    above = [found.values[0] > found.thresholds[0] for found in asked]
    assert 0.01 < np.mean(above) < 0.12  # of images about which the states say nothing
    assert abs(asked[0].areas[0] - 0.5) < 0.25


def test_photographs_are_compared_with_images_of_their_own_benchmark(room, case, labelled, model, references):
    (found,) = room.evidence([replace(case, labelled=labelled)])
    known = labelled.others("cup", image_hash(case.image))
    tokens, text = sequence(model, case.image)
    without = [name for name, there in known.items() if not there][:19]
    values = [
        gap(model, torch.cat([sequence(model, labelled.picture(name))[0], text], dim=1)) for name in without
    ]
    number = found.number("prior: another image")
    assert number.value == pytest.approx(np.mean(values), abs=1e-3)
    assert number.title == "the mean difference with 19 other images of pope without “cup”"
    some = [sequence(model, labelled.picture(name))[0][0].mean(dim=0) for name in list(known)[:32]]
    blind = gap(model, torch.cat([torch.stack(some).mean(dim=0).expand_as(tokens), text], dim=1))
    assert found.number("prior: mean tokens").value == pytest.approx(blind, abs=1e-3)
    assert not any("instead" in each for each in found.lacking)
    few = dict(list(labelled.labels["cup"].items())[:12])
    (stood,) = room.evidence([replace(case, labelled=replace(labelled, labels={"cup": few}))])
    (said,) = [each for each in stood.lacking if each.endswith("other images are of squares instead.")]
    assert "a comparison takes 19" in said
    (plain,) = room.evidence([case])
    assert stood.number("prior: another image") == plain.number("prior: another image")


def test_too_few_labels_are_said_and_make_no_probe(room, case, labelled):
    few = dict(list(labelled.labels["cup"].items())[:12])
    (found,) = room.evidence([replace(case, labelled=replace(labelled, labels={"cup": few}))])
    (said,) = [each for each in found.lacking if "a presence probe takes 10 and 20" in each]
    assert f"{sum(few.values())} are known to have “cup” and {12 - sum(few.values())} not to" in said
    assert "fitted on squares" in found.curve("presence").title
    (other,) = room.evidence([replace(case, object="zebra", labelled=labelled)])
    assert other.curve("presence") is None
    assert any("0 are known to have “zebra” and 0 not to" in each for each in other.lacking)


def test_every_sentence_names_numbers_that_are_there(found):
    names = {each.name for each in (*found.curves, *found.numbers)}
    assert len(found.sentences) >= 6
    assert all(each.numbers and set(each.numbers) <= names for each in found.sentences)
    assert found.paragraph.startswith(f"{found.model} leans to")


def test_every_number_can_be_filtered_by(found):
    measured = list(found.measured())
    assert {each.model for each in measured} == {found.model}
    presence = [each for each in measured if each.name == "presence"]
    assert len(presence) == len(found.curve("presence").layers)
    assert all(each.control is not None for each in presence)
    assert sum(each.name == "knock-out change" for each in measured) == 1


def test_the_crossover_is_the_first_layer_from_which_the_sign_stays():
    def curve(*values):
        return CaseCurve(
            name="answer", title="", unit="", layers=tuple(range(-1, len(values) - 1)), values=values
        )

    assert crossover(curve(-1.0, 2.0, -1.0, 1.0, 3.0)) == 2
    assert crossover(curve(1.0, 2.0)) == -1
    assert crossover(curve(1.0, None)) is None
