"""libcurl's multi interface, driven by the reactor."""

import select
from collections.abc import Callable, Container
from math import inf

import pycurl  # type: ignore[import-untyped]
from twisted.internet.interfaces import IDelayedCall, IReactorFDSet, IReactorTime, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from node2dm_tw.http import sockets
from node2dm_tw.http.limits import IDLE_TIMEOUT

log = Logger()

_EVENTS = 64
_REMOVE, _OUT = pycurl.POLL_REMOVE, select.EPOLLOUT
_BROKEN = select.EPOLLERR | select.EPOLLHUP
_MASKS = {
    pycurl.POLL_NONE: 0,
    pycurl.POLL_IN: select.EPOLLIN,
    pycurl.POLL_OUT: select.EPOLLOUT,
    pycurl.POLL_INOUT: select.EPOLLIN | select.EPOLLOUT,
}
_ACTIONS = tuple(
    (pycurl.CSELECT_IN if events & (select.EPOLLIN | select.EPOLLHUP) else 0)
    | (pycurl.CSELECT_OUT if events & select.EPOLLOUT else 0)
    | (pycurl.CSELECT_ERR if events & select.EPOLLERR else 0)
    for events in range(32)
)
"""libcurl's CSELECT flags for each combination of epoll's events."""


class ICurlReactor(IReactorTime, IReactorFDSet):
    """The reactor interfaces that libcurl needs."""


@implementer(IReadDescriptor)
class Multi:
    """Runs easy handles.

    libcurl's sockets have their own epoll, which is one reader for the reactor. That is cheaper
    than a reader for each socket. `add` never calls `on_finished`.

    Args:
        reactor: provides time, and reads the epoll.
        connections: maximum number of idle connections.
        timeout: seconds for which sent data may stay unacknowledged.
        on_finished: called as on_finished(handle, code, text) for each handle that has ended and
            was removed; code is libcurl's CURLcode, 0 for success.
        on_batch: called after each batch of calls of `on_finished`.

    Attributes:
        dispatched_at: time of the last batch, by the reactor's clock.
        answered_at: time of the last batch with a success.
    """

    def __init__(
        self,
        reactor: ICurlReactor,
        connections: int,
        timeout: float,
        on_finished: Callable[[pycurl.Curl, int, str], None],
        on_batch: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._connections = connections
        self._user_timeout = timeout
        self._on_finished = on_finished
        self._on_batch = on_batch
        self._seconds: Callable[[], float] = reactor.seconds
        self._running = 0
        self._collecting = False
        self._closed = False
        self._not_begun: list[pycurl.Curl] = []
        self._deadline: float | None = None
        self._timer: IDelayedCall | None = None
        self._soon: IDelayedCall | None = None
        self._idle_check: IDelayedCall | None = None
        self.dispatched_at = 0.0
        self.answered_at = -inf
        self._broken_at = -inf
        self._wanted: dict[int, int] = {}
        self._masks: dict[int, int] = {}
        self._identities: dict[int, int] = {}
        self._epoll = select.epoll()
        self._renew()
        reactor.addReader(self)

    def _renew(self) -> None:
        """Make the multi handle, and store its methods, because looking them up is expensive."""
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_MAXCONNECTS, self._connections)
        self._add_handle = self._multi.add_handle
        self._remove_handle = self._multi.remove_handle
        self._info_read = self._multi.info_read
        self._socket_action = self._multi.socket_action
        self._timeout = self._multi.timeout

    def add(self, handle: pycurl.Curl) -> None:
        """Start a transfer.

        Raises:
            pycurl.error: the handle cannot be added.
        """
        self._add_handle(handle)
        self._running += 1
        if self._idle_check is None:
            self._idle_check = self._reactor.callLater(IDLE_TIMEOUT, self._close_idle)
        if self._collecting:
            self._not_begun.append(handle)
        else:
            self._perform()

    def is_running(self, handle: pycurl.Curl) -> bool:
        """Whether libcurl has begun a transfer and not ended it.

        Before it begins, `getinfo` returns values of the previous transfer of the handle.
        """
        return handle in self._multi and handle not in self._not_begun

    def remove(self, handle: pycurl.Curl) -> bool:
        """End a transfer early: its connection is closed, or its HTTP/2 stream is reset.

        Returns:
            Whether it was running; False if it has ended, reported or not.
        """
        if handle not in self._multi:
            return False
        self._remove_handle(handle)
        self._running -= 1
        return True

    def close(self) -> None:
        """Close every connection; all handles must have been removed."""
        self._closed = True
        self._reactor.removeReader(self)
        for call in (self._timer, self._soon, self._idle_check):
            if call is not None and call.active():
                call.cancel()
        self._close_connections()
        self._epoll.close()

    # For the reactor: IReadDescriptor

    def fileno(self) -> int:
        return self._epoll.fileno()

    def logPrefix(self) -> str:
        return "curl"

    def connectionLost(self, reason: Failure) -> None:
        """Do nothing: `close` closes the epoll."""

    def doRead(self) -> None:
        wanted = self._wanted
        for descriptor, events in self._epoll.poll(0, _EVENTS):
            if descriptor in wanted:
                if events & _BROKEN and not wanted[descriptor] & _OUT:
                    self._broken_at = self._seconds()
                self._socket_action(descriptor, _ACTIONS[events & 31])
            else:
                # The server closed an idle connection. libcurl checks it before reuse.
                self._forget(descriptor)
        self._collect_done()

    def _collect_done(self) -> None:
        """Report ended transfers, then start those that were added meanwhile."""
        self._collecting = True
        try:
            self._report()
        finally:
            self._collecting = False
        if self._closed:
            return
        if self._not_begun:
            self._perform()
        else:
            self._set_timer()

    def _report(self) -> None:
        queued = 1
        while queued and not self._closed:
            queued, done, failed = self._info_read()
            if done:
                self.answered_at = self._seconds()
            if done or failed:
                self._dispatch([(handle, 0, "") for handle in done] + failed)

    def _dispatch(self, outcomes: list[tuple[pycurl.Curl, int, str]]) -> None:
        """Report each outcome. An error in one must not affect the others or the reader."""
        self.dispatched_at = self._seconds()
        self._running -= len(outcomes)
        for handle, _, _ in outcomes:
            self._remove_handle(handle)
        for handle, code, text in outcomes:
            try:
                self._on_finished(handle, code, text)
            except Exception:  # noqa: BLE001
                log.failure("the end of a request could not be handled")
        try:
            self._on_batch()
        except Exception:  # noqa: BLE001
            log.failure("the outcomes of requests could not be handled")

    def _perform(self) -> None:
        """Let libcurl start added transfers, and end those that have timed out."""
        self._not_begun.clear()
        _, running = self._socket_action(pycurl.SOCKET_TIMEOUT, 0)
        self._set_timer()
        if running < self._running:
            self._act_soon()

    def _act_soon(self) -> None:
        if self._soon is None:
            self._soon = self._reactor.callLater(0, self._act_again)

    def _act_again(self) -> None:
        self._soon = None
        self._perform()
        self._collect_done()

    def _set_timer(self) -> None:
        """Schedule the next action of libcurl: one delayed call, moved only to an earlier time.

        libcurl's TIMERFUNCTION is called for each request, and costs more.
        """
        milliseconds = self._timeout()
        if milliseconds < 0:
            self._deadline = None
        elif milliseconds == 0:
            self._act_soon()
        else:
            delay = milliseconds / 1000
            self._deadline = self._seconds() + delay
            if self._timer is None:
                self._timer = self._reactor.callLater(delay, self._timer_fired)
            elif self._timer.getTime() > self._deadline:
                self._timer.reset(delay)

    # For libcurl: callbacks, which must not report outcomes

    def on_socket_opened(self, descriptor: int) -> None:
        """Prepare the socket of a new connection, whose number may belong to a closed one."""
        self._masks[descriptor] = 0
        self._identities[descriptor] = sockets.identity(descriptor)
        sockets.set_user_timeout(descriptor, self._user_timeout)

    def _on_socket(self, what: int, descriptor: int, multi: object, data: object) -> None:
        """Start or stop watching a socket.

        An idle connection stays in the epoll for the next request. A connection that was still
        connecting is about to be closed, and its number to be reused.
        """
        if what == _REMOVE:
            if self._wanted.pop(descriptor, 0) & _OUT:
                self._forget(descriptor)
        else:
            mask = self._wanted[descriptor] = _MASKS[what]
            if self._masks.get(descriptor) != mask:
                self._register(descriptor, mask)

    def _register(self, descriptor: int, mask: int) -> None:
        """Let the epoll watch a descriptor; other descriptors than connections may just close."""
        if descriptor in self._masks:
            self._masks[descriptor] = mask
        try:
            self._epoll.modify(descriptor, mask)
        except FileNotFoundError:
            self._epoll.register(descriptor, mask)

    def _forget(self, descriptor: int) -> None:
        self._masks.pop(descriptor, None)
        try:
            self._epoll.unregister(descriptor)
        except OSError:
            return  # Closed before, and so no longer in the epoll.

    def _timer_fired(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        left = self._deadline - self._seconds()
        if left > 0:
            self._timer = self._reactor.callLater(left, self._timer_fired)
            return
        self._deadline = None
        self._perform()
        self._collect_done()

    # Connections

    def has_broken(self, seconds: float) -> bool:
        """Whether an active connection was reset within the last `seconds`."""
        return self._seconds() - self._broken_at <= seconds

    def seconds_silent(self, port: int) -> float:
        """Return the seconds since data last arrived on the connection with this local port."""
        for descriptor in self._open_descriptors():
            if sockets.local_port(descriptor) == port:
                return sockets.seconds_silent(descriptor)
        return 0.0

    def shut_down(self, ports: Container[int]) -> None:
        """Shut down the connections with these local ports; libcurl finds them closed."""
        for descriptor in self._open_descriptors():
            if sockets.local_port(descriptor) in ports:
                sockets.shut_down(descriptor)

    def shut_down_idle(self, seconds: float) -> None:
        """Shut down idle connections that received nothing for `seconds`."""
        for descriptor in self._open_descriptors():
            if descriptor not in self._wanted and sockets.seconds_silent(descriptor) >= seconds:
                sockets.shut_down(descriptor)

    def _open_descriptors(self) -> list[int]:
        """List the descriptors of open connections, because libcurl does not report a close."""
        known = self._identities.items()
        return [one for one, identity in known if sockets.identity(one) == identity]

    def _close_idle(self) -> None:
        """Close idle connections, because libcurl checks their age only when it needs one."""
        self._idle_check = None
        left = (
            IDLE_TIMEOUT if self._running else self.dispatched_at + IDLE_TIMEOUT - self._seconds()
        )
        if left > 0:
            self._idle_check = self._reactor.callLater(left, self._close_idle)
            return
        self._close_connections()
        self._renew()

    def _close_connections(self) -> None:
        self._multi.close()
        self._wanted.clear()
        self._masks.clear()
        self._identities.clear()
