"""What every HTTP client must do; a test module for each client inherits this."""

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock, deferLater

from node2dm_tw.http.interface import (
    MAX_RESPONSE,
    CertificateRefused,
    NoAnswer,
    NotSent,
    post,
)
from tests.contract import http_certificates as certificates
from tests.contract.http_answers import AnswerTests
from tests.contract.http_fixtures import HEADERS
from tests.contract.http_servers import OK, ClockedReactor, always
from tests.contract.http_silence import SilenceTests


class ContractTests(AnswerTests, SilenceTests):
    """What holds for every client."""

    async def test_round_trip(self):
        """A request arrives as given, and its answer comes back with headers and body."""
        answer = (
            b"HTTP/1.1 404 Gone\r\nX-A: 1\r\nx-a: 2\r\nRetry-After: 3\r\n"
            b"Content-Length: 3\r\n\r\nabc"
        )
        server = self.server(always(answer))
        response = await post(self.client(), server.url(), HEADERS, b"body \xff\x00")
        assert (response.status, response.body, response.truncated) == (404, b"abc", False)
        assert response.headers[b"x-a"] == b"1, 2"
        assert response.headers[b"retry-after"] == b"3"
        [request] = server.requests
        assert request.line == b"POST /send HTTP/1.1"
        assert request.body == b"body \xff\x00"
        assert request.headers[b"authorization"] == b"Bearer secret-token"
        assert request.headers[b"content-type"] == b"text/plain"
        assert request.headers[b"content-length"] == b"7"
        assert request.headers[b"host"] == server.url().split("/")[2].encode()

    async def test_send_hands_back_the_outcome_with_its_context(self):
        """Each outcome is handed back once, with what its request was given."""
        server = self.server(always(OK))
        handed_back, finished = [], Deferred()

        def on_outcomes(outcomes):
            assert outcomes
            handed_back.extend(outcomes)
            if len(handed_back) == 2:
                finished.callback(None)

        client = self.client(on_outcomes=on_outcomes)
        for context in ("a", "b"):
            assert client.send(server.url(), HEADERS, b"x", context) is not None
        await finished
        answers = {context: outcome.body for outcome, context in handed_back}
        assert answers == {"a": b"ok", "b": b"ok"}

    async def test_send_can_be_cancelled(self):
        """What is broken off ends at once and only once, and its connection with it."""
        server = self.server(lambda connection, request: None)
        batches = []
        client = self.client(on_outcomes=batches.append)
        client.send(server.url(), (), b"x", 1).cancel()
        [[(outcome, context)]] = batches
        assert isinstance(outcome, NotSent)
        assert context == 1

    async def test_send_of_a_closed_client(self):
        """A closed client says so within `send`."""
        batches = []
        client = self.client(on_outcomes=batches.append)
        await client.close()
        assert client.send("https://push.example/", (), b"x", 1) is None
        [[(outcome, context)]] = batches
        assert (type(outcome), context) == (NotSent, 1)

    async def test_authorization(self):
        """Each request has the Authorization that it was given, or none, whatever came before."""
        server = self.server(always(OK))
        client = self.client()
        values = (b"Bearer a", None, b"GoogleLogin auth=b", b"Bearer c", None)
        for value in values:
            headers = () if value is None else ((b"Authorization", value),)
            await post(client, server.url(), headers, b"x")
        sent = [request.headers.get(b"authorization") for request in server.requests]
        assert sent == list(values)

    async def test_a_challenge_is_an_answer(self):
        """A 401 that asks for a bearer token is handed back; nothing is sent again for it."""
        answer = (
            b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n"
            b'WWW-Authenticate: Bearer realm="https://accounts.google.com/"\r\n\r\nno'
        )
        server = self.server(always(answer))
        client = self.client()
        for headers in (HEADERS, (), HEADERS):
            response = await post(client, server.url(), headers, b"x")
            assert (response.status, response.body, response.truncated) == (401, b"no", False)
            assert response.headers[b"www-authenticate"].startswith(b"Bearer")
        assert len(server.requests) == 3

    async def test_nothing_is_added(self):
        """Neither a content type nor an Expect goes out unasked, and compression is not wanted."""
        server = self.server(always(OK))
        await post(self.client(), server.url(), (), b"x" * 1_000_000)
        [request] = server.requests
        added = {b"host", b"content-length", b"connection", b"accept-encoding"}
        assert set(request.headers) <= added
        assert request.headers[b"accept-encoding"] == b"identity"
        assert len(request.body) == 1_000_000

    async def test_empty_body(self):
        """An empty body goes out with Content-Length 0."""
        server = self.server(always(OK))
        await post(self.client(), server.url(), HEADERS, b"")
        assert server.requests[0].headers[b"content-length"] == b"0"

    async def test_delete(self):
        """Without a body the method is DELETE, and the next request is a POST again."""
        server = self.server(always(OK))
        client = self.client()
        for body in (None, b"x", None, None, b""):
            response = await post(client, server.url(), HEADERS, body)
            assert response.body == b"ok"
        methods = [request.line.split()[0] for request in server.requests]
        assert methods == [b"DELETE", b"POST", b"DELETE", b"DELETE", b"POST"]
        assert [request.body for request in server.requests] == [b"", b"x", b"", b"", b""]
        assert server.requests[0].headers[b"authorization"] == b"Bearer secret-token"
        assert len(server.used) == 1

    async def test_many_addresses_of_one_server(self):
        """They share its connections and what is known of it, more of them than are kept, too."""
        server = self.server(always(OK))
        client = self.client()
        for number in range(150):
            path = f"/{number}/" + "x" * (30 * number)
            await post(client, server.url(path=path), HEADERS, None if number % 3 else b"x")
            await post(client, server.url(), HEADERS, b"x")
        paths = [request.line.split()[1][:2] for request in server.requests]
        assert paths[:6] == [b"/0", b"/s", b"/1", b"/s", b"/2", b"/s"]
        assert (client.handshakes, client.reconnects) == (1, 0)

    async def test_plain_http(self):
        """http:// works without TLS."""
        server = self.server(always(OK), tls=False)
        response = await post(self.client(), server.url(), HEADERS, b"x")
        assert response.body == b"ok"

    async def test_address_in_the_url(self):
        """An IP address is verified against the certificate's addresses."""
        server = self.server(always(OK))
        response = await post(self.client(), server.url("127.0.0.1"), HEADERS, b"x")
        assert response.status == 200

    async def test_connection_is_kept(self):
        """Requests one after the other share a connection and its handshake."""
        server = self.server(always(OK))
        client = self.client()
        for _ in range(5):
            await post(client, server.url(), HEADERS, b"x")
        assert len(server.used) == 1
        assert client.handshakes == 1

    async def test_requests_at_once(self):
        """Requests at the same time do not wait for one another, and get their own answers."""
        waiting = []

        def script(connection, request):
            if request.body == b"first":
                connection.write(OK)
                return
            waiting.append((connection, request))
            if len(waiting) == 5:
                for connection, request in waiting:
                    connection.write(OK[:-2] + request.body)

        server = self.server(script)
        client = self.client()
        await post(client, server.url(), HEADERS, b"first")
        bodies = [b"%02d" % number for number in range(5)]
        answers = await gatherResults([post(client, server.url(), HEADERS, b) for b in bodies])
        assert [answer.body for answer in answers] == bodies
        assert client.handshakes == 5

    async def test_what_is_no_http_is_an_answer_all_the_same(self):
        """A kept connection that says something else did not close before it answered."""
        for junk in (b"SSH-2.0-x\r\n", b"HTTP/1.1 abc X\r\n\r\n"):

            def script(connection, request, junk=junk):
                connection.write(OK if request.body == b"first" else junk)
                if request.body != b"first":
                    connection.close()

            server = self.server(script)
            client = self.client()
            await post(client, server.url(), HEADERS, b"first")
            error = await self.failure(post(client, server.url(), HEADERS, b"x"), NoAnswer)
            assert not error.retry_at_once

    async def test_no_redirect(self):
        """A redirect is an answer like any other."""
        answer = b"HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n"
        server = self.server(always(answer))
        response = await post(self.client(), server.url(), HEADERS, b"x")
        assert (response.status, response.headers[b"location"]) == (302, b"/other")
        assert len(server.requests) == 1

    async def test_no_cookies(self):
        """A cookie is not sent back."""
        server = self.server(always(OK.replace(b"OK\r\n", b"OK\r\nSet-Cookie: a=b\r\n", 1)))
        client = self.client()
        await post(client, server.url(), HEADERS, b"x")
        await post(client, server.url(), HEADERS, b"x")
        assert b"cookie" not in server.requests[1].headers

    async def test_chunked_body(self):
        """A chunked body is put together."""
        answer = (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
        )
        server = self.server(always(answer))
        client = self.client()
        assert (await post(client, server.url(), HEADERS, b"x")).body == b"abc"
        assert (await post(client, server.url(), HEADERS, b"x")).body == b"abc"
        assert client.handshakes == 1

    async def test_body_ends_with_the_connection(self):
        """A body without a length ends where the connection is closed."""

        def script(connection, request):
            connection.write(b"HTTP/1.1 200 OK\r\n\r\nabc")
            connection.close()

        server = self.server(script)
        response = await post(self.client(), server.url(), HEADERS, b"x")
        assert (response.body, response.truncated) == (b"abc", False)

    async def test_answer_in_single_bytes(self):
        """An answer that comes byte by byte is read the same."""

        def script(connection, request):
            for byte in OK:
                connection.write(bytes([byte]))

        server = self.server(script)
        response = await post(self.client(), server.url(), HEADERS, b"x")
        assert (response.status, response.body) == (200, b"ok")

    async def test_longest_body(self):
        """A body of exactly the bound is whole; the connection lives on."""
        body = b"b" * MAX_RESPONSE
        server = self.server(always(b"HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n" + body))
        client = self.client()
        response = await post(client, server.url(), HEADERS, b"x")
        assert (response.body, response.truncated) == (body, False)
        await post(client, server.url(), HEADERS, b"x")
        assert client.handshakes == 1

    async def test_body_is_cut(self):
        """A body of 5 MB is cut at the bound, and its connection closed."""
        for head in (b"Content-Length: 5000000", b"X: no length"):
            answer = b"HTTP/1.1 503 No\r\n" + head + b"\r\n\r\n" + b"b" * 5_000_000
            server = self.server(always(answer))
            response = await post(self.client(), server.url(), HEADERS, b"x")
            assert (response.status, response.truncated) == (503, True)
            assert response.body == b"b" * MAX_RESPONSE
            await server.used[0].gone

    async def test_header_bomb_of_many_lines(self):
        """A header block without an end is cut; status and first headers come back."""

        def script(connection, request):
            connection.write(b"HTTP/1.1 503 No\r\nRetry-After: 7\r\n")
            connection.write(b"X-Bomb: 12345678901234567890\r\n" * 100_000)

        server = self.server(script)
        response = await post(self.client(), server.url(), HEADERS, b"x")
        assert (response.status, response.body, response.truncated) == (503, b"", True)
        assert response.headers[b"retry-after"] == b"7"
        assert sum(map(len, response.headers.values())) <= MAX_RESPONSE
        await server.used[0].gone

    async def test_header_bomb_of_one_line(self):
        """One endless header line is cut as well, and so is one of 200 KB that does end."""
        for end in (b"", b"\r\n\r\n"):
            answer = b"HTTP/1.1 200 OK\r\nX-Bomb: " + b"a" * 200_000 + end
            server = self.server(always(answer))
            response = await post(self.client(timeout=3.0), server.url(), HEADERS, b"x")
            assert (response.status, response.truncated) == (200, True)
            await server.used[0].gone

    async def test_header_of_half_the_bound(self):
        """A header block of 32 KiB in short lines is nothing special."""
        fields = b"X-Long: 90123456789012\r\n" * 1365
        server = self.server(always(OK.replace(b"OK\r\n", b"OK\r\n" + fields, 1)))
        response = await post(self.client(), server.url(), HEADERS, b"x")
        assert (response.status, response.body, response.truncated) == (200, b"ok", False)

    async def test_no_answer_in_time(self):
        """A request without any answer is NoAnswer, timed out, not put down to reuse."""
        server = self.server(lambda connection, request: None)
        error = await self.failure(
            post(self.client(timeout=0.3), server.url(), HEADERS, b"x"), NoAnswer
        )
        assert error.timed_out
        assert not error.retry_at_once
        await server.used[0].gone

    async def test_handshake_never_ends(self):
        """A server that accepts and says nothing is NotSent, timed out."""
        silent = self.server(lambda connection, request: None, tls=False)
        url = silent.url().replace("http:", "https:")
        error = await self.failure(post(self.client(timeout=0.3), url, HEADERS, b"x"), NotSent)
        assert error.timed_out

    async def test_not_tls(self):
        """A server that does not speak TLS is NotSent."""
        server = self.server(lambda connection, request: None, tls=False)
        server.greet = lambda connection: connection.write(b"220 mail.example ESMTP\r\n")
        url = server.url().replace("http:", "https:")
        await self.failure(post(self.client(), url, HEADERS, b"x"), NotSent)
        assert b"secret-token" not in server.received

    async def test_refused_connection(self):
        """A port nobody listens on is NotSent."""
        server = self.server(always(OK))
        url = server.url()
        await server.port.stopListening()
        error = await self.failure(post(self.client(), url, HEADERS, b"x"), NotSent)
        assert not error.timed_out

    async def test_closed_during_the_handshake(self):
        """A connection closed before the handshake is done is NotSent."""
        server = self.server(lambda connection, request: None, tls=False)
        server.greet = lambda connection: connection.close()
        url = server.url().replace("http:", "https:")
        await self.failure(post(self.client(), url, HEADERS, b"x"), NotSent)

    async def test_unknown_host(self):
        """A name that does not resolve is NotSent."""
        await self.failure(
            post(self.client(), "https://no-such-host.invalid/", HEADERS, b"x"), NotSent
        )

    async def test_unusable_url(self):
        """What is no URL for HTTP fails through the Deferred, as NotSent."""
        client = self.client()
        for url in (
            "gopher://localhost/",
            "nonsense",
            "https://",
            "https://a:99999/",
            "",
            "http://a b/",
        ):
            await self.failure(post(client, url, HEADERS, b"x"), NotSent)

    async def test_reset_after_the_request(self):
        """A connection reset once the request is out is NoAnswer."""
        server = self.server(lambda connection, request: connection.reset())
        error = await self.failure(post(self.client(), server.url(), HEADERS, b"x"), NoAnswer)
        assert not error.retry_at_once
        assert not error.timed_out

    async def test_closed_without_an_answer(self):
        """A new connection closed without an answer is NoAnswer."""
        server = self.server(lambda connection, request: connection.close())
        error = await self.failure(post(self.client(), server.url(), HEADERS, b"x"), NoAnswer)
        assert not error.retry_at_once

    async def test_garbage(self):
        """What is not HTTP is NoAnswer."""
        for garbage in (b"\x00\x01garbage\r\n\r\n", b"SSH-2.0-OpenSSH\r\n", b"g" * 300_000):
            server = self.server(always(garbage))
            await self.failure(
                post(self.client(timeout=3.0), server.url(), HEADERS, b"x"), NoAnswer
            )
            await server.used[0].gone

    async def test_cancel(self):
        """A cancelled request fails with NoAnswer once it is out, and its connection closes."""
        arrived = Deferred()
        server = self.server(lambda connection, request: arrived.callback(None))
        request = post(self.client(), server.url(), HEADERS, b"x")
        await arrived
        request.cancel()
        await self.failure(request, NoAnswer)
        await server.used[0].gone

    async def test_cancel_at_once(self):
        """A request cancelled before it is connected is NotSent and never arrives."""
        server = self.server(always(OK))
        request = post(self.client(), server.url(), HEADERS, b"x")
        request.cancel()
        await self.failure(request, NotSent)
        assert server.received == b""

    async def test_cancel_within_the_body(self):
        """A request cancelled while its body comes in is NoAnswer."""
        arrived = Deferred()

        def script(connection, request):
            connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\npart")
            reactor.callLater(0.05, arrived.callback, None)

        server = self.server(script)
        request = post(self.client(), server.url(), HEADERS, b"x")
        await arrived
        request.cancel()
        await self.failure(request, NoAnswer)
        await server.used[0].gone

    async def test_close(self):
        """Closing ends idle connections and those in flight; later requests are NotSent."""
        arrived = Deferred()

        def script(connection, request):
            if request.body == b"quick":
                connection.write(OK)
            else:
                arrived.callback(None)

        server = self.server(script)
        client = self.client()
        await post(client, server.url(), HEADERS, b"quick")
        pending = [post(client, server.url(), HEADERS, b"slow")]
        await arrived
        pending.append(post(client, server.url(), HEADERS, b"late"))
        await client.close()
        await self.failure(pending[0], NoAnswer)
        await self.failure(pending[1], NotSent)
        for connection in server.connections:
            await connection.gone
        await self.failure(post(client, server.url(), HEADERS, b"x"), NotSent)
        await client.close()

    async def test_idle_connections_are_retired(self):
        """A connection that is idle for 60 s is closed; one in use is not."""
        clock = Clock()
        server = self.server(always(OK))
        client = self.client(reactor=ClockedReactor(clock))
        await post(client, server.url(), HEADERS, b"x")
        clock.advance(40)
        await post(client, server.url(), HEADERS, b"x")
        clock.advance(40)
        await post(client, server.url(), HEADERS, b"x")
        assert len(server.used) == 1
        clock.pump([1] * 62)
        await server.used[0].gone
        await post(client, server.url(), HEADERS, b"x")
        assert client.handshakes == 2

    async def test_closed_while_idle(self):
        """A connection the server closed while idle is not used again."""
        server = self.server(always(OK))
        client = self.client()
        await post(client, server.url(), HEADERS, b"x")
        server.used[0].reset()
        await server.used[0].gone
        await deferLater(reactor, 0.05)
        await post(client, server.url(), HEADERS, b"x")
        assert client.handshakes == 2

    async def test_bad_certificates(self):
        """Whatever is wrong with a certificate, the request and its token stay here."""
        for kind in certificates.BAD:
            server = self.server(always(OK), certificates.bad(kind))
            client = self.client()
            await self.failure(post(client, server.url(), HEADERS, b"x"), CertificateRefused)
            assert server.received == b"", kind

    async def test_wrong_address(self):
        """An address that the certificate does not name is refused."""
        identity = certificates.make("localhost")
        server = self.server(always(OK), identity)
        await self.failure(
            post(self.client(), server.url("127.0.0.1"), HEADERS, b"x"), CertificateRefused
        )
        assert server.received == b""

    async def test_bundle(self):
        """Every certificate of a bundle is trusted, not only the first."""
        bundle = self.folder / "bundle.pem"
        first = certificates.authority("another root").certificate_pem
        bundle.write_bytes(first + self.ca_file.read_bytes())
        server = self.server(always(OK))
        response = await post(self.client(bundle), server.url(), HEADERS, b"x")
        assert response.status == 200

    async def test_platform_trust_refuses_ours(self):
        """Without a ca_file the platform's roots decide, and ours is not one of them."""
        server = self.server(always(OK))
        client = self.make_client(None, timeout=10.0, connections=1)
        self.addCleanup(client.close)
        await self.failure(post(client, server.url(), HEADERS, b"x"), CertificateRefused)
        assert server.received == b""

    def test_unusable_ca_file(self):
        """A ca_file that is missing, empty or no PEM says so when the client is made."""
        with pytest.raises(OSError, match="missing"):
            self.make_client(self.folder / "missing.pem", timeout=1.0, connections=1)
        damaged = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        for content in (b"", b"no certificate", damaged):
            path = self.folder / "bad.pem"
            path.write_bytes(content)
            with pytest.raises(ValueError, match=r"bad\.pem"):
                self.make_client(path, timeout=1.0, connections=1)
