"""The views by HTTP: the status page, /events, /stats, /metrics, /healthz and /readyz."""

import json
from collections.abc import Callable, Collection, Mapping
from importlib import resources
from typing import Any, cast

import attrs
from twisted.internet.interfaces import IAddress
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from node2dm_tw.admin.connections import Connections
from node2dm_tw.admin.endpoints import BodyBudget, EndpointResource, find_endpoint
from node2dm_tw.admin.events import EventStreams
from node2dm_tw.admin.health import Health
from node2dm_tw.admin.lines import StatsLines, TakeSnapshot
from node2dm_tw.admin.origins import is_known_host, is_of_another_site
from node2dm_tw.admin.responses import (
    FAILED,
    NO_BODY,
    not_allowed,
    set_response,
    set_security_headers,
)
from node2dm_tw.admin.web_connection import HeadChannel, ViewRequest, WebConnection
from node2dm_tw.core.web import Endpoint, WebResponse

PAGE = {
    b"": ("index.html", "text/html; charset=utf-8"),
    b"page.css": ("page.css", "text/css; charset=utf-8"),
    b"page.js": ("page.js", "text/javascript; charset=utf-8"),
    b"plot.js": ("plot.js", "text/javascript; charset=utf-8"),
    b"push.js": ("push.js", "text/javascript; charset=utf-8"),
    b"openapi.json": ("openapi.json", "application/json"),
    b"icon.svg": ("icon.svg", "image/svg+xml"),
}
"""The files of the status page by their paths, and their types."""

NO_METRICS = b"/metrics needs prometheus-client (pip install prometheus-client) and a restart.\n"

READ: tuple[bytes, ...] = (b"GET", b"HEAD")

Render = Callable[[str], tuple[str, bytes]]


NOT_HERE = WebResponse(
    b"there is nothing here: expected /, /stats, /metrics, /healthz, /readyz or /v1/push\n",
    status=404,
)
OTHER_SITE = WebResponse(b"pages of other sites may not do this\n", status=403)
UNKNOWN_HOST = WebResponse(
    b"The gateway is not known under this name. Ask by IP address or as localhost, or add the"
    b" name to web_hosts in the section [node2dm] of its configuration.\n",
    status=421,
)


def _json(values: Any, status: int = 200) -> WebResponse:
    return WebResponse(json.dumps(values).encode() + b"\n", "application/json", status)


@attrs.frozen
class WebViews:
    """What the answers are made of.

    Args:
        snapshot: takes one, or gives that of a moment ago.
        lines: makes its lines, likewise.
        health: judges it.
        streams: the open streams of events.
        metrics: renders it for a header `Accept`; None without the extra.
    """

    snapshot: TakeSnapshot
    lines: Callable[[], StatsLines]
    health: Health
    streams: EventStreams
    metrics: Render | None

    def stats(self, request: Request) -> WebResponse:
        """/stats: the lines."""
        return WebResponse(self.lines().as_json() + b"\n", "application/json")

    def render_metrics(self, request: Request) -> WebResponse:
        """/metrics: the snapshot for Prometheus."""
        if self.metrics is None:
            return WebResponse(NO_METRICS, status=501)
        content_type, body = self.metrics(_header(request, b"accept") or "")
        return WebResponse(body, content_type)

    def healthz(self, request: Request) -> WebResponse:
        """/healthz: whoever can answer is alive."""
        return WebResponse(b"alive\n")

    def readyz(self, request: Request) -> WebResponse:
        """/readyz, of the process or, with ?route=NAME, of a route too."""
        snapshot = self.snapshot()
        named = (request.args or {}).get(b"route")
        route = named[0].decode("utf-8", "replace") if named else None
        if route is not None and route not in snapshot.routes:
            known = ", ".join(snapshot.routes)
            return _json({"error": f"there is no such route: expected one of {known}"}, 404)
        report = self.health.report(snapshot, route)
        return _json(report.as_json(), 200 if report.is_ready else 503)

    def events(self, request: Request) -> None:
        """/events: what the page shows, from now on."""
        self.streams.open(request)


def _header(request: Request, name: bytes) -> str | None:
    """Give the value of a header, whatever its bytes are."""
    value = request.getHeader(name)
    return None if value is None else value.decode("latin-1")


class _ViewResource(Resource):
    """One address, as a rule to be read, and only read."""

    isLeaf = True

    def __init__(self, answer: Callable[[Request], WebResponse | None]) -> None:
        """Answer requests with what `answer` makes; None: it answers by itself, later."""
        Resource.__init__(self)
        self._answer = answer

    def render(self, request: Request) -> bytes | int:
        cast(ViewRequest, request).leave_body()
        set_security_headers(request)
        answer = self._answer_to(request)
        if answer is None:
            return NOT_DONE_YET
        set_response(request, answer)
        return b"" if request.method == b"HEAD" else answer.body

    def _answer_to(self, request: Any) -> WebResponse | None:
        refusal = request.site.refuse(request)
        if refusal is not None:
            return refusal  # type: ignore[no-any-return]
        if request.method not in READ:
            return not_allowed(READ)
        if request.postpath:
            return NOT_HERE
        if request.body_length != 0:
            return NO_BODY
        try:
            return self._answer(request)
        except Exception:  # noqa: BLE001 - Twisted would log a traceback for every request
            request.site.connections.log_failure()
            return FAILED


class _NotFound(Resource):
    """What is nowhere else is not there, nor is the folder itself."""

    def getChild(self, path: bytes, request: Request) -> Resource:
        return _constant(NOT_HERE)

    def render(self, request: Request) -> bytes | int:
        return _constant(NOT_HERE).render(request)


class _SilentSite(Site):
    """Logs no requests: a line for each would drown what is worth reading."""

    protocol = HeadChannel  # type: ignore[assignment]  # HTTP/1.1, whatever else TLS would offer
    requestFactory = ViewRequest
    displayTracebacks = False
    noisy = False

    def __init__(
        self,
        root: Resource,
        connections: Connections,
        web_hosts: Callable[[], Collection[str]],
        endpoints: Mapping[bytes, Endpoint],
    ) -> None:
        """Answer from `root`, and what is the path of an endpoint from that."""
        clock = connections.turns.clock
        Site.__init__(self, root, timeout=None, reactor=clock)
        self.connections = connections
        self._web_hosts = web_hosts
        self._endpoints = endpoints
        self._bodies = BodyBudget()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        if self.connections.is_overrun:
            return None
        return WebConnection(self.connections, Site.buildProtocol(self, addr))

    def acceptableProtocols(self) -> list[bytes]:
        return [b"http/1.1"]

    def getResourceFor(self, request: Any) -> Any:
        found = find_endpoint(self._endpoints, request.path)
        if found is None:
            return Site.getResourceFor(self, request)
        request.site = self
        return EndpointResource(*found, self._bodies)

    def refuse(self, request: Request) -> WebResponse | None:
        """Give the answer to a request that a page of another site may be behind; else None."""
        hosts = request.requestHeaders.getRawHeaders(b"host", [])
        known = self._web_hosts()
        if not all(is_known_host(host.decode("latin-1"), known) for host in hosts if host):
            return UNKNOWN_HOST
        headers = (_header(request, name) for name in (b"sec-fetch-site", b"origin", b"host"))
        if request.method not in READ and is_of_another_site(*headers):
            return OTHER_SITE
        return None

    # Without a log of requests there is no file to open, and no date to keep for its lines.

    def startFactory(self) -> None:
        pass

    def stopFactory(self) -> None:
        pass

    def log(self, request: Request) -> None:
        pass


def make_site(
    views: WebViews,
    connections: Connections,
    web_hosts: Callable[[], Collection[str]],
    endpoints: Mapping[bytes, Endpoint],
) -> Site:
    """Put the addresses together. More may be added to the site's `resource`.

    Args:
        web_hosts: gives the names under which the site may be asked, in lower case.
        endpoints: by path; one that ends in a slash also answers what is below it.
    """
    root: Any = _NotFound()  # type: ignore[no-untyped-call]
    folder = resources.files("node2dm_tw.admin") / "page"
    for path, (name, content_type) in PAGE.items():
        root.putChild(path, _constant(WebResponse((folder / name).read_bytes(), content_type)))
    root.putChild(b"stats", _ViewResource(views.stats))
    root.putChild(b"metrics", _ViewResource(views.render_metrics))
    root.putChild(b"healthz", _ViewResource(views.healthz))
    root.putChild(b"readyz", _ViewResource(views.readyz))
    root.putChild(b"events", _ViewResource(views.events))
    return _SilentSite(root, connections, web_hosts, endpoints)


def _constant(answer: WebResponse) -> _ViewResource:
    return _ViewResource(lambda request: answer)
