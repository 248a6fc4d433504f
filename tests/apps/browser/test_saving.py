"""What a visitor takes home from the page, and links: with the models that ship and with a study."""

import zipfile
from urllib.parse import parse_qs

import pytest

from tests.apps.visiting import Visit

pytestmark = pytest.mark.slow


def taken(shown, form: str, folder):
    """The file that the page's menu gives."""
    page = shown.visit.page
    page.get_by_role("button", name="Save").click()
    with page.expect_download() as download:
        page.locator(f"[data-format={form}]").click()
    download.value.save_as(folder / download.value.suggested_filename)
    return folder / download.value.suggested_filename


@pytest.mark.parametrize(("form", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_the_view_is_taken_home_as_a_picture(shown, form, begins, tmp_path):
    path = taken(shown, form, tmp_path)
    assert path.suffix == f".{form}"
    assert path.read_bytes().startswith(begins)


def test_the_whole_study_is_taken_home(shown, tmp_path):
    with zipfile.ZipFile(taken(shown, "zip", tmp_path)) as file:
        names = file.namelist()
        assert file.testzip() is None
    assert "study/study.json" in names
    assert any("decoding" in name for name in names)


def test_a_saved_page_opens_offline_as_it_was_left(shown, browser, tmp_path):
    visit, page = shown.visit, shown.visit.page
    page.locator(".ev-slider").fill("3")
    page.get_by_label("Colours", exact=True).select_option("magma")
    page.mouse.click(*visit.at("map", 0.4, 0.6))
    page.mouse.move(2, 2)
    seen = visit.picture("decoded", 1), visit.canvas("emma.view")
    path = taken(shown, "html", tmp_path)
    page.get_by_label("Colours", exact=True).select_option("viridis")
    other = Visit(browser, path.as_uri()).open()
    other.result()
    other.drawn()
    kept = other.canvas("emma.view")
    assert {key: kept[key] for key in ("layer", "patch", "colours", "image")} == {
        key: seen[1][key] for key in ("layer", "patch", "colours", "image")
    }
    assert other.canvas("[...emma.result.models[1].decoded.data.slice(0, 5000)]") == visit.canvas(
        "[...emma.result.models[1].decoded.data.slice(0, 5000)]"
    )
    other.page.locator(".ev-slider").focus()
    before = other.picture("map")
    other.page.keyboard.press("ArrowRight")
    assert other.picture("map") != before
    assert other.page.locator("text=held-out").count() > 0  # the lens's quality, in the foot of the page
    assert [url for url in other.requests if not url.startswith("data:")] == [path.as_uri()]
    other.close()


def test_a_link_restores_the_view(shown, browser):
    visit, page = shown.visit, shown.visit.page
    page.locator(".ev-slider").fill("3")
    page.mouse.click(*visit.at("map", 0.4, 0.6))
    page.get_by_label("Colours", exact=True).select_option("magma")
    page.get_by_label("Scale").select_option("per_map")
    visit.drawn()
    link, view = visit.link(), visit.canvas("emma.view")
    page.get_by_label("Colours", exact=True).select_option("viridis")
    page.get_by_label("Scale").select_option("shared")
    other = Visit(browser, visit.address).open("#" + link)
    other.result()
    other.drawn()
    assert other.canvas("emma.view") == view
    assert other.canvas("emma.step") == 3
    assert parse_qs(link)["image"] == [shown.comparison.decodings[0].image_hashes[0]]
    other.close()


def test_a_figures_page_reads_out_its_values(browser, study, tmp_path):
    from emma_viz.session import View, compare_study, write_picture

    spec = compare_study(study).spec(View(layers=(0, 6), difference=True))
    write_picture(spec, tmp_path / "figure.html")
    visit = Visit(browser, (tmp_path / "figure.html").as_uri())
    visit.page.goto(visit.address)
    case = spec.images[0]
    panel = visit.page.locator("canvas[data-map='0/1/1']").first
    painted = panel.evaluate("c => [c.width, c.height, ...c.getContext('2d').getImageData(0, 0, 1, 1).data]")
    rows, columns = case.models[0].maps.shape[1:]
    assert painted[:2] == [columns, rows]
    assert painted[5] == 255
    box = panel.bounding_box()
    visit.page.mouse.move(box["x"] + 2, box["y"] + 2)
    value = visit.page.locator("[data-value='0/1/1']").inner_text()
    assert float(value.replace("−", "-")) == pytest.approx(float(case.models[0].maps[1, 0, 0]), rel=0.006)
    assert "row 0, column 0" in visit.page.locator(".readout").first.inner_text()
    assert [url for url in visit.requests if not url.startswith("data:")] == [visit.address]
    visit.close()
