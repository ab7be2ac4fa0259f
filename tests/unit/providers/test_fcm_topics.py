"""Pushes that subscribe a device to a topic, and what FCM's answers to them mean."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node2dm_tw.core.json_form import read_json
from node2dm_tw.core.push import InvalidPush
from node2dm_tw.core.response import Response
from node2dm_tw.emulator.google.registrations import random_fid, random_id
from node2dm_tw.emulator.google.subscriptions import SUBSCRIPTION_ERRORS, error_reply
from node2dm_tw.emulator.settings import PROJECT
from node2dm_tw.providers.c2dm import C2DM
from node2dm_tw.providers.fcm import FCM, send_url
from node2dm_tw.providers.interface import BadDevice, Delivered, Rejected, Retry, Unexplained
from tests.support.grammar import TOKENS
from tests.unit.emulator.support import Firebase
from tests.unit.providers.answers import CREDENTIAL, NOW, answer

SERVICE = FCM("https://fcm.example/v1/projects/shop/messages:send", lambda: NOW)
PARENT = "https://fcm.example/v1/projects/shop/registrations"
TOPICS = st.from_regex(r"[a-zA-Z0-9_.~%-]{1,40}", fullmatch=True).filter(
    lambda topic: topic not in (".", "..")
)


def read(fields):
    push = read_json(json.dumps(fields).encode(), NOW)[1]
    SERVICE.validate(push)
    return push


def request(fields):
    return SERVICE.request(read(fields), CREDENTIAL, NOW)


def judge(said, **verb):
    return SERVICE.judge_subscription(said, read({"token": "f:x"} | verb), NOW)


def test_to_subscribe_is_a_post():
    """The topic is in the query, and the body an empty resource."""
    url, headers, body = request({"subscribe": "news", "token": "f:APA91b-x", "id": "a1"})
    assert url == f"{PARENT}/f:APA91b-x/topicSubscriptions?topic_name=news"
    assert body == b"{}"
    assert headers is request({"token": "t"}).headers


def test_to_unsubscribe_is_a_delete():
    """There is no body, and a missing subscription is no error."""
    url, _, body = request({"fid": "abc", "unsubscribe": "a%~b"})
    assert (url, body) == (f"{PARENT}/abc/topicSubscriptions/a%25~b?allowMissing=true", None)


def test_a_topic_may_have_its_old_prefix():
    """`/topics/` before it, as in the old API, is left out."""
    assert request({"subscribe": "/topics/news", "token": "t"}).url.endswith("?topic_name=news")


def test_what_is_no_subscription():
    """Only the field of the push itself counts, not what its texts say."""
    assert not read({"token": "t", "data": {"subscribe": "x"}}).is_subscription
    assert not read({"token": "t", "data": '{"subscribe":"x"}'}).is_subscription
    assert not SERVICE.split(b'f:x:k:{"subscribe":"x"}', NOW).is_subscription
    assert read({"token": "t", "unsubscribe": "x"}).is_subscription


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"subscribe": "news"}, ("token", "token")),
        ({"subscribe": "news", "token": ""}, ("token", "token")),
        ({"subscribe": "news", "token": "a b"}, ("token", "token")),
        ({"subscribe": "news", "token": ".."}, ("token", "token")),
        ({"subscribe": "news", "fid": "."}, ("token", "fid")),
        ({"subscribe": "news", "topic": "sport"}, ("field", "topic")),
        ({"subscribe": "news", "condition": "'a' in topics"}, ("field", "condition")),
        ({"subscribe": "", "token": "t"}, ("field", "subscribe")),
        ({"subscribe": 1, "token": "t"}, ("field", "subscribe")),
        ({"unsubscribe": "a b", "token": "t"}, ("field", "unsubscribe")),
        ({"unsubscribe": "..", "token": "t"}, ("field", "unsubscribe")),
        ({"subscribe": "x" * 901, "token": "t"}, ("field", "subscribe")),
        ({"subscribe": "a", "unsubscribe": "b", "token": "t"}, ("field", "unsubscribe")),
        ({"unsubscribe": "a", "subscribe": "b", "token": "t"}, ("field", "subscribe")),
        ({"subscribe": "a", "token": "t", "ttl": 1, "data": "x"}, ("field", "ttl")),
        ({"token": "t", "data": {}, "subscribe": "a", "ttl": 1}, ("field", "data")),
        ({"subscribe": "a", "token": "t", "notification": {}}, ("field", "notification")),
        ({"subscribe": "a", "token": "t", "collapse_key": "k"}, ("field", "collapse_key")),
        ({"subscribe": "a", "token": "t", "validate_only": True}, ("field", "validate_only")),
    ],
)
def test_what_is_wrong_is_named(fields, fault):
    """The first field that a subscription cannot have, or the one with a wrong value."""
    with pytest.raises(InvalidPush) as raised:
        read(fields)
    assert (raised.value.reason, raised.value.field) == fault
    assert raised.value.field in raised.value.detail


@pytest.mark.parametrize("verb", ["subscribe", "unsubscribe"])
@pytest.mark.parametrize("more", [{}, {"collapse_key": "k"}])
def test_c2dm_has_no_topics(verb, more):
    """The field is named, whether there is a collapse key or not."""
    push = read_json(json.dumps({"token": "t", verb: "news"} | more).encode(), NOW)[1]
    with pytest.raises(InvalidPush) as raised:
        C2DM("https://x.example/").validate(push)
    assert (raised.value.reason, raised.value.field) == ("unsupported", verb)


def test_success():
    """The resource, or an empty object; the name that is kept has no token in it."""
    name = "projects/shop/registrations/f:x/topicSubscriptions/news"
    made = answer(200, json.dumps({"name": name, "topic_name": "news"}).encode())
    for verb in ("subscribe", "unsubscribe"):
        assert judge(made, **{verb: "news"}) == Delivered(b"topicSubscriptions/news")
    assert judge(answer(200, b" {}\n"), unsubscribe="news") == Delivered(b"topicSubscriptions/news")


def test_an_answer_that_is_none():
    """What says nothing of a subscription may have made one or not: it is not repeated."""
    assert judge(answer(200, b"{}"), subscribe="news") == Rejected("unreadable", False)
    for body in (b"", b"<html>", b"[]", b'{"a":1}'):
        assert judge(answer(200, body), unsubscribe="news") == Rejected("unreadable", False)
    cut = Response(200, {}, b"{}", True)
    assert judge(cut, unsubscribe="news") == Rejected("too_large", False)


def _error(code, status, **detail):
    details = [{"@type": "type.googleapis.com/google.rpc.ResourceInfo", **detail}]
    error = {"code": code, "status": status, "message": "m", "details": details if detail else []}
    return answer(code, json.dumps({"error": error}).encode())


def test_what_exists_already_is_subscribed():
    """ALREADY_EXISTS is what was asked for, but no answer to an unsubscription."""
    assert judge(_error(409, "ALREADY_EXISTS"), subscribe="a") == Delivered(b"topicSubscriptions/a")
    assert isinstance(judge(_error(409, "ALREADY_EXISTS"), unsubscribe="a"), Unexplained)
    assert isinstance(judge(answer(409, b"ALREADY_EXISTS"), subscribe="a"), Unexplained)


def test_what_is_missing_is_unsubscribed():
    """NOT_FOUND is, if it names the subscription; of the registration it means the device."""
    registration = "projects/shop/registrations/f:x"
    missing = _error(404, "NOT_FOUND", resourceName=f"{registration}/topicSubscriptions/a")
    assert judge(missing, unsubscribe="a") == Delivered(b"topicSubscriptions/a")
    assert isinstance(judge(missing, subscribe="a"), Unexplained)
    gone = _error(404, "NOT_FOUND", resourceName=registration)
    for verb in ("subscribe", "unsubscribe"):
        assert judge(gone, **{verb: "a"}) == BadDevice("UNREGISTERED")
        for said in (
            _error(404, "NOT_FOUND"),
            _error(404, "NOT_FOUND", resourceName="projects/shop"),
            answer(404, b"<html>"),
        ):
            assert isinstance(judge(said, **{verb: "a"}), Unexplained)


@pytest.mark.parametrize("code", sorted(SUBSCRIPTION_ERRORS - {"ALREADY_EXISTS"}))
@pytest.mark.parametrize("verb", ["subscribe", "unsubscribe"])
def test_all_other_errors_mean_what_they_mean_for_messages(code, verb):
    """Each error that the emulator can give is judged as the answer to a message is."""
    reply = error_reply(code)
    said = answer(reply.status, reply.body)
    assert judge(said, **{verb: "a"}) == SERVICE.judge(said, NOW)


class Gateway:
    """The provider, with the emulator on the other side."""

    def __init__(self, **settings):
        self.world = Firebase(**settings)
        self.service = FCM(send_url(PROJECT, "https://127.0.0.1:8443"), lambda: NOW)

    def register(self):
        return self.world.google.registrations.register(PROJECT, "app", firebase=True)

    def send(self, **fields):
        push = read(fields)
        url, _, body = self.service.request(push, CREDENTIAL, NOW)
        method = "POST" if body is not None else "DELETE"
        header = (b"authorization", f"Bearer {self.world.token}".encode())
        path = url.removeprefix("https://127.0.0.1:8443").replace("%25", "%")
        reply = self.world.call(method, path, body or b"", [header])
        return self.service.judge_subscription(
            Response(reply.status, dict(reply.headers), reply.body), push, NOW
        )


def test_the_emulator_does_what_is_asked():
    """By token or fid; a second time it is a success as well."""
    gateway = Gateway()
    phone = gateway.register()
    fid = phone.registration_id.partition(":")[0]
    done = Delivered(b"topicSubscriptions/news")
    for target in ({"token": phone.registration_id}, {"fid": fid}):
        for _ in range(2):
            assert gateway.send(subscribe="news", **target) == done
            assert set(phone.topics) == {"news"}
        for _ in range(2):
            assert gateway.send(unsubscribe="news", **target) == done
            assert not phone.topics


def test_devices_that_are_not_there():
    """Gone and malformed ones are bad devices, whatever was asked for."""
    gateway = Gateway()
    for verb in ("subscribe", "unsubscribe"):
        gone = f"{random_fid()}:{random_id()}"
        assert gateway.send(token=gone, **{verb: "a"}) == BadDevice("UNREGISTERED")
        assert gateway.send(fid=random_fid(), **{verb: "a"}) == BadDevice("UNREGISTERED")
        assert gateway.send(token="nonsense", **{verb: "a"}) == BadDevice("INVALID_ARGUMENT")


def test_the_quota_of_the_project():
    """It holds for subscriptions as for messages, and the whole route waits."""
    gateway = Gateway(sender_quota=(1, 60.0))
    phone = gateway.register()
    gateway.send(token=phone.registration_id, subscribe="a")
    verdict = gateway.send(token=phone.registration_id, subscribe="b")
    assert isinstance(verdict, Retry)
    assert (verdict.whole_lane, verdict.over_quota, verdict.after) == (True, True, 60.0)


@given(TOKENS.filter(lambda token: token not in (".", "..")), TOPICS)
def test_no_name_leads_to_another_address(token, topic):
    """Whatever token and topic are, path and query have the same parts."""
    for verb in ("subscribe", "unsubscribe"):
        url = request({"token": token, verb: topic}).url
        path, _, query = url.removeprefix(f"{PARENT}/").partition("?")
        parts = path.split("/")
        assert parts[1] == "topicSubscriptions"
        assert len(parts) == (2 if verb == "subscribe" else 3)
        assert query.count("=") == 1
        assert url.isascii()
        assert "#" not in url
        assert not {".", ".."} & set(parts)
