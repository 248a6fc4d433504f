"""What the stages of a family's member would need, before they are started."""

from emma_viz.models.meta import on_meta
from emma_viz.models.vlm import VLM
from training.loop.run import make_optimizer
from training.pocket.recipes import FamilyRecipe
from training.vision_language.dry_run import FP32, component_sizes, parameter_lines
from training.vision_language.forks import POOL
from training.vision_language.task import VisionLanguageTask

MIB = 2**20


def member_report(family: FamilyRecipe, member: str) -> str:
    """What the joint stage of a family's member would need, and the stages before it, as text."""
    config, recipe = family.members[member].model(), family.of_member(member)
    with on_meta():
        task = VisionLanguageTask(VLM(config, backend="torch"), recipe.objective)
    parts = component_sizes(task)
    trained, frozen = sum(part.trained for part in parts), sum(part.frozen for part in parts)
    optimizer = make_optimizer(task, recipe)
    # Muon keeps one number for each of its weights, AdamW two.
    moments = sum(p.numel() * (1 if g["muon"] else 2) for g in optimizer.param_groups for p in g["params"])
    figures = {
        "weights": (trained + frozen) * FP32,
        "gradients": trained * FP32,
        "optimizer": moments * FP32,
    }
    figures["in all"] = sum(figures.values())
    lines = [
        f"{member}, the joint stage by its family's recipe, fp32, 1 process",
        "",
        *parameter_lines(parts),
        "",
    ]
    lines += ["memory, MiB (activations and data come besides)"]
    lines += ["  " + "  ".join(f"{key} {value / MIB:.3g}" for key, value in figures.items()), ""]
    lines += [f"steps: {recipe.settings().steps:,}, on {family.scenes:,} drawn scenes"]
    tokens = 0
    for phase in recipe.phases:
        image = config.n_image_tokens // (POOL**2 if phase.pooled else 1)
        tokens += phase.length * phase.batch * image
        asked = "captions" if phase.captions else "questions"
        lines.append(
            f"  {phase.length:,} of {phase.batch} scenes × {image} image tokens, with {asked} about each"
        )
    return "\n".join([
        *lines,
        f"tokens: {tokens:,} image tokens in all; those of captions and questions come besides",
        f"before it, where the work folder has them not: encoder, {family.encoder.optimisation.steps:,} steps; text "
        f"({config.llm_backbone_id}), {family.text.optimisation.steps:,} steps",
    ])  # fmt: skip
