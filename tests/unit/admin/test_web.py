"""The views by HTTP."""

import json
import re
from importlib import resources

import attrs
import pytest
from twisted.logger import capturedLogs, formatEvent

from node2dm_tw.admin.health import Phase
from node2dm_tw.admin.lines import make_lines
from node2dm_tw.admin.responses import SECURITY
from node2dm_tw.admin.web import PAGE
from tests.unit.admin.http import Connection, open_site
from tests.unit.admin.support import PROCESS, route, snapshot

FOLDER = resources.files("node2dm_tw.admin") / "page"
PATHS = ["/", "/page.css", "/page.js", "/plot.js", "/icon.svg", "/stats", "/healthz", "/readyz"]


def get(path, *headers, method="GET", **site):
    return Connection(open_site(**site)).get(path, *headers, method=method)


@pytest.mark.parametrize("path", [*PATHS, "/nothing", "/metrics", "/stats/more"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_every_answer_forbids_what_the_page_does_not_need(path, method):
    """Nothing of another host, no frames, no guessing of types, nothing kept."""
    answer = get(path, method=method)
    for name, value in SECURITY.items():
        assert answer.header(name.decode().lower()) == value.decode()


def test_the_policy_allows_only_what_is_ours():
    """No inline scripts or styles, and no other place."""
    policy = SECURITY[b"Content-Security-Policy"].decode()
    assert policy.startswith("default-src 'none';")
    assert set(re.findall(r"-src ([^;]*)", policy)) == {"'none'", "'self'"}
    assert "unsafe" not in policy


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("path", ["/", "/stats", "/events", "/readyz"])
def test_the_views_are_read_only(path, method):
    """They command nothing."""
    answer = get(path, method=method)
    assert answer.status == 405
    assert answer.header("allow") == "GET, HEAD"


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/stats/",
        "/stats/x",
        "/../stats",
        "/page",
        "/v1",
        "/v1/",
        "/v1/x",
        "/page/index.html",
    ],
)
def test_what_is_not_there(path):
    """404, in one line that repeats nothing of the question."""
    answer = get(path)
    assert answer.status == 404
    assert answer.body.startswith(b"there is nothing here: expected /, /stats, ")
    assert answer.body.count(b"\n") == 1


def test_the_page_is_made_of_its_files():
    """Each is served with its type, and each file in the folder is served."""
    assert {name for name, _ in PAGE.values()} == {file.name for file in FOLDER.iterdir()}
    for path, (name, content_type) in PAGE.items():
        answer = get(f"/{path.decode()}")
        assert answer.body == (FOLDER / name).read_bytes()
        assert answer.header("content-type") == content_type


def test_the_page_names_no_other_place():
    """No address of any host, no inline script or style, nothing that runs text."""
    texts = {file.name: file.read_text(encoding="utf-8") for file in FOLDER.iterdir()}
    for text in texts.values():
        hosts = set(re.findall(r"https?://[^\"' )]+", text))
        assert hosts <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<style|<script>|\sstyle=|\son\w+=|javascript:", texts["index.html"])
    code = texts["page.js"] + texts["plot.js"] + texts["push.js"]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|eval\(|document\.write", code)


def test_stats_are_the_lines_of_totals_and_routes():
    """And nothing that is not in the reference."""
    answer = get("/stats")
    assert answer.header("content-type") == "application/json"
    assert json.loads(answer.body) == attrs.asdict(make_lines(PROCESS))


def test_whoever_can_answer_is_alive():
    """Also one that is not ready."""
    assert get("/healthz", phase=Phase.DRAINING).status == 200


@pytest.mark.parametrize(
    ("query", "phase", "state", "status"),
    [
        ("", Phase.RUNNING, "ready", 200),
        ("", Phase.RUNNING, "paused", 200),
        ("", Phase.STARTING, "ready", 503),
        ("", Phase.DRAINING, "ready", 503),
        ("?route=shop", Phase.RUNNING, "ready", 200),
        ("?route=shop", Phase.RUNNING, "paused", 503),
        ("?route=other", Phase.RUNNING, "ready", 404),
        ("?route=%ff", Phase.RUNNING, "ready", 404),
        ("?nonsense", Phase.RUNNING, "ready", 200),
    ],
)
def test_readyz(query, phase, state, status):
    """503 with the reasons; the state of each route in the body."""
    values = route(state=state, pause_left=9.0 if state == "paused" else 0.0)
    answer = get(f"/readyz{query}", phase=phase, snapshot=snapshot(shop=values))
    assert answer.status == status
    body = json.loads(answer.body)
    if status != 404:
        assert body["ready"] == (status == 200) == (not body["reasons"])
        assert body["routes"]["shop"] == ("paused 9 s more" if state == "paused" else "ready")


def test_metrics_without_their_extra():
    """It says which one is missing."""
    answer = get("/metrics")
    assert answer.status == 501
    assert b"(pip install prometheus-client)" in answer.body


def test_metrics_are_rendered_for_the_form_that_is_asked_for():
    """`Accept` is handed on, and the type that comes back is told."""
    answer = get("/metrics", "Accept: x/y", metrics=lambda accept: ("a/b", accept.encode()))
    assert (answer.header("content-type"), answer.body) == ("a/b", b"x/y")


def test_requests_one_after_another_on_a_connection():
    """It is kept open."""
    connection = Connection(open_site())
    assert [connection.get("/healthz").status for _ in range(3)] == [200, 200, 200]


@pytest.mark.parametrize(
    "text",
    [
        "\x16\x03\x01\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        "GET /\x01 HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + "9" * 5_000 + "\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused(text):
    """With 400, once, and the connection is closed: nothing after it is read."""
    connection = Connection(open_site()).send(text + "GET /stats HTTP/1.1\r\n\r\n")
    assert connection.status == 400
    assert connection.transport.value().count(b"HTTP/1.1 ") == 1
    assert connection.transport.is_closed


@pytest.mark.parametrize(
    "text",
    [
        "GET /" + "x" * 17_000,
        "GET / HTTP/1.1\r\nA: " + "b" * 17_000,
        "GET / HTTP/1.1\r\nA: " + "b" * 17_000 + "\r\n\r\n",
        "GET /?" + "a&" * 1_024 + " HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\n" + "X: y\r\n" * 101 + "\r\n",
        "GET / HTTP/1.1\r\nX: y\r\n" + " z\r\n" * 100 + "\r\n",
        "\r\n" * 9_000,
    ],
)
def test_a_head_that_is_too_long_is_refused(text):
    """With 431, and the connection is closed: neither memory nor time is spent on it."""
    connection = Connection(open_site()).send(text)
    assert connection.status == 431
    assert connection.transport.is_closed


BODIES = ["Content-Length: 5", "Content-Length: 99999999", "Transfer-Encoding: chunked"]
FORM = "Content-Type: multipart/form-data; boundary=x"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/", 405),
        ("PUT", "/stats", 405),
        ("GET", "/stats", 413),
        ("GET", "/events", 413),
        ("HEAD", "/", 413),
        ("POST", "/nothing", 405),
    ],
)
@pytest.mark.parametrize("announced", BODIES)
@pytest.mark.parametrize("expect", [(), ("Expect: 100-continue",)])
def test_no_body_is_read(method, path, status, announced, expect):
    """The answer follows the head and is the last; nobody is asked to send a body first."""
    answer = get(path, announced, FORM, *expect, method=method)
    assert answer.status == status
    assert answer.header("connection") == "close"
    assert answer.transport.is_closed
    assert b"100 Continue" not in answer.transport.value()


def test_an_empty_body_is_none():
    """The connection is kept."""
    connection = get("/stats", "Content-Length: 0", method="POST")
    assert connection.status == 405
    assert connection.get("/healthz").status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LocalHost.:8122", 200),
        ("127.0.0.1:8122", 200),
        ("[::1]:8122", 200),
        ("[fe80::1%25eth0]", 200),
        ("2001:db8::1", 421),
        ("push.example.com", 200),
        ("PUSH.example.com.:443", 200),
        ("", 200),
        ("evil.example", 421),
        ("evil.example:80", 421),
        ("push.example.com.evil.example", 421),
        ("xpush.example.com", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost:80:80", 421),
        ("local\xffhost", 421),
    ],
)
@pytest.mark.parametrize("path", ["/", "/stats", "/events", "/nothing"])
def test_a_name_that_is_not_ours_is_refused(host, status, path):
    """A page of another site may let its own name point to us; the answer names `web_hosts`."""
    answer = get(path, f"Host: {host}", web_hosts=("push.example.com",))
    assert answer.status == (404 if (status, path) == (200, "/nothing") else status)
    assert (b"web_hosts" in answer.body) == (status == 421)


def test_the_hosts_of_a_request_must_all_be_ours():
    """One without a Host is answered; one with several, only if each is known."""
    assert Connection(open_site()).send("GET /healthz HTTP/1.0\r\n\r\n").status == 200
    two = get("/healthz", "Host: localhost", "Host: evil.example")
    assert two.status == 421


@pytest.mark.parametrize(
    ("headers", "is_refused"),
    [
        ((), False),
        (("Sec-Fetch-Site: same-origin", "Origin: http://localhost:8122"), False),
        (("Sec-Fetch-Site: none",), False),
        (("Origin: http://LOCALHOST:8122",), False),
        (("Sec-Fetch-Site: cross-site",), True),
        (("Sec-Fetch-Site: same-site",), True),
        (("Origin: https://evil.example",), True),
        (("Origin: http://localhost",), True),
        (("Origin: http://localhost:81220",), True),
        (("Origin: null",), True),
        (("Origin: \xff",), True),
    ],
)
def test_another_sites_page_commands_nothing(headers, is_refused):
    """Its posts are refused, whatever they would be answered otherwise; its reads are not ours."""
    host = "Host: localhost:8122"
    assert get("/", host, *headers, method="DELETE").status == (403 if is_refused else 405)
    assert get("/stats", host, *headers).status == 200


def test_the_same_headers_for_head_as_for_get():
    """In silence: Twisted would log a line for each."""
    with capturedLogs() as logged:
        for path in [*PATHS, "/events", "/nothing", "/metrics"]:
            got, head = get(path), get(path, method="HEAD")
            assert (head.status, head.body) == (got.status, b"")
            names = {"transfer-encoding", "date"}
            assert head.headers.keys() - names == got.headers.keys() - names
            assert head.header("content-length") == got.header("content-length")
    assert logged == []


def test_a_fault_of_ours_is_one_answer_and_a_line_a_second():
    """The client is told nothing of it, and the next request is answered."""
    broken = snapshot(shop=None)
    site = open_site(snapshot=broken)
    with capturedLogs() as logged:
        for _ in range(50):
            connection = Connection(site).get("/readyz")
            assert connection.status == 500
            assert b"Traceback" not in connection.body
            assert connection.get("/healthz").status == 200
        assert [formatEvent(event) for event in logged] == ["a request could not be answered"]
        site.reactor.advance(1)
        Connection(site).get("/readyz")
    assert len(logged) == 2


def test_any_accept_is_answered():
    """Also one that is not text."""
    answer = get("/metrics", "Accept: \xff", metrics=lambda accept: ("a/b", accept.encode()))
    assert answer.body == "\xff".encode()
