"""Requests that no honest page sends to the explorer: one table, about a server that `attack` has scouted."""

import io
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from PIL import Image

BOUNDARY = "----forged"
API = "/gradio_api/"


@dataclass(frozen=True, kw_only=True)
class Forged:
    """A request that must not succeed."""

    name: str
    method: str = "GET"
    path: str = "/"
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    host: str | None = ""
    """Its Host; empty for the server's own, None for none."""
    cookie: bool = True
    """Whether it comes from a visitor whom the server knows."""
    stream: str = ""
    """Session of Gradio's whose news to listen to when the request is taken."""
    answer_is_public: bool = False
    """Whether an answer of 200 is all right, as long as no secret is in it."""


@dataclass(kw_only=True)
class Target:
    """A server, and what lies around it."""

    address: str
    events: dict[str, tuple[int, list[Any]]]
    """Name → number and sound values of an event: `begin`, `check`, `ask`, `take`."""
    canvas: int
    cookie: str = ""
    secret: str = ""
    """A session that the server opened for this visitor."""
    own: str = ""
    """An upload of this visitor's."""
    others: str = ""
    """An upload of another visitor's."""
    picture: Path = Path()
    """A picture on the server's machine that nobody uploaded."""
    text: Path = Path()
    """A text there."""
    link: Path = Path()
    """A link to the picture."""
    token: str = ""
    """What text and picture hold, and no answer may."""


def forged_requests(target: Target) -> list[Forged]:
    """Every kind of forged request, about a target."""
    return [
        *_names(target),
        *_origins(target),
        *_routes(target),
        *_served_files(target),
        *_image_values(target),
        *_wrong_bodies(target),
        *_wrong_values(target),
        *_calls(target),
        *_uploads(target),
    ]


def _join(target: Target, name: str, body: object, *, route: str = "queue/join", **more: Any) -> Forged:
    session = f"forged{secrets.token_hex(6)}"
    if isinstance(body, dict):
        body = {"session_hash": session, **body}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = (("Content-Type", "application/json"),)
    return Forged(
        name=name, method="POST", path=API + route, body=content, headers=headers, stream=session, **more
    )


def event_request(target: Target, name: str, event: str, changes: dict[int, Any], **more: Any) -> Forged:
    """An event of the page with other values, by their places."""
    number, sound = target.events[event]
    data = [changes.get(index, value) for index, value in enumerate(sound)]
    body = {"fn_index": number, "trigger_id": 0, "data": data, "event_data": None}
    return _join(target, name, body | more.pop("fields", {}), **more)


def _names(target: Target) -> Iterator[Forged]:
    port = urlsplit(target.address).port
    hosts = [
        "evil.example", f"evil.example:{port}", f"127.0.0.1.evil.example:{port}", f"localhost@evil.example:{port}",
        f"evil.example/127.0.0.1:{port}", "127.0.0.1:1:1", "0x7f.1", "2130706433", "[::ffff:7f00:1]", " ", "..",
        f"localhost.evil.example:{port}", "metadata.google.internal",
    ]  # fmt: skip
    for host in hosts:
        yield Forged(name=f"host {host!r}", host=host)
    yield Forged(name="no host", host=None)
    yield Forged(name="two hosts", headers=(("Host", "evil.example"),))
    yield Forged(name="forwarded host", headers=(("X-Forwarded-Host", "evil.example"),))
    yield Forged(name="absolute address", path="http://evil.example/", host="evil.example")


def _origins(target: Target) -> Iterator[Forged]:
    port = urlsplit(target.address).port
    for origin in (
        "http://evil.example", "null", "http://127.0.0.1:1", f"https://127.0.0.1.evil.example:{port}",
        f"ftp://127.0.0.1:{port}", "http://", f"http://evil.example:{port}", f"file://127.0.0.1:{port}",
    ):  # fmt: skip
        yield Forged(name=f"page of {origin}", headers=(("Origin", origin),))
        yield event_request(target, f"post from {origin}", "begin", {}, route="run/predict") | _with(
            "Origin", origin
        )
    preflight = (("Origin", "http://evil.example"), ("Access-Control-Request-Method", "POST"))
    yield Forged(name="preflight", method="OPTIONS", path=f"{API}queue/join", headers=preflight)
    for site in ("cross-site", "same-site"):
        yield Forged(name=f"picture for a {site} page", path="/config", headers=(("Sec-Fetch-Site", site),))
        yield event_request(target, f"{site} post", "begin", {}) | _with("Sec-Fetch-Site", site)


class _With:
    """A further header for a request: `request | _with(name, value)`."""

    def __init__(self, name: str, value: str):
        self._more = (name, value)

    def __ror__(self, request: Forged) -> Forged:
        return replace(request, headers=(*request.headers, self._more))


def _with(name: str, value: str) -> _With:
    return _With(name, value)


def _routes(target: Target) -> Iterator[Forged]:
    secret = quote(str(target.text))
    for path in (
        f"{API}proxy=http://127.0.0.1:{urlsplit(target.address).port}/config", f"{API}proxy=file://{secret}",
        f"{API}file/{secret}", f"/file{secret}", f"/file={secret}", f"{API}stream/x/playlist.m3u8",
        f"{API}stream/a/b/1/playlist-file", f"{API}stream/a/b/1/..%2f..%2f.ts", f"/assets/../../../../../..{secret}",
        f"/static/..%2f..%2f..%2f..%2f..%2f..{secret}", f"/svelte/....//....//{secret}", "/monitoring",
        "/monitoring/summary", f"{API}vibe-code", f"{API}info", f"{API}openapi.json", f"{API}deep_link", "/docs",
        "/openapi.json", "/login", "/logout", f"{API}user", f"{API}token", f"{API}dev/reload", f"{API}queue/status",
        f"{API}custom_component/../client/component/index.js", f"{API}runs", f"{API}profiling/traces", "/.git/config",
        f"/pwa_icon/../../..{secret}", "//evil.example/", "/%00", "/config/../..", "/assets/..\\..\\x",
    ):  # fmt: skip
        yield Forged(name=f"route {path[:60]}", path=path)
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "POST", "BREW"):
        yield Forged(name=f"{method} /", method=method)
    for path in (
        "process_recording", "vibe-edit", "undo-vibe-edit", "stream/x", "stream/x/close", "call/begin",
        "call/v2/begin", "api/predict", "run-history/connect", "vibe-starter-queries",
    ):  # fmt: skip
        yield _join(target, f"POST {path}", {"data": []}, route=path)


def _served_files(target: Target) -> Iterator[Forged]:
    folder = Path(target.own).parents[3]
    names = [
        str(target.text), str(target.picture), str(target.link), target.others, "/etc/passwd", "../../etc/passwd",
        f"{Path(target.own).parent}/../../../../lock", str(folder.parent / "lock"), str(folder), "/proc/self/environ",
        "/dev/zero", f"/{target.text}", "http://127.0.0.1:1/x.png", "http://localhost/", "file:///etc/passwd",
        f"{target.own}%00", "~/.bashrc", f"{target.own}/../../x", "",
    ]  # fmt: skip
    for name in names:
        for way in (quote(name, safe="/:%"), quote(name, safe=""), quote(quote(name, safe=""), safe="")):
            yield Forged(name=f"file {way[:70]}", path=f"{API}file={way}")
    yield Forged(name="own file without the cookie", path=f"{API}file={quote(target.own)}", cookie=False)


def _image_values(target: Target) -> Iterator[Forged]:
    """Files as the value of the image: without `meta`, Gradio looks at none of them."""
    meta = {"meta": {"_type": "gradio.FileData"}}
    paths: list[Any] = [
        str(target.picture), str(target.text), str(target.link), target.others, "/etc/passwd", "/etc/shadow", "/",
        "/tmp", "/nowhere/at/all.png", "../../../etc/passwd", "~/x.png", "/proc/self/environ", "/dev/zero",
        "/dev/stdin", f"{target.own}/../../../visitors", f"{Path(target.own).parent}/../../{Path(target.others).name}",
        "x" * 100_000,
        target.own + "\x00", "/a\x00b", "http://127.0.0.1:1/x.png", "https://example.invalid/x.png", "\ud800",
        "file:///etc/passwd", "data:image/png;base64,AAAA", 7, ["/etc/passwd"], {"path": "/etc/passwd"}, True, 1e308,
    ]  # fmt: skip
    for path in paths:
        for more in ({}, meta):
            kind = f"image {str(path)[:50]!r}{' with meta' if more else ''}"
            yield event_request(target, kind, "check", {0: {"path": path, **more}})
            yield event_request(target, f"run, {kind}", "ask", {0: {"path": path, **more}})
    own = {"path": target.own, **meta}
    yield event_request(target, "value with a stream", "check", {0: {**own, "is_stream": True}})
    yield event_request(target, "value with more", "check", {0: {**own, "exec": "__import__('os')"}})
    yield event_request(target, "value as a list", "check", {0: [own]})
    yield event_request(target, "file as a prompt", "ask", {1: {"path": str(target.text), **meta}})
    yield event_request(target, "files as models", "ask", {2: [{"path": str(target.text), **meta}]})
    yield event_request(target, "own image without the cookie", "check", {0: own}, cookie=False)


def _wrong_bodies(target: Target) -> Iterator[Forged]:
    number, sound = target.events["begin"]
    sound_body = {"fn_index": number, "trigger_id": 0, "data": sound, "session_hash": "forged1"}
    bodies: dict[str, object] = {
        "empty": b"", "no JSON": b"{", "a list": [], "a text": "x", "null": None, "not UTF-8": b"\xff\xfe{}",
        "nesting": b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "digits": b'{"session_hash":"a","fn_index":' + b"9" * 5000 + b',"data":[]}',
        "NaN": b'{"session_hash":"a","fn_index":NaN,"data":[]}', "huge": b'{"data":"' + b"x" * 3_000_000 + b'"}',
        "a key twice": b'{"fn_index":0,"fn_index":1,"session_hash":"a","data":[]}',
        "many values": {**sound_body, "data": [0] * 50_000}, "no event": {**sound_body, "fn_index": 10_000},
        "event as text": {**sound_body, "fn_index": "0"}, "event as truth": {**sound_body, "fn_index": True},
        "no session": {**sound_body, "session_hash": None}, "session as list": {**sound_body, "session_hash": []},
        "session as path": {**sound_body, "session_hash": "../x"},
        "long session": {**sound_body, "session_hash": "a" * 999},
        "too few values": {**sound_body, "data": []}, "too many values": {**sound_body, "data": [*sound, 1]},
        "values as object": {**sound_body, "data": {"0": ""}}, "batched": {**sound_body, "batched": True},
        "simple": {**sound_body, "simple_format": True}, "event id": {**sound_body, "event_id": "x"},
        "trigger as text": {**sound_body, "trigger_id": "x"}, "event data": {**sound_body, "event_data": {"index": 0}},
        "own request": {**sound_body, "request": {"headers": {}}}, "prototype": {**sound_body, "__proto__": {}},
    }  # fmt: skip
    for name, body in bodies.items():
        for route in ("queue/join", "run/predict", "component_server", "cancel"):
            if (
                route == "cancel"
                and isinstance(body, dict)
                and set(body) <= {"session_hash", "fn_index", "event_id"}
            ):
                continue
            yield _join(target, f"{name} to {route}", body, route=route)


def _wrong_values(target: Target) -> Iterator[Forged]:
    for name, changes in {
        "prompt as list": {1: ["x"]}, "prompt as number": {1: 7}, "long prompt": {1: "x" * 500_000},
        "models as text": {2: "../../x"}, "models as object": {2: {"a": 1}}, "unknown model": {2: ["/etc/passwd"]},
        "model by path": {2: [str(target.picture.parent / "evil.pt")]}, "no models": {2: None},
        "lens by path": {3: "/etc/passwd"}, "lens as list": {3: ["ridge"]}, "site by name": {4: "__class__"},
        "site as object": {4: {}}, "tokens as text": {5: "64"}, "tokens without end": {5: 10**15},
        "negative tokens": {5: -1}, "tokens as truth": {5: True}, "tokens as object": {5: {"$gt": 0}},
    }.items():  # fmt: skip
        yield event_request(
            target, name, "ask", {0: {"path": target.own, "meta": {"_type": "gradio.FileData"}}, **changes}
        )
    for said in (None, {}, {"index": "0"}, {"index": -1}, {"index": 10**9}, {"index": [0, 1]}, [], {"index": 0, "x": 1},
                 {"index": 0, "value": {"image": {"path": str(target.text)}}}):  # fmt: skip
        yield event_request(target, f"choice {said!r:.40}", "take", {}, fields={"event_data": said})


def _calls(target: Target) -> Iterator[Forged]:
    def call(name: str, function: object, data: object, component: object = target.canvas) -> Forged:
        body = {"fn_name": function, "component_id": component, "data": data}
        return _join(target, f"call {name}", body, route="component_server")

    guessed = {"session": secrets.token_urlsafe(24), "run": 1}
    mine = {"session": target.secret, "run": 1}
    for function in ("payload", "words", "attribute", "save"):
        yield call(
            f"{function} of a guessed session", function, {**guessed, "format": "zip", "model": 0, "word": 0}
        )
        yield call(f"{function} before any run", function, {**mine, "format": "zip", "model": 0, "word": 0})
    for session in (None, 7, [], {}, "", "../x", "x" * 100_000, True, target.secret[:-1]):
        yield call(f"session {session!r:.20}", "payload", {"session": session, "run": 1})
    for run in (None, "1", [], -1, 10**18, 1.5, {"$ne": 0}):
        yield call(f"run {run!r}", "payload", {**mine, "run": run})
    for name in ("preprocess", "__init__", "__class__", "launch", "exec", None, 7, ["payload"]):
        yield call(f"function {name!r}", name, mine)
    for component in (0, 1, -1, 10**9, "19", None, [], target.canvas + 1):
        yield call(f"component {component!r}", "payload", mine, component)
    for data in (None, [], "x", 7, [mine], {"session": target.secret, "run": 1, "places": {"0": 0}}):
        yield call(f"data {data!r:.20}", "words", data)
    for more in (
        {"format": "exe"}, {"format": None}, {"format": "png", "layer": "x"}, {"format": "html", "look": {"a": {}}},
        {"format": "../../x"}, {"format": "png", "colours": "../../x", "scale": "evil"},
        {"format": "zip", "place": "/"}, {"format": "png", "kind": "__class__"}, 
        {"format": "html", "look": {"prompt": "</script><script>" * 999}},
    ):  # fmt: skip
        yield call(f"save {more!r:.40}", "save", {**mine, **more})


def _uploads(target: Target) -> Iterator[Forged]:
    form = ("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")

    def bring(name: str, content: bytes, *headers: tuple[str, str], **more: Any) -> Forged:
        given = headers or (form,)
        return Forged(
            name=f"upload {name}", method="POST", path=f"{API}upload", body=content, headers=given, **more
        )

    picture = part("x.png", png())
    yield bring("without a cookie", picture, cookie=False)
    yield bring(
        "with a forged cookie", picture, form, ("Cookie", f"{target.cookie.split('=')[0]}=a.b"), cookie=False
    )
    yield bring("that is too large", part("x.png", bytes(26 * 2**20)))
    yield bring("of no form", png(), ("Content-Type", "image/png"))
    yield bring("of a broken form", b"--" + BOUNDARY.encode() + b"\r\n\r\n")
    yield bring("without a boundary", picture, ("Content-Type", "multipart/form-data"))
    yield bring("of an unknown length", b"0\r\n\r\n", form, ("Transfer-Encoding", "chunked"))
    yield bring("of two lengths", picture, form, ("Content-Length", "1"))
    for name in (
        "../../../../forged.png",
        "..%2f..%2fforged.png",
        "/tmp/forged.png",
        "..",
        ".",
        "a" * 5000,
        "CON",
        "\x01",
    ):
        yield bring(f"named {name[:30]!r}", part(name, png()), answer_is_public=True)
    evil = b"cos\nsystem\n(S'touch " + str(target.picture.parent / "executed").encode() + b"'\ntR."
    yield bring("of a pickle", part("evil.pt", evil), answer_is_public=True)
    yield bring("of a page", part("evil.html", b"<script>alert(1)</script>"), answer_is_public=True)


def part(name: str, content: bytes) -> bytes:
    """A form with one file."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    return head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def png(colour: str = "red") -> bytes:
    """A small picture."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(stream, "PNG")
    return stream.getvalue()
