"""The steps of a run, whatever its data is: what a step is given is a function of its number."""

from collections.abc import Callable, Sequence

from training.loop.prefetch import Prefetcher
from training.loop.run import OnCheckpoint, Part, Run
from training.vision_language.batch import BatchShare


def take_steps(
    run: Run,
    share_of: Callable[[int], BatchShare],
    *,
    ahead: int = 1,
    workers: int = 0,
    progress: bool = True,
    on_checkpoint: OnCheckpoint | None = None,
) -> float:
    """Take all steps that are left.

    Args:
        run: of a `VisionLanguageTask`.
        share_of: step → what this process computes in it; called from several threads when there are workers.
        ahead: steps that are prepared ahead.
        workers: threads that do so; 0: a batch is made inside its step.
        progress: whether to show a bar.
        on_checkpoint: as in `Run.train`.

    Returns:
        Minutes of training, those before a resumption included.

    Raises:
        TrainingError: as `Run.train`.
    """
    steps = range(run.first, run.settings.steps)
    with Prefetcher(share_of, steps, ahead=ahead, workers=workers) as shares:

        def parts_of_step(_: int) -> Sequence[Part]:
            return next(shares).losses(run.module, run.engine)

        return run.train(
            parts_of_step,
            progress=progress,
            on_checkpoint=on_checkpoint,
            waited=lambda: shares.waited,
        )
