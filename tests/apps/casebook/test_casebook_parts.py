"""Parts of the casebook's page: addresses, words of strangers, what stands before it."""

import asyncio
import html
import json
import os
import re
import shlex
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from apps.casebook.command import casebook_parser
from apps.casebook.exploring import explorer_part
from apps.casebook.gate import CasebookGate
from apps.casebook.permalinks import (
    MOST_CONDITIONS,
    evidence_of,
    evidence_text,
    filter_of,
    filter_part,
    renewed,
)
from apps.casebook.server import SETTINGS, free_port, serve_casebook
from apps.casebook.shared import case_maps
from apps.casebook.text import as_html, leaning_bar, marked, shown_text
from apps.casebook.told import CASEBOOK_EXPLORER, CASEBOOK_MODELS, CASEBOOK_PERSON, CASEBOOK_PLACE
from apps.explorer.casebooks import casebook_images
from apps.explorer.command import by_label
from apps.explorer.page.links import among, read_link
from emma_viz.cases.case import CaseAnswer, CaseRecord
from emma_viz.cases.casebook import Casebook
from emma_viz.cases.filters import AnswerFilter, EvidenceFilter
from emma_viz.cases.pictures import case_picture
from emma_viz.errors import InputError


def test_an_address_names_a_filter_and_nothing_else_is_kept():
    address = {
        "text": "cup",
        "rule": "models-disagree",
        "model": "cobra",
        "answer": "wrong",
        "sure": "0.9",
        "evidence": "presence,cobra,,beats,,;odd%2C name,,7,,-0.5,1e3",
        "tag": "odd",
        "all": "yes",
        "id": "7",
        "page": "3",
    }
    wanted = filter_of(address)
    assert (wanted.text, wanted.rule, wanted.tags, wanted.mined) == (
        "cup",
        "models-disagree",
        ("odd",),
        False,
    )
    assert wanted.answers == (AnswerFilter(model="cobra", right=False, least_confidence=0.9),)
    assert wanted.evidence == (
        EvidenceFilter(name="presence", model="cobra", beats_control=True),
        EvidenceFilter(name="odd, name", layer=7, at_least=-0.5, at_most=1000.0),
    )
    assert evidence_of(evidence_text(wanted.evidence)) == wanted.evidence
    assert filter_part(address) == {name: address[name] for name in address if name not in ("id", "page")}
    assert filter_of({}).mined
    for wrong in (
        "presence",
        "a,b,c,,,",
        "a,,,perhaps,,",
        "a,,-2,,,",
        f"a,,{2**31},,,",
        "a,,,,nan,",
        ",".join("x" * 9),
        ",,,,,",
        ";".join(["a,,,,,"] * (MOST_CONDITIONS + 1)),
    ):
        with pytest.raises(InputError):
            filter_of({"evidence": wrong})
    with pytest.raises(InputError, match="orders"):
        filter_of({"sort": "random"})
    for name, value in (
        ("answer", "maybe"),
        ("sure", "very"),
        ("sure", "2"),
        ("all", "no"),
        ("colour", "red"),
    ):
        with pytest.raises(InputError, match=name):
            filter_of({name: value})


def test_an_address_that_was_kept_under_other_names_means_what_it_meant():
    kept = {"measure": "odd, name", "control": "does-not", "split": "random"}
    assert filter_of(kept).evidence == (EvidenceFilter(name="odd, name", beats_control=False),)
    assert filter_of({"measure": "presence"}).evidence == (EvidenceFilter(name="presence"),)
    both = renewed(kept | {"evidence": "presence,,,,,"})
    assert [each.name for each in filter_of(both).evidence] == ["presence", "odd, name"]
    assert set(both) == {"split", "evidence"}
    assert renewed(both) == both


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("/srv/our cases/c.db: there is no case 'x'.", "c.db: there is no case 'x'."),
        ("study /home/a/runs/1: gone (see https://x.org/a)", "study 1: gone (see https://x.org/a)"),
        (r"study 'C:\Users\a\b' is missing", "study 'b' is missing"),
        (
            "postgresql+psycopg://a:***@host/name: 1/2 of ~/c",
            "postgresql+psycopg://a:***@host/name: 1/2 of c",
        ),
    ],
)
def test_what_went_wrong_names_folders_to_this_machines_people_alone(monkeypatch, said, told):
    monkeypatch.setenv(CASEBOOK_PLACE, "/srv/our cases/c.db")
    monkeypatch.setenv(CASEBOOK_PERSON, "")
    assert shown_text(said) == told
    monkeypatch.setenv(CASEBOOK_PERSON, "ann")
    assert shown_text(said) == said


def test_words_of_strangers_stay_words():
    evil = '<img src="https://example.org/x"> ![x](https://example.org/y)'
    assert "<img" not in as_html(evil)
    shown = marked("A <b>cat</b> and two dogs.", ["dog", "cat", " "])
    assert shown == "A &lt;b&gt;<mark>cat</mark>&lt;/b&gt; and two <mark>dogs</mark>."
    shown = marked("A man with a puppy, a hot dog and a sceptre.", ["person", "dog", "sceptre"])
    assert re.findall("<mark>(.*?)</mark>", shown) == ["man", "puppy", "sceptre"]
    assert leaning_bar(CaseAnswer(model="a", text="x")) == ""
    answer = CaseAnswer(model="a", text="x", said="no", p_yes=0.2, p_no=0.6)
    assert "P(Yes) 0.200, P(No) 0.600" in leaning_bar(answer)
    assert leaning_bar(replace(answer, said="")) == "", "of a description they say nothing"


def case_of(image: str, **fields) -> CaseRecord:
    answers = tuple(
        CaseAnswer(model=name, text="No.") for name in ("cobra-pocket", "emma-v1-pocket", "unknown")
    )
    return CaseRecord(image=image, answers=answers, **{"prompt": 'Is there a "cup" & a dog?', **fields})


def test_a_link_to_the_explorer_names_what_the_explorer_reads(monkeypatch):
    monkeypatch.setenv(
        CASEBOOK_EXPLORER, json.dumps({"address": "http://127.0.0.1:7860", "start": "emma-viz"})
    )
    record = case_of("0" * 64)
    shown = explorer_part(record)
    link = html.unescape(re.search('href="http://127.0.0.1:7860/#([^"]*)"', shown).group(1))
    assert read_link(link) == {
        "image": record.image,
        "models": "cobra-pocket,emma-v1-pocket",
        "prompt": record.prompt,
        "lens": "ridge",
    }
    assert "emma-viz --models cobra-pocket emma-v1-pocket</pre>" in shown
    for cannot in (case_of(""), case_of("0" * 64, prompt="é" * 1999), case_of("0" * 64, prompt="e" * 2001)):
        assert explorer_part(cannot) == ""


def test_a_link_to_the_explorer_calls_models_as_the_explorer_does(monkeypatch, tmp_path):
    sources = {"cobra-pocket": str(tmp_path / "one" / "a, b"), "unknown": str(tmp_path / "two" / "a, b")}
    for each in sources.values():
        Path(each).mkdir(parents=True)
    monkeypatch.setenv(CASEBOOK_MODELS, json.dumps(sources))
    monkeypatch.setenv(
        CASEBOOK_EXPLORER, json.dumps({"address": "http://127.0.0.1:7860", "start": "emma-viz"})
    )
    case_maps.clear()
    try:
        shown = explorer_part(case_of("0" * 64))
    finally:
        case_maps.clear()
    link = read_link(html.unescape(re.search('href="http://127.0.0.1:7860/#([^"]*)"', shown).group(1)))
    command = html.unescape(re.search(r"<pre>emma-viz --models (.*?)</pre>", shown).group(1))
    labels = by_label(shlex.split(command))
    assert among(link["models"], labels) == (["a, b", "emma-v1-pocket", "a, b (2)"], [])


def serve_nothing(monkeypatch, host: str, explorer: str = "") -> None:
    """All that is done before the page is served."""
    monkeypatch.setattr("uvicorn.run", lambda *args, **options: None)
    monkeypatch.setattr("streamlit.web.bootstrap.load_config_options", lambda options: None)
    monkeypatch.setattr("os.environ", dict(os.environ))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve_casebook(
        "cases.db",
        models={},
        host=host,
        port=port,
        allowed=[],
        show=False,
        explorer=explorer,
        shown="/a b.db",
    )


@pytest.mark.parametrize(
    ("host", "address", "told"),
    [
        (
            "127.0.0.1",
            "",
            {"address": "http://127.0.0.1:7860", "start": "emma-viz explore --casebook '/a b.db'"},
        ),
        ("0.0.0.0", "", {}),
        ("0.0.0.0", "http://maps.example.org/", {"address": "http://maps.example.org"}),
    ],
)
def test_others_than_this_machines_people_are_told_no_path(monkeypatch, host, address, told):
    serve_nothing(monkeypatch, host, address)
    assert json.loads(os.environ[CASEBOOK_EXPLORER]) == told
    assert bool(os.environ[CASEBOOK_PERSON]) == (
        host == "127.0.0.1"
    )  # nor are judgements of others in its name


def test_who_has_no_name_on_this_machine_opens_a_casebook_too(monkeypatch):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 77)
    serve_nothing(monkeypatch, "127.0.0.1")
    assert os.environ[CASEBOOK_PERSON] == f"user {2**31 - 77}"


def test_the_explorer_finds_images_of_a_casebook(tmp_path, coffee):
    with pytest.raises(InputError, match="there is no file"):
        casebook_images(str(tmp_path / "none.db"))
    picture = case_picture(coffee)
    with Casebook.open(tmp_path / "cases.db") as book:
        book.keep_picture(picture)
        book.add([case_of(picture.hash, image_name="mine/coffee.png")])
    find = casebook_images(str(tmp_path / "cases.db"))
    name, image = find(picture.hash)
    assert (name, image.size) == ("coffee", (picture.width, picture.height))
    assert find("0" * 64) is None
    for wrong in ("f" * 64, str(tmp_path / "out"), "../../out"):  # a stranger's casebook
        with Casebook.open(tmp_path / "cases.db") as book:
            book.keep_picture(replace(picture, hash=wrong))
        assert find(wrong) is None


def asked(gate: CasebookGate, kind: str = "http", path: str = "/", **headers: str) -> tuple[int, dict]:
    """The status that a request gets, and the headers of the answer; a web socket's refusal counts as 403."""
    said = []

    async def send(message):
        said.append(message)

    async def receive():
        return {"type": f"{kind}.request"}

    named = [(key.replace("_", "-").encode(), value.encode()) for key, value in headers.items()]
    scope = {"type": kind, "path": path, "method": "GET", "headers": named}
    asyncio.run(gate(scope, receive, send))
    if said[0]["type"] == "websocket.close":
        return 403, {}
    return said[0].get("status", 101), dict(said[0].get("headers", []))


async def answering(scope, receive, send):
    """An application that answers everything."""
    if scope["type"] == "websocket":
        return await send({"type": "websocket.accept"})
    await send({"type": "http.response.start", "status": 200, "headers": []})
    return await send({"type": "http.response.body", "body": b""})


HERE = {"host": "127.0.0.1:8501"}


@pytest.mark.parametrize(
    ("kind", "path", "headers", "status"),
    [
        ("http", "/", HERE, 200),
        ("http", "/", {"host": "cases.example.org"}, 200),
        ("http", "/", {"host": "evil.example.org"}, 403),
        ("http", "/", {}, 403),
        ("http", "/", {**HERE, "x_forwarded_host": "evil.example.org"}, 403),
        ("http", "/", {**HERE, "origin": "http://evil.example.org"}, 403),
        ("http", "/_stcore/health", {**HERE, "sec_fetch_site": "cross-site"}, 403),
        ("http", "/case", {**HERE, "sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}, 200),
        (
            "http",
            "/documents/a.pdf",
            {**HERE, "sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"},
            403,
        ),
        ("http", "/documents/a.pdf", {**HERE, "sec_fetch_site": "same-origin"}, 200),
        ("http", "/_stcore/upload_file/1/2", HERE, 403),
        ("websocket", "/_stcore/stream", {**HERE, "origin": "http://127.0.0.1:8501"}, 101),
        ("websocket", "/_stcore/stream", {**HERE, "origin": "http://evil.example.org"}, 403),
        ("websocket", "/_stcore/stream", {**HERE, "origin": "null"}, 403),
        ("websocket", "/_stcore/stream", HERE, 403),
    ],
)
def test_only_the_page_itself_is_answered_under_its_own_names(kind, path, headers, status):
    gate = CasebookGate(answering, hosts=["127.0.0.1"], proxied=["cases.example.org"])
    found, sent = asked(gate, kind, path, **headers)
    assert found == status
    if kind == "http":
        assert b"default-src 'self'" in sent[b"content-security-policy"]
        assert b"https:" not in sent[b"content-security-policy"]


def test_settings_are_streamlits_own_and_tell_nobody():
    from streamlit import config

    known = config._config_options_template
    assert set(SETTINGS) <= set(known)
    assert SETTINGS["browser.gatherUsageStats"] is False
    assert SETTINGS["server.enableXsrfProtection"] is True


def test_models_are_named_and_a_taken_port_is_said():
    assert casebook_parser().parse_args([]).casebook == "casebook.db"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="cannot be served"):
            free_port("127.0.0.1", [taken.getsockname()[1]])
