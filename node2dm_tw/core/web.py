"""A request to the web port and its response, as values, and what answers requests with a body."""

from collections.abc import Mapping
from typing import Protocol

import attrs
from twisted.internet.defer import Deferred


@attrs.frozen
class WebRequest:
    """A request.

    Args:
        method: in capitals.
        path: what follows the endpoint's own path, without the query.
        headers: by name in lower case; of several with one name the last.
        source: the client's host and port.
        body: empty until it was read.
    """

    method: bytes
    path: bytes
    headers: Mapping[bytes, bytes]
    source: tuple[str, int]
    body: bytes = b""


@attrs.frozen
class WebResponse:
    """What a request is answered."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Endpoint(Protocol):
    """Answers the requests for one path of the web port, or for all below it.

    Attributes:
        methods: those it answers.
        max_body: bytes of the longest body it takes.
    """

    @property
    def methods(self) -> tuple[bytes, ...]: ...

    @property
    def max_body(self) -> int: ...

    def refuse(self, request: WebRequest) -> WebResponse | None:
        """Return why a request is not answered, before its body is read; None: it is."""
        ...

    def answer(self, request: WebRequest) -> WebResponse | Deferred[WebResponse]:
        """Answer a request whose body was read."""
        ...
