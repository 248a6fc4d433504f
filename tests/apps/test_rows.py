"""One model under several lenses, or at several sites: a row each, recorded once."""

import base64
import runpy
import zipfile

import numpy as np
import pytest

from apps.explorer.page.links import among, read_link, restored
from apps.explorer.service import Service
from emma_viz.session import View, compare_study
from tests.apps.test_copying import at_home, words_of  # noqa: F401 (a fixture)

VIEW = {"layers": [1, 1], "kind": "error", "scale": "shared", "difference": True}


@pytest.fixture(scope="module")
def sites(service, ask, photos):
    """One model at the lens's own site, and at another."""
    news = ask(photos[0], models=("cobra",), site=("", "mixer_out"))
    assert news["stage"] == "ready", news
    return {"session": news["session"], "run": news["run"]}


@pytest.fixture(scope="module")
def result(service, sites):
    return service.sessions.result(sites["session"], sites["run"])


def saved(service, asked, form, **more):
    reply = service.save({**asked, **VIEW, **more, "format": form})
    assert "error" not in reply, reply
    return base64.b64decode(reply["data"])


def test_a_row_is_what_a_run_of_it_alone_gives(service, ask, photos, result):
    assert result.names == ("cobra, resid_post", "cobra, mixer_out")
    assert result.traces[0] is result.traces[1]
    for index, site in enumerate(("", "mixer_out")):
        news = ask(photos[0], models=("cobra",), site=site)
        alone = service.sessions.result(news["session"], news["run"])
        assert alone.names == ("cobra",)
        one, other = result.comparison.decodings[index], alone.comparison.decodings[0]
        np.testing.assert_array_equal(one.patches, other.patches)
        assert one.forced_reasons == other.forced_reasons
    assert result.size < 2 * alone.size


def test_the_page_names_rows_and_compares_them(service, sites):
    sent = service.payload(sites)
    assert [model["name"] for model in sent["models"]] == ["cobra, resid_post", "cobra, mixer_out"]
    assert sent["asked"]["site"] == ("", "mixer_out")
    assert sent["differences"]["0,1"]["distance"] > 0
    found = service.attribute({**sites, "model": 1, "word": 0})
    assert found["models"][0] == found["models"][1]  # of one model: measured once
    assert len(service.words({**sites, "places": [1, 1]})["models"]) == 2


def test_lenses_have_a_row_each_and_what_a_model_lacks_is_said(pair, offer, examples, ask, photos):
    lenses = {"ridge": ("ridge",), "tuned, else ridge": ("tuned", "ridge"), "tuned": ("tuned",)}
    service = Service(offer(lenses=lenses), examples)
    news = ask(photos[0], on=service, models=("cobra",), lens=("ridge", "tuned, else ridge", "tuned"))
    found = service.sessions.result(news["session"], news["run"])
    assert [row.lens for row in found.rows] == ["ridge", "tuned, else ridge"]
    assert found.names == ("cobra, ridge", "cobra, ridge")
    ((label, said),) = found.failed
    assert label == "cobra, tuned"
    assert "tuned" in said
    service.close()


def test_more_rows_than_are_shown_are_refused(ask, photos):
    said = ask(photos[0], site=("", "mixer_in", "mixer_out"))["message"]
    assert "6 rows" in said
    assert "at most 4" in said
    assert "Choose a lens" in ask(photos[0], lens=())["message"]


def test_the_study_that_is_saved_has_every_row(service, sites, result, tmp_path):
    (tmp_path / "study.zip").write_bytes(saved(service, sites, "zip"))
    with zipfile.ZipFile(tmp_path / "study.zip") as file:
        file.extractall(tmp_path)
    again = compare_study(tmp_path / "study")
    assert [each.site for each in again.decodings] == ["resid_post", "mixer_out"]
    for one, other in zip(again.decodings, result.comparison.decodings, strict=True):
        np.testing.assert_array_equal(one.patches, other.patches)


def test_the_view_is_copied_a_command_a_site(service, sites, result, at_home):  # noqa: F811
    first, second = words_of(saved(service, sites, "sh").decode())
    assert "--site=mixer_out" in second
    assert not any(word.startswith("--site") for word in first)
    (at_home / "view.py").write_bytes(saved(service, sites, "py"))
    found = runpy.run_path("view.py")
    for values, maps in zip(found["values"], result.comparison.maps(View(map_kind="error")), strict=True):
        np.testing.assert_allclose(values, maps.values[maps.layers.index(1), 0], rtol=1e-5)


def test_names_are_found_in_a_link_commas_and_all():
    offered = ("ridge", "native, else ridge", "my.lens")
    assert among("native, else ridge,my.lens", offered) == (["native, else ridge", "my.lens"], [])
    assert among("ridge,x,ridge", offered) == (["ridge"], ["x"])
    assert among(",mixer_out", ("", "mixer_out")) == (["", "mixer_out"], [])
    assert among("," * 7999, offered) == ([], [""] * 8000)  # what a stranger's link may hold, at once


def test_models_of_a_link_are_restored_commas_and_all(offer, examples):
    class Page:
        """Of Gradio, what is asked here."""

        @staticmethod
        def skip() -> str:
            return "as it is"

    service = Service(offer(models={"a, b": "a", "c": "c"}), examples)
    values = restored(Page, service, read_link("#models=a%2C%20b,nobody,c"))
    assert values["models"] == ["a, b", "c"]
    assert values["lost"] == ["the model nobody"]
    assert restored(Page, service, {})["models"] == "as it is"
    service.close()
