"""That nothing overlaps and nothing is cut off, whatever a figure shows."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emma_viz.render import draw
from emma_viz.render.figures.layout import BAR, MARGIN, PANEL_KINDS, WIDTH, head, model_grid, panels_left
from emma_viz.render.spans import GridSpans
from emma_viz.render.spec import FigureSpec, ImageCase, ModelCase
from emma_viz.render.words import line_height, shorten, width, wrap

LONG = (
    "The image shows a white ceramic cup filled with coffee that stands on a round red saucer beside a spoon. "
    * 6
)
NAME = "a-very-long-run-directory-name-of-somebody-2025-10-11/checkpoints"


def image_of(height: int, wide: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :wide]
    return np.stack([rows * 255 // height, columns * 255 // wide, 0 * rows + 90], axis=2).astype(np.uint8)


def bare_spec(shape: tuple[int, int], models: int, layers: int) -> FigureSpec:
    """As much of a figure as the layout looks at."""
    model = ModelCase(
        name="m",
        answer="",
        layers=tuple(range(layers)),
        decoded=np.zeros((layers, 1, 1, 3)),
        maps=np.zeros((layers, 1, 1)),
        limits=np.tile([0.0, 1.0], (layers, 1)),
        correlation=np.zeros(layers),
    )
    case = ImageCase(
        title="",
        image=np.zeros((*shape, 3), dtype=np.uint8),
        image_hash="",
        prompt="",
        spans=GridSpans.even((0.0, 0.0, 1.0, 1.0), (1, 1)),
        true_map=np.zeros((1, 1)),
        true_limits=(0.0, 1.0),
        models=tuple(dataclasses.replace(model, name=f"m{index}") for index in range(models)),
    )
    return FigureSpec(images=(case,))


SHAPES = st.tuples(st.integers(1, 60), st.integers(1, 60)).filter(
    lambda shape: 0.1 <= shape[0] / shape[1] <= 10
)


@pytest.mark.slow
@settings(max_examples=100)
@given(
    SHAPES,
    st.integers(1, 4),
    st.integers(1, 64),
    st.sampled_from([PANEL_KINDS, ("map", "highlight")]),
    st.sampled_from([0.0, 0.15, 0.27]),
)
def test_cells_lie_apart_and_within_the_sheet(shape, models, layers, kinds, caption):
    spec = bare_spec(shape, models, layers)
    grid = model_grid(spec.images[0], kinds=kinds, caption=caption)
    left = panels_left(spec, [grid])
    boxes = [grid.cell(kind, layer, left, 1.0) for kind in kinds for layer in range(layers)]
    assert grid.w / grid.h == pytest.approx(shape[1] / shape[0])
    for box in boxes:
        assert box.x >= left - 1e-9
        assert box.right <= min(left + grid.width, WIDTH - MARGIN - BAR) + 1e-9
        assert 1.0 + grid.heading - 1e-9 <= box.y
        assert box.bottom <= 1.0 + grid.height + 1e-9
    for one, other in itertools.combinations(boxes, 2):
        apart = (
            one.right <= other.x + 1e-9
            or other.right <= one.x + 1e-9
            or one.bottom <= other.y + 1e-9
            or other.bottom <= one.y + 1e-9
        )
        assert apart
    for kind, layer in itertools.product(["map"], range(layers)):
        below = grid.cell(kind, layer, left, 1.0)
        under = [b for b in boxes if b.y > below.y + 1e-9 and b.x < below.right and b.right > below.x]
        assert all(b.y >= below.bottom + caption - 1e-9 for b in under)


@settings(max_examples=50)
@given(SHAPES, st.integers(1, 4), st.integers(1, 64))
def test_the_head_fits_beside_itself(shape, models, layers):
    spec = bare_spec(shape, models, layers)
    case = spec.images[0]
    grid = model_grid(case)
    left = panels_left(spec, [grid])
    place = head(case, grid, left, 0.0)
    boxes = (place.image, place.true_map, place.plot)
    for one, other in itertools.combinations(boxes, 2):
        assert one.right <= other.x or other.right <= one.x or one.bottom <= other.y or other.bottom <= one.y
    assert max(box.right for box in boxes) <= WIDTH
    assert max(box.bottom for box in boxes) <= place.height + 1e-9
    assert place.plot.w >= 1.5


VARIANTS = {
    "one layer": {"layers": (4,)},
    "two layers": {"layers": (0, 8)},
    "three layers, four models": {"layers": (-1, 4, 8), "models": 4},
    "eight layers": {"layers": (-1, 0, 1, 2, 3, 4, 6, 8), "models": 3, "forced": (1,)},
    "twelve layers of a photograph": {"image": image_of(80, 120), "layers": tuple(range(12)), "models": 3},
    "every layer of a deep model": {"image": image_of(80, 120), "layers": tuple(range(-1, 64))},
    "many layers, own scales": {"layers": tuple(range(20)), "scale": "per_map"},
    "many layers, tall": {"image": image_of(320, 40), "layers": tuple(range(12))},
    "many layers, nearly a panorama": {"image": image_of(100, 236), "layers": tuple(range(12))},
    "many layers, difference": {"figure": {"difference": True}, "layers": tuple(range(12))},
    "many layers, panorama, difference": {
        "figure": {"difference": True},
        "image": image_of(40, 320),
        "layers": tuple(range(12)),
    },
    "paper, many layers": {
        "figure": {"style": "paper"},
        "image": image_of(80, 120),
        "layers": tuple(range(30)),
    },
    "panorama": {"image": image_of(40, 320), "layers": (0, 2, 4, 6, 8)},
    "panorama, own scales": {"image": image_of(40, 320), "layers": (0, 4, 8), "scale": "per_map"},
    "tall": {"image": image_of(320, 40), "layers": (-1, 2, 4, 6, 8)},
    "tall, own scales": {"image": image_of(320, 40), "layers": (0, 2, 4, 6, 8), "scale": "per_map"},
    "tall, eight layers": {"image": image_of(320, 40), "layers": (-1, 0, 1, 2, 3, 4, 6, 8)},
    "portrait": {"image": image_of(160, 90), "layers": (0, 2, 4, 6, 8)},
    "long words": {
        "answers": (LONG, "x" * 300, LONG, LONG),
        "names": (NAME, NAME + "2", "c", "d"),
        "prompt": LONG,
        "truth": LONG,
        "forced": (0,),
        "title": NAME,
    },
    "two images": {"images": 2, "layers": (0, 2, 4, 6, 8)},
    "difference": {"figure": {"difference": True}, "layers": (0, 8)},
    "difference, tall": {"figure": {"difference": True}, "image": image_of(320, 40), "layers": (0, 2, 4)},
    "difference, panorama": {"figure": {"difference": True}, "image": image_of(40, 320)},
    "evidence, four models": {"evidence": 1e-4, "models": 4, "names": (NAME, NAME + "2", "c", "d")},
    "evidence, difference, panorama": {
        "evidence": 2.0,
        "figure": {"difference": True},
        "image": image_of(40, 320),
    },
    "evidence, tall": {"evidence": 2.0, "image": image_of(320, 40), "layers": (0, 2, 4)},
    "paper, difference and evidence": {"evidence": 2.0, "figure": {"style": "paper", "difference": True}},
    "evidence, paper, one layer": {"evidence": 2.0, "figure": {"style": "paper"}, "layers": (4,)},
    "rows": {"scale": "per_row", "models": 3},
    "paper": {"figure": {"style": "paper", "map_kind": "magnitude"}, "layers": (0, 2, 4, 6, 8)},
    "paper, eight layers": {
        "figure": {"style": "paper"},
        "layers": (-1, 0, 1, 2, 3, 4, 6, 8),
        "scale": "per_map",
    },
    "paper, panorama": {
        "figure": {"style": "paper"},
        "image": image_of(40, 320),
        "answers": (LONG, LONG, "", ""),
    },
    "paper, tall": {"figure": {"style": "paper"}, "image": image_of(320, 40), "forced": (1,)},
}


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_no_words_overlap_and_none_are_cut_off(make, variant):
    """Each word's drawn box is inside the sheet, outside every panel, and clear of every other word."""
    figure = draw(make.spec(**VARIANTS[variant]))
    renderer = figure.canvas.get_renderer()
    sheet, unit = figure.bbox, figure.dpi / 72
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in figure.texts]
    for axes in figure.axes:
        ticks = (*axes.get_xticklabels(), *axes.get_yticklabels())
        boxes += [
            (t.get_text(), t.get_window_extent(renderer)) for t in ticks if t.get_text() and t.get_visible()
        ]
    ticks_outside = {"retention", "colour bar"}
    panels = [a.bbox for a in figure.axes if a.get_label().partition("/")[0] not in ticks_outside]
    plots = [a.bbox for a in figure.axes if a.get_label().partition("/")[0] == "retention"]
    for word, box in boxes:
        assert box.x0 >= sheet.x0 - 1, word
        assert box.y0 >= sheet.y0 - 1, word
        assert box.x1 <= sheet.x1 + 1, word
        assert box.y1 <= sheet.y1 + 1, word
        for panel in panels:
            assert overlap(box, panel) < 1.0 * unit, word
        for plot in plots:
            assert overlap(box, plot) < 3.0 * unit or word in {"0", "0.0", "0.5", "1.0"}, word
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        # Lines that follow one another share the room of their ascenders and descenders.
        assert overlap(a, b) < 2.5 * unit, (one, other)
    for a, b in itertools.combinations(panels, 2):
        assert overlap(a, b) <= 0.0


def overlap(a, b) -> float:
    """How deep two boxes lie in one another, pixels."""
    return min(min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0))


@settings(max_examples=60)
@given(st.text(max_size=120), st.floats(0.4, 3), st.integers(1, 5), st.booleans())
def test_wrapped_lines_fit(text, room, lines, bold):
    wrapped = wrap(text, room, 7.2, lines=lines, bold=bold)
    assert len(wrapped) <= lines
    for line in wrapped:
        assert width(line, 7.2, bold) <= room or len(line) <= 2


def test_wrapping_loses_nothing_that_fits():
    text = "A white cup of coffee on a red saucer, with a spoon."
    assert " ".join(wrap(text, 1.2, 7.2, lines=20)) == text
    assert wrap("", 1.0, 7.2, lines=3) == []
    cut = wrap(text, 1.2, 7.2, lines=2)
    assert len(cut) == 2
    assert cut[-1].endswith("…")
    assert text.startswith(" ".join(cut)[:-1])


def test_long_words_break_at_hyphens():
    assert wrap("emma-v1-pocket-of-someone", 1.0, 9.0, lines=3)[0].endswith("-")
    assert "".join(wrap("x" * 80, 1.0, 9.0, lines=20)) == "x" * 80


def test_a_cut_line_says_so():
    assert shorten("short", 3.0, 7.0) == "short"
    assert shorten("a long line of words", 0.5, 7.0).endswith("…")
    assert line_height(7.2) * 72 == pytest.approx(9.504)
