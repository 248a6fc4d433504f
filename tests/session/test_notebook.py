"""Results in notebooks: small, offline, and figures of one's own."""

import re
from html import unescape

import bleach
import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.figure import Figure

from emma_viz import load_model, record
from emma_viz.errors import InputError
from emma_viz.session import Asking, Comparison, Running, compare, figure, notebook
from emma_viz.study import open_study


@pytest.fixture(scope="module")
def comparison(pair, photos) -> Comparison:
    running = Running(vision_source=str(pair.vision))
    return compare(photos, pair.models, asking=Asking(max_new_tokens=3), running=running)


def page_of(html: str) -> str:
    """The page inside the frame, as a browser reads the attribute."""
    return unescape(re.search(r"srcdoc='([^']*)'", html)[1])


def test_a_comparison_is_a_page_in_a_sandboxed_frame(comparison):
    shown = comparison._repr_mimebundle_()
    assert shown["text/plain"] == repr(comparison) == "Comparison(cobra · emma, 2 images, 4 layers)"
    assert 'sandbox="allow-scripts allow-downloads"' in shown["text/html"]
    page = page_of(shown["text/html"])
    assert "default-src 'none'" in page
    assert '"name": "cobra"' in page or '"name":"cobra"' in page
    assert "The first of 2 images" in page
    assert len(shown["text/html"].encode()) <= notebook.LARGEST_OUTPUT


def test_where_frames_are_taken_out_the_output_says_what_to_do(comparison):
    # bleach, like Jupyter's sanitizer, drops what may run something and keeps the text inside.
    left = bleach.clean(comparison._repr_mimebundle_()["text/html"], tags={"p", "div"}, strip=True)
    assert left.startswith("Here is the canvas")
    assert "jupyter trust" in left
    assert len(left) < 200


def test_layers_are_left_out_until_a_notebook_stays_small(comparison, monkeypatch):
    whole = len(comparison._repr_mimebundle_()["text/html"])
    monkeypatch.setattr(notebook, "LARGEST_OUTPUT", whole - 1)
    smaller = comparison._repr_mimebundle_()["text/html"]
    assert len(smaller) < whole
    assert "Every 2. layer and the last" in page_of(smaller)
    assert re.search(r'"layers": ?\[-1, ?1, ?2\]', page_of(smaller))


def test_maps_and_decodings_show_themselves_too(comparison):
    maps = comparison.maps()[1]
    page = page_of(maps._repr_mimebundle_()["text/html"])
    assert len(re.findall(r'"n_layer": ?3', page)) == 1
    assert "srcdoc" in maps.decoding._repr_mimebundle_()["text/html"]


def test_traces_and_studies_are_tables(pair, photos, tmp_path):
    model = load_model(pair.cobra, vision_source=str(pair.vision))
    trace = record(model, photos[0], "<b>What?", generate=False)
    shown = trace._repr_mimebundle_()["text/html"]
    assert "&lt;b&gt;What?" in shown
    assert shown.count("data:image/png") == 1
    study = open_study(tmp_path / "study", create=True)
    study.add_trace(trace, "first")
    assert "<td>first</td>" in study._repr_mimebundle_()["text/html"]


def test_a_figure_takes_plain_keywords(comparison):
    maps = comparison.maps()
    drawn = figure(*maps, layers=[2], colormap="plasma", names=["A model", "Another"], titles=["one", "two"])
    words = " ".join(text.get_text() for text in drawn.findobj(lambda each: hasattr(each, "get_text")))
    for word in ("A model", "Another", "one", "two", "layer 2"):
        assert word in words
    assert "layer 1" not in words
    assert drawn._repr_png_().startswith(b"\x89PNG")
    larger = figure(*maps, layers=[2], font_scale=1.25)
    assert larger.get_figwidth() == pytest.approx(drawn.get_figwidth())
    assert max(text.get_fontsize() for text in larger.texts) == pytest.approx(
        1.25 * max(text.get_fontsize() for text in drawn.texts)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ["only one"]}, "names for 2 models"),
        ({"titles": ["a", "b", "c"]}, "titles for 2 images"),
        ({"colormap": "vridis"}, "unknown colormap"),
    ],
)
def test_wrong_keywords_are_refused(comparison, options, message):
    with pytest.raises(InputError, match=message):
        figure(*comparison.maps(), **options)


def test_one_panel_goes_into_a_figure_of_ones_own(comparison):
    maps = comparison.maps()[0]
    axes = Figure().subplots(1, 4)
    drawn = [maps.show(each, 1, what=what, sample=1) for each, what in zip(axes, WHAT, strict=True)]
    assert np.array_equal(drawn[0].get_array(), maps.values[maps.layers.index(1), 1], equal_nan=True)
    assert drawn[0].get_clim() == tuple(maps.limits[maps.layers.index(1), 1].tolist())
    assert drawn[0].get_cmap() == colormaps["viridis"]
    assert np.array_equal(drawn[3].get_array(), np.asarray(maps.decoding.images[1]))
    assert not np.array_equal(drawn[2].get_array(), drawn[3].get_array())
    width, height = maps.decoding.images[1].size
    assert all((each.get_xlim(), each.get_ylim()) == ((0, width), (height, 0)) for each in axes)
    with pytest.raises(InputError, match="expected what to be map"):
        maps.show(axes[0], 1, what="maps")


WHAT = ("map", "decoded", "highlight", "input")
