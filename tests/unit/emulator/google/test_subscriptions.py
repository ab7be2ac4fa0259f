"""The topic subscriptions of FCM."""

import json
from urllib.parse import quote

import pytest

from node2dm_tw.emulator.google.oauth import NEEDS_EXTRA
from node2dm_tw.emulator.google.registrations import random_fid, random_id
from node2dm_tw.emulator.google.subscriptions import MAX_TOPICS, SUBSCRIPTION_ERRORS, error_reply
from node2dm_tw.emulator.settings import PROJECT
from tests.unit.emulator.support import Firebase, World


class Subscribing(Firebase):
    """A sender of FCM, and one phone of its project."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.phone = self.google.registrations.register(PROJECT, "app", firebase=True)
        self.name = self.phone.registration_id
        self.fid = self.name.partition(":")[0]

    def ask(self, method, rest="", *, name=None, project=PROJECT, token=None, body=b""):
        header = f"Bearer {self.token if token is None else token}".encode()
        parent = f"/v1/projects/{project}/registrations/{self.name if name is None else name}"
        path = f"{parent}/topicSubscriptions{rest}"
        return self.call(method, path, body, {b"authorization": header})

    def subscribe(self, topic="news", **more):
        return self.ask("POST", f"?topic_name={quote(topic)}", body=b"{}", **more)


def _status(answer):
    error = json.loads(answer.body)["error"]
    assert error["code"] == answer.status
    codes = [each.get("errorCode") for each in error.get("details", [])]
    return error["status"], next(filter(None, codes), None)


def test_a_subscription():
    """It is a resource with name, topic and time, and the phone receives what the topic gets."""
    world = Subscribing()
    answer = world.subscribe()
    assert answer.status == 200
    made = json.loads(answer.body)
    assert made == {
        "name": f"projects/{PROJECT}/registrations/{world.name}/topicSubscriptions/news",
        "topic_name": "news",
        "create_time": "2027-01-15T08:00:00.000000Z",
    }
    assert json.loads(world.ask("GET", "/news").body) == made
    assert world.post({"message": {"topic": "news"}}).status == 200
    assert len(world.phone.waiting) == 1


def test_the_same_subscription_twice():
    """The second is ALREADY_EXISTS, a 409 without an FcmError; a patch shows the first."""
    world = Subscribing()
    made = world.subscribe().body
    world.now += 5
    assert _status(world.subscribe()) == ("ALREADY_EXISTS", None)
    assert world.ask("PATCH", "/news?allowMissing=true", body=b"{}").body == made
    assert world.ask("PATCH", "/news").body == made


def test_patch_subscribes_if_it_may():
    """allowMissing=true makes the subscription; without it a missing one is NOT_FOUND."""
    world = Subscribing()
    assert _status(world.ask("PATCH", "/news")) == ("NOT_FOUND", None)
    assert world.ask("PATCH", "/news?allow_missing=true").status == 200
    assert set(world.phone.topics) == {"news"}


def test_unsubscribing():
    """The answer is an empty object; what is missing is NOT_FOUND unless that is allowed."""
    world = Subscribing()
    world.subscribe()
    assert json.loads(world.ask("DELETE", "/news").body) == {}
    missing = world.ask("DELETE", "/news")
    assert _status(missing) == ("NOT_FOUND", None)
    (info,) = json.loads(missing.body)["error"]["details"]
    assert info["resourceName"].endswith(f"/registrations/{world.name}/topicSubscriptions/news")
    assert _status(world.ask("DELETE", "/news?allowMissing=false")) == ("NOT_FOUND", None)
    assert json.loads(world.ask("DELETE", "/news?allowMissing=true").body) == {}
    assert _status(world.ask("GET", "/news")) == ("NOT_FOUND", None)
    assert world.post({"message": {"topic": "news"}}).status == 200
    assert not world.phone.waiting


def test_a_phone_is_named_by_token_or_fid():
    """Both names mean the same subscriptions."""
    world = Subscribing()
    assert world.subscribe(name=world.fid).status == 200
    assert _status(world.subscribe()) == ("ALREADY_EXISTS", None)
    assert world.subscribe(name="demo-phone").status == 200


def test_exactly_the_subscribers_receive():
    """A push to a topic or condition reaches who is subscribed at that moment, and nobody else."""
    world = Subscribing()
    other = world.google.registrations.register(PROJECT, "app", firebase=True, topics=["sport"])
    third = world.google.registrations.register(PROJECT, "app", firebase=True)
    world.subscribe()
    world.subscribe(name=other.registration_id)
    world.post({"message": {"topic": "news"}})
    world.post({"message": {"condition": "'news' in topics && !('sport' in topics)"}})
    assert [len(each.waiting) for each in (world.phone, other, third)] == [2, 1, 0]


def test_the_list_has_pages():
    """A page has a thousand, or as many as are asked for; a token leads to the next."""
    world = Subscribing()
    assert json.loads(world.ask("GET").body) == {}
    for number in range(5):
        world.subscribe(f"t{number}")
    whole = json.loads(world.ask("GET").body)
    assert [each["topic_name"] for each in whole["topic_subscriptions"]] == [
        "t0",
        "t1",
        "t2",
        "t3",
        "t4",
    ]
    assert "next_page_token" not in whole
    first = json.loads(world.ask("GET", "?pageSize=3").body)
    assert [each["topic_name"] for each in first["topic_subscriptions"]] == ["t0", "t1", "t2"]
    rest = world.ask("GET", f"?page_size=3&pageToken={first['next_page_token']}")
    assert [each["topic_name"] for each in json.loads(rest.body)["topic_subscriptions"]] == [
        "t3",
        "t4",
    ]
    for query in ("pageSize=x", "page_token=-1", "pageSize=²"):
        assert _status(world.ask("GET", f"?{query}")) == ("INVALID_ARGUMENT", None)


@pytest.mark.parametrize("topic", ["", "a b", "/topics/news", "x" * 901])
def test_a_malformed_topic(topic):
    """It is INVALID_ARGUMENT, and nothing is subscribed."""
    world = Subscribing()
    assert _status(world.subscribe(topic)) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
    assert not world.phone.topics


def test_a_topic_with_every_character():
    """A percent sign in a topic is escaped once."""
    world = Subscribing()
    assert world.subscribe("aZ9-_.~%41").status == 200
    assert set(world.phone.topics) == {"aZ9-_.~%41"}


@pytest.mark.parametrize("body", [b"[]", b"x", b'{"x":1}', b'{"create_time":"now"}'])
def test_a_body_that_is_no_subscription(body):
    """The body is a TopicSubscription, of which nothing need be given."""
    world = Subscribing()
    answer = world.ask("POST", "?topicName=news", body=body)
    assert _status(answer) == ("INVALID_ARGUMENT", None)
    assert world.ask("POST", "?topicName=news").status == 200


def test_phones_that_are_not_there():
    """Gone is UNREGISTERED, malformed INVALID_ARGUMENT, and another project's a mismatch."""
    world = Subscribing()
    for name in (random_fid(), f"{random_fid()}:{random_id()}"):
        assert _status(world.subscribe(name=name)) == ("NOT_FOUND", "UNREGISTERED")
        assert _status(world.ask("DELETE", "/news?allowMissing=true", name=name)) == (
            "NOT_FOUND",
            "UNREGISTERED",
        )
    assert _status(world.subscribe(name="nonsense")) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
    other = world.google.registrations.register("a@example.com", "app")
    answer = world.subscribe(name=other.registration_id)
    assert _status(answer) == ("PERMISSION_DENIED", "SENDER_ID_MISMATCH")


def test_senders_are_checked_as_for_messages():
    """No valid access token, another project, and the project's quota."""
    world = Subscribing(sender_quota=(1, 60.0))
    assert _status(world.subscribe(token="x")) == ("UNAUTHENTICATED", None)
    assert _status(world.subscribe(project="other")) == ("NOT_FOUND", None)
    assert world.subscribe().status == 200
    assert _status(world.subscribe()) == ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")


def test_other_paths_and_methods():
    """They are web pages, as on Google's servers."""
    world = Subscribing()
    assert world.ask("PUT", "/news").status == 405
    assert world.ask("POST", "/news").status == 405
    assert world.ask("DELETE").status == 405
    assert world.ask("GET", "/news/x").status == 404


def test_faults_and_log():
    """A rule for the endpoint can name phone or topic; the log has the requests."""
    world = Subscribing()
    rules = [
        {"endpoint": "topics", "error": "UNAVAILABLE", "device": "news"},
        {"endpoint": "topics", "error": "ALREADY_EXISTS", "device": world.name},
    ]
    assert world.call("POST", "/faults", json.dumps(rules).encode()).status == 200
    assert _status(world.subscribe()) == ("UNAVAILABLE", "UNAVAILABLE")
    assert _status(world.subscribe("sport")) == ("ALREADY_EXISTS", None)
    assert world.subscribe("sport").status == 200
    entries = json.loads(world.call("GET", "/log?endpoint=topics").body)["entries"]
    assert [entry["status"] for entry in entries] == [503, 409, 200]
    assert entries[2]["token"] == 1
    counts = json.loads(world.call("GET", "/stats").body)["answers"]["topics"]
    assert counts == {"UNAVAILABLE": 1, "ALREADY_EXISTS": 1, "200": 1}
    assert {json.loads(error_reply(code).body)["error"]["code"] for code in SUBSCRIPTION_ERRORS}


def test_a_phone_has_a_limited_number_of_topics():
    """One more is refused, and takes nothing away."""
    world = Subscribing()
    world.phone.topics = dict.fromkeys(map(str, range(MAX_TOPICS)), world.now)
    assert _status(world.subscribe()) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
    assert len(world.phone.topics) == MAX_TOPICS


def test_reset_ends_the_subscriptions_of_named_phones():
    """Phones of the settings stay, without topics."""
    world = Subscribing()
    world.subscribe(name="demo-phone")
    world.call("POST", "/reset")
    assert not world.google.registrations.find("demo-phone").topics


def test_without_the_packages_of_fcm():
    """They are as unavailable as messages:send."""
    world = World()
    world.google.oauth = type(world.google.oauth)(None, tokens=world.google.oauth.tokens)
    answer = world.call("GET", f"/v1/projects/{PROJECT}/registrations/x/topicSubscriptions")
    assert answer.status == 501
    assert NEEDS_EXTRA in answer.body.decode()
