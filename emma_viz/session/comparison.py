"""Load → record → decode: the same images through one or more models."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from emma_viz.capture.sites import split_site
from emma_viz.checkpoints import LoadedModel
from emma_viz.data import read_image
from emma_viz.data.labels import names_of, names_of_pictures
from emma_viz.displays import bundle_of
from emma_viz.errors import InputError
from emma_viz.lens import Lens, recording_for
from emma_viz.lens.info import require_fit
from emma_viz.lens.protocol import mismatch, require_site
from emma_viz.maps import ActivationMaps, Decoding, share_limits
from emma_viz.maps.joining import joined
from emma_viz.models.attention_sites import ATTENTION_SITES, sites_of
from emma_viz.progress import Progress
from emma_viz.records.questions import Question
from emma_viz.session.fitting import fit_awaited, lenses_for
from emma_viz.session.foreseen import ForeseenModel, require_count, require_layers, require_pictured
from emma_viz.session.loading import free, load, one_each, require_loadable
from emma_viz.session.options import DEFAULT_LENSES, DEFAULT_MODELS, Asking, Running, View
from emma_viz.session.road import ask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from emma_viz.render import FigureSpec


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """The same images decoded from one or more models.

    Raises:
        InputError: there is no decoding, or the models saw other images.
    """

    decodings: tuple[Decoding, ...]
    """One per model."""
    image_names: tuple[str, ...] = ()
    """What the images are called."""

    def __post_init__(self):
        if not self.decodings:
            raise InputError("expected at least one decoding to compare, got none.")
        first = self.decodings[0]
        for other in self.decodings[1:]:
            if other.image_hashes != first.image_hashes:
                raise InputError(
                    f"expected {first.model.name} and {other.model.name} to have decoded the same images, but their "
                    "image hashes differ; record both models on the same files."
                )
        if not self.image_names:
            object.__setattr__(self, "image_names", names_of_pictures(first.image_hashes, first.labels))

    def __repr__(self) -> str:
        models = " · ".join(each.model.name for each in self.decodings)
        count, layers = len(self.decodings[0]), [len(each.layers) for each in self.decodings]
        deep = "–".join(str(each) for each in sorted(set(layers)))
        return f"Comparison({models}, {count} image{'s' * (count != 1)}, {deep} layers)"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return bundle_of(self)

    def maps(self, view: View = View()) -> tuple[ActivationMaps, ...]:
        """One `ActivationMaps` of all decoded layers per model, on the view's colour scale."""
        scale, limits = view.scale_and_limits()
        return share_limits([each.maps(view.kind, scale=scale, limits=limits) for each in self.decodings])

    def spec(self, view: View = View()) -> "FigureSpec":
        """What a figure of this comparison shows.

        Raises:
            InputError: a layer was not decoded, or an option is unknown.
        """
        from emma_viz.session.picture import (
            figure_spec,
        )  # matplotlib is slow to load, and not needed to compare

        return figure_spec(self.maps(view), view=view, image_names=self.image_names)

    def figure(self, view: View = View()) -> "Figure":
        """Draw it; `.savefig(path)` writes it."""
        from emma_viz.render import draw

        return draw(self.spec(view))


def compare(
    images: Any,
    models: Sequence[str | Path | LoadedModel] = DEFAULT_MODELS,
    *,
    lenses: Sequence[str | Path | Lens] = DEFAULT_LENSES,
    site: str | None = None,
    force_lens: bool = False,
    fit_on: Path | None = None,
    views: Sequence[View] = (),
    film: bool = False,
    prompts: Sequence[str] = (),
    asking: Asking = Asking(),
    running: Running = Running(),
    convert_profile: bool = False,
    progress: Progress | None = None,
) -> Comparison:
    """Ask models about images, and decode what their image tokens held at every layer that their lenses know.

    The models are loaded one after another, and each is freed before the next. What can be refused without running
    one (a model or lens that does not exist, a lens of another model, images of several shapes, what a picture cannot
    show) is refused first.

    Args:
        images: one image or several: paths, PIL images or arrays.
        models: bundled names, run directories, hub ids, files, or loaded models.
        lenses: one for all models, or one each: a kind that ships with the model, a lens file, or a lens.
        site: the hook site to decode; that of the lens when None.
        force_lens: use a lens although it belongs to another model; every picture then says so.
        fit_on: a folder of images, or what else `emma_viz.session.fitting.choose_images` takes: a model without a ridge
            lens gets one fitted on them, which is kept.
        views: of the pictures that will be drawn, to refuse early what they cannot show; all layers are decoded.
        film: whether one of them will be a film, which shows one map of an image at each layer.
        prompts: each is asked about each image; `asking.prompt` alone when there is none.
        asking: the prompt, and how answers are drawn.
        running: how the models are loaded and run.
        convert_profile: convert images with a colour profile to sRGB; the released code ignores profiles.
        progress: called as progress(done, total, what).

    Raises:
        InputError: an image cannot be used, the counts do not fit, or pictures cannot show what `views` asks for.
        CheckpointError: a model cannot be read.
        LensError: there is no lens, or it belongs to another model.
    """
    require_count(views, len(models))
    several = tuple(prompts) or (asking.prompt,)
    read, called = read_images(images, convert_profile=convert_profile)
    pictures = [picture for picture in read for _ in several]
    names = tuple(name for name in called for _ in several)
    wanted = one_each(lenses, len(models))
    described = [require_loadable(source, running) for source in models]
    if site is not None:
        for config, _ in described:
            split_site(site, ATTENTION_SITES if config is None else sites_of(config.llm))
    found = [model for _, model in described]
    rows = [ForeseenModel(config=config, model=model) for config, model in described]
    require_pictured(rows, read, several, difference=any(view.difference for view in views), film=film)
    chosen = lenses_for(wanted, models, described, running, fit_on=fit_on, force=force_lens)
    recorded = [recording_for(lens) for lens in chosen]
    plans = [((site,) if site else sites, needed) for sites, needed in recorded]
    for lens, model, (sites, _) in zip(chosen, found, plans, strict=True):
        if site is not None:
            require_site(lens, site)
        unfit = mismatch(lens, model=model.info, sites=sites)
        require_fit(unfit, force=force_lens)
    if not force_lens:
        require_layers(views, chosen)
    ready = fit_awaited(chosen, running, fit_on, progress)
    decodings, asked = [], [Question(image=picture, prompt=prompt) for picture in read for prompt in several]
    for source, lens, (sites, needed) in zip(models, ready, plans, strict=True):
        model = load(source, running, progress)
        pairs = ask(
            model,
            asked,
            lens,
            asking=asking,
            sites=sites,
            layers=_of(model, needed),
            force_lens=force_lens,
            progress=progress,
        )
        decodings.append(joined([decoding for _, decoding in pairs if decoding is not None], images=pictures))
        del model, pairs
        free(source)
    return Comparison(decodings=tuple(decodings), image_names=names)


def _of(model: LoadedModel, layers: Sequence[int]) -> tuple[int, ...]:
    """Those layers that the model has: a lens of a deeper model may be forced on it."""
    return tuple(layer for layer in layers if layer < model.info.n_layer)


def read_images(images: Any, *, convert_profile: bool = False) -> tuple[list[Image.Image], tuple[str, ...]]:
    """One image or several, and what to call them; images of one name are told apart by their folders.

    Raises:
        ImageError: one cannot be used as an image.
    """
    several, names = name_images(images)
    return [read_image(image, convert_profile=convert_profile) for image in several], names


def name_images(images: Any) -> tuple[list[Any], tuple[str, ...]]:
    """One image or several as a list, unread, and what to call them.

    Raises:
        InputError: there is none.
    """
    several = images if isinstance(images, list | tuple) else [images]
    if not several:
        raise InputError("expected at least one image, got none.")
    return list(several), names_of(several)
