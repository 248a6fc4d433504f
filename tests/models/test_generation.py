import pytest
import torch

from emma_viz.errors import InputError
from emma_viz.models import generate
from emma_viz.models.sampling import choose_tokens, nucleus

PROMPTS = [[1, 2, 3], [4, 5, 6, 7, 8, 9, 10], [11]]


def alone(pixels, sample):
    return tuple(tensor[sample : sample + 1] for tensor in pixels)


@torch.no_grad()
def uncached(vlm, pixels, prompt, steps):
    ids = list(prompt)
    for _ in range(steps):
        scores = vlm(pixels, torch.tensor([ids])).logits[0, -1, : vlm.config.llm.vocab_size]
        ids.append(int(scores.argmax()))
    return tuple(ids[len(prompt) :])


def test_greedy_answers_equal_a_loop_without_a_cache(vlm, pixels):
    answers = generate(vlm, pixels, PROMPTS, max_new_tokens=8, eos_id=None)
    for sample, prompt in enumerate(PROMPTS):
        assert answers.ids[sample] == uncached(vlm, alone(pixels, sample), prompt, 8)
    assert len({token for ids in answers.ids for token in ids}) > 3, "a constant answer would compare nothing"


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_batch_of_unequal_prompts_answers_as_each_alone(vlm, pixels, temperature):
    settings = {"max_new_tokens": 8, "eos_id": None, "temperature": temperature}
    batch = generate(vlm, pixels, PROMPTS, seed=5, **settings)
    for sample, prompt in enumerate(PROMPTS):
        single = generate(vlm, alone(pixels, sample), [prompt], seed=5 + sample, **settings)
        assert single.ids[0] == batch.ids[sample]


def test_text_alone_and_features(vlm, pixels):
    text = generate(vlm, None, PROMPTS, max_new_tokens=4, eos_id=None)
    image = generate(vlm, pixels, PROMPTS, max_new_tokens=4, eos_id=None)
    assert text.ids != image.ids
    features = generate(vlm, None, PROMPTS, features=vlm.vision(pixels), max_new_tokens=4, eos_id=None)
    assert features.ids == image.ids


def test_an_image_without_a_prompt(vlm, pixels):
    answer = generate(vlm, pixels, [[], [], []], max_new_tokens=3, eos_id=None)
    assert [len(ids) for ids in answer.ids] == [3, 3, 3]
    mixed = generate(vlm, pixels, [[], [4, 5], []], max_new_tokens=3, eos_id=None)
    assert (mixed.ids[0], mixed.ids[2]) == (answer.ids[0], answer.ids[2])


def test_the_end_token_ends_a_sample_and_not_its_neighbours(vlm, pixels):
    free = generate(vlm, pixels, PROMPTS, max_new_tokens=8, eos_id=None)
    end = free.ids[1][3]
    stopped = generate(vlm, pixels, PROMPTS, max_new_tokens=8, eos_id=end)
    for sample, ids in enumerate(free.ids):
        cut = ids.index(end) if end in ids else 8
        assert stopped.ids[sample] == ids[:cut]
        assert stopped.ended[sample] == (end in ids)
    assert not any(free.ended)


def test_a_token_streams_as_it_comes(vlm, pixels):
    calls = []
    answers = generate(
        vlm, pixels, PROMPTS, max_new_tokens=4, eos_id=None, on_token=lambda *call: calls.append(call)
    )
    assert calls == [(sample, answers.ids[sample][step]) for step in range(4) for sample in range(3)]
    calls.clear()
    end = answers.ids[0][1]
    stopped = generate(
        vlm, pixels, PROMPTS, max_new_tokens=4, eos_id=end, on_token=lambda *call: calls.append(call)
    )
    for sample in range(3):
        assert tuple(token for who, token in calls if who == sample) == stopped.ids[sample]


def test_the_callback_runs_before_the_next_step(vlm, pixels):
    passes, at_token = [], []
    vlm.llm.backbone.hook_norm_f.register_forward_hook(lambda *_: passes.append(1))
    generate(
        vlm, pixels, PROMPTS, max_new_tokens=3, eos_id=None, on_token=lambda *_: at_token.append(len(passes))
    )
    assert at_token == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert len(passes) == 3, "no pass whose scores nobody reads"


def test_hooks_see_one_prefill_and_then_single_steps(vlm, pixels):
    shapes = []
    vlm.llm.backbone.layers[0].hook_mixer_in.register_forward_hook(
        lambda module, args, value: shapes.append(tuple(value.shape[:2]))
    )
    generate(vlm, pixels, PROMPTS, max_new_tokens=3, eos_id=None)
    assert shapes == [(3, 16 + 7), (3, 1), (3, 1)]


def test_a_seed_fixes_the_draws(vlm, pixels):
    settings = {"max_new_tokens": 12, "eos_id": None, "temperature": 1.5}
    first = generate(vlm, pixels, PROMPTS, seed=1, **settings)
    torch.rand(7)
    assert generate(vlm, pixels, PROMPTS, seed=1, **settings) == first
    assert generate(vlm, pixels, PROMPTS, seed=2, **settings).ids != first.ids
    drawn = generate(vlm, pixels, PROMPTS, **settings)
    assert generate(vlm, pixels, PROMPTS, seed=drawn.seed, **settings) == drawn
    assert generate(vlm, pixels, PROMPTS, max_new_tokens=1, eos_id=None, seed=3).seed is None


def test_sampling_leaves_the_global_generator_alone(vlm, pixels):
    state = torch.get_rng_state()
    generate(vlm, pixels, PROMPTS, max_new_tokens=3, eos_id=None, temperature=1.0, seed=1)
    generate(vlm, pixels, PROMPTS, max_new_tokens=3, eos_id=None, temperature=1.0)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_tiny_nucleus_is_greedy(vlm, pixels):
    settings = {"max_new_tokens": 6, "eos_id": None}
    greedy = generate(vlm, pixels, PROMPTS, **settings)
    narrow = generate(vlm, pixels, PROMPTS, temperature=3.0, top_p=1e-6, seed=0, **settings)
    assert narrow.ids == greedy.ids


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [
        (1.0, [0.1, 0.5, 0.15, 0.25]),
        (0.75, [0.0, 2 / 3, 0.0, 1 / 3]),
        (0.76, None),
        (0.5, [0.0, 1.0, 0.0, 0.0]),
    ],
)
def test_the_nucleus(top_p, kept):
    probabilities = torch.tensor([[0.1, 0.5, 0.15, 0.25]])
    filtered = nucleus(probabilities, top_p)
    expected = [0.0, 0.5 / 0.9, 0.15 / 0.9, 0.25 / 0.9] if kept is None else kept
    assert torch.allclose(filtered, torch.tensor([expected]))


def test_draws_follow_the_softened_scores():
    scores = torch.tensor([[0.0, 2.0]]).expand(4000, 2)
    generators = [torch.Generator().manual_seed(seed) for seed in range(4000)]
    drawn = choose_tokens(scores, temperature=2.0, top_p=1.0, generators=generators)
    assert abs(drawn.float().mean() - torch.sigmoid(torch.tensor(1.0))) < 0.03


def test_padding_of_the_vocabulary_is_never_chosen(vlm, pixels):
    known = vlm.config.llm.vocab_size
    assert known < vlm.config.llm.padded_vocab_size
    with torch.no_grad():
        vlm.llm.backbone.embedding.weight[known:] *= 1000
    answers = generate(vlm, pixels, PROMPTS, max_new_tokens=20, eos_id=None, temperature=2.0, seed=0)
    assert max(token for ids in answers.ids for token in ids) < known


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"prompt_ids": []}, "prompt_ids"),
        ({"prompt_ids": [[1]]}, "3 images"),
        ({"pixels": None, "prompt_ids": [[1], []]}, "at least one token"),
    ],
)
def test_settings_that_mean_nothing_are_refused(vlm, pixels, changed, named):
    settings = {"pixels": pixels, "prompt_ids": PROMPTS, "max_new_tokens": 2, "eos_id": None}
    with pytest.raises(InputError, match=named):
        generate(vlm, **{**settings, **changed})
