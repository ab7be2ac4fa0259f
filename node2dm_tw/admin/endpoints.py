"""Requests to an endpoint: refused by their head, or answered once their body was read."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from node2dm_tw.admin.responses import (
    FAILED,
    NO_BODY,
    not_allowed,
    set_response,
    set_security_headers,
)
from node2dm_tw.core.web import Endpoint, WebRequest, WebResponse

MAX_BODIES_BYTES = 16 * 1024 * 1024
"""Bytes of all bodies that are being read, or whose requests are being answered."""

NO_LENGTH = WebResponse(
    b"the request does not say how long its body is: expected Content-Length, and no"
    b" Transfer-Encoding\n",
    status=411,
)
MANY_BODIES = WebResponse(
    b"other requests occupy all memory for bodies: expected to be sent again after a second\n",
    status=503,
    headers=((b"Retry-After", b"1"),),
)


@attrs.define(eq=False)
class BodyBudget:
    """Bounds the bytes of all bodies together.

    Args:
        free: bytes that may still be taken.
    """

    free: int = MAX_BODIES_BYTES

    def take(self, size: int) -> bool:
        """Reserve bytes, if there are as many."""
        if size > self.free:
            return False
        self.free -= size
        return True

    def give_back(self, size: int) -> None:
        """Return reserved bytes."""
        self.free += size


def find_endpoint(
    endpoints: Mapping[bytes, Endpoint], path: bytes
) -> tuple[bytes, Endpoint] | None:
    """Return the endpoint for a path, and its own path.

    Args:
        endpoints: by path; one that ends in a slash also answers what is below it.
    """
    if path in endpoints:
        return path, endpoints[path]
    for own, endpoint in endpoints.items():
        if own.endswith(b"/") and path.startswith(own):
            return own, endpoint
    return None


class EndpointResource(Resource):
    """The resource of one request to an endpoint."""

    isLeaf = True

    def __init__(self, path: bytes, endpoint: Endpoint, bodies: BodyBudget) -> None:
        """Answer from `endpoint`, whose own path is `path`."""
        Resource.__init__(self)
        self._endpoint = endpoint
        self._path = path
        self._bodies = bodies

    def render(self, request: Any) -> int:
        asked = self._read_head(request)
        refusal = request.site.refuse(request) or self._refuse(request, asked)
        if refusal is None:
            request.channel.transport.read_body(
                request.body_length,
                partial(self._on_body, request, asked),
                expects_continue=request.expects_continue,
            )
        else:
            request.leave_body()
            _respond(request, refusal)
        return NOT_DONE_YET

    def _read_head(self, request: Any) -> WebRequest:
        headers = {
            name.lower(): values[-1] for name, values in request.requestHeaders.getAllRawHeaders()
        }
        address = request.getClientAddress()
        source = (getattr(address, "host", "unix"), getattr(address, "port", 0))
        return WebRequest(request.method, request.path[len(self._path) :], headers, source)

    def _refuse(self, request: Any, asked: WebRequest) -> WebResponse | None:
        endpoint = self._endpoint
        if asked.method not in endpoint.methods:
            return not_allowed(endpoint.methods)
        try:
            refusal = endpoint.refuse(asked)
        except Exception:  # noqa: BLE001 - Twisted would log a traceback for every request
            request.site.connections.log_failure()
            return FAILED
        return refusal or self._refuse_length(request.body_length, asked)

    def _refuse_length(self, length: int | None, asked: WebRequest) -> WebResponse | None:
        most = self._endpoint.max_body
        if not most:
            return None if length == 0 else NO_BODY
        if length is None or b"content-length" not in asked.headers:
            return NO_LENGTH
        if length > most:
            text = b"the body has %d bytes: expected at most %d\n" % (length, most)
            return WebResponse(text, status=413)
        return None if self._bodies.take(length) else MANY_BODIES

    def _on_body(self, request: Any, asked: WebRequest, body: bytes | None) -> None:
        if body is None:
            self._bodies.give_back(request.body_length)
            return
        try:
            answer = self._endpoint.answer(
                WebRequest(asked.method, asked.path, asked.headers, asked.source, body)
            )
        except Exception:  # noqa: BLE001 - Twisted would log a traceback for every request
            request.site.connections.log_failure()
            answer = FAILED
        if isinstance(answer, Deferred):
            answer.addErrback(_fail, request)
            answer.addCallback(lambda response: self._finish(request, response))
        else:
            self._finish(request, answer)

    def _finish(self, request: Any, response: WebResponse) -> None:
        self._bodies.give_back(request.body_length)
        if request.channel is not None:  # otherwise the client has gone
            _respond(request, response)


def _fail(failure: Failure, request: Any) -> WebResponse:
    request.site.connections.log_failure(failure)
    return FAILED


def _respond(request: Any, response: WebResponse) -> None:
    set_security_headers(request)
    set_response(request, response)
    request.write(response.body)
    request.finish()
