"""What stands before Streamlit: under which names the page is served, and to which pages it answers."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from apps.explorer.gate import name_of

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

OWN_NAMES = ("127.0.0.1", "localhost", "[::1]")
"""Of this machine, under which the page is always served."""
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; "
    "frame-src 'none'; frame-ancestors 'none'; base-uri 'self'; form-action 'self'; object-src 'none'"
)
"""No request leaves for another server, whatever stands in a question or an answer."""
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_CLOSED = ("/_stcore/upload_file", "/_stcore/metrics")
"""Nothing is uploaded here, and nobody counts."""
DOCUMENT_PATH = "/documents/"
"""Where documents have their addresses. They take the server's time: not even links of other sites lead there."""


class CasebookGate:
    """An ASGI application that hands on what it lets through.

    Args:
        app: the page.
        hosts: names under which it is served, beside this machine's own.
        proxied: further ones, which a proxy before this server has.
    """

    def __init__(self, app: Any, *, hosts: Iterable[str] = (), proxied: Iterable[str] = ()):
        self._app = app
        self._hosts = {name_of(host) for host in (*OWN_NAMES, *hosts, *proxied)}

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        refusal = self._refusal(scope)
        if refusal is None:
            return await self._app(scope, receive, _sealed(send))
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        body = refusal.encode()
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
        await _sealed(send)({"type": "http.response.start", "status": 403, "headers": headers})
        return await send({"type": "http.response.body", "body": body})

    def _refusal(self, scope: _Scope) -> str | None:
        given: dict[bytes, list[str]] = {}
        for key, value in scope["headers"]:
            given.setdefault(key, []).append(value.decode("latin-1"))
        asked = [*given.get(b"host", []), *given.get(b"x-forwarded-host", [])]
        names = [name_of(each.strip()) for value in asked for each in value.split(",")]
        if not names or any(name not in self._hosts for name in names):
            return "The casebook is not served under this name; --allow-host NAME adds one."
        origins = given.get(b"origin", [])
        if any(name_of(each.partition("://")[2]) not in self._hosts for each in origins):
            return "The casebook answers its own page alone."
        if scope["type"] == "websocket" and not origins:
            return "The casebook answers its own page alone."
        fetched = given.get(b"sec-fetch-site", [""])[0]
        arrives = scope.get("method") == "GET" and given.get(b"sec-fetch-mode") == ["navigate"]
        arrives = arrives and not scope["path"].startswith(DOCUMENT_PATH)
        if fetched in ("cross-site", "same-site") and not arrives:
            return "The casebook answers its own page alone."
        if any(scope["path"].startswith(each) for each in _CLOSED):
            return "The casebook takes no files."
        return None


def _sealed(send: _Send) -> _Send:
    async def seal(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
        await send(message)

    return seal
