"""Google's own SDK accepts the emulator."""

import pytest

from tests.support.firebase import IGNORED, firebase_app, messaging
from tests.unit.emulator.google.test_fcm import GONE

exceptions = pytest.importorskip("firebase_admin.exceptions")
RefreshError = pytest.importorskip("google.auth.exceptions").RefreshError

pytestmark = IGNORED
__all__ = ["firebase_app"]


def _message(token, **more):
    return messaging.Message(token=token, **more)


def test_send(push_emulator, app):
    """It signs in with the key file and the whole of a rich message is accepted and arrives."""
    android = messaging.AndroidConfig(
        collapse_key="k",
        priority="high",
        ttl=90.5,
        restricted_package_name="com.example",
        data={"b": "2"},
        notification=messaging.AndroidNotification(
            title="T",
            color="#112233",
            vibrate_timings_millis=[100, 200],
            visibility="public",
            priority="high",
            notification_count=3,
            light_settings=messaging.LightSettings("#aabbcc", 100, 200),
            sticky=True,
        ),
        fcm_options=messaging.AndroidFCMOptions("label"),
    )
    webpush = messaging.WebpushConfig(
        headers={"TTL": "5"}, notification=messaging.WebpushNotification("T", "B")
    )
    apns = messaging.APNSConfig(
        headers={"apns-priority": "10"},
        payload=messaging.APNSPayload(messaging.Aps(badge=1, sound="x")),
    )
    phone = push_emulator.register(push_emulator.project)
    with phone:
        name = messaging.send(
            _message(
                phone.registration_id,
                data={"a": "\N{EURO SIGN}"},
                notification=messaging.Notification("Title", "Body"),
                android=android,
                webpush=webpush,
                apns=apns,
            ),
            app=app,
        )
        event = phone.receive()
    assert name == f"projects/{push_emulator.project}/messages/{event['message_id']}"
    assert event["data"] == {"a": "\N{EURO SIGN}", "b": "2"}
    assert event["notification"]["title"] == "T"
    assert event["notification"]["body"] == "Body"


def test_dry_run(push_emulator, app):
    """A trial run gives Google's placeholder for a name."""
    name = messaging.send(_message("demo-phone"), dry_run=True, app=app)
    assert name.endswith("/messages/fake_message_id")


def test_send_each(push_emulator, app):
    """Some arrive, some fail, each for its own reason."""
    other = push_emulator.register("a@example.com")
    tokens = ["demo-phone", GONE, other.registration_id, "nonsense"]
    batch = messaging.send_each([_message(token) for token in tokens], app=app)
    assert (batch.success_count, batch.failure_count) == (1, 3)
    kinds = [type(each.exception) for each in batch.responses]
    assert kinds == [
        type(None),
        messaging.UnregisteredError,
        messaging.SenderIdMismatchError,
        exceptions.InvalidArgumentError,
    ]


def test_topics_and_conditions(push_emulator, app):
    """Both are sent and arrive where they are listened to."""
    phone = push_emulator.register(push_emulator.project, topics=["news"])
    with phone:
        messaging.send(messaging.Message(topic="news", data={"n": "1"}), app=app)
        condition = "'news' in topics || 'x' in topics"
        messaging.send(messaging.Message(condition=condition, data={"n": "2"}), app=app)
        assert [phone.receive()["data"]["n"] for _ in range(2)] == ["1", "2"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("INVALID_ARGUMENT", exceptions.InvalidArgumentError),
        ("THIRD_PARTY_AUTH_ERROR", messaging.ThirdPartyAuthError),
        ("SENDER_ID_MISMATCH", messaging.SenderIdMismatchError),
        ("UNREGISTERED", messaging.UnregisteredError),
        ("QUOTA_EXCEEDED", messaging.QuotaExceededError),
        ("INTERNAL", exceptions.InternalError),
        ("UNAVAILABLE", exceptions.UnavailableError),
        ("PERMISSION_DENIED", exceptions.PermissionDeniedError),
        ("NOT_FOUND", exceptions.NotFoundError),
    ],
)
def test_failing_sends(push_emulator, app, error, kind):
    """Each error on request becomes the exception that it becomes with Google."""
    push_emulator.fault(endpoint="fcm", error=error, times=None)
    with pytest.raises(exceptions.FirebaseError) as raised:
        messaging.send(_message("demo-phone"), app=app)
    assert type(raised.value) is kind


def test_an_invalid_message_names_its_fault(push_emulator, app):
    """The reason reaches the caller."""
    with pytest.raises(exceptions.InvalidArgumentError, match="too big"):
        messaging.send(_message("demo-phone", data={"a": "x" * 4097}), app=app)


def test_an_expired_token_is_renewed(push_emulator, app):
    """After a 401 the SDK signs in once more and the message goes out."""
    messaging.send(_message("demo-phone"), app=app)
    push_emulator.expire_tokens()
    messaging.send(_message("demo-phone"), app=app)
    assert len(push_emulator.log("token")) == 2


def test_a_refused_sign_in(push_emulator, app):
    """What the token endpoint refuses is a RefreshError, with its words."""
    push_emulator.fault(endpoint="token", error="invalid_grant")
    with pytest.raises((RefreshError, exceptions.FirebaseError), match="invalid_grant"):
        messaging.send(_message("demo-phone"), app=app)
