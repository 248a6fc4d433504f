"""Training a vision-language model on a LLaVA data set, on one process or many."""

import logging
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from emma_viz.checkpoints.save import save_vision_encoder
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.errors import TrainingError
from emma_viz.files.schema import Size, require_ranges
from emma_viz.models.config import VLMConfig
from emma_viz.models.vlm import VLM
from emma_viz.records.complaints import Complaints
from emma_viz.records.tables import RecordTable, TextRules, open_records
from training.loop.checkpoints import require_same_run
from training.loop.config import Optimisation, as_record
from training.loop.distribution import AcceleratedEngine, Engine
from training.loop.prefetch import Prefetcher
from training.loop.provenance import commit, written_now
from training.loop.run import Part, Run
from training.vision_language.batch import TrainingBatch, moved
from training.vision_language.batches import BatchShare, ShareMaker
from training.vision_language.feature_cache import feature_cache_of, fill_cache
from training.vision_language.finish import ENCODER_FILE, Finished, write_model
from training.vision_language.official import VisionLanguageRecipe
from training.vision_language.plan import BatchPlan
from training.vision_language.start import Start, described, first_weights, weights_identity
from training.vision_language.task import VisionLanguageTask

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Data:
    """The data of a run and how it is prepared."""

    records: Path
    """LLaVA JSON or JSONL."""
    images: Path
    """Folder that the records' images are relative to."""
    feature_cache: Path | None = None
    """Folder for the frozen encoders' features, which several runs may share; None: they are computed each time."""
    workers: Annotated[int, msgspec.Meta(ge=0, le=256)] = 2
    """Background threads that prepare batches."""
    ahead: Size = 4
    """Steps that are prepared ahead."""

    def __post_init__(self):
        require_ranges(self, error=TrainingError, options={})
        if not self.images.is_dir():
            raise TrainingError(
                f"There is no folder {self.images}; say where the images are (--images FOLDER)."
            )


def train_vision_language(
    recipe: VisionLanguageRecipe, start: Start, data: Data, folder: Path, *, progress: bool = True
) -> Path:
    """Train, from the newest checkpoint in `folder` when there is one, and write the model.

    Args:
        recipe: model, losses, schedule.
        start: the first weights.
        data: what is learned from.
        folder: for tables, checkpoints, metrics, and the result in `folder/model`.
        progress: whether to show bars.

    Returns:
        The run directory of the trained model.

    Raises:
        TrainingError: the data cannot be used, or the run cannot go on; see `Run.train`.
        CheckpointError: a source of weights cannot be read.
    """
    engine = AcceleratedEngine(precision=recipe.precision)
    try:
        return _train_on(engine, recipe, start, data, folder, progress=progress)
    finally:
        engine.close()


def _train_on(
    engine: AcceleratedEngine,
    recipe: VisionLanguageRecipe,
    start: Start,
    data: Data,
    folder: Path,
    *,
    progress: bool,
) -> Path:
    config, tokenizer = described(recipe, start)
    rules = rules_of(config, tokenizer)
    with main_first(engine):
        records = read_table(
            recipe, data, rules, folder, progress=progress and engine.main, look_again=engine.main
        )
    held_out, plan = split(recipe, records)
    settings = recipe.optimisation(plan.steps_per_epoch)
    identity = {**settings.identity(), **_identity(recipe, records)}
    require_same_run(folder, identity)
    vlm = first_weights(recipe, start, config)
    begun, words = weights_identity(vlm, start)
    identity |= begun
    require_same_run(folder, identity, words)
    task = VisionLanguageTask(vlm, recipe.objective)
    encoder = _own_encoder(vlm, start, folder, engine)
    complaints = Complaints(recipe.broken_limit, where=str(data.records))
    maker = _share_maker(recipe, data, records, plan, rules, task, engine, complaints, progress=progress)
    engine.unused, engine.frozen = plan.mixed, (task.vlm.vision,)
    run = Run(
        task,
        settings,
        folder,
        title=recipe.model,
        engine=engine,
        identity=identity,
        words=words,
        tensorboard=True,
    )
    minutes = _train(run, maker, data, settings, progress=progress)
    state = engine.whole_state(run.inner)
    finished = Finished(
        recipe=recipe,
        config=vlm.config,
        state=state,
        tokenizer=tokenizer,
        records=records,
        held_out=tuple(records.image_path(row) for row in held_out),
        encoder=encoder,
        provenance=_provenance(recipe, start, data, records, complaints, settings, minutes, engine.world),
    )
    with main_first(engine):
        if engine.main:
            write_model(finished, folder / "model", device=engine.device)
    return folder / "model"


def rules_of(config: VLMConfig, tokenizer: Tokenizer) -> TextRules:
    """How a model's conversations become tokens."""
    return TextRules(tokenizer=tokenizer, style=config.prompt_style, max_length=config.max_length)


def read_table(
    recipe: VisionLanguageRecipe,
    data: Data,
    rules: TextRules,
    folder: Path,
    *,
    progress: bool,
    look_again: bool = True,
) -> RecordTable:
    """The table of a run's records, made or read; see `open_records`."""
    with tqdm(desc=f"read {data.records.name}", unit=" records", disable=not progress) as bar:
        return open_records(
            data.records,
            data.images,
            rules,
            folder / "data",
            broken_limit=recipe.broken_limit,
            on_record=bar.update,
            look_again=look_again,
        )


def split(recipe: VisionLanguageRecipe, records: RecordTable) -> tuple[np.ndarray, BatchPlan]:
    """Rows whose images are held out, and the plan over the records that have none of those images.

    Raises:
        TrainingError: nothing is left to train on.
    """
    first = records.first_of_each_image()
    wanted = recipe.held_out if recipe.objective.pixels != "none" else 0
    if wanted and wanted >= len(first):
        raise TrainingError(
            f"{wanted} images are to be held out and {records.path} has {len(first)}; hold out fewer (--held-out)."
        )
    held_out = np.sort(np.random.default_rng([recipe.seed, 2]).choice(first, wanted, replace=False))
    rows = records.without_images_of(held_out) if wanted else np.arange(len(records))
    columns = records.columns
    plan = BatchPlan(
        rows, columns["tokens"][rows], columns["image"][rows] != 0, batch=recipe.batch, seed=recipe.seed
    )
    return held_out, plan


@contextmanager
def main_first(engine: Engine) -> Generator[None]:
    """The main process goes through a block before the others do."""
    if not engine.main:
        engine.wait()
    yield
    if engine.main:
        engine.wait()


def _own_encoder(vlm: VLM, start: Start, folder: Path, engine: Engine) -> Path | None:
    """Keep encoders that can be had nowhere else; None when the model's usual ones are used."""
    if start.vision is None:
        return None
    path = folder / "model" / ENCODER_FILE
    if engine.main:
        save_vision_encoder(path, vlm.vision)
    return path


def _share_maker(
    recipe: VisionLanguageRecipe,
    data: Data,
    records: RecordTable,
    plan: BatchPlan,
    rules: TextRules,
    task: VisionLanguageTask,
    engine: AcceleratedEngine,
    complaints: Complaints,
    *,
    progress: bool,
) -> ShareMaker:
    """What prepares batches; fills the feature cache first when there is one."""
    cache = None
    if data.feature_cache is not None:
        cache = feature_cache_of(task.vlm, data.feature_cache)
        rows = records.first_of_each_image()[engine.rank :: engine.world]
        paths = [records.image_path(row) for row in rows]
        autocast = torch.bfloat16 if recipe.precision == "bf16" else None
        task.vlm.vision.to(engine.device)
        fill_cache(cache, task.vlm, paths, autocast=autocast, progress=progress and engine.main)
        engine.wait()
        # Not needed again, and large at full size.
        task.vlm.vision = nn.Module()  # ty: ignore[invalid-assignment]
    return ShareMaker(
        records=records,
        plan=plan,
        rules=rules,
        config=task.vlm.config,
        rank=engine.rank,
        world=engine.world,
        micro=recipe.micro,
        patches=task.head is not None and not recipe.objective.features,
        cache=cache,
        complaints=complaints,
    )


def _train(run: Run, maker: ShareMaker, data: Data, settings: Optimisation, *, progress: bool) -> float:
    """Take all steps that are left; returns minutes."""
    engine = run.engine
    steps = range(run.first, settings.steps)
    with Prefetcher(maker.share_of, steps, ahead=data.ahead, workers=data.workers) as shares:

        def parts_of_step(step: int) -> Sequence[Part]:
            before = shares.waited
            share = next(shares)
            waited = (shares.waited - before) / engine.world
            return parts_of_share(run.module, share, engine, waited=waited)

        return run.train(parts_of_step, progress=progress)


def parts_of_share(
    module: nn.Module, share: BatchShare, engine: Engine, *, waited: float = 0.0
) -> list[Part]:
    """The computations of one process's share of a step."""
    totals = engine.total({"labels": float(share.labels), "images": float(share.images)})
    labels, images = max(1.0, totals["labels"]), totals["images"]

    def compute(batch: TrainingBatch, extra: dict[str, float]) -> Any:
        loss, numbers = module(moved(batch, engine.device), labels=labels, images=images)
        return loss, {**numbers, **extra}

    extras: list[dict[str, float]] = [{} for _ in share.parts]
    extras[0] = {"tokens": float(share.tokens), "waited": waited}
    return [partial(compute, batch, extra) for batch, extra in zip(share.parts, extras, strict=True)]


def _identity(recipe: VisionLanguageRecipe, records: RecordTable) -> dict[str, Any]:
    """What a run must share with the one whose checkpoint it resumes from, besides weights and settings."""
    return {
        "model": recipe.model,
        "data": f"{records.digest} ({len(records)} records, {len(records.broken)} left out)",
        "objective": as_record(recipe.objective),
        "held out": recipe.held_out,
        "precision": recipe.precision,
    }


def _provenance(
    recipe: VisionLanguageRecipe,
    start: Start,
    data: Data,
    records: RecordTable,
    complaints: Complaints,
    settings: Optimisation,
    minutes: float,
    world: int,
) -> dict[str, Any]:
    """The record that config.json keeps."""
    return written_now(
        command="python -m training.train joint",
        seed=recipe.seed,
        joint={**as_record(recipe), "optimisation": as_record(settings)},
        minutes={"joint": round(minutes, 2)},
        trained_at={"joint": commit()},
        start={"llm": str(start.llm), "init": str(start.init), "vision": str(start.vision)},
        data={
            "file": data.records.name,
            "records": len(records),
            "digest": records.digest,
            "left out": len(records.broken),
            "unreadable images met": len(complaints),
        },
        processes=world,
    )
