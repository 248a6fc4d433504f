"""What stands before Gradio, before a stand-in for it: names, origins, routes, headers, uploads."""

import json
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest
from starlette.testclient import TestClient

from apps.explorer.forms import Forms
from apps.explorer.gate import Gate, name_of
from apps.explorer.uploads import NOT_YOURS, Uploads

LOCAL = "http://127.0.0.1:7860"


class StandIn:
    """Answers everything with what it got; takes uploads as Gradio does."""

    def __init__(self, root: Path):
        self.root, self.middleware_stack = root, self.answer

    async def answer(self, scope, receive, send):
        """One request."""
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        reply: object = {"path": scope["path"], "body": body.decode("latin-1")}
        if scope["path"] == "/gradio_api/upload":
            folder = self.root / "sha"
            folder.mkdir(exist_ok=True)
            (folder / "x.png").write_bytes(body)
            reply = [str(folder / "x.png")]
        headers = [
            (b"access-control-allow-origin", b"http://evil.example"),
            (b"content-type", b"application/json"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(reply).encode()})


@pytest.fixture
def uploads(tmp_path) -> Uploads:
    return Uploads(tmp_path / "root", quota=1000)


@pytest.fixture
def visit(uploads):
    """Makes a browser at a gate with options."""

    def make(base=LOCAL, **options) -> TestClient:
        image = SimpleNamespace(get_block_name=lambda: "image")
        events = {0: SimpleNamespace(inputs=[image], targets=[(1, "click")])}
        forms = Forms(events, canvas=9, calls=("payload",))
        gate = Gate(forms=forms, uploads=uploads, cookie="visitor", largest=10_000, **options)

        async def begin() -> None:
            async with gate.before(StandIn(uploads.root)):
                pass

        anyio.run(begin)
        return TestClient(gate, base_url=base, raise_server_exceptions=True)

    return make


def event(path=None, **more) -> dict:
    """An event of the page as JSON."""
    image = None if path is None else {"path": str(path)}
    return {"fn_index": 0, "session_hash": "abc", "data": [image], **more}


@pytest.mark.parametrize(
    "base", [LOCAL, "http://localhost:1234", "http://[::1]:7860", "http://LOCALHOST.:7860"]
)
def test_this_machines_names_are_served(visit, base):
    assert visit(base).get("/").status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example:7860", "localhost@evil.example", "0x7f.1", "2130706433", "10.0.0.7", "",
     "127.0.0.1:1:1", "evil.example, 127.0.0.1", "192.168.1.5:7860"],
)  # fmt: skip
def test_other_names_are_refused(visit, host):
    reply = visit().get("/", headers={"Host": host})
    assert reply.status_code == 403
    assert "--allow-host" in reply.json()["detail"]
    assert "set-cookie" not in reply.headers or "HttpOnly" in reply.headers["set-cookie"]
    assert visit().get("/", headers={"X-Forwarded-Host": host}).status_code == 403


def test_names_that_were_allowed_are_served(visit):
    found = visit(hosts=["192.168.1.5", "::"], proxied=["explorer.example.org"])
    for host in (
        "192.168.1.5:7860",
        "explorer.example.org",
        "EXPLORER.example.org:443",
        "[::]:7860",
        "127.0.0.1",
    ):
        assert found.get("/", headers={"Host": host}).status_code == 200
    assert found.get("/", headers={"Host": "example.org"}).status_code == 403
    assert name_of("::1") == name_of("[::1]:80") == "[::1]"
    assert name_of("a/b") == name_of("a b") == name_of("") == ""


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://127.0.0.1:1",
        "https://127.0.0.1:7860.evil.example",
        "http://",
        "x",
    ],
)
def test_posts_and_reads_of_other_pages_are_refused_and_told_nothing(visit, origin):
    found = visit()
    replies = [
        found.post("/gradio_api/queue/join", json=event(), headers={"Origin": origin}),
        found.get("/config", headers={"Origin": origin}),
        found.options(
            "/gradio_api/queue/join", headers={"Origin": origin, "Access-Control-Request-Method": "POST"}
        ),
    ]
    for reply in replies:
        assert reply.status_code == 403
        assert not any(name.startswith("access-control") for name in reply.headers)


def test_its_own_page_posts(visit):
    found = visit()
    assert found.post("/gradio_api/queue/join", json=event(), headers={"Origin": LOCAL}).status_code == 200
    assert found.post("/gradio_api/queue/join", json=event()).status_code == 200  # no browser
    assert "access-control-allow-origin" not in found.get("/", headers={"Origin": LOCAL}).headers
    for site, mode, path, status in (
        ("cross-site", "navigate", "/", 200),
        ("cross-site", "no-cors", "/", 403),
        ("same-site", "no-cors", "/config", 403),
        ("same-origin", "cors", "/config", 200),
        ("none", "navigate", "/", 200),
    ):
        headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}
        assert found.get(path, headers=headers).status_code == status


def test_a_proxy_may_hand_on_the_servers_own_name(visit):
    found = visit(proxied=["explorer.example.org"])
    mine, other = {"Origin": "https://explorer.example.org"}, {"Origin": "https://example.org"}
    assert found.post("/gradio_api/queue/join", json=event(), headers=mine).status_code == 200
    assert found.post("/gradio_api/queue/join", json=event(), headers=other).status_code == 403


def test_frames_are_refused_unless_asked_for(visit):
    reply = visit().get("/")
    assert reply.headers["content-security-policy"] == "frame-ancestors 'none'"
    assert reply.headers["x-frame-options"] == "DENY"
    assert "SameSite=Lax" in reply.headers["set-cookie"]
    reply = visit(frames=["https://a.example", "https://b.example"]).get("/")
    assert reply.headers["content-security-policy"] == "frame-ancestors https://a.example https://b.example"
    assert "x-frame-options" not in reply.headers
    assert "SameSite=None; Secure" in reply.headers["set-cookie"]


@pytest.mark.parametrize(
    "path",
    ["/monitoring", "/gradio_api/proxy=http://127.0.0.1/", "/gradio_api/vibe-code", "/docs", "/openapi.json", "/x",
     "/gradio_api/file/etc/passwd", "/gradio_api/stream/a/b/1/playlist.m3u8", "/gradio_api/info",
     "/assets/%2e%2e/x%5c"],
)  # fmt: skip
def test_what_the_page_does_not_use_is_not_there(visit, path):
    assert visit().get(path).status_code == 404
    assert visit().post(path, json={}).status_code == 404
    assert visit().put("/").status_code == 404


def test_an_upload_is_put_where_its_visitor_alone_finds_it(visit, uploads):
    found, other = visit(), visit()
    assert found.post("/gradio_api/upload", content=b"x").status_code == 403  # no page was opened
    assert found.get("/").headers["set-cookie"].startswith("visitor=")
    assert "set-cookie" not in found.get("/").headers
    other.get("/")
    (path,) = found.post("/gradio_api/upload", content=b"picture").json()
    assert Path(path).read_bytes() == b"picture"
    assert Path(path).is_relative_to(uploads.folder(found.cookies["visitor"]))
    assert found.get(f"/gradio_api/file={path}").status_code == 200
    assert found.post("/gradio_api/queue/join", json=event(path)).status_code == 200
    refused = [other.get(f"/gradio_api/file={path}"), other.post("/gradio_api/queue/join", json=event(path))]
    refused += [
        found.get("/gradio_api/file=/etc/passwd"),
        found.post("/gradio_api/queue/join", json=event("/nowhere")),
    ]
    assert {reply.json()["detail"] for reply in refused} == {NOT_YOURS}


def test_an_upload_has_limits_and_they_are_said(visit):
    found = visit()
    found.get("/")
    reply = found.post("/gradio_api/upload", content=bytes(100_000))
    assert (reply.status_code, "make it smaller" in reply.json()["detail"]) == (413, True)
    reply = found.post("/gradio_api/upload", content=bytes(2000))
    assert (reply.status_code, "a visitor may have" in reply.json()["detail"]) == (413, True)
    assert found.post("/gradio_api/upload", content=iter([b"x"])).status_code == 411
    for _ in range(3):  # room that was held is given back
        assert found.post("/gradio_api/upload", content=bytes(300)).status_code == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 50_000, b'{"a":' * 50_000, b"9" * 5000, b'{"x":NaN}',
     bytes(2 * 2**20)],
    ids=range(10),
)  # fmt: skip
def test_a_body_that_is_no_form_is_refused(visit, body):
    for route in ("queue/join", "run/predict", "component_server/", "cancel"):
        assert visit().post(f"/gradio_api/{route}", content=body).status_code in (400, 413)


@pytest.mark.parametrize(
    "change",
    [{"batched": True}, {"fn_index": 7}, {"fn_index": "0"}, {"fn_index": True}, {"session_hash": "../x"}, {"data": []},
     {"session_hash": None}, {"data": {}}, {"data": [1]}, {"data": [[]]}, {"trigger_id": "x"}, {"event_data": {}},
     {"data": [{"path": 7}]}, {"data": [{"url": "http://x"}]}],
)  # fmt: skip
def test_an_event_that_the_page_does_not_have_is_refused(visit, change):
    reply = visit().post("/gradio_api/queue/join", json=event(**change))
    assert reply.status_code == 400
    assert "path" not in reply.json()["detail"]
