"""Documents of the casebook have addresses of their own, whatever the page does meanwhile."""

import asyncio
from urllib.parse import urlencode

import pytest
from starlette.applications import Starlette

from apps.casebook.documents import document_links, document_routes
from apps.casebook.told import CASEBOOK_PERSON, CASEBOOK_PLACE
from emma_viz.cases.case import CaseAnswer, CaseRecord
from emma_viz.cases.casebook import Casebook


@pytest.fixture
def casebook(tmp_path, monkeypatch):
    monkeypatch.setenv(CASEBOOK_PLACE, str(tmp_path / "cases.db"))
    with Casebook.open(tmp_path / "cases.db") as book:
        answers = (CaseAnswer(model="a", text="Yes.", said="yes", right=False),)
        book.add(
            [CaseRecord(prompt=f"Is there a {each}?", truth="no", answers=answers) for each in ("cat", "dog")]
        )
        yield book


def asked(path: str, **address: str) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers and body of an answer."""
    said = []

    async def send(message):
        said.append(message)

    async def receive():
        return {"type": "http.request"}

    scope = {"type": "http", "path": path, "method": "GET", "headers": []}
    asyncio.run(
        Starlette(routes=document_routes())(
            {**scope, "query_string": urlencode(address).encode()}, receive, send
        )
    )
    return said[0]["status"], dict(said[0]["headers"]), b"".join(each.get("body", b"") for each in said)


def test_a_case_is_saved_by_its_id_and_cases_by_their_filter(casebook):
    (id,) = [each for each in casebook.ids() if "dog" in casebook.case(each).record.prompt]
    status, headers, body = asked("/documents/case-1.pdf", id=id)
    assert (status, body[:4]) == (200, b"%PDF")
    assert headers[b"content-disposition"] == b'attachment; filename="case-1.pdf"'
    status, _, body = asked("/documents/case-1.html", id=id)
    assert status == 200
    assert (b"Is there a dog?" in body, b"Is there a cat?" in body) == (True, False)
    status, _, body = asked("/documents/cases.html", all="yes", text="cat")
    assert (b"Is there a dog?" in body, b"Is there a cat?" in body) == (False, True)


def test_a_case_says_of_its_maps_what_its_page_does(casebook, monkeypatch):
    monkeypatch.setenv(CASEBOOK_PERSON, "")
    answer = CaseAnswer(model="<b>", text="No.", study="/home/ann/runs", entry="e")
    casebook.add([CaseRecord(prompt="Is it gone?", truth="yes", answers=(answer,))])
    (id,) = [each for each in casebook.ids() if casebook.case(each).record.prompt == "Is it gone?"]
    _, _, body = asked("/documents/case-1.html", id=id)
    assert "&lt;b&gt;: no maps, because the casebook does not have the image." in body.decode()
    assert "&lt;b&gt;: the study behind it cannot be shown" in body.decode()
    assert "/home/ann" not in body.decode()


@pytest.mark.parametrize(
    ("path", "address", "said"),
    [
        ("/documents/case.pdf", {"id": "nobody"}, "at least one case"),
        ("/documents/cases.pdf", {"sort": "random"}, "orders"),
        ("/documents/cases.exe", {}, "ends in .pdf or .html"),
        ('/documents/a"b.pdf', {}, "ends in .pdf or .html"),
    ],
)
def test_what_cannot_be_saved_is_a_sentence(casebook, path, address, said):
    status, headers, body = asked(path, **address)
    assert status == 404
    assert said in body.decode()
    assert headers[b"content-type"].startswith(b"text/plain")


def test_a_link_holds_a_filter_as_text():
    shown = document_links("this case", "cases", {"text": '"><script>'})
    assert "<script>" not in shown
    assert 'href="documents/cases.pdf?text=%22%3E%3Cscript%3E"' in shown
