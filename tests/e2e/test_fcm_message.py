"""Google's SDK and the gateway send the same messages; the emulator's log is the judge."""

import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node2dm_tw.emulator.testing import PushEmulator
from tests.support.firebase import IGNORED, firebase_app, messaging
from tests.support.gateway import GatewayProcess
from tests.support.waiting import wait_until

pytestmark = IGNORED
__all__ = ["firebase_app"]

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
NAMES = st.from_regex(r"[a-f]{1,8}", fullmatch=True)
DATA = st.dictionaries(NAMES.filter(lambda name: name != "from"), TEXTS, max_size=3)
LABELS = st.from_regex(r"[a-zA-Z0-9_.~%-]{1,50}", fullmatch=True)
COLORS = st.from_regex(r"#[0-9a-f]{6}", fullmatch=True)
MILLISECONDS = st.integers(0, 100_000)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


ANDROID_NOTIFICATIONS = st.builds(
    messaging.AndroidNotification,
    title=maybe(TEXTS),
    body=maybe(TEXTS),
    icon=maybe(TEXTS),
    color=maybe(COLORS),
    sound=maybe(TEXTS),
    tag=maybe(TEXTS),
    body_loc_key=NAMES,
    body_loc_args=maybe(st.lists(TEXTS, max_size=2)),
    channel_id=maybe(NAMES),
    sticky=maybe(st.booleans()),
    event_timestamp=maybe(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1))),
    local_only=maybe(st.booleans()),
    priority=maybe(st.sampled_from(["default", "min", "low", "high", "max"])),
    vibrate_timings_millis=maybe(st.lists(MILLISECONDS, max_size=3)),
    visibility=maybe(st.sampled_from(["private", "public", "secret"])),
    notification_count=maybe(st.integers(0, 1_000)),
    light_settings=maybe(
        st.builds(messaging.LightSettings, COLORS, MILLISECONDS, MILLISECONDS),
    ),
    proxy=maybe(st.sampled_from(["allow", "deny", "if_priority_lowered"])),
)
ANDROID = st.builds(
    messaging.AndroidConfig,
    collapse_key=maybe(NAMES),
    priority=maybe(st.sampled_from(["high", "normal"])),
    ttl=maybe(st.integers(10, 2_419_200) | st.floats(10, 2_000_000)),
    restricted_package_name=maybe(st.just("com.example")),
    data=maybe(DATA),
    notification=maybe(ANDROID_NOTIFICATIONS),
    fcm_options=maybe(st.builds(messaging.AndroidFCMOptions, LABELS)),
    direct_boot_ok=maybe(st.booleans()),
)
WEBPUSH = st.builds(
    messaging.WebpushConfig,
    headers=maybe(st.dictionaries(st.sampled_from(["TTL", "Urgency", "Topic"]), LABELS)),
    data=maybe(DATA),
    notification=maybe(
        st.builds(
            messaging.WebpushNotification,
            title=maybe(TEXTS),
            body=maybe(TEXTS),
            silent=maybe(st.booleans()),
            vibrate=maybe(st.lists(MILLISECONDS, max_size=2)),
            custom_data=maybe(st.dictionaries(NAMES, TEXTS, max_size=2)),
        )
    ),
    fcm_options=maybe(st.just(messaging.WebpushFCMOptions("https://example.com/"))),
)
APNS = st.builds(
    messaging.APNSConfig,
    headers=maybe(
        st.dictionaries(st.sampled_from(["apns-priority", "apns-topic", "apns-expiration"]), LABELS)
    ),
    payload=maybe(
        st.builds(
            messaging.APNSPayload,
            st.builds(
                messaging.Aps,
                alert=maybe(TEXTS | st.builds(messaging.ApsAlert, TEXTS, body=TEXTS)),
                badge=maybe(st.integers(0, 99)),
                sound=maybe(NAMES),
                content_available=maybe(st.booleans()),
                mutable_content=maybe(st.booleans()),
                custom_data=maybe(st.dictionaries(NAMES, TEXTS, max_size=2)),
            ),
        )
    ),
    fcm_options=maybe(st.builds(messaging.APNSFCMOptions, LABELS)),
)
MESSAGES = st.builds(
    messaging.Message,
    data=maybe(DATA),
    notification=maybe(st.builds(messaging.Notification, maybe(TEXTS), maybe(TEXTS))),
    android=maybe(ANDROID),
    webpush=maybe(WEBPUSH),
    apns=maybe(APNS),
    fcm_options=maybe(st.builds(messaging.FCMOptions, LABELS)),
    token=st.just("token"),
)


@pytest.fixture(name="gateway")
def _gateway(push_emulator: PushEmulator, make_gateway: Callable[..., GatewayProcess]):
    """A gateway that sends to the same emulator."""
    return make_gateway(
        f"[fcm]\nservice_account = {push_emulator.service_account}\n"
        f"url = {push_emulator.base_url}\nca_file = {push_emulator.ca_file}\ndevice_rate =\n"
    ).start()


def comparable(message: dict[str, Any]) -> dict[str, Any]:
    """What is left of a ttl is in whole seconds, and `apns-expiration` is set from it."""
    android, apns = message.get("android", {}), message.get("apns")
    if ttl := android.get("ttl"):
        seconds = float(ttl.removesuffix("s"))
        android["ttl"] = f"{-int(-seconds // 1)}s"
        if apns is not None:
            headers = apns.setdefault("headers", {})
            if re.fullmatch("[0-9]{10}", headers.setdefault("apns-expiration", "1" * 10)):
                headers["apns-expiration"] = "set"
    return message


def test_the_gateway_sends_what_the_sdk_sends(push_emulator, app, gateway):
    """Two hundred messages of all kinds: the same fields with the same values."""
    encode = messaging._messaging_encoder.MessageEncoder().default
    # A device may get 240 a minute.
    phones = [push_emulator.register(push_emulator.project) for _ in range(3)]
    received = seen = 0

    def next_message() -> dict[str, Any]:
        """The message of the next request."""
        nonlocal seen
        (entry,) = wait_until(lambda: push_emulator.log("fcm", seen), "the next message")
        assert entry["status"] == 200, entry["answer"]
        seen = entry["number"]
        message: dict[str, Any] = json.loads(entry["body"])["message"]
        return comparable(message)

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(MESSAGES)
    def send_both(message: messaging.Message) -> None:
        nonlocal received
        message.token = phones[received % len(phones)].registration_id
        messaging.send(message, app=app)
        by_sdk = next_message()
        gateway.push(json.dumps(encode(message)).encode())
        received += 1
        assert next_message() == by_sdk

    send_both()
    gateway.wait_for(messages_received=received, messages_sent=received)
