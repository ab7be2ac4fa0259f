"""The fast HTTP client: libcurl, with HTTP/2 or HTTP/1.1, and proxies."""

from collections import deque
from pathlib import Path
from urllib.parse import urlsplit

import pycurl  # type: ignore[import-untyped]
from twisted.internet.defer import Deferred, succeed

from node2dm_tw.http.curl_multi import ICurlReactor, Multi
from node2dm_tw.http.curl_outcome import failure_of, outcome_of, refusal_of
from node2dm_tw.http.curl_transfer import Target, Transfer, header_lines
from node2dm_tw.http.interface import (
    CertificateRefused,
    Headers,
    InFlight,
    NoAnswer,
    NotSent,
    OnOutcomes,
    Outcome,
    RequestFailed,
    finish_posts,
)
from node2dm_tw.http.limits import IDLE_TIMEOUT
from node2dm_tw.http.tls import pin_of, platform_authorities, read_authorities

_SUPPRESS_CONNECT_HEADERS = 265
"""CURLOPT_SUPPRESS_CONNECT_HEADERS, which pycurl does not define; ignores the proxy's answer."""

_KEPT_TARGETS = 64
_MAX_KEYS = 4
_WRONG_ARGUMENTS = (pycurl.error, TypeError, ValueError)


class CurlClient:
    """Sends requests with libcurl; see `node2dm_tw.http.interface.HTTPClient`.

    If a reused connection closes before any byte of the answer, libcurl sends the request again
    by itself; `reconnects` counts that.

    Args:
        reactor: reads sockets and provides time.
        timeout: seconds for connection, request and answer together.
        connections: maximum number of idle connections.
        ca_file: a PEM bundle of the roots to trust; None means the platform's.
        on_outcomes: receives the outcomes; by default they are those of `post`.
        proxy: URL of the proxy for every request; None: no proxy, also if the environment has one.

    Attributes:
        reconnects: requests that libcurl sent again by itself.

    Raises:
        OSError, ValueError: `ca_file` is missing, unreadable, empty or damaged, or there is none
            and the platform has no bundle.
    """

    name = "curl"

    def __init__(
        self,
        reactor: ICurlReactor,
        *,
        timeout: float,
        connections: int,
        ca_file: Path | None = None,
        on_outcomes: OnOutcomes = finish_posts,
        proxy: str | None = None,
    ) -> None:
        self.handshakes = 0
        self.reconnects = 0
        self._timeout = timeout
        self._on_outcomes = on_outcomes
        self._seconds = reactor.seconds
        self._closed = False
        self._targets: dict[str, Target] = {}
        self._servers: dict[tuple[str, str], Target] = {}
        self._headers: Headers = ()
        self._header_lines = header_lines(())
        self._free: list[Transfer] = []
        self._transfers: dict[object, Transfer] = {}
        self._ended: list[tuple[Outcome, object]] = []
        self._silent: dict[int, bool] = {}
        self._options = _options(timeout, ca_file, proxy)
        self._multi = Multi(reactor, connections, timeout, self._on_finished, self._on_batch)

    def send(
        self, url: str, headers: Headers, body: bytes | None, context: object
    ) -> InFlight | None:
        if self._closed:
            self._on_outcomes([(NotSent("the client is closed"), context)])
            return None
        transfer = self._free.pop() if self._free else self._make_transfer()
        try:
            target = self._targets.get(url) or self._find_target(url)
            if transfer.options is not target.options or transfer.url is not url or body is None:
                method = "DELETE" if body is None else "POST"
                transfer.configure(target, url, method, self._timeout)
                body = body or b""
            if transfer.headers is not headers:
                self._set_headers(transfer, headers)
            transfer.setopt(pycurl.POSTFIELDS, body)
        except _WRONG_ARGUMENTS as error:
            self._discard(transfer)
            text = f"the request cannot be built: {type(error).__name__}"
            self._on_outcomes([(NotSent(text), context)])
            return None
        transfer.expected_size = transfer.head_size + len(body)
        transfer.context = context
        if target.known:
            self._multi.add(transfer.curl)
        else:
            self._send_ahead(transfer, target)
        return transfer

    def close(self) -> Deferred[None]:
        if not self._closed:
            self._closed = True
            for transfer in self._free:
                self._discard(transfer)
            self._free.clear()
            while self._transfers:
                self._end_early(next(iter(self._transfers.values())), "the client was closed")
            self._multi.close()
            self._hand_back()
        return succeed(None)

    def _make_transfer(self) -> Transfer:
        transfer = Transfer(self._cancel, self._multi.on_socket_opened)
        self._transfers[transfer.curl] = transfer
        for option, value in self._options:
            transfer.setopt(option, value)
        return transfer

    def _discard(self, transfer: Transfer) -> None:
        del self._transfers[transfer.curl]
        transfer.curl.close()

    def _find_target(self, url: str) -> Target:
        """Return the target of a URL, which it shares with all URLs of its server."""
        for kept in (self._targets, self._servers):
            if len(kept) >= _KEPT_TARGETS:
                kept.clear()
        server = urlsplit(url)[:2]
        if server not in self._servers:
            self._servers[server] = Target(is_secure=server[0] == "https")
        target = self._targets[url] = self._servers[server]
        return target

    def _set_headers(self, transfer: Transfer, headers: Headers) -> None:
        """Set the header lines, which are built once for each tuple."""
        if self._headers is not headers:
            self._header_lines = header_lines(headers)
            self._headers = headers
        transfer.set_headers(headers, self._header_lines)

    # The first request to a target, and unknown keys

    def _send_ahead(self, transfer: Transfer, target: Target) -> None:
        """Send the first request to a target; later ones wait for it. Their time-outs run."""
        transfer.deadline = self._seconds() + self._timeout
        transfer.tries += 1
        if target.pilot is None:
            target.pilot = transfer
            self._multi.add(transfer.curl)
        else:
            target.waiting.append(transfer)

    def _end_pilot(self, target: Target, error: RequestFailed | None) -> None:
        """Start the waiting requests. Without a key they fail like the pilot, or one becomes it."""
        target.pilot = None
        target.known = bool(target.keys)
        waiting, target.waiting = target.waiting, deque()
        for transfer in waiting:
            if target.known:
                self._try_again(transfer, target)
            elif error is not None:
                self._settle(transfer, type(error)(str(error), timed_out=error.timed_out))
            elif target.pilot is None:
                target.pilot = transfer
                self._try_again(transfer, target)
            else:
                target.waiting.append(transfer)

    def _verify_new_key(self, transfer: Transfer, target: Target) -> None:
        """Check the certificate of a server with an unknown key; try again if it is valid."""
        transfer.tries += 1
        if transfer.tries > _MAX_KEYS:
            text = "the server has another key on every connection"
            self._conclude(transfer, target, NotSent(text))
            return
        chain = transfer.curl.getinfo_raw(pycurl.INFO_CERTINFO)
        try:
            pin = pin_of(dict(chain[0])[b"Cert"] if chain else b"")
        except CertificateRefused as refusal:
            self._conclude(transfer, target, refusal_of(transfer, str(refusal)))
            return
        if transfer.getinfo(pycurl.REQUEST_SIZE):
            self.reconnects += 1  # It was sent before, on a connection that then closed.
        target.pin(pin)
        if transfer.deadline is None:
            spent: float = transfer.getinfo(pycurl.TOTAL_TIME)
            transfer.deadline = self._seconds() + self._timeout - spent
        self._try_again(transfer, target)

    def _try_again(self, transfer: Transfer, target: Target) -> None:
        assert transfer.deadline is not None
        left = transfer.deadline - self._seconds()
        if left <= 0:
            self._conclude(transfer, target, NotSent("no time was left", timed_out=True))
            return
        transfer.configure(target, transfer.url, transfer.method, left)
        transfer.lines.clear()
        self._multi.add(transfer.curl)

    # Outcomes

    def _on_finished(self, curl: object, code: int, text: str) -> None:
        transfer = self._transfers[curl]
        target = transfer.target
        assert target is not None
        if transfer.connected:
            self._count(transfer, target)
        if transfer.getinfo(pycurl.REQUEST_SIZE) > 1.5 * transfer.expected_size:
            self.reconnects += 1
        lines = transfer.lines
        if not code and lines and lines[-1] == b"\r\n" and target.pilot is not transfer:
            self._settle(transfer, transfer.make_response())
        elif code == pycurl.E_SSL_PINNEDPUBKEYNOTMATCH:
            self._verify_new_key(transfer, target)
        else:
            outcome = outcome_of(transfer, code, text, self._multi.has_broken)
            if isinstance(outcome, NoAnswer) and outcome.timed_out and not transfer.lines:
                self._on_silence(transfer, target, outcome)
            self._conclude(transfer, target, outcome)

    def _conclude(self, transfer: Transfer, target: Target, outcome: Outcome) -> None:
        if target.pilot is transfer:
            self._end_pilot(target, outcome if isinstance(outcome, RequestFailed) else None)
        self._settle(transfer, outcome)

    def _count(self, transfer: Transfer, target: Target) -> None:
        """Count a new connection, if the request was sent on it."""
        if transfer.getinfo(pycurl.REQUEST_SIZE):
            self.handshakes += transfer.getinfo(pycurl.NUM_CONNECTS)
            version = transfer.getinfo(pycurl.INFO_HTTP_VERSION)
            if version:
                target.set_shared(version >= pycurl.CURL_HTTP_VERSION_2_0)

    def _settle(self, transfer: Transfer, outcome: Outcome) -> None:
        """Add an outcome to the next batch, and free the handle for another request."""
        self._ended.append((outcome, transfer.context))
        transfer.reset()
        if self._closed:
            self._discard(transfer)
        else:
            self._free.append(transfer)

    def _hand_back(self) -> None:
        if self._ended:
            ended, self._ended = self._ended, []
            self._on_outcomes(ended)

    def _cancel(self, transfer: Transfer) -> None:
        self._end_early(transfer, "cancelled")
        self._hand_back()

    def _end_early(self, transfer: Transfer, text: str, *, is_collateral: bool = False) -> None:
        """End a request before its answer."""
        target = transfer.target
        assert target is not None
        outcome: RequestFailed = NotSent(text)
        if self._multi.is_running(transfer.curl):
            outcome = failure_of(transfer, text, is_collateral=is_collateral)
        if not self._multi.remove(transfer.curl):
            target.waiting.remove(transfer)
        if target.pilot is transfer:
            self._end_pilot(target, None)
        self._settle(transfer, outcome)

    # Silent connections, by their local port

    def _on_silence(self, transfer: Transfer, target: Target, outcome: NoAnswer) -> None:
        """Mark the connection of a request that timed out, unless only the request is slow.

        The connection works if it received data since, and any request was answered. The second
        condition is needed for a server that only acknowledges data.
        """
        port = transfer.getinfo(pycurl.LOCAL_PORT)
        if port in self._silent:
            outcome.is_collateral = True
            return
        waited = transfer.getinfo(pycurl.TOTAL_TIME) - transfer.getinfo(pycurl.PRETRANSFER_TIME)
        is_shared = target.pipewait
        has_answered = self._multi.answered_at >= self._multi.dispatched_at - waited
        if is_shared and has_answered and self._multi.seconds_silent(port) < waited:
            return
        self._silent[port] = not transfer.getinfo(pycurl.NUM_CONNECTS)

    def _on_batch(self) -> None:
        if self._silent:
            self._close_silent()
        self._hand_back()

    def _close_silent(self) -> None:
        """Close silent connections, end the requests on them, and close those long idle."""
        silent, self._silent = self._silent, {}
        for transfer in list(self._transfers.values()):
            if transfer.lines or not self._multi.is_running(transfer.curl):
                continue
            if transfer.getinfo(pycurl.LOCAL_PORT) in silent:
                text = "nothing is answered on its connection any more"
                self._end_early(transfer, text, is_collateral=True)
        self._multi.shut_down(silent)
        if any(silent.values()):  # It had worked before: other idle connections may be broken too.
            self._multi.shut_down_idle(self._timeout / 2)


def _options(timeout: float, ca_file: Path | None, proxy: str | None) -> list[tuple[int, object]]:
    """Return the options that are the same for every request of a client."""
    if ca_file is not None:
        read_authorities(ca_file)
    options = [
        (pycurl.POST, 1),
        (pycurl.NOSIGNAL, 1),
        (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
        (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS),
        (pycurl.CONNECTTIMEOUT_MS, max(1, int(timeout * 1000))),
        (pycurl.MAXAGE_CONN, IDLE_TIMEOUT),
        (pycurl.SSL_VERIFYPEER, 1),
        (pycurl.SSL_VERIFYHOST, 2),
        (pycurl.CAINFO, str(ca_file or platform_authorities())),
        (pycurl.OPT_CERTINFO, 1),
        # With a resumed session, libcurl does not report the certificate.
        (pycurl.SSL_SESSIONID_CACHE, 0),
        # Set even if empty: otherwise libcurl reads the environment.
        (pycurl.PROXY, proxy or ""),
        (pycurl.NOPROXY, ""),
        (_SUPPRESS_CONNECT_HEADERS, 1),
    ]
    if proxy and proxy.startswith("https:"):
        options.append((pycurl.PROXY_CAINFO, str(platform_authorities())))
    return options
