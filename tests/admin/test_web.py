"""The views by HTTP."""

import json
import re
from importlib import resources

import pytest

from node2dm_tw.admin.health import Phase
from node2dm_tw.admin.web import PAGE, SECURITY
from tests.admin.http import SNAPSHOT, Connection, open_site
from tests.admin.support import route, snapshot

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


@pytest.mark.parametrize("path", PATHS)
def test_head_has_no_body(path):
    """But the same status and type."""
    got, head = get(path), get(path, method="HEAD")
    assert (head.status, head.body) == (got.status, b"")
    assert head.header("content-type") == got.header("content-type")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("path", ["/", "/stats", "/events", "/readyz"])
def test_the_views_are_read_only(path, method):
    """They command nothing."""
    answer = get(path, method=method)
    assert answer.status == 405
    assert answer.header("allow") == "GET, HEAD"


def test_pushes_by_http_without_a_push_token():
    """Are forbidden, whatever they authorize themselves with; what is no push is told so."""
    bearer = "Authorization: Bearer guessed"
    answers = [get("/v1/push", *headers, method="POST") for headers in ((), (bearer,))]
    assert [answer.status for answer in answers] == [403, 403]
    assert b"push_token" in answers[0].body
    assert get("/v1/push").status == 405
    assert get("/v1/push").header("allow") == "POST"
    assert get("/v1/push/x", method="POST").status == 404


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
    assert answer.body == b"there is nothing here\n"


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
    code = texts["page.js"] + texts["plot.js"]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|eval\(|document\.write", code)


def test_stats_are_the_snapshots_totals_and_routes():
    """And nothing that is not in the reference."""
    answer = get("/stats")
    assert answer.header("content-type") == "application/json"
    assert json.loads(answer.body) == {k: SNAPSHOT[k] for k in ("totals", "routes")}


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
    assert b"node2dm_tw[metrics]" in answer.body


def test_metrics_are_rendered_for_the_form_that_is_asked_for():
    """`Accept` is handed on, and the type that comes back is told."""
    answer = get("/metrics", "Accept: x/y", metrics=lambda accept: ("a/b", accept.encode()))
    assert (answer.header("content-type"), answer.body) == ("a/b", b"x/y")


def test_requests_one_after_another_on_a_connection():
    """It is kept open."""
    connection = Connection(open_site())
    assert [connection.get("/healthz").status for _ in range(3)] == [200, 200, 200]


def test_garbage_is_refused():
    """Nothing is told to who does not speak HTTP."""
    connection = Connection(open_site())
    connection.channel.dataReceived(b"\x16\x03\x01\r\n\r\n")
    assert connection.transport.value().startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("head", ["Content-Length: 99999999", "Transfer-Encoding: chunked"])
def test_a_body_beyond_a_mebibyte_ends_the_connection(head):
    """Nothing beyond it is kept, whatever the address."""
    connection = get("/v1/push", head, method="POST")
    sent, chunk = 0, b"x" * 65_536
    framed = b"10000\r\n" + chunk + b"\r\n" if "chunked" in head else chunk
    while not connection.transport.disconnecting:
        assert sent <= 1_048_576
        connection.channel.dataReceived(framed)
        sent += len(chunk)
    assert connection.status == 413
    connection.channel.dataReceived(framed)
    assert connection.transport.value().count(b"HTTP/1.1") == 1
    connection.lose()
