"""Connections and answers that break in ways of their own, against a real gateway."""

import gzip
import threading
import time
import zlib

import pytest
from h2.errors import ErrorCodes

from node2dm_tw.emulator import testing
from tests.support.gateway import GatewayProcess
from tests.support.http2_upstream import HTTP2Upstream, http2_upstream
from tests.support.relay import relay
from tests.support.upstream import Answer, Sent, Upstream, upstream
from tests.support.waiting import wait_until

CLIENTS = ("treq", "curl")


class Pushing:
    """Pushes to another device ten times a second, until the context ends."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.gateway = gateway
        self.pushed = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Pushing":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(0.1):
            self.gateway.push(b"device%d:key:payload" % self.pushed)
            self.pushed += 1


def sent(gateway: GatewayProcess) -> int:
    count: int = gateway.stats()["messages_sent"]
    return count


def seconds_to_resume(gateway: GatewayProcess, seconds: float) -> float:
    """Wait until more is sent than now; tell how long it took."""
    start = time.monotonic()
    before = sent(gateway)
    wait_until(lambda: sent(gateway) > before + 10, "sending resumes", seconds)
    return time.monotonic() - start


def test_a_silent_http2_connection_costs_less_than_two_time_outs(make_gateway, tmp_path):
    """A connection that carries nothing any more, and is not closed, gives way to another."""
    with (
        http2_upstream(lambda connection, stream: connection.answer(stream), tmp_path) as google,
        relay(google.port) as wire,
    ):
        config = google.section("timeout = 5", port=wire.port)
        gateway = make_gateway(config, node2dm="http_client = curl").start()
        with Pushing(gateway) as pushing:
            wait_until(lambda: sent(gateway) >= 20, "pushes are sent")
            wire.freeze()
            assert seconds_to_resume(gateway, 20) < 12
        stats = gateway.wait_for(messages_in_queue=0)
        assert stats["messages_sent"] == pushing.pushed
        assert {device for _, device in google.devices} == {
            f"device{n}" for n in range(pushing.pushed)
        }


@pytest.mark.parametrize("client", CLIENTS)
def test_silent_http1_connections_cost_less_than_two_time_outs(make_gateway, client):
    """However many kept connections carry nothing any more, they are not tried one by one."""
    with upstream(lambda sent: Answer(delay=0.3)) as google, relay(google.port) as wire:
        config = google.section("timeout = 3").replace(f":{google.port}/send", f":{wire.port}/send")
        gateway = make_gateway(config, node2dm=f"http_client = {client}").start()
        gateway.push(*[b"many%d:key:payload" % number for number in range(200)])
        gateway.wait_for(messages_sent=200)
        assert wire.accepted >= 8
        wire.freeze()
        with Pushing(gateway):
            assert seconds_to_resume(gateway, 20) < 8
        gateway.wait_for(messages_in_queue=0)


def test_a_window_that_stays_closed_costs_less_than_two_time_outs(make_gateway, tmp_path):
    """A server that takes no bodies on one connection is asked on another."""

    def script(connection, stream):
        if connection.window:  # What was sent before the client knew is not answered either.
            connection.answer(stream)

    with http2_upstream(script, tmp_path) as google:
        google.initial_window = 0
        gateway = make_gateway(google.section("timeout = 5"), node2dm="http_client = curl").start()
        with Pushing(gateway):
            wait_until(lambda: google.devices, "a request has come")
            google.initial_window = 65_535
            assert seconds_to_resume(gateway, 20) < 12
        gateway.wait_for(messages_in_queue=0)


def test_a_slow_handshake_has_the_whole_time_out(make_gateway, tmp_path):
    """A handshake of eleven seconds is fine where the time-out is thirty."""
    with testing.start(tmp_path / "google") as google:
        port = int(google.base_url.rpartition(":")[2])
        phone = google.register(google.project)
        with relay(port, delay=11) as wire:
            url = google.base_url.replace(str(port), str(wire.port))
            config = (
                f"[fcm]\nurl = {url}\nca_file = {google.ca_file}\ntimeout = 30\n"
                f"service_account = {google.service_account}\n"
            )
            gateways = [
                make_gateway(config, node2dm=f"http_client = {client}").start()
                for client in CLIENTS
            ]
            for gateway in gateways:
                gateway.push(b"%s:k:{}" % phone.registration_id.encode())
            for gateway in gateways:
                # With libcurl there are two: one to learn the server's key, one to send.
                stats = gateway.wait_for(seconds=40, messages_sent=1)
                assert stats["network_failures"] == 0


@pytest.mark.parametrize("client", CLIENTS)
def test_compressed_answers_are_read(make_gateway, client):
    """Sign-in and sends are read where a proxy compresses them unasked."""
    codings = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress}

    def compressed(body: bytes, coding: str) -> Answer:
        return Answer(codings[coding](body), headers=(f"Content-Encoding: {coding}",))

    def answer(request: Sent) -> Answer:
        assert request.headers["accept-encoding"] == "identity"
        if request.path == "/login":
            return compressed(b"SID=s\nLSID=l\nAuth=token-1\n", "gzip")
        outcome, _, coding = request.form["registration_id"].partition(".")
        return compressed(b"id=0:1" if outcome == "good" else b"Error=NotRegistered", coding)

    google = Upstream(answer).start()
    try:
        gateway = make_gateway(google.section(), node2dm=f"http_client = {client}").start()
        for coding in codings:
            gateway.push(f"good.{coding}:key:payload".encode(), f"gone.{coding}:key:x".encode())
        gateway.wait_for(messages_sent=3, messages_bad_device=3, messages_in_queue=0)
    finally:
        google.stop()


OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
LENGTH = b"Content-Length: 4\r\n\r\nid=1"
READ = {
    "blank": OK + b"X-A : 1\r\n" + LENGTH,
    "folded": OK + b"X-A: 1\r\n  2\r\n" + LENGTH,
    "bytes": OK + b"X-A: \xff\r\n" + LENGTH,
}
NOT_READ = {
    "no-colon": OK + b"no colon\r\n" + LENGTH,
    "nul": OK + b"X-A: \0\r\n" + LENGTH,
    "length": OK + b"Content-Length: four\r\n\r\nid=1",
    "chunk": OK + b"Transfer-Encoding: chunked\r\n\r\nfour\r\nid=1\r\n0\r\n\r\n",
    "cut": OK + b"Content-Length: 5\r\n\r\nid=1",
    "status": OK,
}


@pytest.mark.parametrize("client", CLIENTS)
def test_a_broken_200_is_sent_once(make_gateway, client):
    """A push that was answered with 200 is never sent again, whatever the answer looks like."""
    raw = READ | NOT_READ
    with upstream(lambda sent: Answer(raw=raw[sent.form["registration_id"]])) as google:
        gateway = make_gateway(google.section(), node2dm=f"http_client = {client}").start()
        gateway.push(*[f"{device}:key:{device}".encode() for device in raw])
        stats = gateway.wait_for(messages_received=len(raw), messages_in_queue=0)
        assert stats["messages_sent"] >= len(READ)
        assert stats["messages_sent"] + stats["messages_refused"] == len(raw)
        assert stats["messages_ambiguous"] == 0
        assert set(google.delivered().values()) == {1}


@pytest.mark.parametrize("client", CLIENTS)
def test_endless_interim_answers_are_no_answer(make_gateway, client):
    """A status below 200 says nothing of a push: it is tried again."""
    flood = (b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n" * 1000,) * 50
    tries: list[str] = []

    def answer(request: Sent) -> Answer:
        tries.append(request.path)
        return Answer(raw=b"", pieces=flood, pause=0.01) if len(tries) == 1 else Answer()

    with upstream(answer) as google:
        config = google.section("timeout = 3")
        gateway = make_gateway(config, node2dm=f"http_client = {client}").start()
        gateway.push(b"device:key:payload")
        stats = gateway.wait_for(messages_sent=1, messages_in_queue=0)
        assert (stats["messages_ambiguous"], stats["messages_refused"]) == (1, 0)


def seconds_between_tries(google: HTTP2Upstream, gateway: GatewayProcess) -> float:
    """Have one push answered and one refused; tell how long it took from first to last try."""
    gateway.push(b"first:key:payload")
    gateway.wait_for(messages_sent=1)
    gateway.push(b"second:key:payload")
    stats = gateway.wait_for(messages_sent=2, messages_in_queue=0)
    assert stats["messages_ambiguous"] == 0
    first, *_, last = [when for when, device in google.devices if device == "second"]
    return last - first


@pytest.mark.parametrize("how", ["stream", "connection"])
def test_a_refused_stream_is_sent_again_at_once(make_gateway, tmp_path, how):
    """What the server says it did not process goes again at once, and is not ambiguous."""
    refused = []

    def script(connection, stream):
        if len(google.devices) == 1 or len(refused) >= 8:
            connection.answer(stream)
            return
        refused.append(stream)
        if how == "stream":
            connection.h2.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
        else:
            connection.h2.close_connection(ErrorCodes.NO_ERROR, last_stream_id=max(0, stream - 2))

    with http2_upstream(script, tmp_path) as google:
        gateway = make_gateway(google.section(), node2dm="http_client = curl").start()
        assert seconds_between_tries(google, gateway) < 1
        assert len(refused) == 8


def test_calm_that_is_asked_for_is_kept(make_gateway, tmp_path):
    """After ENHANCE_YOUR_CALM a push waits before it is sent again, and is not ambiguous."""

    def script(connection, stream):
        if len(google.devices) == 2:
            connection.h2.close_connection(
                ErrorCodes.ENHANCE_YOUR_CALM, last_stream_id=max(0, stream - 2)
            )
        else:
            connection.answer(stream)

    with http2_upstream(script, tmp_path) as google:
        gateway = make_gateway(google.section(), node2dm="http_client = curl").start()
        assert seconds_between_tries(google, gateway) >= 0.5
