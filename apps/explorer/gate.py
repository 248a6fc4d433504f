"""What stands before Gradio: who may ask, for what, from which page; everything else gets a sentence and no more."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, MutableMapping
from contextlib import asynccontextmanager
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import anyio.to_thread

from apps.explorer.forms import BUDGET, Forms
from apps.explorer.uploads import NOT_YOURS, Uploads
from emma_viz.errors import ImageError, InputError

Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_HERE = ("127.0.0.1", "localhost", "[::1]")
"""Names of this machine, under which the page is always served."""
SLACK = 64 * 1024
"""Bytes of an upload's request beside the file."""

API = "/gradio_api/"
_READ = re.compile(
    r"/|/(theme\.css|config|favicon\.ico|manifest\.json|robots\.txt|pwa_icon(/\d{1,4})?)"
    r"|/(assets|static|svelte)/[\w./-]+"
    rf"|{API}(app_id|startup-events|queue/data|upload_progress|heartbeat/\w{{1,64}}|theme\.css)"
)
"""Paths that the page reads. Gradio has many more, which this page does not use."""
_FILE = f"{API}file="
SAID = {f"{API}{name}": name for name in ("queue/join", "run/predict", "component_server", "cancel")}
"""Paths that the page sends JSON to, without a slash at the end → what `Forms` calls them."""
UPLOAD = f"{API}upload"

_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+?)\.?(?::(\d{1,5}))?", re.ASCII)


class Refused(Exception):  # noqa: N818 (an answer)
    """A request that is answered with a sentence."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status


class Gate:
    """An ASGI application that hands on what it lets through.

    Args:
        forms: what requests may say.
        uploads: where files are.
        cookie: the name of the cookie that holds a visitor's token.
        largest: bytes of the largest file.
        hosts: names under which the page is served, beside this machine's own.
        proxied: of these, those that a proxy before this server has, which may not hand on its own name.
        frames: origins whose pages may show this one in a frame.
    """

    def __init__(
        self,
        *,
        forms: Forms,
        uploads: Uploads,
        cookie: str,
        largest: int,
        hosts: Iterable[str] = (),
        proxied: Iterable[str] = (),
        frames: Iterable[str] = (),
    ):
        self._forms, self._uploads, self._cookie, self._largest = forms, uploads, cookie, largest
        self._app: Any = None
        self._arriving = asyncio.Lock()
        self.hosts = {name_of(host) for host in (*_HERE, *hosts, *proxied)}
        self._proxied = {name_of(host) for host in proxied}
        self._frames = tuple(frames)

    @asynccontextmanager
    async def before(self, app: Any) -> AsyncGenerator[None, None]:
        """Stand before an application of Starlette's from its start on: a `lifespan`."""
        self._app, app.middleware_stack = app.middleware_stack, self
        yield

    async def __call__(self, scope: Scope, receive: _Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close"})
        headers = _headers(scope)
        visitor = self._visitor(headers)
        made = self._uploads.visitor() if not visitor and scope["path"] == "/" else ""
        send = self._sealing(send, made)
        try:
            self._require_ours(scope, headers)
            await self._answer(scope, receive, send, headers, visitor)
        except Refused as refused:
            await _say(send, refused.status, {"detail": str(refused)})
        return None

    def _visitor(self, headers: dict[str, str]) -> str:
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return ""
        return morsel.value if morsel and self._uploads.known(morsel.value) else ""

    def _require_ours(self, scope: Scope, headers: dict[str, str]) -> None:
        """Refuse foreign names, foreign pages and routes that the page does not use."""
        asked = [value for key, value in scope["headers"] if key in (b"host", b"x-forwarded-host")]
        names = [name_of(each.strip()) for value in asked for each in value.decode("latin-1").split(",")]
        if not names or any(name not in self.hosts for name in names):
            raise Refused(403, "The explorer is not served under this name; --allow-host NAME adds one.")
        fetched = headers.get("sec-fetch-site", "")
        arrives = (
            scope["method"] == "GET" and scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"
        )
        if fetched in ("cross-site", "same-site") and not arrives:
            raise Refused(403, "The explorer answers its own page alone.")
        origin = headers.get("origin")
        if origin is not None and fetched != "same-origin" and not self._is_ours(origin, headers):
            raise Refused(403, "The explorer answers its own page alone.")

    def _is_ours(self, origin: str, headers: dict[str, str]) -> bool:
        scheme, _, authority = origin.partition("://")
        if scheme not in ("http", "https") or name_of(authority) not in self.hosts:
            return False
        hosts = [headers.get("host", ""), *headers.get("x-forwarded-host", "").split(",")]
        same = any(_whole(authority, scheme) == _whole(host.strip(), scheme) for host in hosts if host)
        return same or name_of(authority) in self._proxied

    async def _answer(
        self, scope: Scope, receive: _Receive, send: Send, headers: dict[str, str], visitor: str
    ) -> None:
        path, method = scope["path"], scope["method"]
        said = SAID.get(path.rstrip("/"))
        if method in ("GET", "HEAD") and path.startswith(_FILE):
            name = path[len(_FILE) :]
            if not any(self._uploads.may_see(visitor, each) for each in (name, unquote(name))):
                raise Refused(404, NOT_YOURS)
        elif method == "POST" and said:
            body = await _body(receive)
            try:
                self._forms.read(said, body, lambda file: self._uploads.may_see(visitor, file))
            except InputError as error:
                raise Refused(400, str(error)) from None
            receive = _replay(body, receive)
        elif method == "POST" and path == UPLOAD:
            return await self._upload(scope, receive, send, headers, visitor)
        elif method not in ("GET", "HEAD") or not _READ.fullmatch(path):
            raise Refused(404, "The explorer has no such page.")
        return await self._app(scope, receive, send)

    async def _upload(
        self, scope: Scope, receive: _Receive, send: Send, headers: dict[str, str], visitor: str
    ) -> None:
        """Let Gradio take a file, and move it to the visitor's own folder before anybody hears of it."""
        length = headers.get("content-length", "")
        if not (length.isascii() and length.isdecimal() and len(length) < 16):
            raise Refused(411, "An upload says how long it is.")
        if int(length) > self._largest + SLACK:
            raise Refused(413, f"A file may have {self._largest / 2**20:.0f} MB; make it smaller.")
        try:
            room = self._uploads.room(visitor, int(length))
            await anyio.to_thread.run_sync(room.__enter__)
        except InputError as error:
            raise Refused(413 if visitor else 403, str(error)) from None
        arrived = False

        async def whole() -> MutableMapping[str, Any]:
            # From here to `adopt` one at a time: Gradio gives files of one content one place.
            nonlocal arrived
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body") and not arrived:
                await self._arriving.acquire()
                arrived = True
            return message

        try:
            # Compressed, the answer could not be read here.
            scope["headers"] = [(key, value) for key, value in scope["headers"] if key != b"accept-encoding"]
            reply = _Held(send)
            await self._app(scope, whole, reply)
            if reply.status != 200:
                return await reply.pass_on()
            try:
                paths = [str(self._uploads.adopt(visitor, Path(each))) for each in json.loads(reply.body)]
            except (ImageError, OSError):
                raise Refused(400, NOT_YOURS) from None
            return await _say(send, 200, paths)
        finally:
            if arrived:
                self._arriving.release()
            room.__exit__(None, None, None)

    def _sealing(self, send: Send, made: str) -> Send:
        """Add what keeps other pages out to every answer, and take away what would let them in."""
        around = " ".join(self._frames) if self._frames else "'none'"
        # A browser sends a cookie to a page in another page's frame only if it says so, and is secure.
        kind = "None; Secure; Partitioned" if self._frames else "Lax"
        ours = [
            (b"content-security-policy", f"frame-ancestors {around}".encode("latin-1")),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"same-origin"),
            *([] if self._frames else [(b"x-frame-options", b"DENY")]),
        ]
        if made:
            ours.append((b"set-cookie", f"{self._cookie}={made}; Path=/; HttpOnly; SameSite={kind}".encode()))

        async def sealed(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                kept = [
                    (key, value)
                    for key, value in message.get("headers", ())
                    if not key.lower().startswith(b"access-control-")
                ]
                message = {**message, "headers": kept + ours}
            await send(message)

        return sealed


class _Held:
    """A `send` that holds an answer back until it is known what becomes of it."""

    def __init__(self, send: Send):
        self._send, self._messages = send, list[MutableMapping[str, Any]]()

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        self._messages.append(message)

    @property
    def status(self) -> int:
        """The answer's; 500 when there was none."""
        return self._messages[0]["status"] if self._messages else 500

    @property
    def body(self) -> bytes:
        """The answer's, whole."""
        return b"".join(each.get("body", b"") for each in self._messages)

    async def pass_on(self) -> None:
        """Send it after all."""
        for message in self._messages:
            await self._send(message)


def name_of(authority: str) -> str:
    """The host of `host:port`, in small letters and without the port; empty when it is no such thing."""
    text = authority.strip().lower()
    if text.count(":") > 1 and not text.startswith("["):
        text = f"[{text}]"  # an address of IPv6, as --host takes it
    found = _AUTHORITY.fullmatch(text)
    return found.group(1) if found else ""


def _whole(authority: str, scheme: str) -> tuple[str, str]:
    """Host and port, the scheme's own where none is named."""
    found = _AUTHORITY.fullmatch(authority.lower())
    port = (found.group(2) if found else "") or {"http": "80", "https": "443"}[scheme]
    return name_of(authority), port


def _headers(scope: Scope) -> dict[str, str]:
    return {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}


async def _body(receive: _Receive) -> bytes:
    """A request's body, within the budget of `Forms`."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "The request ended early.")
        body += message.get("body", b"")
        if len(body) > BUDGET.size:
            raise Refused(413, f"A request may have {BUDGET.size // 1024} kB.")
        if not message.get("more_body"):
            return body


def _replay(body: bytes, receive: _Receive) -> _Receive:
    """A `receive` that gives a body that has been read already, and then what comes after it."""
    rest = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> MutableMapping[str, Any]:
        return rest.pop() if rest else await receive()

    return again


async def _say(send: Send, status: int, content: object) -> None:
    body = json.dumps(content).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
