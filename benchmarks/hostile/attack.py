"""A server of the explorer that has to answer every forged request, and what comes of it.

    python -m benchmarks.hostile.attack

Each request is sent by itself. What counts is what comes back: a planted secret, a traceback in the server's log, an
answer that does not come, a file beside the server's folder that was not there.
"""

import http.client
import json
import secrets
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from benchmarks.hostile.requests import (
    API,
    BOUNDARY,
    Forged,
    Target,
    event_request,
    forged_requests,
    part,
    png,
)
from tests.apps.visiting import serving

PATIENCE = 20.0
"""Seconds after which a request counts as hanging."""


@dataclass(kw_only=True)
class Counts:
    """What came of it."""

    tried: int = 0
    executed: int = 0
    """Planted programs that ran."""
    given_away: list[str] = field(default_factory=list)
    """Requests that were answered with a secret, or as if they were sound."""
    oracles: list[str] = field(default_factory=list)
    """Requests for files whose refusal differs from the others'."""
    failed: list[str] = field(default_factory=list)
    """Requests that were answered with a 5xx."""
    hangs: list[str] = field(default_factory=list)
    tracebacks: int = 0
    touched: list[str] = field(default_factory=list)
    """Files that are new or gone around the planted ones."""

    @property
    def clean(self) -> bool:
        """Whether nothing went wrong."""
        found = (
            self.executed,
            self.given_away,
            self.oracles,
            self.failed,
            self.hangs,
            self.tracebacks,
            self.touched,
        )
        return not any(found)


@dataclass(frozen=True)
class Reply:
    """What a request got: status 0 when nothing came in time, 1 when the connection was closed without an answer."""

    status: int
    text: str
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def refusal(self) -> str:
        """The sentence of a refusal; empty when the request was taken."""
        if self.status == 1 or 400 <= self.status < 500:
            return self.text or "refused"
        for sign in ('"error": "', '"error":"', '\\"stage\\": \\"error\\"', '"success":false'):
            if sign in self.text:
                return self.text
        return ""


def send(target: Target, request: Forged) -> Reply:
    """Send a request and hear its answer, and what becomes of an event that was taken."""
    reply = _exchange(target, request)
    taken = reply.status == 200 and request.path == f"{API}queue/join" and request.stream
    if not taken:
        return reply
    news = Forged(name="news", path=f"{API}queue/data?session_hash={request.stream}")
    return _exchange(target, news, until="process_completed")


def _exchange(target: Target, request: Forged, until: str = "") -> Reply:
    place = urlsplit(target.address)
    line = http.client.HTTPConnection(place.hostname or "", place.port, timeout=PATIENCE)
    try:
        # What http.client refuses to send, others do send.
        setattr(line, "_validate_path", lambda _path: None)  # noqa: B010
        line.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
        if request.host is not None:
            line.putheader("Host", request.host or place.netloc)
        if request.cookie and target.cookie:
            line.putheader("Cookie", target.cookie)
        if not any(name in ("Transfer-Encoding",) for name, _ in request.headers):
            line.putheader("Content-Length", str(len(request.body)))
        for name, value in request.headers:
            line.putheader(name, value)
        line.endheaders()
        with suppress(BrokenPipeError, ConnectionResetError):  # it may answer before it has read all
            line.send(request.body)
        answer = line.getresponse()
        return Reply(answer.status, _text(answer, until), dict(answer.getheaders()))
    except TimeoutError:
        return Reply(0, "")
    except (http.client.HTTPException, ConnectionError):
        return Reply(1, "")
    finally:
        line.close()


def _text(answer: http.client.HTTPResponse, until: str) -> str:
    """The answer's text; of a stream, as much as comes before it waits."""
    if "event-stream" not in (answer.getheader("Content-Type") or ""):
        return answer.read().decode("utf-8", "replace")
    found = ""
    while line := answer.readline().decode("utf-8", "replace"):
        found += line
        if not until or until in line:
            break
    return found


def scout(address: str, folder: Path) -> Target:
    """Visit a server honestly, so that it can be attacked; plants secrets in a folder."""
    token = f"secret{secrets.token_hex(12)}"
    (folder / "text.txt").write_text(token)
    Image.new("RGB", (16, 16), "blue").save(folder / "picture.png")
    (folder / "link.png").symlink_to(folder / "picture.png")
    target = Target(address=address, events={}, canvas=0, token=token)
    target.text, target.picture, target.link = (
        folder / each for each in ("text.txt", "picture.png", "link.png")
    )
    uploads = []
    for colour in ("green", "red"):  # the second visitor is the one that attacks
        first = _exchange(target, Forged(name="page", cookie=False))
        target.cookie = first.headers["set-cookie"].split(";")[0]
        bring = Forged(
            name="upload", method="POST", path=f"{API}upload", body=part("mine.png", png(colour)),
            headers=(("Content-Type", f"multipart/form-data; boundary={BOUNDARY}"),),
        )  # fmt: skip
        uploads.append(json.loads(_exchange(target, bring).text)[0])
    target.others, target.own = uploads
    config = json.loads(_exchange(target, Forged(name="config", path="/config")).text)
    kinds = {each["id"]: each["type"] for each in config["components"]}
    target.canvas = next(
        each["id"] for each in config["components"] if each["props"].get("elem_id") == "explorer-canvas"
    )
    for event in config["dependencies"]:
        inputs = [kinds[each] for each in event["inputs"]]
        causes = [what for _, what in event["targets"]]
        name = {
            ("textbox", "number"): "begin",
            ("image",): "check",
            ("image", "textbox", *["dropdown"] * 3, "slider", "checkbox", "number"): "ask",
        }.get(tuple(inputs), "take" if "select" in causes else "")
        sound = {"begin": ["", 1], "check": [None], "take": []}
        values = sound.get(name, [None, "What?", list(_models(config)), "ridge", "", 8, False, 1])
        if name:
            target.events.setdefault(name, (event["id"], values))
    begun = send(target, event_request(target, "begin", "begin", {}))
    found = begun.text.rsplit('\\"session\\": \\"', 1)
    target.secret = found[1].split("\\")[0] if len(found) > 1 else ""
    if not (target.secret and len(target.events) == 4):
        raise RuntimeError(f"the page is not as this attack expects it: {target.events}, {begun.text[:400]}")
    return target


def _models(config: dict[str, Any]) -> list[str]:
    props = [
        each["props"] for each in config["components"] if each["props"].get("elem_id") == "explorer-models"
    ]
    return props[0]["value"][:1]


def judge(request: Forged, reply: Reply, target: Target, counts: Counts) -> None:
    """Count what a reply shows."""
    counts.tried += 1
    said = f"{request.name}: {reply.status} {reply.text[:160]}"
    origin = reply.headers.get("access-control-allow-origin")
    if reply.status == 0:
        counts.hangs.append(said)
    elif reply.status >= 500:
        counts.failed.append(said)
    elif (
        target.token in reply.text
        or "root:" in reply.text
        or origin
        or (not reply.refusal and not request.answer_is_public)
    ):
        counts.given_away.append(said)


def attack(*options: str, kinds: slice = slice(None)) -> Counts:
    """Start a server, send it forged requests, and count what comes of them.

    Args:
        options: for the server's command line.
        kinds: which of the requests; a short part for tests.
    """
    counts = Counts()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place).resolve()
        log = folder / "server.log"
        with serving(*options, log=log) as (address, process):
            target = scout(address, folder)
            before = set(folder.iterdir())
            refusals: dict[str, list[str]] = {}
            for request in forged_requests(target)[kinds]:
                reply = send(target, request)
                judge(request, reply, target, counts)
                if (
                    request.name.startswith(("file ", "image "))
                    and reply.refusal
                    and "the request" not in reply.text
                ):
                    refusals.setdefault(f"{request.name.split()[0]} {reply.text}", []).append(request.name)
            for kind in ("file", "image"):
                found = sorted((names for text, names in refusals.items() if text.startswith(kind)), key=len)
                counts.oracles += [name for names in found[:-1] for name in names]
            alive = _exchange(target, Forged(name="page"))
            if alive.status != 200 or process.poll() is not None:
                counts.failed.append("the server does not serve any more")
            counts.touched = sorted(str(each) for each in set(folder.iterdir()) ^ before)
        counts.executed = int((folder / "executed").exists())
        counts.tracebacks = log.read_text(errors="replace").count("Traceback (most recent call last)")
        if counts.tracebacks:
            print(log.read_text(errors="replace")[-6000:], file=sys.stderr)
    return counts


if __name__ == "__main__":
    outcome = attack()
    for name, value in outcome.__dict__.items():
        print(f"{name}: {len(value) if isinstance(value, list) else value}")
        for line in value if isinstance(value, list) else ():
            print(f"    {line}")
    sys.exit(not outcome.clean)
