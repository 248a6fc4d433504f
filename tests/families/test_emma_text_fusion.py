"""The EMMA whose image tokens depend on the instruction: its file, its prompts, and the text that CLIP reads."""

import json
import shutil
from copy import deepcopy
from dataclasses import replace

import huggingface_hub
import numpy as np
import pytest
import torch
from PIL import Image

from emma_viz.capture import record
from emma_viz.cases.case import KNOCKED_OUT
from emma_viz.checkpoints import inspect, load_model
from emma_viz.checkpoints.vision import load_vision
from emma_viz.data.instructions import InstructionTokenizer
from emma_viz.data.prompts import Turn, build_prompt, lead
from emma_viz.errors import CheckpointError, InputError, UnsafePickleError
from emma_viz.evidence.attribution import attribute
from emma_viz.evidence.case import Case
from emma_viz.evidence.replacements import image_tokens
from emma_viz.maps import decode
from emma_viz.models import PRESETS, VLM, generate
from emma_viz.models.families.emma_text_fusion import EMMA_TEXT_FUSION
from emma_viz.records.questions import Question
from emma_viz.session import fit_ridge
from emma_viz.session.answering import FIRST_WORDS, given_answers
from emma_viz.session.comparison import Comparison
from emma_viz.session.evidence.asked import AskedCase
from emma_viz.session.evidence.measuring import EvidenceRoom
from emma_viz.session.evidence.references import ReferenceImage, References
from emma_viz.session.options import Asking
from emma_viz.session.payload import payload
from probes.causes.prompts import Prompts
from probes.examination import Plan, examine
from probes.findings import find
from probes.subjects import Scenes
from tests.families import llava_files
from tests.tiny_model import odd_photos, tiny_tokenizer


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(folder, the model's weights, its encoders' file, what loading gives)."""
    from emma_viz.checkpoints import save_vision_encoder

    folder, tokenizer = tmp_path_factory.mktemp("fusion"), tiny_tokenizer()
    torch.manual_seed(3)
    config = PRESETS["tiny-emma-text-fusion"]()
    vlm = VLM(replace(config, llm=replace(config.llm, vocab_size=tokenizer.vocab_size)))
    with torch.no_grad():
        for name, weight in vlm.named_parameters():
            weight.add_(torch.randn_like(weight) / (4 if "infusion" in name else 20))
    state = dict(vlm.state_dict())
    llava_files.write(folder, {**llava_files.TEXT_FUSION, "vocab_size": tokenizer.vocab_size}, state)
    llava_files.write_tower(folder, state)
    llava_files.write_instruction_tokenizer(folder)
    tokenizer.save(folder / "tokenizer.json")
    eye = save_vision_encoder(folder / "eye.safetensors", vlm.vision)
    return folder, state, eye, load_model(folder, vision_source=str(eye), backend="torch")


@pytest.mark.parametrize("prefix", ["", "model.vision_tower."])
def test_vision_tower_bin_under_both_prefixes(whole, prefix):
    folder, state, eye, first = whole
    llava_files.write_tower(folder, state, prefix)
    found = inspect(folder)
    assert found.problems == ()
    assert any("post_layernorm" in extra for extra in found.extras), (
        "the frozen encoder is not read, and named"
    )
    model = load_model(folder, vision_source=str(eye), backend="torch")
    assert model.info.fingerprint == first.info.fingerprint
    for name, value in llava_files.infusion(state).items():
        assert torch.equal(model.vlm.projector.infusion.get_parameter(name), value)


def test_what_the_tower_file_holds_counts(whole, tmp_path):
    shared, state, eye, _ = whole
    folder = shutil.copytree(shared, tmp_path / "own")
    other = {key: value + 1 for key, value in state.items() if "infusion" in key}
    llava_files.write(
        folder,
        json.loads((folder / "config.json").read_text()),
        state,
        (*llava_files.NAMES, ("projector.infusion.", "model.vision_tower.")),
    )
    llava_files.write_tower(folder, other)
    vlm = load_model(folder, vision_source=str(eye), backend="torch").vlm
    assert torch.equal(
        vlm.projector.infusion.image_text_infusion.bias,
        state["projector.infusion.image_text_infusion.bias"] + 1,
    )


def test_the_tower_file_is_fetched_from_the_hub_with_the_weights(whole, tmp_path, monkeypatch):
    """Of the commit that config.json is of, into the folder of the weights."""
    folder, _, _, first = whole
    commit, asked = "0123456789abcdef0123456789abcdef01234567", {}

    def download(repo, filename, *, revision, local_files_only):
        asked[filename] = revision
        if not (folder / filename).is_file():
            raise huggingface_hub.errors.EntryNotFoundError(filename)
        snapshot = tmp_path / "snapshots" / commit
        snapshot.mkdir(parents=True, exist_ok=True)
        return str(shutil.copy(folder / filename, snapshot / filename))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    found = inspect("someone/emma", revision="v1")
    assert (found.fingerprint, found.problems) == (first.info.fingerprint, ())
    assert asked.pop("config.json") == "v1"
    assert asked["vision_tower.bin"] == asked["model.safetensors"] == commit


class _Runs:
    def __reduce__(self):
        return print, ("run",)


def test_nothing_in_the_tower_file_is_executed(whole, capsys):
    folder, state, eye, _ = whole
    torch.save({**llava_files.infusion(state), "more": _Runs()}, folder / "vision_tower.bin")
    with pytest.raises(UnsafePickleError):
        load_model(folder, vision_source=str(eye))
    assert capsys.readouterr().out == ""
    (folder / "vision_tower.bin").unlink()
    with pytest.raises(CheckpointError, match="image_text_infusion"):
        load_model(folder, vision_source=str(eye))
    llava_files.write_tower(folder, state)


def test_one_image_with_two_prompts_has_other_tokens(whole):
    model, photo = whole[3], odd_photos()[0]
    trace = record(
        model, photo, ["What is this?", "Which is what?"], sites="resid_pre", layers=[0], max_new_tokens=2
    )
    one, other = trace["resid_pre", 0]
    assert float((one - other).norm() / one.norm()) > 0.01
    again = record(model, photo, "What is this?", sites="resid_pre", layers=[0], max_new_tokens=2)
    torch.testing.assert_close(again["resid_pre", 0][0], one)
    # A second line is not read by CLIP.
    more = record(
        model, photo, "What is this?\nAnswer yes or no.", sites="resid_pre", layers=[0], generate=False
    )
    torch.testing.assert_close(more["resid_pre", 0][0], one)
    assert not torch.equal(*record(model, photo, ["A", "B"], tokens="text", generate=False)["resid_post", 2])


@pytest.mark.slow
def test_one_image_with_two_prompts_stands_twice_in_a_figure_and_in_the_explorer(whole):
    model, photos, asked = whole[3], odd_photos(), ("What is this?", "Which is what?")
    images = [np.asarray(each.resize((60, 60))) for each in photos]
    lens = fit_ridge(model, images[:-1], heldout=images[-1:], fitted_on="odd photographs", layers=[-1, 1])
    shown = decode(record(model, images[0], asked, layers=[-1, 1], max_new_tokens=2), lens)
    comparison = Comparison(decodings=(shown,), image_names=("odd", "odd"))
    one, other = comparison.spec().images
    assert (one.prompt, other.prompt) == asked
    assert one.image_hash == other.image_hash
    np.testing.assert_array_equal(one.true_map, other.true_map)
    assert not np.allclose(one.models[0].maps, other.models[0].maps)
    first, second = (payload(comparison, sample=sample, live=False) for sample in (0, 1))
    assert (first["prompt"], second["prompt"]) == asked
    assert first["models"] != second["models"]


def test_benchmarks_ask_each_question_with_its_own_image_tokens(whole):
    model, photo, asked = whole[3], odd_photos()[1], ("What is this?", "Which is what?")
    (some,) = given_answers(
        model, [Question(image=photo, prompt=each) for each in asked], asking=Asking(max_new_tokens=4)
    )
    trace = record(model, photo, asked, max_new_tokens=4)
    assert [each.answer.text for each in some] == list(trace.answers)


def test_a_case_is_held_against_images_that_were_asked_its_own_question(whole):
    model, draw = whole[3], np.random.default_rng(0)
    mask = np.zeros((60, 60), np.uint8)
    mask[:20, :20] = 1
    others = [Image.fromarray(draw.integers(0, 256, (60, 60, 3), dtype=np.uint8)) for _ in range(7)]
    references = References(
        tuple(ReferenceImage(image=each, mask=mask, kinds=("cup",)) for each in others[1:]), title="noise"
    )
    asked = [
        AskedCase(image=others[0], prompt=prompt, mask=mask == 1)
        for prompt in ("Is there a cup?", "Is there a hat?")
    ]
    for case, found in zip(asked, EvidenceRoom(model, references).evidence(asked), strict=True):
        own = Case.of(model, case.image, case.prompt, words=FIRST_WORDS)
        tokens = [image_tokens(model, each.image, case.prompt) for each in references.fitted]
        mean = torch.stack([each.mean(dim=0) for each in tokens]).mean(dim=0)
        blind, knocked = own.scores([mean.expand(own.count, -1), own.with_tokens(list(found.region), mean)])
        assert found.number("prior: mean tokens").value == pytest.approx(blind, abs=1e-4)
        assert found.number(KNOCKED_OUT).value == pytest.approx(knocked, abs=1e-4)
        swapped = [
            own.scores([image_tokens(model, each.image, case.prompt)])[0] for each in references.held_out
        ]
        assert found.number("prior: another image").value == pytest.approx(np.mean(swapped), abs=1e-4)


def test_its_image_tokens_hold_what_was_asked_as_the_probe_of_prompts_says(whole, tmp_path):
    vlm, probe = deepcopy(whole[3].vlm), Prompts()
    with torch.no_grad():  # so that questions are told apart
        vlm.llm.backbone.norm_f.weight.mul_(1e5)
    plan = Plan(subjects=Scenes(2), probes=(probe,), folder=tmp_path, quick=True)
    _, gathered = examine(replace(whole[3], vlm=vlm), plan)["prompts"]
    (first, *_) = (each for each in find(probe.measures(gathered)) if each.measure.name == "prompts.image")
    assert abs(first.number.value) > 0.01
    assert "(emma-text-fusion)" in probe.method


def test_without_an_instruction_it_says_so(whole):
    vlm, pixels = whole[3].vlm, whole[3].transform.pixels(odd_photos()[:1])
    with pytest.raises(InputError, match="depend on the instruction"):
        vlm.embed_image(pixels)
    llava = VLM(PRESETS["tiny-llava"]())
    with pytest.raises(InputError, match="do not depend on the instruction"):
        llava.embed_image(features=torch.zeros(1, 16, 40), instruction=torch.zeros(1, 12, dtype=torch.long))
    assert llava.instruct(["What?"]) is None
    with pytest.raises(InputError, match="no tokenizer for it"):
        VLM(PRESETS["tiny-emma-text-fusion"]()).instruct(["What?"])


@torch.no_grad()
def test_what_stands_before_the_image_is_read_once_and_unseen(whole):
    """A pass and its continuation token by token give what one pass gives; hooks see image and text alone."""
    vlm, pixels = whole[3].vlm, whole[3].transform.pixels(odd_photos())
    told, ids = vlm.instruct(["What?"] * 3), torch.randint(258, (3, 6))
    seen = []
    hook = vlm.llm.backbone.layers[0].hook_resid_pre.register_forward_hook(
        lambda m, a, value: seen.append(value.shape)
    )
    plain = vlm(pixels, ids, instruction=told, logits="text").logits
    hook.remove()
    assert seen == [(3, 16 + 6, 32)]
    cache = vlm.llm.new_cache()
    vlm(pixels, ids[:, :4], instruction=told, cache=cache, logits="none")
    assert cache.offset.tolist() == [len(vlm.lead) + 20] * 3
    steps = [vlm(None, ids[:, at : at + 1], cache=cache, logits="last").logits[:, 0] for at in (4, 5)]
    torch.testing.assert_close(torch.stack(steps, 1), plain[:, -2:], rtol=1e-4, atol=1e-4)
    short = generate(
        vlm, pixels, [ids[0].tolist(), [5], [7, 8, 9]], max_new_tokens=3, eos_id=None, instruction=told
    )
    alone = generate(
        vlm, [each[1:2] for each in pixels], [[5]], max_new_tokens=3, eos_id=None, instruction=told[:1]
    )
    assert short.ids[1] == alone.ids[0]


def test_evidence_reads_what_stands_before_the_image(whole):
    """The score that attribution explains is the log-probability that the model gives the word."""
    model, photo = whole[3], odd_photos()[0]
    found = attribute(model, photo, "What is this?", word=[70], judged=0)
    ids = model.tokenizer.encode(model.prompt("What is this?"))
    out = model.vlm(model.transform.pixels([photo]), torch.tensor([ids]), logits="last",
                    instruction=model.vlm.instruct(["What is this?"]))  # fmt: skip
    expected = out.logits[0, 0, : model.config.llm.vocab_size].float().log_softmax(-1)[70]
    assert found.score == pytest.approx(expected.item(), abs=1e-4)


def test_version_two_is_refused():
    with pytest.raises(InputError, match="encoder_version"):
        EMMA_TEXT_FUSION.describe({**llava_files.TEXT_FUSION, "vocab_size": 61, "encoder_version": "v2"})
    third = EMMA_TEXT_FUSION.describe({**llava_files.TEXT_FUSION, "vocab_size": 61, "encoder_version": "v3",
                                       "mm_text_select_feature": "patch"})  # fmt: skip
    vlm = VLM(third)
    assert vlm.projector.infusion.learnable_tokens.shape == (16, 24)
    assert vlm.projector.infusion.image_text_infusion.in_features == 16 + 11
    assert EMMA_TEXT_FUSION.describe(llava_files.LLAMA) is None


def test_a_fresh_fusion_gives_the_image_back():
    vlm = VLM(PRESETS["tiny-emma-text-fusion"]())
    features, text = torch.randn(2, 16, 24), torch.randn(2, 12, 16)
    torch.testing.assert_close(vlm.projector.infusion(features, text), features)


def test_prompts_are_those_of_llava():
    """conv_vicuna_v1 with the image's place between the two parts."""
    system = (
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions."
    )
    assert lead("vicuna") == f"{system} USER: "
    assert build_prompt("<image>\nIs it red?", "vicuna") == "\nIs it red? ASSISTANT:"
    turns = [Turn(role="human", text="A?"), Turn(role="gpt", text="b"), Turn(role="human", text="C?")]
    assert build_prompt(turns, "vicuna") == "\nA? ASSISTANT: b</s>USER: C? ASSISTANT:"
    assert build_prompt(turns, "tinyllava") == "\nA? ASSISTANT: b<|endoftext|>USER: C? ASSISTANT:"
    assert lead("zephyr") == ""


def test_instructions_are_cut_as_transformers_cuts_them(tmp_path):
    from transformers import CLIPTokenizer

    model = llava_files.write_instruction_tokenizer(tmp_path)
    ours = InstructionTokenizer.load(tmp_path / "instruction-tokenizer.json", context=12)
    theirs = CLIPTokenizer(vocab=model["vocab"], merges=[tuple(each.split()) for each in model["merges"]])
    for text in ("What IS  this?", "whwhis", "is it's", "a" * 30):
        row = ours.encode([text])[0].tolist()
        expected = theirs(text)["input_ids"]
        if len(expected) > 12:
            expected = [*expected[:11], ours.end]
        assert row == expected + [0] * (12 - len(expected)), text
    assert ours.encode(["&amp;lt;image&amp;gt;<image>"])[0, 0] == ours.start
    with pytest.raises(CheckpointError, match="startoftext"):
        InstructionTokenizer({"a": 0}, [])


def test_clip_weights_of_the_hub_fill_both_towers(tmp_path):
    """One file of transformers' CLIPModel holds both towers and more; each takes its own."""
    from transformers import CLIPConfig, CLIPModel, CLIPVisionModel

    hub = CLIPModel(
        CLIPConfig(
            text_config={"vocab_size": 64, "hidden_size": 16, "intermediate_size": 40, "num_hidden_layers": 3,
                         "num_attention_heads": 2, "max_position_embeddings": 12, "bos_token_id": None,
                         "eos_token_id": 2},
            vision_config={"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 3,
                           "num_attention_heads": 2, "image_size": 60, "patch_size": 14},
        )
    ).eval()  # fmt: skip
    hub.save_pretrained(tmp_path)
    vlm = VLM(PRESETS["tiny-emma-text-fusion"]())
    load_vision(vlm.vision, {"clip": tmp_path, "clip-text": tmp_path}, dtype=torch.float32, device="cpu")
    pixels, ids = torch.randn(2, 3, 60, 60), torch.randint(1, 60, (2, 12))
    assert isinstance(hub.vision_model, CLIPVisionModel | torch.nn.Module)
    with torch.no_grad():
        expected = hub.vision_model(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
        torch.testing.assert_close(vlm.vision([pixels]), expected, rtol=1e-4, atol=1e-5)
        expected = hub.text_model(ids, output_hidden_states=True).hidden_states[-2]
        torch.testing.assert_close(vlm.vision.read(ids), expected, rtol=1e-4, atol=1e-5)
