"""Parameters, time and memory of each component of a model: the protocol of the EMMA paper's Table 7."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from emma_viz.checkpoints import LoadedModel
from emma_viz.checkpoints.peers import PeerModel
from emma_viz.errors import LensError
from emma_viz.heads.attention import CrossAttention
from emma_viz.heads.head import Head, build_head
from emma_viz.lens import load_lens
from emma_viz.lens.native import NativeLens
from emma_viz.models.peers.entered import language_model
from emma_viz.models.peers.network import PeerNetwork
from emma_viz.progress import Progress
from emma_viz.session.benchmarks.tables import Cell, Interval, Table
from emma_viz.session.benchmarks.timing import (
    LATENCY_PROMPT,
    WARM_UP,
    device_of,
    repeated,
    require_counts,
    what_is_shown,
    where_it_runs,
)
from emma_viz.session.catalogue import head_sizes
from emma_viz.session.loading import free, load, require_loadable
from emma_viz.session.options import Running
from emma_viz.session.papers import components_note, printed_parameters

_MIB = 2**20
_VIT, _PROJECTOR, _LLM = "vision encoders (ViT)", "projector", "language model (LLM)"
_MFF, _CA, _DECODER = "feature fusion (MFF)", "cross-attention (CA), part of MFF", "pixel decoder"
_SHORT = {_VIT: "ViT", _PROJECTOR: "projector", _LLM: "LLM", _MFF: "MFF", _CA: "CA", _DECODER: "decoder"}
"""What Table 7 calls them."""
_PROJECTING = re.compile("project|connector|merger")
"""In the names of modules of transformers that bring the image to the language model's width."""


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One component."""

    name: str
    weights: tuple[Tensor, ...]
    """Its parameters, each once."""
    do: Callable[[], object]
    """What is timed."""
    note: str = ""


def component_costs(
    models: Sequence[str | Path | LoadedModel],
    *,
    image: Path | None = None,
    repeats: int = 20,
    running: Running = Running(),
    progress: Progress | None = None,
) -> Table:
    """Table 7: parameters, time and memory of each component, for one image and LATENCY_PROMPT.

    Fusion and decoder are those of the model's native lens, or of its form with random weights, which take as long.
    The modules of a model that transformers' own class runs are timed with what that class gives them.

    Args:
        models: loaded, or as `run_benchmark` takes them.
        image: what is shown; a drawn scene when None.
        repeats: passes that are timed, after WARM_UP that are not.
        running: how the models are loaded.
        progress: called as passes are made.

    Raises:
        InputError: `repeats` is below 1, or the image cannot be used.
        EmmaVizError: a model cannot be loaded.
    """
    require_counts(repeats=repeats)
    shown = what_is_shown(image)
    for source in models:
        require_loadable(source, running)
    rows: list[tuple[Cell, ...]] = []
    said: list[str] = []
    for source in models:
        model = load(source, running, progress)
        rows += _rows(model, shown, repeats, progress)
        said += [f"{model.name}: {note}." for note in model.notes]
        del model
        free(source)
    return Table(
        name="components",
        title="Parameters, time and memory of each component",
        columns=(
            "model",
            "where",
            "component",
            "parameters",
            "in the paper",
            "time (ms)",
            "weights (MiB)",
            "peak beside them (MiB)",
            "note",
        ),
        rows=tuple(rows),
        notes=(
            f"One image, “{LATENCY_PROMPT}”, one pass without an answer, after {WARM_UP} that are not timed. "
            "Memory beside the weights is measured on CUDA alone.",
            components_note(),
            *said,
        ),
    )


def _rows(
    model: LoadedModel, shown: Image.Image, repeats: int, progress: Progress | None
) -> list[tuple[Cell, ...]]:
    """The lines of one model."""
    theirs = isinstance(model, PeerModel)
    found = []
    for part in _peer_parts(model.peer, shown) if theirs else _parts(model, shown):
        printed = None if theirs else printed_parameters(model.config, _SHORT.get(part.name, ""))
        count = sum(each.numel() for each in part.weights)
        held = Interval(value=sum(each.numel() * each.element_size() for each in part.weights) / _MIB)
        times, peak = _measured(part, device_of(model), repeats, progress, model.name)
        found.append(
            (model.name, where_it_runs(model), part.name, count, printed, times, held, peak, part.note)
        )
    return found


def _measured(
    part: _Part, device: torch.device, repeats: int, progress: Progress | None, of: str
) -> tuple[Interval, Interval | None]:
    """Milliseconds of a component, and its peak of memory beside what was held before."""
    what = f"timing {of}: {part.name}"
    if device.type != "cuda":
        return repeated(part.do, repeats, device, progress, what).interval(1000.0), None
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    times = repeated(part.do, repeats, device, progress, what).interval(1000.0)
    return times, Interval(value=(torch.cuda.max_memory_allocated(device) - before) / _MIB)


@torch.no_grad()
def _parts(model: LoadedModel, shown: Image.Image) -> Iterator[_Part]:
    """The components of a model of this package."""
    vlm = model.vlm
    pixels = [each.to(vlm.device) for each in model.transform.pixels([shown])]
    features = vlm.vision(pixels)
    told = vlm.instruct([LATENCY_PROMPT])
    text = vlm.vision.read(told)
    tokens = vlm.projector(features, text)
    ids = torch.tensor([model.tokenizer.encode(model.prompt(LATENCY_PROMPT))], device=vlm.device)
    sequence = torch.cat([tokens, vlm.llm.embed(ids).to(tokens.dtype)], dim=1)
    yield _Part(name=_VIT, weights=_weights(vlm.vision), do=lambda: vlm.vision(pixels))
    if vlm.vision.text is not None:
        weights = _weights(vlm.vision.text)
        yield _Part(
            name="instruction encoder, part of ViT", weights=weights, do=lambda: vlm.vision.read(told)
        )
    yield _Part(name=_PROJECTOR, weights=_weights(vlm.projector), do=lambda: vlm.projector(features, text))
    yield _Part(name=_LLM, weights=_weights(vlm.llm), do=lambda: vlm.states(sequence))
    head, note = _head(model)
    if head is None:
        return
    kind = next(head.parameters())
    taps = [tokens.to(kind.device, kind.dtype)] * head.config.n_taps
    yield _Part(name=_MFF, weights=_weights(head.fusion), do=lambda: head.fusion(taps), note=note)
    attentions = [each for each in head.fusion.modules() if isinstance(each, CrossAttention)]
    if attentions:
        again = _again(attentions, lambda: head.fusion(taps))
        yield _Part(name=_CA, weights=_weights(*attentions), do=again, note=note)
    fused = head.fusion(taps)
    yield _Part(name=_DECODER, weights=_weights(head.decoder), do=lambda: head.decoder(fused), note=note)


@torch.no_grad()
def _peer_parts(peer: PeerNetwork, shown: Image.Image) -> Iterator[_Part]:
    """The components of a model that transformers' own class runs: the modules beside its language model."""
    given = peer.inputs(shown, LATENCY_PROMPT).given

    def whole() -> object:
        return peer.network(**given, logits_to_keep=1, use_cache=False)

    blocks, loose = language_model(peer), []
    found: dict[str, list[tuple[str, nn.Module]]] = {_VIT: [], _PROJECTOR: [], _LLM: [("", blocks)]}
    above: nn.Module = peer.network
    while above is not blocks:
        loose += above.parameters(recurse=False)
        inner = next(each for each in above.children() if any(part is blocks for part in each.modules()))
        for name, each in above.named_children():
            if each is not inner and any(True for _ in each.parameters()):
                head = each is peer.network.get_output_embeddings()  # ty: ignore[not-callable]
                found[_LLM if head else _PROJECTOR if _PROJECTING.search(name) else _VIT].append((name, each))
        above = inner
    for role, named in found.items():
        # The output layer reads one token; the language model is timed without it, as ours is.
        timed = [blocks] if role == _LLM else [each for _, each in named]
        weights = (*_weights(*(each for _, each in named)), *(loose if role == _PROJECTOR else ()))
        if weights:
            note = "" if role == _LLM else ", ".join(name for name, _ in named)
            yield _Part(name=role, weights=weights, do=_again(timed, whole), note=note)
    merging = [each for _, vit in found[_VIT] for name, each in vit.named_children() if name == "merger"]
    if merging:
        yield _Part(name=f"{_PROJECTOR}, part of ViT", weights=_weights(*merging), do=_again(merging, whole),
                    note="merger")  # fmt: skip


def _weights(*modules: nn.Module) -> tuple[Tensor, ...]:
    """The parameters of some modules, each once."""
    return tuple({id(each): each for module in modules for each in module.parameters()}.values())


def _again(modules: Iterable[nn.Module], do: Callable[[], object]) -> Callable[[], object]:
    """What calls modules again with all that they were given when something was done."""
    found: list[tuple[nn.Module, tuple[Any, ...], dict[str, Any]]] = []
    hooks = [
        each.register_forward_pre_hook(lambda *call: found.append(call), with_kwargs=True) for each in modules
    ]
    try:
        do()
    finally:
        for hook in hooks:
            hook.remove()
    return lambda: [module(*given, **named) for module, given, named in found]


def _head(model: LoadedModel) -> tuple[Head | None, str]:
    """The fusion and decoder of a model, on its device; None for one that was trained without."""
    if model.config.lens_form is None:
        return None, ""
    device = model.vlm.device
    try:
        lens = load_lens(model, "native")
    except LensError:
        lens = None
    if isinstance(lens, NativeLens):
        return lens.head.to(device), "of the native lens"
    sizes = head_sizes(model.config)
    if sizes is None:
        return None, ""
    weight = model.vlm.llm.backbone.embedding.weight
    return build_head(sizes).to(device, weight.dtype).eval(), "random weights: there is no native lens"
