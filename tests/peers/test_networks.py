"""What every family that transformers' classes run must do beside the contract of all families (tests/families)."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from emma_viz.capture import Recorder, record
from emma_viz.capture.hooks import foreign_hooks
from emma_viz.errors import CheckpointError, InputError, SiteError
from emma_viz.evidence.case import Case
from emma_viz.evidence.intervention import Intervention
from emma_viz.evidence.logit_lens import logit_lens, word_scores
from emma_viz.evidence.replacements import image_tokens
from emma_viz.models.attention_sites import ATTENTION_SITES, attention_blocks
from emma_viz.models.peers.prompts import PLAIN_NOTE
from emma_viz.models.peers.table import PEERS

pytestmark = pytest.mark.slow  # the package's models take seconds to import


def test_every_site_is_recorded_as_a_hook_on_the_network_sees_it(peer, pictures):
    """The image's tokens in the order of their geometry, then the text; the hooks are gone afterwards."""
    _, model = peer
    before = foreign_hooks(model.peer.network)
    trace = record(model, pictures[:1], "Why?", sites=tuple(ATTENTION_SITES), tokens="all", generate=False)
    assert foreign_hooks(model.peer.network) == before
    assert set(trace.notes) == {model.peer.family.note, PLAIN_NOTE, trace.geometry[0].said} - {""}
    inputs = model.peer.inputs(pictures[0], "Why?")
    order = torch.cat([inputs.image, inputs.text])
    with torch.no_grad(), Recorder(model.peer.network, ATTENTION_SITES) as recorder:
        model.peer.network(**inputs.given)
    assert trace.lengths == (len(order),)
    assert trace.n_image_tokens == trace.geometry[0].n_image_tokens == len(inputs.image)
    for site in ATTENTION_SITES:
        for layer in trace.layers_of(site):
            torch.testing.assert_close(trace[site, layer][0], recorder[site, layer][0, order])
    said = trace.token_strings(0)
    assert len(said) == len(order)
    assert said[0] == "<image 0,0>"


def test_parts_that_do_not_add_up_are_refused(peer, pictures, monkeypatch):
    _, model = peer
    block = attention_blocks(model.peer.network)
    last = model.peer.network.get_submodule(block.path)[-1]
    plain = type(last).forward

    def doubled(self, states, *args, **given):
        out = plain(self, states, *args, **given)
        return 2 * out if self is last and isinstance(out, torch.Tensor) else out

    record(model, pictures[:1], "Why?", sites=("mlp_out",), generate=False)
    monkeypatch.setattr(type(last), "forward", doubled)
    with pytest.raises(SiteError, match="resid_mid and mlp_out of block 2 do not add up to its resid_post"):
        record(model, pictures[:1], "Why?", sites=("mlp_out",), generate=False)
    assert record(model, pictures[:1], "Why?", generate=False).sites == ("resid_post",)
    assert not foreign_hooks(model.peer.network)


def test_answers_are_those_of_generate(peer, pictures):
    _, model = peer
    trace = record(model, pictures[:1], ["Why?", "What is it?"], max_new_tokens=4, generated_states=True)
    for sample, message in enumerate(["Why?", "What is it?"]):
        asked = model.peer.inputs(pictures[0], message).given
        ids = model.peer.network.generate(**asked, max_new_tokens=4, do_sample=False, pad_token_id=0)
        new = [
            each for each in ids[0, asked["input_ids"].shape[1] :].tolist() if each not in model.peer.end_ids
        ]
        assert list(trace.answer_ids[sample]) == new
        assert trace.answer_states("resid_post", 1)[sample].isfinite().all()
    drawn = [
        record(model, pictures[:1], "Why?", temperature=5.0, seed=seed, max_new_tokens=6)
        for seed in (3, 3, 4)
    ]
    assert drawn[0].answer_ids == drawn[1].answer_ids != drawn[2].answer_ids
    assert drawn[0].sampling.seed == 3


def test_what_is_only_read_is_read_together_where_it_has_one_shape(peer, pictures, monkeypatch):
    _, model = peer
    flipped = pictures[0].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    shown, asked = [pictures[0], flipped, pictures[0], flipped], ["Why?", "Who?", "How?", "What is it?"]
    alone = [record(model, *pair, generate=False, tokens="all") for pair in zip(shown, asked, strict=True)]
    passes, plain = [], type(model.peer).read

    def read(peer, inputs):
        passes.append(len(inputs.given["input_ids"]))
        plain(peer, inputs)

    monkeypatch.setattr(type(model.peer), "read", read)
    steps = []
    trace = record(
        model, shown, asked, generate=False, tokens="all", batch_size=3,
        progress=lambda done, total, _: steps.append((done, total)),
    )  # fmt: skip
    assert passes == [3, 1]
    assert steps[-1][0] == steps[-1][1]
    for sample, each in enumerate(alone):
        (length,) = each.lengths
        for layer in each.layers:
            found = trace["resid_post", layer][sample, :length]
            torch.testing.assert_close(found, each["resid_post", layer][0], rtol=1e-4, atol=1e-5)


def test_a_text_alone_is_recorded(peer):
    trace = record(peer[1], None, "Why?", tokens="text", max_new_tokens=2)
    assert trace.lengths == (len(trace.prompt_ids[0]),)
    assert record(peer[1], None, "Why?", max_new_tokens=2).lengths == trace.lengths


@torch.no_grad()
def test_each_token_sees_the_pixels_of_its_box_and_no_others(peer, pictures):
    """The encoder mixes no patches: what changes inside a token's box changes that token, of every grid, alone."""
    _, model = peer
    for picture in pictures:
        place = model.transform.geometry(picture)
        plain = _embedded(model, picture)
        boxes = place.all_boxes()
        draw = np.random.default_rng(0)
        shown = [token for token in range(place.n_tokens) if _inside(boxes[token], picture)]
        assert shown
        for token in draw.choice(shown, min(4, len(shown)), replace=False):
            left, top, right, bottom = boxes[token]
            # The middle of the box: a resize mixes what lies near its edges with the next.
            middle = [round(each) for each in (left * 0.7 + right * 0.3, top * 0.7 + bottom * 0.3)]
            ends = [
                max(int(left * 0.3 + right * 0.7), middle[0] + 1),
                max(int(top * 0.3 + bottom * 0.7), middle[1] + 1),
            ]
            changed = np.asarray(picture).copy()
            changed[middle[1] : ends[1], middle[0] : ends[0]] ^= 255
            apart = (_embedded(model, Image.fromarray(changed)) - plain).norm(dim=-1)
            assert int(apart[: place.n_tokens].argmax()) == token
            # A grid of coarser tokens holds those pixels in one of its own, or in two at an edge.
            for number, part in enumerate(place.parts[1:], start=1):
                start = sum(each.n_tokens for each in place.parts[:number])
                found = int(apart[start : start + part.n_tokens].argmax())
                box = part.token_boxes()[found]
                assert box[0] < ends[0]
                assert box[2] > middle[0]
                assert box[1] < ends[1]
                assert box[3] > middle[1]
            spare = apart[place.n_image_tokens - place.spare :]
            assert not spare.any()


def _embedded(model, picture):
    """What enters block 0 at the image's tokens."""
    return record(model, picture, "Why?", layers=[-1], generate=False)["resid_post", -1][0]


def _inside(box, picture) -> bool:
    """Whether the middle of a box is in the image: padding may be at its edges."""
    left, top, right, bottom = box
    across, down = (right - left) * 0.3, (bottom - top) * 0.3
    return (
        left + across >= 0
        and top + down >= 0
        and right - across <= picture.width
        and bottom - down <= picture.height
    )


def test_the_view_is_what_the_processor_gives_the_model(peer, pictures):
    """The normalisation undone: no other pixels than the model saw, and at each token those of its own box."""
    _, model = peer
    processor = model.peer.settings.processor
    for picture in [*pictures, Image.fromarray(np.full((40, 90, 3), 200, np.uint8))]:
        place, view = model.transform.geometry(picture), model.transform.view(picture)
        assert view.shape[:2] == place.view_size
        pixels = np.asarray(processor(images=[picture], return_tensors="np")["pixel_values"], np.float64)
        if pixels.ndim == 2:  # patches of two frames alike
            pixels = pixels.reshape(len(pixels), 3, -1)
        else:
            pixels = np.moveaxis(pixels.reshape(-1, *pixels.shape[-3:]), 1, 0).reshape(1, 3, -1)
        shift, scale = (np.reshape(each, (3, 1)) for each in (processor.image_mean, processor.image_std))
        seen = np.rint((pixels * scale + shift) * 255).astype(int)
        levels = {tuple(each) for each in np.moveaxis(seen, 1, 2).reshape(-1, 3).tolist()}
        assert {tuple(each) for each in view.reshape(-1, 3).tolist()} <= levels
    smooth = Image.fromarray(np.asarray(pictures[0])[:5, :7]).resize((101, 67), Image.Resampling.BICUBIC)
    place = model.transform.geometry(smooth)
    means = place.patches(model.transform.view(smooth)).mean(axis=(1, 2))
    for box, mean in zip(place.token_boxes(), means, strict=True):
        if _inside(box, smooth):
            inside = smooth.crop(np.rint(box).astype(int).tolist())
            assert np.abs(np.asarray(inside).mean(axis=(0, 1)) - mean).max() < 25


def test_image_tokens_know_of_the_question_where_the_family_says_so_alone(peer, pictures):
    _, model = peer
    one, other = (
        record(model, pictures[:1], text, generate=False)["resid_post", 2] for text in ("Why?", "Who!")
    )
    sees = "see one another" in model.peer.family.note
    assert torch.equal(one, other) != sees
    if sees:
        assert (one != other).any(dim=-1).all()


@torch.no_grad()
def test_image_tokens_of_one_image_in_the_place_of_anothers_are_that_image(peer):
    """All that enters of an image is exchanged, in its order, whatever the family adds behind the first blocks."""
    _, model = peer
    one, other = np.random.default_rng(2).integers(0, 256, (2, 40, 90, 3), dtype=np.uint8)
    case, theirs = (Case.of(model, image, "Why?", words=("Yes", "No")) for image in (one, other))
    assert case.count == model.transform.geometry(Image.fromarray(one)).n_image_tokens

    def scores(picture):
        return model.peer.network(**model.peer.inputs(picture, "Why?").given).logits[0, -1].float()

    whole = [scores(Image.fromarray(each)) for each in (one, other)]
    assert (whole[0] - whole[1]).abs().max() > 5e-5
    for tokens, expected in zip((case.tokens[0], theirs.tokens[0]), whole, strict=True):
        torch.testing.assert_close(case.entered.scores(tokens), expected, rtol=0, atol=1e-6)
    yes, no = (model.peer.first_id(word) for word in ("Yes", "No"))
    gaps = [float(each[yes] - each[no]) for each in (*whole, scores(None))]
    assert case.scores([case.tokens[0], theirs.tokens[0]]) == pytest.approx(gaps[:2], abs=1e-6)
    assert case.scores([case.tokens[0, :0]]) == pytest.approx(gaps[2:], abs=1e-6)
    assert image_tokens(model, one, "Why?").equal(case.tokens[0])
    changed = case.with_tokens([0, 3], theirs.tokens[0, [0, 3]])
    assert (changed != case.tokens[0]).any(dim=1).nonzero().flatten().tolist() == [0, 3]
    with pytest.raises(InputError, match="image tokens alone"):
        case.changed([[Intervention(kind="zero", site="resid_pre")]])
    with pytest.raises(InputError, match="expected image tokens of shape"):
        case.scores([case.tokens[0, :2]])
    assert not foreign_hooks(model.peer.network)


@torch.no_grad()
def test_the_logit_lens_reads_the_last_layer_as_the_model_does(peer, pictures):
    _, model = peer
    trace = record(model, pictures[:1], "Why?", tokens="all", generate=False, layers=["last"])
    inputs = model.peer.inputs(pictures[0], "Why?")
    at = int((torch.cat([inputs.image, inputs.text]) == inputs.given["input_ids"].shape[1] - 1).nonzero())
    ours = word_scores(model, trace["resid_post", 2][0, at : at + 1])[0]
    theirs = model.peer.network(**inputs.given).logits[0, -1]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    ((best, *_),) = logit_lens(model, trace["resid_post", 2][0, at : at + 1], count=2)
    assert best.token == int(theirs.argmax())


def test_what_is_not_there_is_refused_with_a_sentence(peer, pictures, tmp_path):
    from emma_viz.checkpoints import load_model
    from emma_viz.evidence.mixers.frozen import decompose

    _, model = peer
    assert model.info.family in PEERS
    with pytest.raises(SiteError, match="is a site of a Mamba"):
        record(model, pictures[:1], "Why?", sites=["delta"])
    with pytest.raises(InputError, match="transformers' own class"):
        decompose(model, pictures[0], "Why?", word=[1])
    with pytest.raises(CheckpointError, match="leave out vision_source"):
        load_model(model.folder, config="cobra-3b")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model.peer.settings.config.model_type}))
    with pytest.raises(CheckpointError):
        load_model(tmp_path)
