"""FCM's provider and its sign-in against the emulator's rules, in memory."""

import json

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from node2dm_tw.core.json_form import read_json
from node2dm_tw.emulator.google.fcm import FCM_ERRORS, PLAIN_ERRORS
from node2dm_tw.emulator.google.messages import Message
from node2dm_tw.emulator.settings import PROJECT
from node2dm_tw.http.interface import Response
from node2dm_tw.providers.fcm import FCM, send_url
from node2dm_tw.providers.interface import (
    BadDevice,
    Delivered,
    DeviceOverQuota,
    Rejected,
    Retry,
    SignInRefused,
    Unauthorized,
    Unexplained,
)
from node2dm_tw.providers.oauth2 import ServiceAccountCredentials, ServiceAccountKey
from tests.unit.emulator.support import ACCOUNT, KEY, NOW, Firebase
from tests.unit.providers.answers import TEXT

TOKEN = "dQw4w9WgXcQ_x-yz012345:APA91b" + "x" * 134
SIGNER = ServiceAccountKey(ACCOUNT.client_email, KEY, "0a1b2c", ACCOUNT.token_uri, PROJECT)


class Gateway:
    """The provider and its credentials, with the emulator on the other side of every request."""

    def __init__(self, project=PROJECT, key=SIGNER, **settings):
        self.world = Firebase(**settings)
        self.provider = FCM(send_url(project, "https://127.0.0.1:8443"), lambda: NOW)
        self.clock_is_off = 0.0
        self.account = ServiceAccountCredentials(self.post, self.wall, key)

    def wall(self):
        return self.world.now + self.clock_is_off

    def post(self, url, headers, body):
        path = url.removeprefix("https://127.0.0.1:8443")
        named = {name.lower(): value for name, value in headers}
        said = self.world.call("POST", path, body, named)
        date = (b"date", b"Fri, 15 Jan 2027 08:00:00 GMT")
        told = {name.lower(): value for name, value in (*said.headers, date)}
        return succeed(Response(said.status, told, said.body))

    def sign_in(self):
        return _result(self.account.fetch())

    def send(self, line, credential=None):
        """Take a line in, send it, judge the answer."""
        if isinstance(line, dict):
            push = read_json(json.dumps(line).encode(), self.world.now)[1]
        else:
            push = self.provider.split(line, self.world.now)
        self.provider.validate(push)
        request = self.provider.request(push, credential or self.sign_in(), self.world.now)
        answer = _result(self.post(request.url, request.headers, request.body))
        return self.provider.judge(answer, self.wall())

    def fault(self, **rule):
        said = self.world.call("POST", "/faults", json.dumps({"endpoint": "fcm", **rule}).encode())
        assert said.status == 200, said.body

    @property
    def shown(self):
        return [event for event in self.world.shown if isinstance(event, Message)]


def _result(deferred: Deferred):
    return SynchronousTestCase().successResultOf(deferred)


@pytest.fixture
def gateway():
    return Gateway()


def test_a_line_reaches_the_phone(gateway):
    """Its payload is data.data, its collapse key its own."""
    verdict = gateway.send(b'demo-phone:greeting:{"hello":"w\xc3\xb6rld"}')
    assert isinstance(verdict, Delivered)
    assert verdict.message_name.startswith(b"projects/%b/messages/" % PROJECT.encode())
    (message,) = gateway.shown
    assert message.data == {"data": '{"hello":"w\u00f6rld"}'}
    assert message.collapse_key == "greeting"


def test_everything_the_json_form_has_reaches_the_phone(gateway):
    """Target by installation ID, data, key, ttl, priority, notification."""
    line = {
        "fid": "demo-phone",
        "collapse_key": "k",
        "data": {"a": "\u2603", "b": ""},
        "ttl": 60,
        "priority": "high",
        "notification": {"title": "T", "body": "B", "image": "https://x/y.png"},
    }
    assert isinstance(gateway.send(line), Delivered)
    (message,) = gateway.shown
    assert message.data == line["data"]
    assert message.notification == line["notification"]
    assert (message.collapse_key, message.while_active) == ("k", False)
    assert message.expires == NOW + 60


def test_topics_and_conditions_reach_their_subscribers(gateway):
    """By one request each."""
    registrations = gateway.world.google.registrations
    phone = registrations.register(PROJECT, "app", firebase=True, topics=["news"])
    got = []
    registrations.connect(phone, got.append, gateway.world.now)
    assert isinstance(gateway.send({"topic": "news", "data": "1"}), Delivered)
    line = {"condition": "'news' in topics && !('x' in topics)", "data": "2"}
    assert isinstance(gateway.send(line), Delivered)
    assert [event.data["data"] for event in got if isinstance(event, Message)] == ["1", "2"]


KEYS = TEXT.filter(lambda key: key and key[:3] not in ("goo", "gcm", "fro", "mes"))
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "collapse_key": TEXT,
        "data": TEXT | st.dictionaries(KEYS, TEXT, max_size=5),
        "ttl": st.integers(0, 2_419_200),
        "priority": st.sampled_from(["normal", "high"]),
        "notification": st.dictionaries(st.sampled_from(["title", "body", "image"]), TEXT),
    },
)
SHARED = Gateway()
SHARED_CREDENTIAL = SHARED.sign_in()


@given(FIELDS)
def test_what_the_provider_lets_through_the_service_takes(fields):
    """And the phone gets just that."""
    SHARED.world.shown.clear()
    SHARED.world.now += 60
    credential = attrs.evolve(SHARED_CREDENTIAL, header=f"Bearer {_fresh_token(SHARED)}".encode())
    assert isinstance(SHARED.send({"token": "demo-phone", **fields}, credential), Delivered)
    (message,) = SHARED.shown
    data = fields.get("data", {})
    assert message.data == ({"data": data} if isinstance(data, str) else data)
    assert message.collapse_key == fields.get("collapse_key", "")
    assert message.expires == SHARED.world.now + fields.get("ttl", 2_419_200)


def _fresh_token(gateway):
    return gateway.world.google.oauth.tokens.issue("robot", gateway.world.now, 60)


EXPECTED = {
    "INVALID_ARGUMENT": Rejected,
    "THIRD_PARTY_AUTH_ERROR": Rejected,
    "SENDER_ID_MISMATCH": BadDevice,
    "UNREGISTERED": BadDevice,
    "QUOTA_EXCEEDED": Retry,
    "INTERNAL": Unexplained,
    "UNAVAILABLE": Retry,
    "UNAUTHENTICATED": Unauthorized,
    "PERMISSION_DENIED": Unexplained,
    "NOT_FOUND": Unexplained,
}


@pytest.mark.parametrize("error", sorted({*FCM_ERRORS, *PLAIN_ERRORS}))
def test_every_error_has_its_verdict(gateway, error):
    """Those with a code in the details, and those without."""
    gateway.fault(error=error)
    assert type(gateway.send(b"demo-phone:k:{}")) is EXPECTED[error]
    assert isinstance(gateway.send(b"demo-phone:k:{}"), Delivered)


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        (f"{TOKEN}:k:{{}}".encode(), BadDevice("UNREGISTERED")),
        (b"never:k:{}", BadDevice("INVALID_ARGUMENT")),
        ({"fid": "never"}, BadDevice("INVALID_ARGUMENT")),
        ({"fid": "dQw4w9WgXcQ_x-yz012345"}, BadDevice("UNREGISTERED")),
        (
            {"token": "demo-phone", "notification": {"title": "\u2603" * 1_000}},
            Rejected("INVALID_ARGUMENT.message.notification"),
        ),
    ],
)
def test_devices_that_are_gone_and_messages_that_are_wrong(gateway, line, verdict):
    """One code for both, and yet they are told apart."""
    assert gateway.send(line) == verdict


def test_a_device_of_another_project(gateway):
    """It is none of ours."""
    phone = gateway.world.google.registrations.register("sender@example.com", "app")
    verdict = gateway.send(f"{phone.registration_id}:k:{{}}".encode())
    assert verdict == BadDevice("SENDER_ID_MISMATCH")


def test_a_wrong_project_blames_no_device():
    """Neither does an address that is not FCM's, which answers in HTML."""
    verdict = Gateway("elsewhere").send(b"demo-phone:k:{}")
    assert isinstance(verdict, Unexplained)
    assert "project and url" in verdict.hint
    lost = Gateway()
    lost.provider = FCM("https://127.0.0.1:8443/nowhere", lambda: NOW)
    assert isinstance(lost.send(b"demo-phone:k:{}"), Unexplained)


def test_quotas_of_device_and_project():
    """240 a minute for a device; the project's pauses everybody, both for the time named."""
    by_device = Gateway()
    credential = by_device.sign_in()
    verdicts = [by_device.send(b"demo-phone:k:{}", credential) for _ in range(241)]
    assert all(isinstance(verdict, Delivered) for verdict in verdicts[:240])
    assert isinstance(verdicts[240], DeviceOverQuota)
    assert 0 < verdicts[240].after <= 60
    by_project = Gateway(sender_quota=(2, 60.0))
    verdicts = [by_project.send(b"demo-phone:k:{}") for _ in range(3)]
    assert isinstance(verdicts[2], Retry)
    assert verdicts[2].whole_lane
    assert 0 < verdicts[2].after <= 60


def test_a_token_that_has_ended(gateway):
    """It is refused, and another sign-in brings one that is not."""
    credential = gateway.sign_in()
    assert credential.expires_at == NOW + 3_599
    gateway.world.now += 3_599
    assert isinstance(gateway.send(b"demo-phone:k:{}", credential), Delivered)
    gateway.world.now += 1
    assert gateway.send(b"demo-phone:k:{}", credential) == Unauthorized()
    assert isinstance(gateway.send(b"demo-phone:k:{}"), Delivered)


@pytest.mark.parametrize(
    ("off", "words"),
    [
        (4_000, "clock of this machine is 4000 seconds ahead of"),
        (-4_000, "clock of this machine is 4000 seconds behind"),
    ],
)
def test_a_wrong_clock(gateway, off, words):
    """The emulator refuses as Google does, and we say why."""
    gateway.clock_is_off = off
    error = SynchronousTestCase().failureResultOf(gateway.account.fetch(), SignInRefused).value
    assert words in str(error)


def test_an_account_that_is_not_known():
    """The clock is not to blame, and we say so."""
    stranger = Gateway(key=attrs.evolve(SIGNER, client_email="stranger@example.com"))
    error = SynchronousTestCase().failureResultOf(stranger.account.fetch(), SignInRefused).value
    assert str(error) == (
        "invalid_grant: Invalid grant: account not found; the clock of this machine is right"
    )
