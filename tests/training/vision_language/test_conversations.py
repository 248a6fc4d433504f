"""Conversations as token ids and labels, and the loss on them."""

import pytest
import torch

from emma_viz.records.llava import IGNORE
from training.vision_language.batch import collate, encode_conversation, prompt_labels
from training.vision_language.losses import text_loss


def test_only_answers_have_labels_and_they_are_the_next_token(tokenizer):
    pairs = [("Is there a cup in the image?", "Yes."), ("Where is the cup?", "Top left.")]
    batch = collate([encode_conversation(pairs, tokenizer, "in-out")], tokenizer.pad_id)
    kept = batch.labels[0] != IGNORE
    assert tokenizer.decode(batch.labels[0][kept].tolist(), skip_special=False) == (
        "Yes.<|endoftext|>Top left.<|endoftext|>"
    )
    places = kept.nonzero()[:, 0]
    assert torch.equal(batch.ids[0][places + 1], batch.labels[0][places])
    start = tokenizer.decode(batch.ids[0][: places[0] + 1].tolist(), skip_special=False)
    assert start == "In: Is there a cup in the image?\nOut: "


def test_padding_has_no_labels(tokenizer):
    long, short = ([("Where is the cup?", "Top left.")] * n for n in (3, 1))
    batch = collate([encode_conversation(p, tokenizer, "in-out") for p in (long, short)], tokenizer.pad_id)
    assert batch.lengths.tolist() == [batch.ids.shape[1], batch.ids.shape[1] // 3]
    assert (batch.ids[1, batch.lengths[1] :] == tokenizer.pad_id).all()
    assert (batch.labels[1, batch.lengths[1] - 1 :] == IGNORE).all()


def test_other_labels_are_those_of_the_prompts_and_none_of_the_padding(tokenizer):
    long, short = ([("Where is the cup?", "Top left.")] * n for n in (2, 1))
    batch = collate([encode_conversation(p, tokenizer, "in-out") for p in (long, short)], tokenizer.pad_id)
    prompts = prompt_labels(batch)
    for row in range(2):
        length = int(batch.lengths[row])
        answered = batch.labels[row] != IGNORE
        assert ((prompts[row] != IGNORE) == ~answered)[: length - 1].all()
        assert (prompts[row, length - 1 :] == IGNORE).all()
        wanted = torch.where(answered, batch.labels[row], prompts[row])[: length - 1]
        assert torch.equal(wanted, batch.ids[row, 1:length])


def test_text_loss_is_cross_entropy_over_labelled_places():
    hidden, head = torch.randn(1, 3, 4), torch.randn(5, 4)
    labels = torch.tensor([[IGNORE, 2, IGNORE]])
    loss, right = text_loss(hidden, head, labels)
    scores = hidden[0, 1] @ head.T
    assert loss.item() == pytest.approx((scores.logsumexp(0) - scores[2]).item(), rel=1e-5)
    assert right.item() == int(scores.argmax() == 2)
