"""Benchmarks of models that transformers' classes run: its own greedy answers, and the chances of their first token."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from emma_viz.capture.hooks import foreign_hooks
from emma_viz.checkpoints import load_model
from emma_viz.cli.main import main
from emma_viz.errors import InputError
from emma_viz.records.answered import open_answers
from emma_viz.records.questions import Question
from emma_viz.session import Asking, Running
from emma_viz.session.answering import given_answers
from emma_viz.session.benchmarks.components import component_costs
from emma_viz.session.benchmarks.run import run_benchmark
from emma_viz.session.benchmarks.timing import latency
from tests.peers.checkpoints import write

pytestmark = pytest.mark.slow  # the package's models take seconds to import


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    """A folder of one of them, which draws its answers where nothing else is said."""
    folder = tmp_path_factory.mktemp("llava") / "tiny-llava-hf"
    write("llava", folder)
    path = folder / "generation_config.json"
    told = {"do_sample": True, "temperature": 5.0, "top_k": 3, "repetition_penalty": 1.3}
    path.write_text(json.dumps(json.loads(path.read_text()) | told))
    return folder


def _greedy(model, image, message, count):
    """What transformers' own generate answers, without the end token, and the scores of its first token."""
    asked = model.peer.inputs(image, message).given
    out = model.peer.network.generate(
        **asked, max_new_tokens=count, do_sample=False, pad_token_id=0, output_logits=True,
        return_dict_in_generate=True,
    )  # fmt: skip
    new = out.sequences[0, asked["input_ids"].shape[1] :].tolist()
    return [each for each in new if each not in model.peer.end_ids], out.logits[0][0]


def test_answers_and_first_tokens_are_those_of_generate(peer, pictures):
    _, model = peer
    questions = [
        Question(image=image, prompt=text)
        for image, text in [(pictures[0], "Why?"), (None, "Is it?"), (pictures[1], "Where is the cup?")]
    ]
    asking = Asking(max_new_tokens=5)
    batches = list(given_answers(model, questions, asking=asking, batch_size=2))
    assert [len(each) for each in batches] == [2, 1]
    first = [model.peer.first_id(word) for word in ("Yes", "No")]
    for question, each in zip(questions, [each for batch in batches for each in batch], strict=True):
        ids, scores = _greedy(model, question.image, question.prompt, 5)
        assert each.answer.text == model.tokenizer.answer(ids)
        chances = scores.softmax(dim=-1)[first]
        np.testing.assert_allclose([each.answer.p_yes, each.answer.p_no], chances, rtol=1e-5)
        assert (each.image_sha256 is None) == (question.image is None)
    assert not model.peer.network._forward_hooks


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_scores_that_are_no_numbers_end_in_a_sentence(peer, pictures, temperature):
    """As those of the package's own models, before a token is chosen; whoever asks again hears what is then said."""
    _, model = peer
    asking = Asking(max_new_tokens=2, temperature=temperature, seed=0)
    questions = [Question(image=pictures[0], prompt="Is there a cup?"), Question(image=None, prompt="Is it?")]
    before = list(given_answers(model, questions, asking=asking))
    row = model.peer.network.get_output_embeddings().weight.data[model.peer.first_id("Yes")]
    kept = row.clone()
    try:
        row[0] = float("nan")
        for question, asked in zip(questions, (r"Is there a cup\?", r"Is it\?"), strict=True):
            said = rf"got others from {model.name} in float32 for the answer to '{asked}'; .* another --dtype"
            with pytest.raises(InputError, match=said):
                list(given_answers(model, [question], asking=asking))
    finally:
        row.copy_(kept)
    assert not foreign_hooks(model.peer.network)
    assert list(given_answers(model, questions, asking=asking)) == before


def test_a_checkpoint_that_draws_by_itself_is_still_asked_greedily(llava, pictures):
    model = load_model(llava)
    ids, scores = _greedy(model, pictures[0], "Why?", 8)
    asking = Asking(max_new_tokens=8)
    ((given,),) = given_answers(model, [Question(image=pictures[0], prompt="Why?")], asking=asking)
    assert given.answer.text == model.tokenizer.answer(ids)
    # The penalty changes what is chosen; the chances are the model's own.
    yes = model.peer.first_id("Yes")
    assert given.answer.p_yes == pytest.approx(float(scores.softmax(dim=-1)[yes]), rel=1e-5)


def test_drawn_answers_are_the_same_in_any_batch(llava, pictures):
    model = load_model(llava)
    questions = [Question(image=picture, prompt="Why?") for picture in pictures]
    asking = Asking(max_new_tokens=6, temperature=2.0, seed=3)
    found = [
        [
            each.answer.text
            for batch in given_answers(model, questions, asking=asking, batch_size=size)
            for each in batch
        ]
        for size in (1, 3)
    ]
    assert found[0] == found[1]
    assert len(set(found[0])) == 3


@pytest.mark.parametrize(
    ("template", "space"),
    [
        (None, " "),
        ("{% for m in messages %}{{ m.role }}:{% for c in m.content %}"
         "{{ '<image>' if c.type == 'image' else ' ' + c.text }}{% endfor %}\n{% endfor %}"
         "{{ 'assistant:' if add_generation_prompt }}", " "),
        ("{% for m in messages %}{{ m.role }}\n{% for c in m.content %}"
         "{{ '<image>' if c.type == 'image' else c.text }}{% endfor %}\n{% endfor %}"
         "{{ 'assistant\n' if add_generation_prompt }}", ""),
    ],
)  # fmt: skip
def test_the_first_token_is_what_the_template_writes_behind_the_prompt(llava, template, space):
    words = load_model(llava).peer.words
    model = load_model(llava)
    model.peer.words.chat_template = template
    for word in ("Yes", "No"):
        assert model.peer.first_id(word) == words(space + word, add_special_tokens=False)["input_ids"][0]


def test_a_run_holds_it_beside_a_cobra(llava, pair, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    draw = np.random.default_rng(0).integers(0, 256, (2, 40, 56, 3), dtype=np.uint8)
    for number, pixels in enumerate(draw):
        Image.fromarray(pixels).save(images / f"{number}.png")
    rows = [
        {"image": f"{number % 2}.png", "question": f"Is there a {thing}?", "label": label}
        for number, (thing, label) in enumerate([("cup", "yes"), ("cat", "no"), ("dog", "no")])
    ]
    (tmp_path / "asked.json").write_text(json.dumps(rows))
    done = run_benchmark(
        "plain", [pair.cobra, llava], tmp_path / "run", records=[tmp_path / "asked.json"], images=images,
        asking=Asking(max_new_tokens=3), running=Running(vision_source=str(pair.vision)), form="cobra",
    )  # fmt: skip
    model = load_model(llava)
    steered = "answers under the checkpoint's own repetition_penalty 1.3 (generation_config.json)"
    assert steered in model.notes
    assert done.run.about.notes == tuple(f"tiny-llava-hf: {note}" for note in model.notes)
    assert f"tiny-llava-hf: {steered}.\n" in (tmp_path / "run" / "table.md").read_text("utf-8")
    for each in open_answers(done.run.path).answers():
        ours, theirs = each.models
        assert (ours.name, theirs.name) == ("cobra", "tiny-llava-hf")
        assert theirs.fingerprint == model.info.fingerprint != ours.fingerprint
        ids, _ = _greedy(model, Image.open(done.run.image_file(each)).convert("RGB"), each.prompt, 3)
        assert theirs.answer == model.tokenizer.answer(ids)
    argv = ["cases", "mine", str(done.run.path), "--casebook", str(tmp_path / "cases.db")]
    assert main(argv) == 0


def test_latency_forces_every_token(llava, tmp_path):
    table = latency([llava], tokens=4, repeats=2)
    row = dict(zip(table.columns, table.rows[0], strict=True))
    assert (row["model"], row["image tokens"]) == ("tiny-llava-hf", 16)
    assert table.notes[-1].startswith(
        "tiny-llava-hf: answers under the checkpoint's own repetition_penalty 1.3"
    )
    assert 0 < row["to first token (s)"].value < row["T_avg (s)"].value
    model = load_model(llava)
    inputs = model.peer.inputs(Image.new("RGB", (30, 20)), "Why?")
    chosen: list[int] = []
    model.peer.answer(inputs, max_new_tokens=1, temperature=0.0, top_p=1.0, seed=None, on_token=chosen.append)
    ending = shutil.copytree(llava, tmp_path / "ending")
    path = ending / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": chosen[0]}))
    model = load_model(ending)
    for forced, count in ((False, 0), (True, 4)):
        ids, _ = model.peer.answer(
            inputs, max_new_tokens=4, temperature=0.0, top_p=1.0, seed=None, forced=forced
        )
        assert len(ids) == count


def test_components_count_every_parameter_once_and_take_time(peer):
    _, model = peer
    table = component_costs([model], repeats=1)
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [each["component"] for each in rows][:3] in (
        ["vision encoders (ViT)", "projector", "language model (LLM)"],
        ["vision encoders (ViT)", "language model (LLM)", "projector, part of ViT"],
    )
    whole = sum(each["parameters"] for each in rows if "part of" not in each["component"])
    assert whole == sum(each.numel() for each in model.peer.network.parameters())
    assert all(each["time (ms)"].value > 0 and each["weights (MiB)"].value > 0 for each in rows)
    assert {f"{model.name}: {note}." for note in model.notes} <= set(table.notes)
    assert not foreign_hooks(model.peer.network)
