"""Training a vision-language model on a LLaVA data set, on one process or many."""

import logging
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import torch
from PIL import Image
from torch import nn
from tqdm import tqdm

from emma_viz.checkpoints.save import save_vision_encoder
from emma_viz.data.images import read_image
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.errors import ImageError, RecordError, TrainingError
from emma_viz.files.schema import Count, Size, require_ranges
from emma_viz.models.config import VLMConfig
from emma_viz.models.vlm import VLM
from emma_viz.records.complaints import Complaints
from emma_viz.records.tables import RecordTable, TextRules, open_records
from training.loop.checkpoints import require_same_run
from training.loop.distribution import AcceleratedEngine, Engine
from training.loop.provenance import commit, written_now
from training.loop.run import Run
from training.vision_language.batches import ShareMaker
from training.vision_language.feature_cache import feature_cache_of, fill_cache
from training.vision_language.finish import ENCODER_FILE, Finished, write_model
from training.vision_language.plan import BatchPlan
from training.vision_language.recipe import Recipe
from training.vision_language.start import Start, described, first_weights, weights_identity
from training.vision_language.steps import take_steps
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
    held_out: Count = 64
    """Images kept from training, on which the trained decoder is measured as a lens; their records are left out."""
    broken_limit: Count = 100
    """Records that may be skipped because they cannot be used."""

    def __post_init__(self):
        require_ranges(self, error=TrainingError, options={})
        if not self.images.is_dir():
            raise TrainingError(
                f"There is no folder {self.images}; say where the images are (--images FOLDER)."
            )


def train_vision_language(
    recipe: Recipe, start: Start, data: Data, folder: Path, *, progress: bool = True
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
    recipe: Recipe,
    start: Start,
    data: Data,
    folder: Path,
    *,
    progress: bool,
) -> Path:
    config, tokenizer = described(recipe, start)
    rules = rules_of(config, tokenizer)
    with main_first(engine):
        records = read_table(data, rules, folder, progress=progress and engine.main, look_again=engine.main)
    held_out, plan = split(recipe, data, records)
    recipe = recipe.lasting(plan.steps_per_epoch)
    settings = recipe.settings()
    identity = {**settings.identity(), **recipe.identity(), **_identity(data, records)}
    require_same_run(folder, identity)
    vlm = first_weights(recipe, start, config)
    begun, words = weights_identity(vlm, start)
    identity |= begun
    require_same_run(folder, identity, words)
    task = VisionLanguageTask(vlm, recipe.objective)
    encoder = _own_encoder(vlm, start, folder, engine)
    complaints = Complaints(data.broken_limit, where=str(data.records))
    maker = _share_maker(recipe, data, records, plan, rules, task, engine, complaints, progress=progress)
    engine.unused, engine.frozen = plan.partial, (task.vlm.vision,)
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
    minutes = take_steps(run, maker.share_of, ahead=data.ahead, workers=data.workers, progress=progress)
    finished = Finished(
        config=vlm.config,
        objective=recipe.objective,
        state=engine.whole_state(run.inner),
        dtype=torch.bfloat16 if recipe.precision == "bf16" else torch.float32,
        images=partial(readable_images, records, held_out),
        said=data.records.name,
        n_fit=len(records.first_of_each_image()) - len(held_out),
        held_out=[records.image_path(row) for row in held_out],
        tokenizer=tokenizer,
        sources={"vision_source": encoder},
        provenance=_provenance(recipe, start, data, records, complaints, minutes, engine.world),
    )
    with main_first(engine):
        if engine.main:
            write_model(finished, folder / "model", device=engine.device)
    return folder / "model"


def rules_of(config: VLMConfig, tokenizer: Tokenizer) -> TextRules:
    """How a model's conversations become tokens."""
    return TextRules(tokenizer=tokenizer, style=config.prompt_style, max_length=config.max_length)


def read_table(
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
            broken_limit=data.broken_limit,
            on_record=bar.update,
            look_again=look_again,
        )


def split(recipe: Recipe, data: Data, records: RecordTable) -> tuple[np.ndarray, BatchPlan]:
    """Rows whose images are held out, and the plan over the records that have none of those images.

    Raises:
        TrainingError: nothing is left to train on, or the recipe has phases that records do not.
    """
    phase = recipe.phases[0]
    if len(recipe.phases) > 1 or phase.captions or phase.pooled:
        raise TrainingError(
            f"Records are trained on as they are, in one phase; the recipe of {recipe.model} has {recipe.phases}."
        )
    first = records.first_of_each_image()
    wanted = data.held_out if recipe.objective.pixels != "none" else 0
    if wanted and wanted >= len(first):
        raise TrainingError(
            f"{wanted} images are to be held out and {records.path} has {len(first)}; hold out fewer (--held-out)."
        )
    held_out = np.sort(np.random.default_rng([recipe.seed, 2]).choice(first, wanted, replace=False))
    rows = records.without_images_of(held_out) if wanted else np.arange(len(records))
    columns = records.columns
    plan = BatchPlan(
        rows, columns["tokens"][rows], columns["image"][rows] != 0, batch=phase.batch, seed=recipe.seed
    )
    return held_out, plan


def readable_images(records: RecordTable, left_out: np.ndarray) -> Iterator[Image.Image]:
    """The images of records, without those of some rows and those that cannot be read, which are named in the log."""
    for row in np.setdiff1d(records.first_of_each_image(), left_out):
        try:
            yield read_image(records.image_path(row))
        except (ImageError, RecordError) as error:
            logger.warning("not looked at: %s", error)


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
    recipe: Recipe,
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
        autocast = torch.bfloat16 if recipe.precision == "bf16" else None
        cache = feature_cache_of(task.vlm, data.feature_cache, autocast=autocast)
        rows = records.first_of_each_image()[engine.rank :: engine.world]
        paths = [records.image_path(row) for row in rows]
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


def _identity(data: Data, records: RecordTable) -> dict[str, Any]:
    """What a run must share with the one whose checkpoint it resumes from, besides weights and recipe."""
    return {
        "data": f"{records.digest} ({len(records)} records, {len(records.broken)} left out)",
        "held out": data.held_out,
    }


def _provenance(
    recipe: Recipe,
    start: Start,
    data: Data,
    records: RecordTable,
    complaints: Complaints,
    minutes: float,
    world: int,
) -> dict[str, Any]:
    """The record that config.json keeps."""
    return written_now(
        command="python -m training.train joint",
        seed=recipe.seed,
        joint=recipe.record(),
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
