"""Work that blocks, in threads of its own, which no stop waits for."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import blockingCallFromThread
from twisted.python.failure import Failure

from node2dm_tw.app.runtime import IGatewayReactor

Result = TypeVar("Result")


@attrs.frozen(eq=False)
class BlockingWork:
    """Runs functions in threads.

    The reactor's pool would not do: a stop waits until all of its threads have ended.
    """

    reactor: IGatewayReactor

    def run(self, seconds: float, function: Callable[[], Result]) -> Deferred[Result]:
        """Run a function that blocks in a thread.

        Args:
            seconds: time after which the Deferred fails with `TimeoutError`. The thread goes
                on, as it does when the Deferred is cancelled.
        """
        finished: Deferred[Result] = Deferred()

        def work() -> None:
            result: Result | Failure
            try:
                result = function()
            except Exception:  # noqa: BLE001
                result = Failure()
            self.reactor.callFromThread(finish, result)

        def finish(result: Any) -> None:
            if not finished.called:
                finished.callback(result)

        try:
            threading.Thread(target=work, name="blocking work", daemon=True).start()
        except RuntimeError:  # the system has no room for another thread
            finished.errback()
        return finished.addTimeout(seconds, self.reactor, _describe_timeout)

    def wait_for(self, ask: Callable[[], Deferred[Any]]) -> Any:
        """Call a function in the reactor's thread, and block until its Deferred has fired.

        Must be called in a thread of `run`.
        """
        return blockingCallFromThread(self.reactor, ask)


def _describe_timeout(result: Any, seconds: float) -> Any:
    if isinstance(result, Failure) and result.check(CancelledError):
        raise TimeoutError(f"not finished within {seconds:g} s")
    return result
