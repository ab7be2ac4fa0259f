"""Every answer of C2DM does what the design's table says, seen from outside a real gateway."""

import itertools
import re
import time
from collections.abc import Iterator

import pytest

from tests.support.gateway import GatewayProcess
from tests.support.ports import free_port
from tests.support.upstream import Answer, Sent, Upstream, upstream
from tests.support.waiting import wait_until

ROWS = {
    "delivered": Answer(b"id=0:123"),
    "delivered-crlf": Answer(b"id=0:123\r\n"),
    "InvalidRegistration": Answer(b"Error=InvalidRegistration"),
    "NotRegistered": Answer(b"Error=NotRegistered\n"),
    "DeviceQuotaExceeded": Answer(b"Error=DeviceQuotaExceeded"),
    "MessageTooBig": Answer(b"Error=MessageTooBig"),
    "MissingCollapseKey": Answer(b"Error=MissingCollapseKey"),
    "MissingRegistration": Answer(b"Error=MissingRegistration"),
    "MismatchSenderId": Answer(b"Error=MismatchSenderId"),
    "NewWord": Answer(b"Error=NewWord"),
    "empty": Answer(b""),
    "garbage": Answer(b"\x00\xff<html>id=</html>"),
    "id-without-value": Answer(b"id="),
    "too-large": Answer(b"id=1" + b"x" * 5_000_000),
    "no-content": Answer(b"", 204),
}

ENDS = {
    "delivered": ("messages_sent", None),
    "delivered-crlf": ("messages_sent", None),
    "InvalidRegistration": ("messages_bad_device", None),
    "NotRegistered": ("messages_bad_device", None),
    "DeviceQuotaExceeded": ("messages_blocked", None),
    "MessageTooBig": ("messages_refused", "MessageTooBig"),
    "MissingCollapseKey": ("messages_refused", "MissingCollapseKey"),
    "MissingRegistration": ("messages_refused", "MissingRegistration"),
    "MismatchSenderId": ("messages_refused", "MismatchSenderId"),
    "NewWord": ("messages_refused", "NewWord"),
    "empty": ("messages_refused", "unreadable"),
    "garbage": ("messages_refused", "unreadable"),
    "id-without-value": ("messages_refused", "unreadable"),
    "too-large": ("messages_refused", "too_large"),
    "no-content": ("messages_refused", "http_204"),
}


def by_device(sent: Sent) -> Answer:
    return ROWS.get(sent.form["registration_id"], Answer())


@pytest.fixture(scope="module")
def google() -> Iterator[Upstream]:
    with upstream(by_device) as made:
        yield made


@pytest.fixture(scope="module")
def gateway(google: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    made = GatewayProcess(tmp_path_factory.mktemp("answers"), google.section()).start()
    yield made
    made.stop()


@pytest.mark.parametrize("row", ROWS)
def test_an_answer_ends_its_push_in_one_counter(
    gateway: GatewayProcess, google: Upstream, row: str
):
    """One push, one request, one counter, and its reason where it has one."""
    before = gateway.stats()
    requests = len(google.sends())
    gateway.push(f"{row}:key:payload".encode())
    counter, reason = ENDS[row]
    gateway.wait_for(**{counter: before[counter] + 1, "messages_in_queue": 0})
    after = gateway.stats()
    assert len(google.sends()) == requests + 1
    if reason:
        name = f"messages_refused.{reason}"
        assert after[name] == before.get(name, 0) + 1
    told = counter != "messages_sent"
    assert (after["total_errors"] > before["total_errors"]) is told


def test_a_device_over_its_quota_is_left_alone(gateway: GatewayProcess, google: Upstream):
    """After DeviceQuotaExceeded pushes to that device are dropped and counted, to others sent."""
    device = "DeviceQuotaExceeded"
    received = gateway.stats()["messages_received"]
    gateway.push(f"{device}:key:first".encode())
    first = gateway.wait_for(messages_received=received + 1, messages_in_queue=0)
    blocked = first["messages_blocked"]
    assert blocked
    assert gateway.stats()["rate_limited_tokens"] == 1
    requests = len(google.sends())
    sent = gateway.stats()["messages_sent"]
    gateway.push(*[f"{device}:key:more".encode()] * 5, b"delivered:key:payload")
    gateway.wait_for(messages_blocked=blocked + 5, messages_sent=sent + 1)
    assert len(google.sends()) == requests + 1


def test_the_json_form_gives_one_field_for_each_key_of_data(
    gateway: GatewayProcess, google: Upstream
):
    """Data as an object becomes data.<key> fields; delay_while_idle is passed on."""
    sent = gateway.stats()["messages_sent"]
    gateway.push(
        '{"token": "phone", "collapse_key": "k", "data": {"a": "1 &=%", "ü": "\\n😀"},'
        ' "delay_while_idle": true}'.encode(),
        b'{"route": "c2dm", "token": "phone", "collapse_key": "k", "data": "as\\ntext"}',
    )
    gateway.wait_for(messages_sent=sent + 2)
    first, second = sorted((s.form for s in google.sends()[-2:]), key=len, reverse=True)
    assert first == {
        "registration_id": "phone",
        "collapse_key": "k",
        "data.a": "1 &=%",
        "data.ü": "\n😀",
        "delay_while_idle": "1",
    }
    assert second == {"registration_id": "phone", "collapse_key": "k", "data.data": "as\ntext"}


def test_what_c2dm_cannot_carry_is_refused_at_the_door(gateway: GatewayProcess):
    """A JSON push with fields that C2DM does not have is invalid, by reason."""
    before = gateway.stats().get("messages_invalid", 0)
    gateway.push(
        b'{"topic": "news", "collapse_key": "k", "data": "x"}',
        b'{"token": "t", "collapse_key": "k", "notification": {}}',
        b'{"token": "t", "data": "x"}',
        b'{"token": "t", "collapse_key": "k", "ttl": "soon"}',
        b'{"token": "t", "collapse_key": "k", "colour": "red"}',
        b'{"token": "\\ud800", "collapse_key": "k"}',
        b'{"token": "t", "collapse_key": "k", "data": {"a": 1}}',
        b"{not json",
        b"{" * 20_000,
        b'{"route": "nowhere", "token": "t", "collapse_key": "k"}',
    )
    stats = gateway.wait_for(messages_invalid=before + 10)
    reasons = {"unsupported": 2, "collapse_key": 1, "field": 3, "utf8": 1, "json": 2}
    for reason, count in reasons.items():
        assert stats[f"messages_invalid.{reason}"] == count


def test_update_client_auth_is_used_from_the_next_request_on(tmp_path):
    """The token that any answer brings signs what follows, without a sign-in, and is kept."""

    def answer(sent: Sent) -> Answer:
        new = ("Update-Client-Auth: fresh",) if sent.form["data.data"] == "1" else ()
        return Answer(headers=new)

    with upstream(answer) as google:
        gateway = GatewayProcess(tmp_path, google.section()).start()
        try:
            for number in (1, 2, 3):
                gateway.push(b"phone:key:%d" % number)
                gateway.wait_for(messages_sent=number)
        finally:
            gateway.stop()
        assert [sent.auth for sent in google.sends()] == [
            "GoogleLogin auth=token-1",
            "GoogleLogin auth=fresh",
            "GoogleLogin auth=fresh",
        ]
        assert google.logins() == 1
        assert "fresh" in (tmp_path / "state" / "c2dm.token").read_text()
        assert "fresh" not in gateway.log
        assert "token-1" not in gateway.log


def test_a_token_in_each_answer_is_kept_once_a_second(tmp_path):
    """300 answers, each with another token: the newest is used, few are logged and written."""
    numbers = itertools.count()

    def answer(sent: Sent) -> Answer:
        return Answer(headers=(f"Update-Client-Auth: fresh-{next(numbers)}",))

    with upstream(answer) as google:
        gateway = GatewayProcess(tmp_path, google.section()).start()
        begun = time.monotonic()
        try:
            gateway.push(*(b"d%d:key:x" % number for number in range(300)))
            gateway.wait_for(messages_sent=300)
            lasted = time.monotonic() - begun
        finally:
            gateway.stop()
        lines = gateway.log.count("the upstream replaced the auth token")
        assert 1 <= lines <= lasted + 3
        kept = re.search(r"fresh-(\d+)", (tmp_path / "state" / "c2dm.token").read_text())
        assert int(kept[1]) >= 300 - 64, "the answers to what is in flight come in any order"
        assert google.logins() == 1


@pytest.mark.parametrize("status", [429, 502, 503, 504, 520, 522, 529])
def test_an_unavailable_upstream_gets_one_probe_and_then_everything(tmp_path, status):
    """The lane pauses once, the push goes back, and all is delivered after the pause."""
    answers = iter([Answer(b"", status, ("Retry-After: 1",))])
    with upstream(lambda sent: next(answers, Answer())) as google:
        gateway = GatewayProcess(tmp_path, google.section()).start()
        try:
            gateway.push(b"phone:key:1")
            wait_until(lambda: gateway.stats()["backing_off"] == "true", "it backs off")
            gateway.push(b"phone:key:2", b"phone:other:3")
            stats = gateway.wait_for(messages_sent=3)
        finally:
            gateway.stop()
        assert stats["backing_off"] == "false"
        assert stats["unavailable_answers"] == 1
        assert google.delivered() == {"1": 2, "2": 1, "3": 1}


TRIED_AGAIN = [
    Answer(b"", 302, ("Location: http://127.0.0.1:1/",)),
    Answer(b"Bad Request", 400),
    Answer(b"<html>", 403),
    Answer(b"<html>", 404),
    Answer(b"", 408),
    Answer(b"", 413),
    Answer(b"", 425),
    Answer(b"", 500),
    Answer(b"", 501),
    Answer(b"", 519),
]


def test_what_says_nothing_of_the_push_is_tried_again(tmp_path):
    """A portal, a proxy or a firewall that answers for a moment costs no push."""
    answers = dict(zip((f"phone{n}" for n in range(len(TRIED_AGAIN))), TRIED_AGAIN, strict=True))

    def answer(sent: Sent) -> Answer:
        return answers.pop(sent.form["registration_id"], Answer())

    with upstream(answer) as google:
        gateway = GatewayProcess(tmp_path, google.section()).start()
        try:
            for number, device in enumerate(list(answers), 1):
                gateway.push(f"healthy:key:before {device}".encode())
                gateway.push(f"{device}:key:{device}".encode())
                gateway.wait_for(messages_received=2 * number, unavailable_answers=number)
            stats = gateway.wait_for(messages_sent=2 * len(TRIED_AGAIN))
        finally:
            gateway.stop()
    assert stats["unavailable_answers"] == len(TRIED_AGAIN)
    assert set(google.delivered().values()) == {1, 2}


def test_retry_after_lengthens_the_back_off_of_one_push(tmp_path):
    """It sleeps as long as was named, while others go on."""
    answers = {"slow": Answer(b"", 500, ("Retry-After: 4",))}

    def answer(sent: Sent) -> Answer:
        return answers.pop(sent.form["registration_id"], Answer())

    with upstream(answer) as google:
        gateway = GatewayProcess(tmp_path, google.section()).start()
        try:
            gateway.push(b"slow:key:slow", b"healthy:key:x")
            gateway.wait_for(messages_sent=2)
        finally:
            gateway.stop()
        first, second = [sent.when for sent in google.sends() if sent.form["data.data"] == "slow"]
    assert second - first >= 4


def test_a_closed_port_costs_nothing_but_time(tmp_path):
    """Pushes wait while nobody listens, and arrive when somebody does."""
    google = Upstream(lambda sent: Answer(b"Auth=t") if sent.path == "/login" else Answer())
    google.port = free_port()
    gateway = GatewayProcess(tmp_path, google.section()).start()
    try:
        gateway.push(*(b"phone:key%d:%d" % (n, n) for n in range(50)))
        gateway.wait_for(messages_received=50, messages_in_queue=50)
        google.start()
        try:
            gateway.wait_for(messages_sent=50)
        finally:
            google.stop()
    finally:
        gateway.stop()
    assert set(google.delivered().values()) == {1}
