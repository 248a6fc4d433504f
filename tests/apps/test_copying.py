"""The view as Python, as a command line and as numbers: each gives what the page shows."""

import base64
import io
import json
import runpy
import shlex
import shutil

import numpy as np
import pytest

from emma_viz.cli.main import main
from emma_viz.render import read_spec
from emma_viz.session import View, capture, compare_study, decode_study

VIEW = {"layers": [1, 1], "kind": "error", "scale": "shared", "colours": "magma", "difference": True}
PROMPT = 'What\'s this; `id` $HOME "x"?\n--out no'


@pytest.fixture(scope="module")
def asked(service, ask, photos):
    """A run whose prompt would do something if it were not quoted."""
    news = ask(photos[0], prompt=PROMPT)
    return {"session": news["session"], "run": news["run"]}


@pytest.fixture
def at_home(pair, photos, tmp_path, monkeypatch):
    """A folder in which the models, the encoder and the photograph lie, as the program says."""
    for path in (pair.cobra, pair.emma, pair.vision, photos[0]):
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def saved(service, asked, form, **more):
    reply = service.save({**asked, **VIEW, **more, "format": form})
    assert "error" not in reply, reply
    return base64.b64decode(reply["data"])


def shown(service, asked, kind="error"):
    result = service.sessions.result(asked["session"], asked["run"])
    return result.comparison.maps(View(map_kind=kind))


def words_of(script: str) -> list[list[str]]:
    """The commands of a script, without their first word."""
    commands = [
        shlex.split(each, comments=True) for each in script.replace("\\\n", " ").split("\nemma-viz ")[1:]
    ]
    assert commands
    return commands


def test_the_python_finds_the_values_of_the_page(service, asked, at_home):
    photograph = (at_home / "coffee.png").read_bytes()
    (at_home / "view.py").write_bytes(saved(service, asked, "py"))
    found = runpy.run_path("view.py")
    for values, maps in zip(found["values"], shown(service, asked), strict=True):
        np.testing.assert_allclose(values, maps.values[maps.layers.index(1), 0], rtol=1e-5)
    np.testing.assert_allclose(found["maps"][0].limits, shown(service, asked)[0].limits, rtol=1e-5)
    assert found["comparison"].decodings[0].prompts == (PROMPT,)
    assert (at_home / "coffee.png").read_bytes() == photograph  # not replaced by the figure
    assert (at_home / "coffee-layer-1.png").is_file()


def test_the_command_draws_the_values_of_the_page(service, asked, at_home):
    script = saved(service, asked, "sh").decode()
    (words,) = words_of(script)
    assert main(words) == 0
    spec = read_spec(at_home / words[words.index("--out") + 1])
    assert (spec.map_kind, spec.colormap, spec.difference) == ("error", "magma", True)
    assert spec.images[0].prompt == PROMPT
    for model, maps in zip(spec.images[0].models, shown(service, asked), strict=True):
        assert model.layers == (1,)
        np.testing.assert_allclose(model.maps[0], maps.values[maps.layers.index(1), 0], rtol=1e-5)
        np.testing.assert_allclose(model.limits[0], maps.limits[maps.layers.index(1), 0], rtol=1e-5)


def test_models_at_other_layers_have_a_command_each_with_the_same_limits(service, asked):
    first, second = words_of(saved(service, asked, "sh", layers=[0, 1]).decode())
    low, high = shown(service, asked)[0].limits[0, 0]
    for words in (first, second):
        (scale,) = [word for word in words if word.startswith("--scale=")]
        assert [float(end) for end in scale[8:].split(":")] == [low, high]
        assert "--difference" not in words
    assert first[first.index("--layers") + 1] == "0"
    assert second[second.index("--layers") + 1] == "1"
    assert "cobra" in first
    assert "emma" not in first


def test_nothing_of_the_servers_folders_is_said(service, asked, pair):
    for form in ("py", "sh", "csv", "npz"):
        assert str(pair.cobra.parent).encode() not in saved(service, asked, form)


def test_another_site_is_asked_for_again(service, ask, photos, at_home):
    news = ask(photos[0], site="mixer_out")
    (words,) = words_of(saved(service, news, "sh").decode())
    assert {"--site=mixer_out", "--force-lens"} <= set(words)
    (at_home / "view.py").write_bytes(saved(service, news, "py"))
    found = runpy.run_path("view.py")
    for values, maps in zip(found["values"], shown(service, news), strict=True):
        np.testing.assert_allclose(values, maps.values[maps.layers.index(1), 0], rtol=1e-5)


def test_the_arrays_are_those_of_the_page(service, asked):
    with np.load(io.BytesIO(saved(service, asked, "npz")), allow_pickle=False) as found:
        about = json.loads(str(found["about"]))
        for letter, maps in zip("AB", shown(service, asked), strict=True):
            np.testing.assert_array_equal(found[f"{letter}_values"], maps.values[:, 0])
            np.testing.assert_array_equal(found[f"{letter}_limits"], maps.limits[:, 0])
            np.testing.assert_array_equal(found[f"{letter}_layers"], maps.layers)
            assert found[f"{letter}_shown"] == 1
    assert about["asked"]["prompt"] == PROMPT
    assert [about["models"][letter]["name"] for letter in "AB"] == ["cobra", "emma"]


def test_the_table_is_that_of_the_page(service, asked):
    service.attribute({**asked, "model": 0, "word": 0})
    text = saved(service, asked, "csv", look={"word": "0,0"}).decode()
    rows = [line.split(",") for line in text.splitlines() if not line.startswith("#")]
    result = service.sessions.result(asked["session"], asked["run"])
    for letter, maps, packed in zip(
        "AB", shown(service, asked), result.evidence[0, 0, 0, "gradient"]["models"], strict=True
    ):
        mine = np.array([[float(cell) for cell in row[3:]] for row in rows if row[0] == letter])
        place, values = mine[:, :2].astype(int), mine[:, 2:].astype(np.float32)
        np.testing.assert_array_equal(values[:, 0], maps.values[maps.layers.index(1), 0][tuple(place.T)])
        np.testing.assert_array_equal(values[:, 1], maps.true[0][tuple(place.T)])
        np.testing.assert_array_equal(values[:, 2], np.frombuffer(base64.b64decode(packed), "<f4"))
        assert len(mine) == maps.true[0].size


@pytest.mark.parametrize(
    "wrong", [{"layers": [99, 1]}, {"layers": [1]}, {"kind": "x"}, {"colours": "x"}, {"scale": "x"}]
)
@pytest.mark.parametrize("form", ["py", "sh", "csv", "npz"])
def test_what_the_page_cannot_show_is_refused(service, asked, form, wrong):
    assert "error" in service.save({**asked, **VIEW, **wrong, "format": form})


def test_a_studys_view_is_copied(offer, pair, photos, tmp_path, monkeypatch):
    from apps.explorer.service import Service
    from emma_viz.session import Running

    place = tmp_path / "study"
    capture([*photos], pair.models, place, running=Running(vision_source=str(pair.vision)))
    decode_study(place)
    service = Service(offer(models={}, study=place), {})
    news = service.show(service.sessions.open(), 1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "view.py").write_bytes(saved(service, news, "py"))
    found = runpy.run_path("view.py")
    expected = compare_study(place).maps(View(map_kind="error"))
    for values, maps in zip(found["values"], expected, strict=True):
        np.testing.assert_array_equal(values, maps.values[maps.layers.index(1), 1])
    (words,) = words_of(saved(service, news, "sh").decode())
    assert main(words) == 0
    spec = read_spec(tmp_path / words[words.index("--out") + 1])
    np.testing.assert_array_equal(spec.images[0].models[0].maps[0], found["values"][0])
    shutil.rmtree(place)
    service.close()
