"""Whole language models: hidden states, recording, decoding, generation, shared images, and cost against length."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.speed.layers import NAMES, Kind
from benchmarks.speed.rows import Row, interleaved, of, ratios
from emma_viz.capture import SITES, Recorder
from emma_viz.lens.info import LensInfo
from emma_viz.lens.ridge import RidgeLens
from emma_viz.models import PRESETS, VLM, MambaLM, generate, seen_images
from emma_viz.models.config import MambaConfig
from emma_viz.models.vlm import TextNetwork

IMAGE_TOKENS = 729
LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
LAYERS, WIDTH, ROWS_OF_TABLE = 24, 768, 50280
"""Of the 130M models."""
TOKENS, PROMPT = 12, 4
"""That are generated, behind so many."""
RECOMPUTED = ("conv_pre", "scan", "delta")
"""Sites whose states the model does not need as such; a hook there costs their computation."""


def small(kind: Kind, *, layers: int = 24, width: int = 768, vocab: int = 1000) -> MambaLM:
    """A language model with random weights; 24 layers of width 768 are those of the 130M models."""
    torch.manual_seed(0)
    states = 16 if kind == "mamba1" else 128
    return MambaLM(
        MambaConfig(d_model=width, n_layer=layers, vocab_size=vocab, ssm=kind, d_state=states)
    ).eval()


@torch.no_grad()
def hidden_states() -> Iterator[Row]:
    """All hidden states of 24 layers, against transformers."""
    from transformers import Mamba2Config, Mamba2Model, MambaModel
    from transformers import MambaConfig as TheirConfig

    x = torch.randn(1, 800, 768)
    sizes: dict[str, Any] = {"hidden_size": 768, "num_hidden_layers": 24, "vocab_size": 1000}
    theirs: dict[Kind, nn.Module] = {
        "mamba1": MambaModel(TheirConfig(**sizes)),
        "mamba2": Mamba2Model(Mamba2Config(**sizes, num_heads=24, head_dim=64, n_groups=1, state_size=128)),
    }
    for (kind, other), goal in zip(theirs.items(), (4.5, 3.2), strict=True):
        other.eval()
        model = small(kind)

        def ours(model: MambaLM = model) -> None:
            with Recorder(model, "resid_post"):
                model.backbone(x)

        def others(other: nn.Module = other) -> None:
            other(inputs_embeds=x, output_hidden_states=True, use_cache=False)

        times = interleaved({"ours": ours, "theirs": others}, rounds=4)
        yield of(
            f"{NAMES[kind]}, 24 layers, 800 tokens, all hidden states: transformers against ours",
            ratios(times, "theirs", "ours"), goal=goal, at_most=False,
        )  # fmt: skip


@torch.no_grad()
def recording() -> Iterator[Row]:
    """Recording against the plain pass, and a plain script with hooks of its own."""
    x = torch.randn(1, 800, 768)
    for kind in NAMES:
        model = small(kind, layers=8)

        def record(sites: list[str], model: MambaLM = model) -> None:
            with Recorder(model, sites):
                model.backbone(x)

        def script(model: MambaLM = model) -> None:
            kept: list[Tensor] = []
            hooks = [
                block.register_forward_hook(lambda module, given, out: kept.append((out[0] + out[1]).clone()))
                for block in model.backbone.layers
            ]
            model.backbone(x)
            for hook in hooks:
                hook.remove()

        calls: dict[str, Callable[[], object]] = {
            "plain": lambda model=model: model.backbone(x),
            "all": lambda record=record: record(list(SITES)),
            "passing": lambda record=record: record([name for name in SITES if name not in RECOMPUTED]),
            "stream": lambda record=record: record(["resid_post"]),
            "script": script,
        }
        times = interleaved(calls, rounds=9)
        for name, words, goal in (
            ("all", "recording all sites", 1.03),
            (
                "passing",
                f"recording all but {' and '.join(RECOMPUTED)}, which are computed for the hook",
                None,
            ),
            ("stream", "recording resid_post", None),
            ("script", "a script with `register_forward_hook`", None),
        ):
            yield of(
                f"{NAMES[kind]}: {words}, against the plain pass", ratios(times, name, "plain"), goal=goal
            )


@torch.no_grad()
def decoding() -> Iterator[Row]:
    """Decoding every layer of one image against a pass over it."""
    for kind in NAMES:
        model = small(kind, layers=2, width=2560)
        x = torch.randn(1, IMAGE_TOKENS, 2560)
        lens = made_up_lens(layers=2, width=2560, patch=14, grid=(27, 27))
        states = torch.randn(2, 1, IMAGE_TOKENS, 2560)
        times = interleaved(
            {
                "pass": lambda model=model, x=x: model.backbone(x),
                "decode": lambda lens=lens, states=states: [lens.decode(states[i], i) for i in (0, 1)],
            },
            rounds=9,
        )
        yield of(
            f"{NAMES[kind]}, width 2560: decoding all layers of an image (ridge, 14-pixel patches), against its pass",
            ratios(times, "decode", "pass"), goal=0.10,
        )  # fmt: skip


def made_up_lens(*, layers: int, width: int, patch: int, grid: tuple[int, int]) -> RidgeLens:
    """A ridge lens of random weights."""
    info = LensInfo(
        kind="ridge", model_name="random", model_fingerprint="0" * 64, site="resid_post",
        layers=tuple(range(layers)), patch=patch, grid=grid, fitted_on="nothing", n_fit=1, n_heldout=0,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip
    size = 3 * patch * patch
    return RidgeLens(info=info, weight=torch.randn(layers, width, size), bias=torch.randn(layers, size))


def seeing(llm: MambaConfig) -> VLM:
    """A model of 729 image tokens on that language model; its encoder is tiny."""
    preset = PRESETS["tiny-cobra"]()
    towers = tuple(replace(tower, patch=14, image_size=384) for tower in preset.vision.towers)
    torch.manual_seed(0)
    return VLM(replace(preset, vision=replace(preset.vision, towers=towers), llm=llm)).eval()


@torch.no_grad()
def prefix() -> Iterator[Row]:
    """Six questions about one image, with and without sharing what was seen of it."""
    for kind in NAMES:
        vlm = seeing(
            MambaConfig(
                d_model=768, n_layer=8, vocab_size=1000, ssm=kind, d_state=16 if kind == "mamba1" else 128
            )
        )
        features = torch.randn(1, IMAGE_TOKENS, vlm.config.vision.width)
        draw = np.random.default_rng(0)
        prompts = [draw.integers(0, 1000, 20).tolist() for _ in range(6)]

        def each(vlm: VLM = vlm, features: Tensor = features, prompts: list = prompts) -> list:
            return [
                generate(vlm, None, [prompt], features=features, max_new_tokens=2, eos_id=None).ids[0]
                for prompt in prompts
            ]

        def shared(vlm: VLM = vlm, features: Tensor = features, prompts: list = prompts) -> list:
            seen = seen_images(vlm, features).select(torch.zeros(6, dtype=torch.long))
            return list(generate(vlm, None, prompts, prefix=seen, max_new_tokens=2, eos_id=None).ids)

        assert each() == shared(), "a shared image gave other answers"
        times = interleaved({"each": each, "shared": shared}, rounds=5)
        yield of(
            f"{NAMES[kind]}: six questions of 20 tokens about one image of {IMAGE_TOKENS}, each by itself against "
            "one shared image (equal answers)",
            ratios(times, "each", "shared"), goal=4.0, at_most=False,
        )  # fmt: skip


@torch.no_grad()
def generation() -> Iterator[Row]:
    """Greedy generation by the 130M models: our `generate` against theirs with its cache, and reading the weights."""
    for kind in NAMES:
        model, theirs = small(kind, layers=LAYERS, width=WIDTH, vocab=ROWS_OF_TABLE), _their_llm(kind)
        network = TextNetwork(model).eval()
        weights = torch.cat([weight.flatten() for weight in model.parameters()])
        for batch in (1, 8):
            ids = torch.randint(0, ROWS_OF_TABLE, (batch, PROMPT))

            def ours(ids: Tensor = ids, network: TextNetwork = network) -> None:
                generate(network, None, ids.tolist(), max_new_tokens=TOKENS, eos_id=None)

            def others(ids: Tensor = ids, theirs: Any = theirs) -> None:
                theirs.generate(
                    ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, min_new_tokens=TOKENS,
                    do_sample=False, pad_token_id=0,
                )  # fmt: skip

            def read(weights: Tensor = weights) -> None:
                for _ in range(TOKENS):
                    weights.sum()

            times = interleaved({"ours": ours, "theirs": others, "read": read}, rounds=7)
            rate = [TOKENS / seconds for seconds in times["ours"]]
            named = f"{NAMES[kind]} 130M, batch {batch}"
            yield of(
                f"{named}, `generate` of {TOKENS} tokens behind {PROMPT}: transformers' with its cache against ours",
                ratios(times, "theirs", "ours"), goal=2.0, at_most=False, note=f"{np.median(rate):.1f} steps a second",
            )  # fmt: skip
            yield of(
                f"{named}: of the speed at which the weights can be read once a token",
                ratios(times, "read", "ours"), goal=0.5, at_most=False,
            )  # fmt: skip


def _their_llm(kind: Kind) -> Any:
    """The 130M model of transformers."""
    from transformers import Mamba2Config, Mamba2ForCausalLM, MambaForCausalLM
    from transformers import MambaConfig as TheirConfig

    sizes: dict[str, Any] = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "vocab_size": ROWS_OF_TABLE}
    sizes |= {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    if kind == "mamba1":
        return MambaForCausalLM(TheirConfig(**sizes)).eval()
    heads = {"num_heads": 2 * WIDTH // 64, "head_dim": 64, "n_groups": 1, "state_size": 128}
    return Mamba2ForCausalLM(Mamba2Config(**sizes, **heads)).eval()


@torch.no_grad()
def length() -> Iterator[Row]:
    """Seconds of a pass against tokens: the worst residual of a line through them, of what the line says, by round."""
    for kind in NAMES:
        model = small(kind, layers=2)
        times = interleaved(
            {str(n): lambda n=n, model=model: model.backbone(torch.randn(1, n, WIDTH)) for n in LENGTHS},
            rounds=5, budget=60.0,
        )  # fmt: skip
        rounds = np.array([times[str(n)] for n in LENGTHS])
        slope, start, residuals = fitted(np.median(rounds, axis=1))
        shown = ", ".join(f"{n}: {r:+.1%}" for n, r in zip(LENGTHS, residuals, strict=True))
        yield of(
            f"{NAMES[kind]}, 2 layers, {LENGTHS[0]} … {LENGTHS[-1]} tokens: worst residual of a line "
            f"({1e6 * slope:.0f} µs a token {1e3 * start:+.1f} ms)",
            [float(np.abs(fitted(each)[2]).max()) for each in rounds.T], unit="of it", note=f"of the medians {shown}",
        )  # fmt: skip


def fitted(seconds: np.ndarray) -> tuple[float, float, np.ndarray]:
    """The line through the seconds of each of `LENGTHS`: a token's, a pass's, and the relative residuals.

    Relative residuals are made small: the longest pass would decide alone otherwise.
    """
    slope, start = np.polyfit(LENGTHS, seconds, 1, w=1 / seconds)
    return slope, start, seconds / (slope * np.array(LENGTHS) + start) - 1
