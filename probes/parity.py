"""What a checkpoint must pass before its pictures mean anything: four checks on one image, printed in each report."""

from dataclasses import dataclass

import torch
from torch import Tensor

from emma_viz.capture import Recorder, Trace, record
from emma_viz.checkpoints import LoadedModel
from emma_viz.checkpoints.peers import PeerModel
from emma_viz.evidence.mixers.frozen import decompose
from emma_viz.evidence.mixers.routing import mixed
from emma_viz.models import Block, pad_prompts
from probes.protocol import Subject

_CLOSE = 1e-3
"""The largest error relative to the size of what is compared, for weights in fp32; 5e-2 for narrower ones."""

_STEPS = 4
"""Tokens of an answer that is given step by step."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One comparison of the model with itself."""

    name: str
    passed: bool
    error: float
    """Largest difference, over the largest value; NaN where it could not be found."""
    sentence: str


def checks(model: LoadedModel, subject: Subject) -> tuple[Check, ...]:
    """Hooks that fired, mixers computed again, the cache against a full pass, the frozen sum against the logit; of an
    attention transformer or a hybrid the parts of its blocks, and the cache."""
    bound = _bound(model.info.dtype)
    attends = not model.info.mixers_alone
    trace = record(
        model,
        subject.image,
        subject.prompt,
        sites=("resid_pre", "attn_out", "mlp_out", "resid_post") if attends else ("mixer_in", "mixer_out"),
        tokens="all",
        max_new_tokens=_STEPS,
    )
    silent = [each.name for each in trace.hooks if not each.fired]
    wild = [each.name for each in trace.hooks if each.finite is False]
    fired = Check(
        name="hooks",
        passed=not silent and not wild,
        error=0.0,
        sentence=f"{len(trace.hooks)} hooks, all fired, every state finite."
        if not silent and not wild
        else f"{len(silent)} of {len(trace.hooks)} hooks did not fire; {len(wild)} saw values that are not finite"
        f" ({', '.join((silent + wild)[:3])}).",
    )
    cache = _check(
        "cache", _cache(model, subject, trace), bound, "logits, token by token with a cache against one pass"
    )
    if attends:
        return (
            fired,
            _check("blocks", _sums(trace), bound, "what blocks add, against the stream behind them"),
            cache,
        )
    parts = [
        _check(
            "mixers", _mixers(model, trace), bound, "mixer outputs, computed again from weights and input"
        ),
        cache,
        _check(
            "frozen sum",
            _frozen(model, subject),
            bound,
            "contributions of tokens and biases, against the logit",
        ),
    ]
    return (fired, *parts)


def check_of(name: str, error: float, dtype: str, what: str) -> Check:
    """A check of a model with weights of a type, from the error that was found, over the largest value."""
    return _check(name, error, _bound(dtype), what)


def _bound(dtype: str) -> float:
    return _CLOSE if dtype == "float32" else 5e-2


def _check(name: str, error: float, bound: float, what: str) -> Check:
    passed = error <= bound
    return Check(
        name=name,
        passed=passed,
        error=error,
        sentence=f"{what}: largest difference {error:.1e} of the largest value"
        + ("." if passed else f", more than {bound:.0e}: pictures of this checkpoint are not to be trusted."),
    )


def _apart(a: Tensor, b: Tensor) -> float:
    size = float(b.abs().max())
    return float((a - b).abs().max()) / size if size else float((a - b).abs().max())


def _sums(trace: Trace) -> float:
    """Of an attention transformer or a hybrid, whose blocks add two parts to the stream."""
    return max(
        _apart(
            trace["resid_pre", layer] + trace["attn_out", layer] + trace["mlp_out", layer],
            trace["resid_post", layer],
        )
        for layer in range(trace.model.n_layer)
    )


@torch.no_grad()
def _mixers(model: LoadedModel, trace: Trace) -> float:
    errors = []
    for layer, block in enumerate(model.vlm.llm.backbone.layers):
        assert isinstance(block, Block)
        entered, left = trace["mixer_in", layer], trace["mixer_out", layer]
        errors.append(_apart(mixed(block.mixer, entered.to(model.vlm.device)).cpu(), left))
    return max(errors)


@torch.no_grad()
def _cache(model: LoadedModel, subject: Subject, trace: Trace) -> float:
    if isinstance(model, PeerModel):
        return _cache_of_peer(model, subject)
    vlm, answer = model.vlm, list(trace.answer_ids[0]) or [0]
    ids = [*trace.prompt_ids[0], *answer]
    pixels, told = model.transform.pixels([subject.image]), vlm.instruct([subject.prompt])
    whole = vlm(pixels, pad_prompts([tuple(ids)])[0], instruction=told, logits="all").logits
    cache = vlm.llm.new_cache()
    first, _ = pad_prompts([tuple(ids[: -len(answer)])])
    vlm(pixels, first if first.shape[1] else None, instruction=told, cache=cache, logits="none")
    steps = []
    for token in answer:
        steps.append(vlm(None, torch.tensor([[token]]), cache=cache, logits="last").logits[:, 0])
    assert whole is not None
    known = vlm.config.llm.vocab_size
    return _apart(torch.stack(steps, dim=1)[..., :known].float(), whole[:, -len(answer) :, :known].float())


def _cache_of_peer(model: PeerModel, subject: Subject) -> float:
    """The scores of each step of transformers' `generate` against those of one pass over prompt and answer."""
    inputs = model.peer.inputs(subject.image, subject.prompt)
    with Recorder(model.peer.network, "norm_f", dtype=torch.float32) as kept:
        ids, _ = model.peer.answer(
            inputs, max_new_tokens=_STEPS, temperature=0.0, top_p=1.0, seed=None, forced=True
        )
    steps = [each[0, -1] for each in kept.calls(next(iter(kept)))]
    with Recorder(model.peer.network, "norm_f", dtype=torch.float32) as kept:
        model.peer.read(inputs.followed_by(ids[: len(steps) - 1], kind=model.peer.family.kinds[2]))
    (whole,) = kept.calls(next(iter(kept)))
    return _apart(torch.stack(steps), whole[0, -len(steps) :])


def _frozen(model: LoadedModel, subject: Subject) -> float:
    found = decompose(model, subject.image, subject.prompt, word=[0], against=[1])
    largest = max(abs(found.score), float(abs(found.image).max()), float(abs(found.bias).max()))
    return abs(found.remainder) / largest if largest else abs(found.remainder)
