"""What a run would need, before it is started: parameters, memory for each device, steps and tokens."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from emma_viz.models.meta import on_meta
from emma_viz.models.vlm import VLM
from emma_viz.records.tables import RecordTable
from training.vision_language.plan import BatchPlan
from training.vision_language.recipe import Recipe
from training.vision_language.task import VisionLanguageTask

GIB = 2**30
FP32, BF16 = 4, 2
"""Bytes."""
MEASURED = 512
"""Tokens that one block is run over, on the meta device, to see what it keeps for the backward pass."""


@dataclass(frozen=True, kw_only=True)
class ComponentSize:
    """Parameters of one part of the model."""

    name: str
    trained: int
    frozen: int


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on one device.

    Attributes:
        weights: fp32 masters of what is trained, the frozen encoders, and working copies in the computing type.
        gradients: fp32; with FSDP2 also those that are whole for a while, in the computing type.
        optimizer: AdamW's two moments, fp32.
        activations: an estimate: what one part of a step keeps for its backward pass.
    """

    weights: float
    gradients: float
    optimizer: float
    activations: float

    @property
    def total(self) -> float:
        """All of it. Not in it: buffers of the communication library, fragmentation, the CUDA context."""
        return self.weights + self.gradients + self.optimizer + self.activations


def meta_task(recipe: Recipe) -> VisionLanguageTask:
    """The model and its head without memory."""
    with on_meta():
        return VisionLanguageTask(VLM(recipe.config(), backend="torch"), recipe.objective)


def component_sizes(task: VisionLanguageTask) -> list[ComponentSize]:
    """Parameters of each part, those of the tied head counted once."""
    parts: dict[str, nn.Module] = {f"encoder {kind}": tower for kind, tower in task.vlm.vision.towers.items()}
    parts |= {"projector": task.vlm.projector, "language model": task.vlm.llm}
    if task.head is not None:
        parts |= {"fusion": task.head.fusion, "decoder": task.head.decoder}
    found = []
    for name, part in parts.items():
        sizes = [(p.numel(), p.requires_grad) for p in part.parameters()]
        trained = sum(size for size, kept in sizes if kept)
        found.append(ComponentSize(name=name, trained=trained, frozen=sum(s for s, _ in sizes) - trained))
    return found


def memory(recipe: Recipe, task: VisionLanguageTask, *, world: int, sharded: bool, text: int) -> Memory:
    """Memory of one device.

    Args:
        recipe: of the run.
        task: from `meta_task`.
        world: processes, one a device.
        sharded: FSDP2; DDP otherwise.
        text: text tokens of a record.
    """
    parts = component_sizes(task)
    trained, frozen = sum(part.trained for part in parts), sum(part.frozen for part in parts)
    computing = BF16 if recipe.precision == "bf16" else FP32
    shards = world if sharded else 1
    # FSDP gathers one block at a time, and what lies outside the blocks for the whole step; autocast keeps a copy of
    # every weight that it has cast.
    blocks = sum(p.numel() for p in task.vlm.llm.backbone.layers.parameters())
    one = blocks // len(task.vlm.llm.backbone.layers)
    outside = trained - blocks
    gathered = (outside + 2 * one) if sharded else trained
    copies = gathered * computing if sharded or computing != FP32 else 0
    # A block's gradient is exchanged, in fp32, when it is there; what lies outside the blocks is at the end.
    whole = (outside + one) * computing + one * FP32 if sharded else 0
    return Memory(
        weights=trained * FP32 / shards + frozen * computing + copies,
        gradients=trained * FP32 / shards + whole,
        optimizer=2 * trained * FP32 / shards,
        activations=activations(recipe, task, text=text),
    )


def activations(recipe: Recipe, task: VisionLanguageTask, *, text: int) -> float:
    """Bytes that one part of a step keeps for its backward pass.

    One block, the projector, and the head are run on the meta device and what autograd saves is counted, with the
    torch kernels; compiled kernels keep less. The text loss keeps scores over the vocabulary in the computing type and
    in fp32, and their gradient.
    """
    config = task.vlm.config
    dtype = torch.bfloat16 if recipe.precision == "bf16" else torch.float32
    image, width = config.n_image_tokens, config.llm.d_model
    length, layers = image + text, config.llm.n_layer

    def empty(tokens: int, channels: int, kind: torch.dtype = dtype) -> Tensor:
        return torch.empty(1, tokens, channels, dtype=kind, device="meta", requires_grad=True)

    block = task.vlm.llm.backbone.layers[0].to(dtype)
    residual = torch.float32 if config.llm.residual_in_fp32 else dtype
    per_token = (
        saved_bytes(block, lambda: block(empty(MEASURED, width), empty(MEASURED, width, residual))) / MEASURED
    )
    if recipe.gradient_checkpointing:
        kept = layers * length * width * (dtype.itemsize + residual.itemsize) + per_token * length
    else:
        kept = layers * per_token * length
    projector = task.vlm.projector.to(dtype)
    kept += saved_bytes(projector, lambda: projector(empty(image, config.vision.width)))
    if (head := task.head) is not None:
        head.to(dtype)
        taps = [empty(image, width) for _ in range(head.config.n_taps)]
        kept += saved_bytes(head, lambda: head(taps))
    kept += text * config.llm.padded_vocab_size * (dtype.itemsize + 2 * FP32)
    return kept * recipe.micro


def saved_bytes(module: nn.Module, forward: Callable[[], object]) -> int:
    """Bytes that autograd keeps of a forward pass, the module's own parameters not counted."""
    # By storage: a linear layer keeps a transposed view of its weight.
    own = {p.untyped_storage()._cdata for p in module.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in own:
            kept[storage] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def report(
    recipe: Recipe,
    *,
    world: int,
    records: RecordTable | None = None,
    plan: BatchPlan | None = None,
) -> str:
    """The whole report as text.

    Args:
        recipe: of the run.
        world: processes.
        records: the data set's table; without one the text is taken to be as long as the model allows.
        plan: over those records.
    """
    task = meta_task(recipe)
    lines = [f"{recipe.model}, {recipe.precision}, {world} process{'es' if world > 1 else ''}", ""]
    lines += parameter_lines(component_sizes(task))
    config = task.vlm.config
    longest = config.max_length if records is None else int(records.columns["tokens"].max())
    lines += ["", f"memory of a device, GiB (records of {config.n_image_tokens} + {longest} tokens, "
              f"{recipe.micro} at once; activations are an estimate)"]  # fmt: skip
    for name, sharded in (("DDP", False), ("FSDP2", True)):
        found = memory(recipe, meta_task(recipe), world=world, sharded=sharded, text=longest)
        figures = {**asdict(found), "in all": found.total}
        lines.append(f"  {name:6}" + "  ".join(f"{key} {value / GIB:.3g}" for key, value in figures.items()))
    lines += ["", *_work(recipe, world, config.n_image_tokens, longest, records, plan)]
    return "\n".join(lines)


def parameter_lines(parts: Sequence[ComponentSize]) -> list[str]:
    """A table of them."""
    lines = [f"{'parameters':20}{'trained':>16}{'frozen':>16}"]
    lines += [f"  {part.name:18}{part.trained:>16,}{part.frozen:>16,}" for part in parts]
    trained, frozen = sum(part.trained for part in parts), sum(part.frozen for part in parts)
    return [*lines, f"  {'in all':18}{trained:>16,}{frozen:>16,}"]


def _work(
    recipe: Recipe,
    world: int,
    image: int,
    longest: int,
    records: RecordTable | None,
    plan: BatchPlan | None,
) -> list[str]:
    batch = recipe.phases[0].batch
    parts = -(-batch // (world * recipe.micro))
    lines = [f"a step: {batch} records = {world} processes × {parts} parts × at most {recipe.micro}"]
    if records is None or plan is None:
        return [
            *lines,
            f"tokens of a step: at most {batch * (image + longest):,}; pass --data for steps and tokens",
        ]
    steps = recipe.lasting(plan.steps_per_epoch).settings().steps
    tokens = int(records.columns["tokens"].sum()) + image * int(records.has_image.sum())
    share = steps / plan.steps_per_epoch
    return [
        *lines,
        f"data: {len(records):,} records, {int(records.has_image.sum()):,} with an image, "
        f"{len(records.broken)} left out",
        f"steps: {steps:,} ({share:.3g} epochs of {plan.steps_per_epoch:,})",
        f"tokens: about {tokens * share:,.0f} in all ({tokens:,} an epoch), "
        f"{tokens * share / steps / world:,.0f} a step and process",
    ]
