"""The road that every image takes: shown to a model a batch at a time, recorded, and decoded if there is a lens."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby

import torch
from PIL import Image

from emma_viz.capture import Trace, record
from emma_viz.capture.record import OnToken, RecordableModel
from emma_viz.capture.sites import Layers
from emma_viz.capture.trace import TokenKind
from emma_viz.data import read_image
from emma_viz.lens import Lens
from emma_viz.lens.protocol import require_site
from emma_viz.maps import Decoding, decode
from emma_viz.progress import Progress
from emma_viz.records.questions import Question
from emma_viz.session.options import BATCH, Asking


def ask(
    model: RecordableModel,
    questions: Sequence[Question],
    lens: Lens | None = None,
    *,
    asking: Asking,
    sites: Sequence[str],
    layers: Layers,
    tokens: TokenKind = "image",
    decoded: Sequence[int] | None = None,
    generate: bool = True,
    dtype: torch.dtype = torch.float32,
    first: int = 0,
    batch_size: int = BATCH,
    force_lens: bool = False,
    decoded_site: str = "",
    convert_profile: bool = False,
    on_token: OnToken | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[Trace, Decoding | None]]:
    """Ask a model any number of questions, in the memory that one batch needs.

    Args:
        model: the model.
        questions: about one image each.
        lens: decodes each batch; without one the second of each pair is None.
        asking: how answers are drawn; question i draws from `seed` + i. Its prompt is not used.
        sites: hook sites to keep.
        layers: layers to keep.
        tokens: which tokens to keep.
        decoded: layers to decode; all that both the lens and the trace have when None.
        generate: answer, too; otherwise the prompt is only read.
        dtype: of the states.
        first: the question to begin with; those before it were asked earlier.
        batch_size: questions at a time.
        force_lens: use a lens that belongs to another model.
        decoded_site: the site to decode where it is another than the lens's own, which the pictures then say.
        convert_profile: convert images with a colour profile to sRGB.
        on_token: called with the number of a question in its batch and the token's id as the answers come.
        progress: called as each batch goes on.

    Returns:
        One pair a batch, in order: nothing is asked before the first is taken. Where images become grids of several
        shapes, one pair for those of a batch that follow one another with the same.

    Raises:
        InputError: an image or option cannot be used.
        SiteError: a site or layer does not exist.
        LensError: the lens does not fit.
    """
    # Batches end where they would without `first`: what was interrupted goes on to the same batches.
    starts = range(first - first % batch_size, len(questions), batch_size)
    for done, begin in enumerate(starts):
        start = max(first, begin)
        batch = questions[start : begin + batch_size]
        pictures = [read_image(question.image, convert_profile=convert_profile) for question in batch]
        for part in _alike(model, pictures):
            trace = record(
                model,
                pictures[part.start : part.stop],
                [question.prompt for question in batch[part.start : part.stop]],
                sites=sites,
                layers=layers,
                tokens=tokens,
                generate=generate,
                max_new_tokens=asking.max_new_tokens,
                temperature=asking.temperature,
                top_p=asking.top_p,
                seed=asking.seed + start + part.start,
                dtype=dtype,
                batch_size=len(part),
                on_token=on_token and partial(_behind, on_token, part.start),
                progress=_share(progress, done, len(starts)),
            )
            if lens is None:
                yield trace, None
                continue
            yield trace, decode_at(trace, lens, decoded_site, layers=decoded, force=force_lens)


def decode_at(
    trace: Trace, lens: Lens, site: str = "", *, layers: Sequence[int] | None = None, force: bool = False
) -> Decoding:
    """Decode what was recorded at one site.

    Args:
        trace: with the states of that site.
        lens: which decodes them; another lens, or site, may decode the same trace again.
        site: where it is another than the lens's own, the lens is forced on it, and pictures say so.
        layers: to decode; all that both the lens and the trace have when None.
        force: use a lens that belongs to another model.

    Raises:
        LensError: the lens does not fit.
        SiteError: the trace has no such site.
    """
    other = site not in ("", lens.info.site)
    if other:
        require_site(lens, site)
    seen = trace.select(sites=[site]) if other else trace
    return decode(seen, lens, layers=layers, force=force or other)


def _alike(model: RecordableModel, pictures: Sequence[Image.Image]) -> Iterator[range]:
    """The images that follow one another and become grids of one shape; all of them where the model has one grid."""
    start = 0
    shape = model.info.grid
    for _, some in groupby(pictures, key=lambda each: shape or model.transform.geometry(each).grid):
        count = len(list(some))
        yield range(start, start + count)
        start += count


def _behind(on_token: OnToken, before: int, sample: int, token: int) -> None:
    """A token of a sample that has others of its batch before it."""
    on_token(before + sample, token)


def _share(progress: Progress | None, index: int, count: int) -> Progress | None:
    """Of the bar of `count` batches the part of one."""
    if progress is None:
        return None
    return lambda done, total, what: progress(index * total + done, count * total, what)
