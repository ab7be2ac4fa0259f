"""Broken, compressed and unusual answers: what every HTTP client makes of them."""

import gzip
import zlib

from twisted.internet.task import LoopingCall

from node2dm_tw.http.interface import MAX_RESPONSE, NoAnswer, post
from tests.contract.http_fixtures import HEADERS, ClientFixtures
from tests.contract.http_servers import OK, always

STATUS = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: 2\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"2\r\nok\r\n0\r\n\r\n"

WHOLE = {
    "a blank before the colon": STATUS + b"X-A : 1\r\n" + LENGTH + b"\r\nok",
    "a folded line": STATUS + b"X-A: 1,\r\n\t2\r\n" + LENGTH + b"\r\nok",
    "bytes above 127 in a value": STATUS + b"X-A: \xff\xe9\r\n" + LENGTH + b"\r\nok",
    "bytes above 127 in a name": STATUS + b"X-\xff: 1\r\n" + LENGTH + b"\r\nok",
    "no name": STATUS + b": 1\r\n" + LENGTH + b"\r\nok",
    "tabs": STATUS + b"X-A:\t1\t\r\nContent-Length:\t2 \r\n\r\nok",
    "no reason": b"HTTP/1.1 200\r\n" + LENGTH + b"\r\nok",
    "line feeds alone": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "lower case": b"http/1.1 200 OK\r\n" + LENGTH + b"\r\nok",
    "the same length twice": STATUS + LENGTH + LENGTH + b"\r\nok",
    "the same length twice in a line": STATUS + b"Content-Length: 2, 2\r\n\r\nok",
    "a length and chunks": STATUS + b"Content-Length: 99\r\n" + CHUNKED + b"\r\n" + CHUNKS,
    "chunks and a length": STATUS + CHUNKED + b"Content-Length: 99\r\n\r\n" + CHUNKS,
    "a trailer": STATUS + CHUNKED + b"\r\n2\r\nok\r\n0\r\nX-A: 1\r\n\r\n",
    "a chunk's extension": STATUS + CHUNKED + b"\r\n2;a=b\r\nok\r\n0\r\n\r\n",
    "more than its length": STATUS + LENGTH + b"\r\nok and more",
}
"""Answers that are read to their end, however odd."""

BROKEN = {
    "a line without a colon": STATUS + b"no colon\r\n" + LENGTH + b"\r\nok",
    "a second status line": STATUS + b"HTTP/1.1 500 No\r\n" + LENGTH + b"\r\nok",
    "a field like a status line": STATUS + b"HTTP/1.1 500 No: x\r\n" + LENGTH + b"\r\no",
    "a line that continues none": STATUS + b" 2\r\n" + LENGTH + b"\r\nok",
    "a NUL in a value": STATUS + b"X-A: a\0b\r\n" + LENGTH + b"\r\nok",
    "a NUL in a name": STATUS + b"X\0A: b\r\n" + LENGTH + b"\r\nok",
    "a carriage return in a value": STATUS + b"X-A: a\rb\r\n" + LENGTH + b"\r\nok",
    "a length in words": STATUS + b"Content-Length: two\r\n\r\nok",
    "a negative length": STATUS + b"Content-Length: -2\r\n\r\nok",
    "a signed length": STATUS + b"Content-Length: +2\r\n\r\nok",
    "an empty length": STATUS + b"Content-Length:\r\n\r\nok",
    "an endless length": STATUS + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nok",
    "two lengths": STATUS + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "an unknown transfer coding": STATUS + b"Transfer-Encoding: foo\r\n\r\nok",
    "a second transfer coding": STATUS + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS,
    "a chunk without a length": STATUS + CHUNKED + b"\r\nzz\r\nok\r\n0\r\n\r\n",
    "a bad second chunk": STATUS + CHUNKED + b"\r\n2\r\nok\r\nzz\r\n\r\n",
    "a chunk that is too long": STATUS + CHUNKED + b"\r\n2\r\nokXX0\r\n\r\n",
    "a chunk of endless length": STATUS + CHUNKED + b"\r\n" + b"f" * 20 + b"\r\nok\r\n0\r\n\r\n",
    "closed after the status line": STATUS,
    "closed within the header": STATUS + b"X-A: 1\r\nX-B",
    "closed within the body": STATUS + b"Content-Length: 3\r\n\r\nok",
    "closed between chunks": STATUS + CHUNKED + b"\r\n2\r\nok\r\n",
}
"""Answers of which a part may be missing, or not be understood."""

NONE = {
    "nothing": b"",
    "half a status line": b"HTTP/1.1 20",
    "a status line without its end": b"HTTP/1.1 200 OK",
    "no number": b"HTTP/1.1 abc OK\r\n\r\n",
    "too short a status": b"HTTP/1.1 99 OK\r\n\r\n",
    "too low a status": b"HTTP/1.1 099 OK\r\n\r\n",
    "zero": b"HTTP/1.1 000 OK\r\n\r\n",
    "another protocol": b"SSH-2.0-x\r\n\r\n",
    "an interim answer alone": b"HTTP/1.1 100 Continue\r\n\r\n",
    "another interim answer alone": b"HTTP/1.1 199 X\r\nX-A: 1\r\n\r\n",
    "another protocol from here on": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n\x01\x02\x03",
    "an answer in another protocol": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\nok\r\n\r\n",
}
"""What is no answer."""


class AnswerTests(ClientFixtures):
    """From its status line on an answer counts, whatever becomes of the rest."""

    async def answer(self, raw, **settings):
        """Have one request answered with these bytes, and the connection closed."""

        def script(connection, request):
            connection.write(raw)
            connection.close()

        server = self.server(script)
        return await post(self.client(**settings), server.url(), HEADERS, b"x")

    async def test_odd_answers(self):
        """What can be read is read."""
        for case, raw in WHOLE.items():
            response = await self.answer(raw)
            assert (response.status, response.body) == (200, b"ok"), case
            assert not response.truncated, case

    async def test_odd_fields(self):
        """Names come without blanks, and a folded line is one value."""
        raw = STATUS + b"X-A : 1,\r\n\t2\r\nx-b:3 \r\n" + LENGTH + b"\r\nok"
        response = await self.answer(raw)
        assert response.headers[b"x-a"].split() == [b"1,", b"2"]
        assert response.headers[b"x-b"] == b"3"

    async def test_broken_answers(self):
        """Its status counts where the rest is broken; what is missing is said to be."""
        for case, raw in BROKEN.items():
            response = await self.answer(raw)
            assert response.status == 200, case
            assert b"ok".startswith(response.body[:2]), case
            assert response.truncated or response.body == b"ok", case
            values = b"".join(response.headers.values())
            assert not {b"\0", b"\r", b"\n"} & {values[i : i + 1] for i in range(len(values))}

    async def test_broken_refusal(self):
        """Headers before the break are read, so that a pause is kept."""
        raw = b"HTTP/1.1 503 No\r\nRetry-After: 7\r\nContent-Length: 9\r\n\r\nno"
        response = await self.answer(raw)
        assert (response.status, response.body, response.truncated) == (503, b"no", True)
        assert response.headers[b"retry-after"] == b"7"

    async def test_broken_answers_on_a_connection_that_stays_open(self):
        """An answer that does not end, ends with the time-out; its status counts."""
        for raw in (STATUS, STATUS + b"X-A: 1\r\n", STATUS + b"Content-Length: 3\r\n\r\nok"):
            server = self.server(always(raw))
            response = await post(self.client(timeout=0.3), server.url(), HEADERS, b"x")
            assert (response.status, response.truncated) == (200, True)
            await server.used[0].gone

    async def test_slow_body(self):
        """A body that never ends is ended by the time-out, though bytes keep coming."""

        def script(connection, request):
            connection.write(STATUS + b"Content-Length: 1000\r\n\r\n")
            dripping = LoopingCall(connection.write, b"z")
            dripping.start(0.02)
            connection.gone.addCallback(lambda _: dripping.stop())

        server = self.server(script)
        response = await post(self.client(timeout=0.3), server.url(), HEADERS, b"x")
        assert (response.status, response.truncated) == (200, True)
        assert set(response.body) == {ord("z")}
        await server.used[0].gone

    async def test_no_answer_at_all(self):
        """What has no status of 200 or above is NoAnswer."""
        for case, raw in NONE.items():

            def script(connection, request, raw=raw):
                connection.write(raw)
                connection.close()

            server = self.server(script)
            error = await self.failure(post(self.client(), server.url(), HEADERS, b"x"), NoAnswer)
            assert not error.retry_at_once, case

    async def test_interim_answers(self):
        """1xx answers are passed over, also many, and however they are cut."""
        interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nX-A: early\r\n\r\n"
        for size in (1, 7, 10_000):

            def script(connection, request, size=size):
                raw = interim * 20 + OK
                for start in range(0, len(raw), size):
                    connection.write(raw[start : start + size])

            server = self.server(script)
            response = await post(self.client(), server.url(), HEADERS, b"x")
            assert (response.status, response.body) == (200, b"ok")
            assert b"x-a" not in response.headers

    async def test_endless_interim_answers(self):
        """1xx answers without an end are no answer, in bounded time and memory."""
        for interim in (
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n",
            b"HTTP/1.1 101 Switching\r\n\r\n",
        ):

            def script(connection, request, interim=interim):
                flood = LoopingCall(connection.write, interim * 1000)
                flood.start(0.001)
                connection.gone.addCallback(lambda _: flood.stop())

            server = self.server(script)
            error = await self.failure(
                post(self.client(timeout=2.0), server.url(), HEADERS, b"x"), NoAnswer
            )
            assert not error.retry_at_once
            await server.used[0].gone

    async def test_slow_interim_answers(self):
        """1xx answers that keep coming slowly do not put the time-out off."""

        def script(connection, request):
            drip = LoopingCall(connection.write, b"HTTP/1.1 102 Processing\r\n\r\n")
            drip.start(0.05)
            connection.gone.addCallback(lambda _: drip.stop())

        server = self.server(script)
        error = await self.failure(
            post(self.client(timeout=0.4), server.url(), HEADERS, b"x"), NoAnswer
        )
        assert error.timed_out
        await server.used[0].gone

    async def test_compressed_bodies(self):
        """A body that comes compressed though none was asked for is read."""
        body = b'{"name": "projects/p/messages/1"}' * 20
        bare = zlib.compressobj(wbits=-15)
        for coding, coded in (
            (b"gzip", gzip.compress(body)),
            (b"GZip", gzip.compress(body)),
            (b"x-gzip", gzip.compress(body)),
            (b"deflate", zlib.compress(body)),
            (b"deflate", bare.compress(body) + bare.flush()),
            (b"deflate, gzip", gzip.compress(zlib.compress(body))),
            (b"gzip", body),
            (b"identity", body),
        ):
            response = await self.answer(
                STATUS + b"Content-Encoding: %s\r\n\r\n%s" % (coding, coded)
            )
            assert (response.body, response.truncated) == (body, False), coding

    async def test_damaged_compressed_bodies(self):
        """A compressed body that is cut or damaged leaves the answer's status standing."""
        coded = gzip.compress(bytes(range(256)) * 40)
        for damaged in (coded[:-9], coded[:60] + b"\0\0\0" + coded[63:], coded[:3]):
            response = await self.answer(STATUS + b"Content-Encoding: gzip\r\n\r\n" + damaged)
            assert (response.status, response.truncated) == (200, True)
            assert (bytes(range(256)) * 40).startswith(response.body)

    async def test_decompression_bomb(self):
        """A small body that inflates to much is cut, as a long one is."""
        bomb = gzip.compress(b"b" * 50_000_000)
        assert len(bomb) < MAX_RESPONSE
        twice = gzip.compress(bomb)
        for coding, coded in ((b"gzip", bomb), (b"gzip, gzip", twice)):
            response = await self.answer(
                STATUS + b"Content-Encoding: %s\r\n\r\n%s" % (coding, coded)
            )
            assert response.status == 200
            assert response.truncated
            assert response.body == b"b" * MAX_RESPONSE
