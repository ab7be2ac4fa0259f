"""A POST as a Deferred, for those to whom its cost is nothing."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from node2dm_tw.http.interface import Done, Headers, InFlight, Outcome, Response


class Posting(ABC):
    """Gives a client that can `send` the other way to do it: `post`."""

    on_reported: Callable[[], None] = staticmethod(lambda: None)

    @abstractmethod
    def send(
        self, url: str, headers: Headers, body: bytes, done: Done, context: Any
    ) -> InFlight | None: ...

    def post(self, url: str, headers: Headers, body: bytes) -> Deferred[Response]:
        def cancel(_: Deferred[Response]) -> None:
            if in_flight is not None:
                in_flight.cancel()

        result: Deferred[Response] = Deferred(cancel)
        in_flight = self.send(url, headers, body, _fire, result)
        return result


def _fire(outcome: Outcome, result: Deferred[Response]) -> None:
    if isinstance(outcome, Response):
        result.callback(outcome)
    else:
        result.errback(outcome)
