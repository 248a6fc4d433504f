"""A trace holds what the model computed, for the right tokens of the right sample."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from emma_viz.capture import SITES, Recorder, record
from emma_viz.data import image_hash
from emma_viz.errors import CaptureError, ImageError, InputError, SiteError
from emma_viz.models import generate

PROMPTS = ["What?", "Is there a cup on the table?", "How many?"]
T = 16


def alone(model, image, prompt, site, layer, *, extra=()):
    """The states of one sample, from a plain pass over image, prompt and `extra` tokens, by way of a bare hook."""
    ids = [*model.tokenizer.encode(model.prompt(prompt)), *extra]
    pixels = None if image is None else model.transform.pixels([image])
    kept = []
    paths = {
        "mixer_out": f"layers.{layer}.hook_mixer_out",
        "norm_f": "hook_norm_f",
        "y": f"layers.{layer}.mixer.hook_y",
    }
    path = paths.get(site, f"layers.{layer}.hook_resid_post" if layer >= 0 else "layers.0.hook_resid_pre")
    place = model.vlm.llm.backbone.get_submodule(path)
    handle = place.register_forward_hook(lambda module, inputs, output: kept.append(output.detach()[0]))
    with torch.no_grad():
        model.vlm(pixels, torch.tensor([ids]), logits="none")
    handle.remove()
    return kept[0]


def assert_close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("site", "layer"), [("resid_post", 1), ("resid_post", -1), ("mixer_out", 2), ("norm_f", 2), ("y", 0)]
)
def test_states_are_those_of_each_sample_alone(model, photos, site, layer):
    layers = "all" if site == "norm_f" else [layer]
    trace = record(model, photos, PROMPTS, sites=site, layers=layers, max_new_tokens=3, batch_size=2)
    assert trace[site, layer].shape[:2] == (3, T)
    for sample, (photo, prompt) in enumerate(zip(photos, PROMPTS, strict=True)):
        assert_close(trace[site, layer][sample], alone(model, photo, prompt, site, layer)[:T])


def test_text_and_all_tokens_are_ragged_and_padded_with_nan(model, photos):
    text = record(model, photos, PROMPTS, tokens="text", layers=[2], generate=False)
    both = record(model, photos, PROMPTS, tokens="all", layers=[2], generate=False, batch_size=2)
    lengths = [len(model.tokenizer.encode(model.prompt(prompt))) for prompt in PROMPTS]
    assert text.lengths == tuple(lengths)
    assert both.lengths == tuple(T + length for length in lengths)
    assert text["resid_post", 2].shape[1] == max(lengths)
    assert torch.equal(text["resid_post", 2].isnan().all(-1), ~text.mask())
    for sample, (photo, prompt) in enumerate(zip(photos, PROMPTS, strict=True)):
        expected = alone(model, photo, prompt, "resid_post", 2)
        assert_close(text.ragged("resid_post", 2)[sample], expected[T:])
        assert_close(both.ragged("resid_post", 2)[sample], expected)


def test_states_of_generated_tokens_are_those_of_reading_the_answer(model, photos):
    trace = record(
        model, photos, PROMPTS, layers=[0, 2], max_new_tokens=5, generated_states=True, batch_size=2
    )
    plain = record(model, photos, PROMPTS, layers=[0, 2], max_new_tokens=5)
    assert trace.answer_ids == plain.answer_ids
    assert trace.ended == plain.ended
    for sample, (photo, prompt, ids) in enumerate(zip(photos, PROMPTS, trace.answer_ids, strict=True)):
        expected = alone(model, photo, prompt, "resid_post", 2, extra=ids)
        states = trace.answer_states("resid_post", 2)[sample]
        assert len(states) == len(ids) > 0
        assert_close(states, expected[len(expected) - len(ids) :])


def test_states_after_the_end_of_a_short_answer_are_nan(one, photos):
    # Draws differ from sample to sample, so an end token that the first one draws comes later or never in the others.
    drawing = {"temperature": 1.0, "seed": 3, "layers": [0]}
    first = record(one, photos, PROMPTS, max_new_tokens=6, **drawing)
    tokenizer = copy.copy(one.tokenizer)
    tokenizer.eos_id = first.answer_ids[0][2]
    ending = replace(one, tokenizer=tokenizer)
    trace = record(ending, photos, PROMPTS, max_new_tokens=6, generated_states=True, **drawing)
    lengths = [len(ids) for ids in trace.answer_ids]
    assert lengths[0] <= 2 < max(lengths)
    assert trace.ended[0]
    real = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    assert torch.equal(trace.generated["resid_post"][0].isnan().all(-1), ~real)
    assert torch.equal(trace.generated["resid_post"][0].isnan().any(-1), ~real)
    assert all(report.finite for report in trace.hooks)
    for sample, ids in enumerate(trace.answer_ids):
        expected = alone(one, photos[sample], PROMPTS[sample], "resid_post", 0, extra=ids)
        assert_close(trace.answer_states("resid_post", 0)[sample], expected[len(expected) - len(ids) :])


def test_white_space_around_an_answer_is_stripped_as_in_the_released_code(one, photos, monkeypatch):
    said = iter([*one.tokenizer.encode(" A red cup.\n"), one.tokenizer.eos_id])
    rows = one.config.llm.padded_vocab_size

    def rigged(hidden):
        return functional.one_hot(torch.tensor(next(said)), rows).float().expand(*hidden.shape[:2], rows)

    monkeypatch.setattr(one.vlm.llm, "logits", rigged)
    trace = record(one, photos[0], PROMPTS[0])
    assert trace.answers == ("A red cup.",)
    assert one.tokenizer.decode(trace.answer_ids[0]) == " A red cup.\n"  # its tokens are kept as they came


def test_the_model_answers_as_it_does_without_hooks(model, photos):
    ids = [model.tokenizer.encode(model.prompt(prompt)) for prompt in PROMPTS]
    pixels = model.transform.pixels(photos)
    plain = generate(model.vlm, pixels, ids, max_new_tokens=6, eos_id=model.tokenizer.eos_id)
    trace = record(model, photos, PROMPTS, sites=tuple(SITES), tokens="all", max_new_tokens=6)
    assert trace.answer_ids == plain.ids
    assert trace.answers == tuple(model.tokenizer.answer(answer) for answer in plain.ids)
    assert trace.ended == plain.ended


def test_the_logits_are_the_same_bit_by_bit_while_recording(model, photos):
    pixels, ids = model.transform.pixels(photos), torch.tensor([[1, 2, 3]] * 3)
    plain = model.vlm(pixels, ids, logits="all").logits
    with Recorder(model.vlm, tuple(SITES), tokens=slice(0, T)):
        hooked = model.vlm(pixels, ids, logits="all").logits
    assert torch.equal(plain, hooked)


def test_no_hook_is_left_also_after_an_exception(one, photos):
    def fail(*event):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        record(one, photos, PROMPTS, progress=fail)
    with pytest.raises(ZeroDivisionError):
        record(one, photos, PROMPTS, on_token=fail)
    assert not any(module._forward_hooks for module in one.vlm.modules())


def test_a_hook_that_does_not_fire_is_an_error(one, photos):
    bypassed = replace(one, vlm=copy.deepcopy(one.vlm))
    bypassed.vlm.llm.backbone.layers[1].mixer.hook_delta.replaced = lambda compute: None
    with pytest.raises(CaptureError, match=r"blocks\.1\.hook_delta"):
        record(bypassed, photos[0], "What?", sites=("resid_post", "delta"))


def test_a_hook_that_fires_for_the_first_batch_alone_is_an_error(one, photos):
    bypassed = replace(one, vlm=copy.deepcopy(one.vlm))
    place = bypassed.vlm.llm.backbone.layers[1].hook_resid_post
    observe, calls = place.observe, []

    def once(compute):
        calls.append(1)
        return observe(compute) if len(calls) == 1 else None

    place.observe = once
    with pytest.raises(CaptureError, match=r"samples 1 to 1: blocks\.1\.hook_resid_post"):
        record(bypassed, photos[:2], "What?", batch_size=1, generate=False)


def test_hooks_report_what_they_saw(one, photos):
    trace = record(one, photos[:2], "What?", sites=("resid_post", "B"), layers=[-1, 1], max_new_tokens=2)
    length = T + len(one.tokenizer.encode(one.prompt("What?")))
    reports = {report.name: report for report in trace.hooks}
    assert list(reports) == ["blocks.-1.hook_resid_post", "blocks.1.hook_resid_post", "blocks.1.hook_B"]
    assert reports["blocks.1.hook_resid_post"].shape == (2, length, 32)
    assert reports["blocks.1.hook_B"].shape == (2, length, 8)
    assert all(report.fired == 2 and report.finite for report in trace.hooks)


def test_values_that_are_not_finite_are_reported(one, photos, caplog):
    broken = replace(one, vlm=copy.deepcopy(one.vlm))
    with torch.no_grad():
        broken.vlm.llm.backbone.layers[1].mixer.D[0] = torch.nan
    trace = record(broken, photos[0], "What?", generate=False)
    assert [report.finite for report in trace.hooks] == [True, False, False]
    assert "blocks.1.hook_resid_post holds values that are not finite" in caplog.text


def test_a_trace_says_where_everything_comes_from(one, photos):
    trace = record(one, photos, "What?", layers=[0], max_new_tokens=2)
    assert trace.model == one.info
    assert (trace.sites, trace.layers, trace.token_kind) == (("resid_post",), (0,), "image")
    assert trace.image_hashes == tuple(image_hash(photo) for photo in photos)
    assert trace.geometry == tuple(one.transform.geometry(photo) for photo in photos)
    assert [image.tobytes() for image in trace.images] == [photo.tobytes() for photo in photos]
    assert trace.prompts == ("What?",) * 3
    assert one.tokenizer.decode(trace.prompt_ids[0], skip_special=False) == one.prompt("What?")
    for view, photo in zip(trace.views, photos, strict=True):
        assert np.array_equal(view, np.asarray(one.transform.view(photo)))
    assert (trace.sampling.max_new_tokens, trace.sampling.temperature, trace.sampling.seed) == (2, 0.0, None)


def test_one_image_goes_with_every_prompt(one, photos):
    trace = record(one, photos[1], PROMPTS, layers=[2], max_new_tokens=2)
    assert trace.prompts == tuple(PROMPTS)
    assert trace.image_hashes == (image_hash(photos[1]),) * 3
    assert len(trace.views) == len(trace.geometry) == 3
    assert_close(trace["resid_post", 2][1], alone(one, photos[1], PROMPTS[1], "resid_post", 2)[:T])


def test_images_come_as_files_and_arrays_too(one, photos, tmp_path):
    path = tmp_path / "photo.png"
    photos[0].save(path)
    array = np.stack([np.asarray(photos[2])] * 2)
    files = record(one, [str(path), path], "What?", generate=False)
    arrays = record(one, array, "What?", generate=False)
    single = record(one, array[0], "What?", generate=False)
    assert files.image_hashes == (image_hash(photos[0]),) * 2
    assert arrays.image_hashes == (image_hash(photos[2]),) * 2 == single.image_hashes * 2


def test_without_an_image_the_text_is_recorded(one):
    trace = record(one, None, PROMPTS, tokens="text", layers=[1], max_new_tokens=2)
    assert trace.images == trace.geometry == trace.image_hashes == ()
    assert len(trace.views) == trace.n_image_tokens == 0
    assert_close(trace.ragged("resid_post", 1)[1], alone(one, None, PROMPTS[1], "resid_post", 1))
    with pytest.raises(InputError, match="no image tokens"):
        record(one, None, PROMPTS, tokens="image")
    assert record(one, None, PROMPTS, layers=["last", "first"], generate=False).layers == (2, 0)
    assert record(one, None, PROMPTS, layers=["all", 1, -1], generate=False).layers == (-1, 0, 1, 2)
    with pytest.raises(SiteError, match="'first', 'last' or 'all', got 'middle'"):
        record(one, None, PROMPTS, layers=["middle"])


def test_without_an_answer_there_are_none(one, photos):
    trace = record(one, photos, "What?", generate=False)
    assert trace.answers == trace.answer_ids == trace.ended == ()
    assert trace.sampling is None
    with pytest.raises(CaptureError, match="generated_states=True"):
        trace.answer_states("resid_post", 0)


def test_reading_alone_gives_the_states_of_answering(one, photos):
    reading = record(one, photos, PROMPTS, generate=False)
    answering = record(one, photos, PROMPTS, max_new_tokens=1)
    assert_close(reading["resid_post"], answering["resid_post"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_states_are_kept_in_the_dtype_asked_for(one, photos, dtype):
    full = record(one, photos[0], "What?", generate=False)
    trace = record(one, photos[0], "What?", generate=False, dtype=dtype)
    assert trace["resid_post"].dtype == dtype
    assert torch.equal(trace["resid_post"], full["resid_post"].to(dtype))


def test_states_take_the_memory_of_what_is_kept(one, photos):
    trace = record(
        one, photos, PROMPTS, tokens="image", layers=[0, 2], max_new_tokens=3, generated_states=True
    )
    for states in (*trace.states.values(), *trace.generated.values()):
        assert states.untyped_storage().nbytes() == states.numel() * 4
        assert not states.is_inference()


def test_states_can_be_handed_on_instead_of_kept(one, photos):
    seen = {}

    def take(site, layer, samples, states):
        seen.setdefault((site, layer), []).append((samples, states))

    trace = record(one, photos, "What?", layers=[-1, 2], generate=False, batch_size=2, on_states=take)
    kept = record(one, photos, "What?", layers=[-1, 2], generate=False, batch_size=2)
    assert not trace.states
    assert list(seen) == [("resid_post", -1), ("resid_post", 2)]
    for (site, layer), parts in seen.items():
        assert [samples for samples, _ in parts] == [range(2), range(2, 3)]
        assert torch.equal(torch.cat([states for _, states in parts]), kept[site, layer])
    with pytest.raises(CaptureError, match="without the states"):
        trace["resid_post", 2]


def test_progress_counts_up_to_its_total(one, photos):
    events = []
    record(one, photos, PROMPTS, max_new_tokens=4, batch_size=2, progress=lambda *event: events.append(event))
    done, totals, whats = zip(*events, strict=True)
    assert set(totals) == {2 * (3 + 4)}
    assert set(whats) == {"recording tiny-emma-v1"}
    assert list(done) == sorted(set(done))
    assert done[-1] == totals[0]


@pytest.mark.parametrize("generated_states", [False, True])
def test_tokens_are_heard_as_they_come(one, photos, generated_states):
    heard = [[], [], []]
    trace = record(
        one,
        photos,
        PROMPTS,
        max_new_tokens=4,
        batch_size=2,
        generated_states=generated_states,
        on_token=lambda sample, token: heard[sample].append(token),
    )
    assert tuple(map(tuple, heard)) == trace.answer_ids


@pytest.mark.parametrize("seed", [7, None])
def test_draws_do_not_depend_on_the_batch_size_and_can_be_repeated(one, photos, seed):
    first = record(one, photos, PROMPTS, temperature=1.0, seed=seed, max_new_tokens=6)
    assert first.sampling.seed is not None
    again = record(
        one, photos, PROMPTS, temperature=1.0, seed=first.sampling.seed, max_new_tokens=6, batch_size=1
    )
    assert first.answer_ids == again.answer_ids
    assert first.sampling == again.sampling


def test_draws_of_later_batches_follow_the_first_ones_seed(one, photos):
    first = record(one, photos, PROMPTS, temperature=1.0, max_new_tokens=6, batch_size=1)
    again = record(one, photos, PROMPTS, temperature=1.0, max_new_tokens=6, seed=first.sampling.seed)
    assert first.answer_ids == again.answer_ids


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"sites": "resid_pots"}, SiteError, "resid_post"),
        ({"layers": [9]}, SiteError, "layers 0 to 2"),
        ({"tokens": "picture"}, InputError, "image, text, all"),
        ({"dtype": torch.int32}, InputError, "float16"),
        ({"batch_size": 0}, InputError, "at least 1"),
        ({"max_new_tokens": 0}, InputError, "generate=False"),
        ({"generate": False, "generated_states": True}, InputError, "generate=True"),
        ({"prompts": []}, InputError, "Give a prompt"),
        ({"prompts": ["a", "b"]}, InputError, "3 images and 2 prompts"),
        ({"prompts": [3.5]}, InputError, "as text"),
        ({"images": []}, InputError, "empty"),
        ({"images": "missing.png"}, ImageError, "missing.png"),
        ({"temperature": -1.0}, InputError, "temperature"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_mistakes_are_named(one, photos, settings, error, message):
    asked = {"images": photos, "prompts": PROMPTS, **settings}
    with pytest.raises(error, match=message):
        record(one, asked.pop("images"), asked.pop("prompts"), **asked)
    assert not any(module._forward_hooks for module in one.vlm.modules())
