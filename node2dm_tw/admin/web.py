"""The views by HTTP: the status page, /events, /stats, /metrics, /healthz and /readyz."""

import json
from collections.abc import Callable
from importlib import resources
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.web import server
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from node2dm_tw.admin.events import Pages
from node2dm_tw.admin.health import Health
from node2dm_tw.admin.telnet import Snapshot
from node2dm_tw.stats import as_json

SECURITY = {
    b"Content-Security-Policy": b"default-src 'none'; script-src 'self'; style-src 'self';"
    b" img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none';"
    b" frame-ancestors 'none'",
    b"X-Content-Type-Options": b"nosniff",
    b"Referrer-Policy": b"no-referrer",
    b"Cross-Origin-Resource-Policy": b"same-origin",
    b"Cache-Control": b"no-store",
}
"""Headers of every answer."""

PAGE = {
    b"": ("index.html", "text/html; charset=utf-8"),
    b"page.css": ("page.css", "text/css; charset=utf-8"),
    b"page.js": ("page.js", "text/javascript; charset=utf-8"),
    b"plot.js": ("plot.js", "text/javascript; charset=utf-8"),
    b"icon.svg": ("icon.svg", "image/svg+xml"),
}
"""The files of the status page by their paths, and their types."""

NO_METRICS = (
    b"Metrics want the extra `metrics`: pip install node2dm_tw[metrics],"
    b" then start the gateway again.\n"
)

MAX_BODY = 1024 * 1024
"""Bytes of a request's body."""

TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

READ: tuple[bytes, ...] = (b"GET", b"HEAD")

Render = Callable[[str], tuple[str, bytes]]


@attrs.frozen
class Answer:
    """What a request is answered."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()


NOT_HERE = Answer(b"there is nothing here\n", status=404)
NO_PUSHES = Answer(
    b"Pushes by HTTP want a push_token, and none is configured; they can come by UDP.\n", status=403
)


def _json(values: Any, status: int = 200) -> Answer:
    return Answer(json.dumps(values).encode() + b"\n", "application/json", status)


@attrs.frozen
class Views:
    """What the answers are made of.

    Args:
        snapshot: see `node2dm_tw.stats.Stats.snapshot`.
        health: judges it.
        pages: those that are open.
        metrics: renders it for a header `Accept`; None without the extra.
    """

    snapshot: Snapshot
    health: Health
    pages: Pages
    metrics: Render | None

    def stats(self, request: Request) -> Answer:
        """/stats: the snapshot."""
        return Answer(as_json(self.snapshot()) + b"\n", "application/json")

    def render_metrics(self, request: Request) -> Answer:
        """/metrics: the snapshot for Prometheus."""
        if self.metrics is None:
            return Answer(NO_METRICS, status=501)
        content_type, body = self.metrics(request.getHeader("accept") or "")
        return Answer(body, content_type)

    def healthz(self, request: Request) -> Answer:
        """/healthz: whoever can answer is alive."""
        return Answer(b"alive\n")

    def readyz(self, request: Request) -> Answer:
        """/readyz, of the process or, with ?route=NAME, of a route too."""
        snapshot = self.snapshot()
        named = (request.args or {}).get(b"route")
        route = named[0].decode("utf-8", "replace") if named else None
        if route is not None and route not in snapshot["routes"]:
            return _json({"error": "there is no such route"}, 404)
        report = self.health.report(snapshot, route)
        return _json(report.as_json(), 200 if report.is_ready else 503)

    def events(self, request: Request) -> Answer | None:
        """/events: what the page shows, from now on."""
        if self.pages.is_full:
            return Answer(
                b"too many pages are open\n", status=503, headers=((b"Retry-After", b"60"),)
            )
        if request.method == b"GET":
            self.pages.open(request)
        return None if request.method == b"GET" else Answer(b"", "text/event-stream")


class _Leaf(Resource):
    """One address, as a rule to be read, and only read."""

    isLeaf = True

    def __init__(
        self, answer: Callable[[Request], Answer | None], methods: tuple[bytes, ...] = READ
    ) -> None:
        """Answer requests with what `answer` makes; None: it answers by itself, later."""
        Resource.__init__(self)
        self._answer = answer
        self._methods = methods

    def render(self, request: Request) -> bytes | int:
        for name, value in SECURITY.items():
            request.setHeader(name, value)
        if request.method not in self._methods:
            allowed = b", ".join(self._methods)
            answer: Answer | None = Answer(
                allowed + b" alone\n", status=405, headers=((b"Allow", allowed),)
            )
        elif vars(request).get("postpath"):
            answer = NOT_HERE
        else:
            answer = self._answer(request)
        if answer is None:
            return NOT_DONE_YET
        request.setResponseCode(answer.status)
        request.setHeader(b"Content-Type", answer.content_type)
        for name, value in answer.headers:
            request.setHeader(name, value)
        return answer.body


class _Folder(Resource):
    """What stands nowhere else is not there, nor is the folder itself."""

    def getChild(self, path: bytes, request: Request) -> Resource:
        return _Leaf(lambda request: NOT_HERE)

    def render(self, request: Request) -> bytes | int:
        return _Leaf(lambda request: NOT_HERE).render(request)


class _Request(server.Request):
    """Takes a body of up to `MAX_BODY` bytes; a longer one ends the connection."""

    def handleContentChunk(self, data: bytes) -> None:
        content: Any = self.content
        if content.tell() > MAX_BODY:
            return  # of what comes until the connection is closed nothing is kept
        server.Request.handleContentChunk(self, data)
        if content.tell() > MAX_BODY:
            channel: Any = self.channel
            channel.transport.write(TOO_LARGE)
            channel.transport.loseConnection()


class _Quiet(Site):
    """Logs no requests: a line for each would drown what is worth reading."""

    requestFactory = _Request
    displayTracebacks = False
    noisy = False

    def log(self, request: Request) -> None:
        pass


def make_site(views: Views, clock: IReactorTime) -> Site:
    """Put the addresses together. More may be added to the site's `resource`.

    Args:
        clock: for idle connections, which are closed after a minute.
    """
    root: Any = _Folder()  # type: ignore[no-untyped-call]
    version: Any = _Folder()  # type: ignore[no-untyped-call]
    folder = resources.files("node2dm_tw.admin") / "page"
    for path, (name, content_type) in PAGE.items():
        root.putChild(path, _file(Answer((folder / name).read_bytes(), content_type)))
    root.putChild(b"stats", _Leaf(views.stats))
    root.putChild(b"metrics", _Leaf(views.render_metrics))
    root.putChild(b"healthz", _Leaf(views.healthz))
    root.putChild(b"readyz", _Leaf(views.readyz))
    root.putChild(b"events", _Leaf(views.events))
    root.putChild(b"v1", version)
    version.putChild(b"push", _Leaf(lambda request: NO_PUSHES, (b"POST",)))
    return _Quiet(root, timeout=60, reactor=clock)  # type: ignore[no-untyped-call]


def _file(answer: Answer) -> _Leaf:
    return _Leaf(lambda request: answer)
