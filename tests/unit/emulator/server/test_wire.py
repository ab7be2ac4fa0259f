"""The emulator's HTTP, byte by byte and without sockets."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.logger import capturedLogs

from node2dm_tw.emulator.settings import PROJECT
from tests.unit.emulator.support import SENDER, Firebase, Wire, World, request

PATHS = [
    "/accounts/ClientLogin",
    "/accounts/Captcha",
    "/c2dm/send",
    "/token",
    f"/v1/projects/{PROJECT}/messages:send",
    "/device/register",
    "/device/demo-phone",
    "/device/demo-phone/idle",
    "/device/demo-phone/refresh",
    "/log",
    "/stats",
    "/faults",
    "/expire",
    "/reset",
]
METHODS = ["GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS", "get"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "message",
                    "token",
                    "topic",
                    "condition",
                    "data",
                    "android",
                    "ttl",
                    "notification",
                    "sender",
                    "app",
                    "device",
                    "topics",
                    "account",
                    "idle",
                    "validate_only",
                    "apns",
                    "endpoint",
                    "status",
                    "headers",
                    "error",
                    "times",
                    "fid",
                    "fcm_options",
                    "webpush",
                ]
            )
            | st.text(max_size=10),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)
FORMS = st.lists(
    st.sampled_from(
        [
            b"registration_id=demo-phone",
            b"collapse_key=k",
            b"data.data=",
            b"Email=",
            b"Passwd=x",
            b"service=ac2dm",
            b"grant_type=",
            b"assertion=",
            b"logintoken=",
            b"logincaptcha=x",
            b"delay_while_idle",
        ]
    )
    | st.binary(max_size=20),
    max_size=8,
).map(b"&".join)
BODIES = st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()) | FORMS


def _parts(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *rest = head.split(b"\r\n")
    headers = dict(line.lower().split(b": ", 1) for line in rest)
    return int(first.split()[1]), headers, body


def _firebase_wire():
    world = Firebase()
    return world, Wire(world)


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(METHODS), st.sampled_from(PATHS), BODIES, st.sampled_from("bc-"))
def test_nothing_is_a_500(method, path, body, who):
    """Any body to any endpoint, signed in or not, is answered, and in good HTTP."""
    world, wire = SHARED
    auth = {
        "b": {"Authorization": f"Bearer {world.token}"},
        "c": {"Authorization": f"GoogleLogin auth={world.auth(SENDER)}"},
        "-": {},
    }[who]
    with capturedLogs() as captured:
        answer = wire.ask(request(method, path, body, **auth))
    assert not [event for event in captured if event.get("log_failure")]
    status, headers, content = _parts(answer)
    assert status < 500 or status in (501, 503), answer
    if method != "HEAD":
        assert len(content) == int(headers[b"content-length"])
    if headers.get(b"content-type", b"").startswith(b"application/json") and content:
        json.loads(content)
    world.call("POST", "/reset")


SHARED = _firebase_wire()


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_arbitrary_bytes(data):
    """Bytes that are no HTTP are 400 or the end of the connection."""
    wire = Wire(World())
    with capturedLogs() as captured:
        answer = wire.ask(data + b"\r\n\r\n")
    assert not [event for event in captured if event.get("log_failure")]
    if answer:
        assert _parts(answer)[0] < 500


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=100))
def test_any_path(path):
    """Paths are whatever they are."""
    from urllib.parse import quote

    wire = Wire(World())
    status, _, _ = _parts(wire.ask(request("GET", "/" + quote(path, safe="/?%&;"))))
    assert status in (200, 404, 405)


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_the_event_stream_of_any_device(name):
    """A device that is not registered has no stream; whatever its name, the answer is a 404."""
    from urllib.parse import quote

    wire = Wire(World())
    device = quote(name, safe="") or "%20"
    status, _, _ = _parts(wire.ask(request("GET", f"/device/{device}/messages")))
    assert status == 404


def test_keep_alive_and_pipelining():
    """Requests on one connection are answered in their order."""
    wire = Wire(World())
    answer = wire.ask(request("GET", "/stats") + request("GET", "/x") + request("GET", "/faults"))
    assert answer.count(b"HTTP/1.1 ") == 3
    assert answer.index(b"404 Not Found") > answer.index(b"200 OK")
    assert not wire.transport.disconnecting


def test_an_id_may_be_quoted():
    """The colon of an FCM token may come as %3A."""
    world = World()
    phone = world.google.registrations.register(PROJECT, "app", firebase=True)
    path = f"/device/{phone.registration_id.replace(':', '%3A')}"
    assert _parts(Wire(world).ask(request("DELETE", path)))[0] == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_beyond_the_limit(chunked):
    """It is answered with 413 and not kept."""
    wire = Wire(World())
    body = b"x" * (1024 * 1024 + 1)
    if chunked:
        whole = request("POST", "/c2dm/send", Transfer_Encoding="chunked")
        whole += b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    else:
        whole = request("POST", "/c2dm/send", body)
    assert _parts(wire.ask(whole))[0] == 413
    assert _parts(wire.ask(request("GET", "/stats")))[0] == 200


def _rule(world, **rule):
    assert world.call("POST", "/faults", json.dumps(rule).encode()).status == 200


def test_a_delay():
    """The answer waits; a client that goes away is not waited for."""
    world = World()
    wire = Wire(world)
    _rule(world, endpoint="login", delay=5, times=2)
    whole = request("POST", "/accounts/ClientLogin", b"Email=a@b&Passwd=x&service=ac2dm")
    assert wire.ask(whole) == b""
    wire.clock.advance(5)
    assert wire.transport.value().startswith(b"HTTP/1.1 200")
    assert wire.ask(whole) == b""
    wire.transport.loseConnection()
    assert wire.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("cut", "seen"), [("request", 0), ("answer", 0), ("headers", 14), ("body", 1)]
)
def test_cuts(cut, seen):
    """The connection breaks where it should."""
    world = World()
    wire = Wire(world)
    _rule(world, endpoint="login", cut=cut)
    body = b"Email=a@b&Passwd=x&service=ac2dm"
    answer = wire.ask(request("POST", "/accounts/ClientLogin", body))
    assert wire.transport.disconnecting
    if cut == "headers":
        assert answer == b"HTTP/1.1 200\r\n"
    elif cut == "body":
        _, headers, content = _parts(answer)
        assert 0 < len(content) < int(headers[b"content-length"])
    else:
        assert answer == b""
    assert world.google.request_log.counts() == {"login": {"0" if cut == "request" else "200": 1}}


def test_a_bug_is_logged():
    """If the rules raise, the client gets an answer and the log has the reason."""

    class Broken:
        def answer(self, request, now):
            raise ZeroDivisionError

    world = World()
    wire = Wire(world)
    wire.factory.google = Broken()
    with capturedLogs() as captured:
        assert _parts(wire.ask(request("GET", "/stats")))[0] == 500
    assert captured[-1]["log_failure"].check(ZeroDivisionError)


def _events(data):
    """Read server-sent events out of a chunked body."""
    events = []
    for block in data.decode().replace("\r\n", "\n").split("\n\n"):
        lines = dict(
            line.split(": ", 1) for line in block.split("\n") if ": " in line and line[0] != ":"
        )
        if "event" in lines:
            events.append((lines["event"], json.loads(lines["data"])))
    return events


class Listener(Wire):
    """A connected phone."""

    def __init__(self, world, phone):
        super().__init__(world)
        self.opening = self.ask(request("GET", f"/device/{phone.registration_id}/messages"))

    def events(self):
        return _events(self.transport.value())


def _phone(world):
    return world.google.registrations.register(SENDER, "app")


def test_events():
    """What waited and what comes is an event each, in one line of ASCII."""
    world = World()
    phone, token = _phone(world), world.auth()
    world.send(token, registration_id=phone.registration_id, data__data="1")
    listener = Listener(world, phone)
    assert b"text/event-stream" in listener.opening
    payload = "\N{EURO SIGN}\n\u2028"
    world.send(token, registration_id=phone.registration_id, data__data=payload)
    (first, one), (second, two) = listener.events()
    assert (first, second) == ("message", "message")
    assert (one["data"], two["data"]) == ({"data": "1"}, {"data": payload})
    assert two["collapse_key"] == "greeting"
    assert world.google.registrations.online() == 2
    listener.transport.loseConnection()
    assert world.google.registrations.online() == 1


def test_other_events():
    """A notification comes with its message; dropped messages and a new ID are events."""
    world = Firebase()
    phone = world.google.registrations.register(PROJECT, "app", firebase=True)
    for _ in range(101):
        world.push(token=phone.registration_id, notification={"title": "T"})
    fresh = world.google.registrations.refresh(phone)
    (deleted, count), (registration, new), (message, pushed) = Listener(world, phone).events()
    assert (deleted, count) == ("deleted", {"count": 100})
    assert (registration, new) == ("registration", {"registration_id": fresh})
    assert (message, pushed["notification"]) == ("message", {"title": "T"})


def test_a_stream_that_is_cut_or_gone():
    """A fault may cut it; a phone that unregistered during a delay finds nothing."""
    world = World()
    phone = _phone(world)
    _rule(world, endpoint="messages", cut="body")
    assert Listener(world, phone).transport.disconnecting
    _rule(world, endpoint="messages", delay=3)
    listener = Listener(world, phone)
    world.google.registrations.unregister(phone)
    listener.clock.advance(3)
    assert _parts(listener.transport.value())[0] == 404


def test_a_stream_is_kept_alive():
    """A quiet stream gets a comment now and then."""
    world = World()
    phone = _phone(world)
    listener = Listener(world, phone)
    listener.factory.startFactory()
    listener.transport.clear()
    listener.clock.advance(30)
    assert b": keep-alive" in listener.transport.value()
    listener.factory.stopFactory()


def test_unregistering_ends_the_stream():
    """The event comes, then the end."""
    world = World()
    phone = _phone(world)
    listener = Listener(world, phone)
    world.call("DELETE", f"/device/{phone.registration_id}")
    listener.clock.advance(0)
    assert listener.events() == [("unregistered", {"registration_id": phone.registration_id})]
    assert listener.transport.value().endswith(b"0\r\n\r\n")


def test_a_second_stream_replaces_the_first():
    """A phone is in one place."""
    world = World()
    phone = _phone(world)
    wire = Wire(world)
    path = f"/device/{phone.registration_id}/messages"
    wire.ask(request("GET", path))
    second, transport = wire.connect()
    second.dataReceived(request("GET", path))
    assert wire.transport.value().endswith(b"0\r\n\r\n")
    world.send(world.auth(), registration_id=phone.registration_id)
    assert len(_events(transport.value())) == 1


def test_a_phone_that_does_not_read_is_offline():
    """Messages wait in the phone's own bounded store, not in the connection's buffer."""
    world = World()
    phone, token = _phone(world), world.auth()
    listener = Listener(world, phone)
    listener.transport.producer.pauseProducing()
    world.send(token, registration_id=phone.registration_id)
    assert listener.events() == []
    assert world.google.registrations.stored == 1
    listener.transport.producer.resumeProducing()
    assert len(listener.events()) == 1


def test_unregistering_a_phone_that_does_not_read():
    """It gets the event once it reads again."""
    world = World()
    phone = _phone(world)
    listener = Listener(world, phone)
    listener.transport.producer.pauseProducing()
    world.google.registrations.unregister(phone)
    listener.transport.producer.resumeProducing()
    listener.clock.advance(0)
    assert [name for name, _ in listener.events()] == ["unregistered"]
    assert listener.transport.value().endswith(b"0\r\n\r\n")


def test_close():
    """Everything is closed, event streams too."""
    world = World()
    phone = _phone(world)
    listener = Listener(world, phone)
    _idle, transport = listener.connect()
    closed = listener.factory.close()
    assert closed.called
    assert listener.factory.channels == set()
    assert transport.disconnecting
    assert world.google.registrations.online() == 1
    assert [call for call in listener.clock.getDelayedCalls() if call.active()] == []
