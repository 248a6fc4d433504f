"""Lenses for models that came without one: fitted, and kept where they are found again."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from emma_viz.capture.sites import site_layers
from emma_viz.checkpoints import BUNDLED, FoundModel, LoadedModel
from emma_viz.data.provenance import ModelInfo
from emma_viz.errors import InputError, LensError
from emma_viz.files.room import require_writable
from emma_viz.lens.files import save_lens
from emma_viz.lens.fitting.states import require_patches_of
from emma_viz.lens.headers import read_info
from emma_viz.lens.info import LensInfo
from emma_viz.lens.places import find_lens, lens_cache, lens_name
from emma_viz.lens.ridge import RidgeLens
from emma_viz.progress import Progress
from emma_viz.session.fitting.fits import fit_lens, require_untrained
from emma_viz.session.fitting.images import FitImages, choose_images
from emma_viz.session.loading import load, require_loadable
from emma_viz.session.options import LensRecipe, Running


def fit_and_keep(
    model: LoadedModel,
    recipe: LensRecipe,
    data: Any,
    out: Path,
    *,
    images: Path | None = None,
    chosen: FitImages | None = None,
    untrained: int = 0,
    progress: Progress | None = None,
) -> RidgeLens:
    """Fit a ridge lens on as many of the recipe's images as there are, and write it: before the untrained models, and
    again with what they say.

    Args:
        model: the frozen model.
        recipe: how.
        data: as for `choose_images`.
        out: the lens file; folders above it are made.
        images: as for `choose_images`.
        chosen: the images, if they were chosen already.
        untrained: as for `fit_lens`.
        progress: called as progress(done, total, what), once a batch.

    Raises:
        TrainingError: there are too few images.
        LensError: the lens cannot be fitted or written.
    """
    chosen = chosen or choose_images(data, images, recipe, fewer=True)
    each = (len(chosen.fit) + len(chosen.held_out)) * passes(recipe, model.info)
    total, done = each * (1 + untrained), 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total, f"fitting a {recipe.kind} lens of {model.name}")

    lens = fit_lens(
        model,
        recipe,
        list(chosen.fit.values()),
        list(chosen.held_out.values()),
        fitted_on=f"{Path(str(data)).name} ({len(chosen.fit)} of its images)",
        untrained=untrained,
        keep=lambda lens: save_lens(lens, out),
        progress=tell,
    )
    save_lens(lens, out)
    return lens


def fit_for(
    source: str | Path,
    recipe: LensRecipe,
    data: Any,
    *,
    out: Path | None = None,
    images: Path | None = None,
    untrained: int = 0,
    running: Running = Running(),
    say: Callable[[str], None] = lambda text: None,
    progress: Progress | None = None,
) -> tuple[RidgeLens, Path]:
    """Fit a ridge lens for a model by its name, and keep it.

    What can be refused is refused before the model is loaded.

    Args:
        source: a bundled or preset name, run directory, hub id or file.
        recipe: how.
        data: as for `choose_images`.
        out: the lens file; None: where the model's lenses are found.
        images: as for `choose_images`.
        untrained: as for `fit_lens`.
        running: how the model is loaded.
        say: called with what the fit takes.
        progress: called as progress(done, total, what).

    Returns:
        The lens and its file.

    Raises:
        InputError: there is such a lens already and `out` is None, or there is no image.
        TrainingError: there are too few images.
        LensError: the lens cannot be fitted or written.
        CheckpointError: there is no such model.
    """
    require_untrained(untrained)
    place = place_of(source, running, recipe.kind, out)
    config, found = require_loadable(source, running)
    require_patches_of(config, found.info.name)
    chosen = choose_images(data, images, recipe, fewer=True)
    say(
        f"{source}: {len(chosen.fit)} images to fit on and {len(chosen.held_out)} to measure on, each read "
        f"{passes(recipe, found.info) * (1 + untrained)}× by the model"
        + (f"; {place} is there before the untrained models are fitted" if untrained else "")
    )
    model = load(source, running, progress)
    return fit_and_keep(
        model, recipe, data, place, chosen=chosen, untrained=untrained, progress=progress
    ), place


def place_of(source: str | Path, running: Running, kind: str, out: Path | None) -> Path:
    """The file of a lens that is to be fitted, after it was made sure that it can be written.

    Raises:
        InputError: there is such a lens already and `out` is None.
        LensError: it cannot be written.
        CheckpointError: there is no such model.
    """
    if out is None:
        return lens_place(require_loadable(source, running)[1], kind)
    require_writable(out, parents=True, error=LensError)
    return out


def quality_table(info: LensInfo) -> str:
    """The quality on held-out images per layer, and whether it beats its controls, as text."""
    said = info.verdicts([each.layer for each in info.quality])
    lines = [f"{'layer':>6}{'R²':>9}{'PSNR':>8}{'SSIM':>8}"]
    lines += [
        f"{each.layer:>6}{each.r2:>9.4f}{each.psnr:>8.2f}{each.ssim:>8.3f}  {verdict.said}"
        for each, verdict in zip(info.quality, said, strict=True)
    ]
    return "\n".join(lines)


def passes(recipe: LensRecipe, model: ModelInfo) -> int:
    """How often a model reads each image for a ridge lens.

    Raises:
        SiteError: the model has no such layer.
    """
    asked = range(-1, model.n_layer) if recipe.layers is None else sorted(recipe.layers)
    layers = len(site_layers(recipe.site, tuple(asked), model.n_layer, model.mixer_layers))
    return -(-layers // (recipe.layers_per_pass or layers))


def lens_place(model: LoadedModel | FoundModel, kind: str, *, taken: Collection[Path] = ()) -> Path:
    """Where a lens of a model is kept, to be found by its fingerprint: in the model's folder if that is the user's own
    and can be written, else in the cache.

    Args:
        model: whose lens it is.
        kind: of lens.
        taken: places that lenses of others will have.

    Raises:
        InputError: there is a lens of that kind already, or a lens of others has its place.
        LensError: neither place can be written.
    """
    try:
        there = find_lens(model, kind)
    except LensError:
        there = None
    if there is not None and not read_info(there).mismatch(model.info):
        raise InputError(
            f"{model.info.name} has a {kind} lens already, {there}; name a file (--out) to fit another beside it."
        )
    folder, name = model.folder, lens_name(kind, model.info)
    own = folder is not None and folder.is_dir() and not _is_shared(folder)
    if own and not (folder / name).exists() and folder / name not in taken:
        place = folder / name
        try:
            require_writable(place, error=LensError)
        except LensError:
            pass  # the cache, then
        else:
            return place
    place = lens_cache() / f"{model.info.fingerprint[:16]}-{name}"
    try:
        require_writable(place, parents=True, error=LensError)
    except LensError as error:
        raise LensError(
            f"{error} Lenses are kept there of models whose folder cannot have them. Set XDG_CACHE_HOME to a folder "
            "that can be written to, or fit the lens with `emma-viz fit … --out FILE` and name it with --lens FILE."
        ) from error
    try:
        other = read_info(place)
    except LensError:  # there is none, or one that is damaged
        return place
    raise InputError(
        f"{place}, where the lens would be kept, is of {other.part or 'tile'} tokens; give that file another name "
        "beside it, or name a file (--out)."
    )


def _is_shared(folder: Path) -> bool:
    """Whether a folder is the package's, or the hub's cache, where a file would be lost with the next version."""
    parts = folder.resolve().parts
    return folder.resolve().is_relative_to(BUNDLED.resolve()) or "snapshots" in parts
