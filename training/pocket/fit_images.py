"""Write into lens files of bundled models which scenes they were fitted on; no weight is touched.

    python -m training.pocket.fit_images emma_viz/checkpoints/bundled

The scenes are drawn again. Each model's `config.json` has the digest of those that it was trained on, so a generator,
font or library that draws otherwise is noticed before anything is written.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from emma_viz.data.images import image_hash, read_image
from emma_viz.errors import TrainingError
from emma_viz.files.schema import Count, shape
from emma_viz.lens.files import rewrite_info
from emma_viz.lens.fitting.fit import kept_hashes
from emma_viz.lens.headers import SUFFIX, read_info
from training.loop.provenance import read_provenance
from training.pocket.over_bundle import run_over_bundle
from training.pocket.scenes import SCENES, SceneArrays, drawn_scenes


def name_fit_images(bundle: Path) -> list[Path]:
    """Give every lens of a bundle's models that was fitted on training scenes their hashes.

    Args:
        bundle: folder with a folder a model.

    Returns:
        The files that were written.

    Raises:
        TrainingError: the scenes are drawn otherwise today than when a model was trained.
        LensError: a lens file is damaged or cannot be written.
    """
    lenses = {
        path: info.n_fit
        for path in sorted(bundle.glob(f"*/*{SUFFIX}"))
        if (info := read_info(path)).fitted_on.startswith(SCENES)
    }
    trained = {path.parent: _data(path.parent) for path in lenses}
    scenes = drawn_scenes(
        "train", max([*lenses.values(), *(data.scenes for data in trained.values())], default=0)
    )
    for folder, data in trained.items():
        if (drawn := _first(scenes, data.scenes).digest) != data.digest:
            raise TrainingError(
                f"{folder} was trained on scenes with the digest {data.digest}; today the same {data.scenes} have "
                f"{drawn}. Use the fonts and the libraries that it was trained with."
            )
    hashes = [image_hash(read_image(scene)) for scene in scenes.images]
    for path, count in lenses.items():
        rewrite_info(path, fit_images=kept_hashes(hashes[:count]))
    return list(lenses)


@dataclass(frozen=True, kw_only=True)
class _TrainedOn:
    scenes: Count
    digest: str


def _data(folder: Path) -> _TrainedOn:
    """How many scenes a model was trained on, and their digest."""
    where = folder / "config.json"
    data = read_provenance(where).data
    return shape(data, _TrainedOn, where=f"{where}: `data`", error=TrainingError, spare=True)


def _first(scenes: SceneArrays, count: int) -> SceneArrays:
    parts = ("images", "kinds", "colours", "centers")
    return SceneArrays(split=scenes.split, **{name: getattr(scenes, name)[:count] for name in parts})


def main(argv: list[str] | None = None) -> int:
    """The command."""
    return run_over_bundle(name_fit_images, argv, module="training.pocket.fit_images", about=__doc__)


if __name__ == "__main__":
    sys.exit(main())
