"""FCM's topic subscriptions: pushes that subscribe a device to a topic, or unsubscribe it.

They follow
https://firebase.google.com/docs/reference/fcm/fcmtopics/rest/v1/projects.registrations.topicSubscriptions
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from node2dm_tw.core.push import SUBSCRIPTIONS, InvalidPush, Push
from node2dm_tw.core.response import Response
from node2dm_tw.providers import fcm_answers
from node2dm_tw.providers.bodies import read_object
from node2dm_tw.providers.interface import BadDevice, Delivered, Verdict

TOPIC = r"[a-zA-Z0-9_.~%-]{1,900}"

_DOTS = (".", "..")
"""Names that have a meaning of their own in the path of a URL."""

_OTHER_FIELDS = frozenset(("id", "token", "fid", "urgent"))


def check(fields: Mapping[str, Any]) -> None:
    """Check the fields of a push that changes a subscription.

    Raises:
        InvalidPush: for the first field that such a push cannot have, or a name that FCM rejects.
    """
    verb, topic = _find_subscription(fields)
    for name in fields:
        if name != verb and name not in _OTHER_FIELDS:
            raise InvalidPush("field", name, f"left out beside {verb}")
    if not re.fullmatch(TOPIC, topic) or topic in _DOTS:
        raise InvalidPush("field", verb, "1 to 900 letters, digits, -, _, ., ~ and %")
    for name in ("token", "fid"):
        if fields.get(name) in _DOTS:
            raise InvalidPush("token", name)


def build(push: Push, send_url: str) -> tuple[str, bytes | None]:
    """Return URL and body of the request; without a body it is a DELETE.

    Args:
        push: checked.
        send_url: the address of messages:send.
    """
    verb, topic = _find_subscription(push.fields)
    project = send_url.removesuffix("/messages:send")
    parent = f"{project}/registrations/{quote(push.device, safe=':')}/topicSubscriptions"
    name = quote(topic)
    if verb == "subscribe":
        return f"{parent}?topic_name={name}", b"{}"
    return f"{parent}/{name}?allowMissing=true", None


def judge(response: Response, push: Push, now: float) -> Verdict:
    """Decide what an answer to such a push means; `now` is in seconds since the epoch.

    A subscription that exists already, or does not exist any more, is what was asked for. The name
    of one that FCM made contains the token, so only its end is kept.
    """
    verb, topic = _find_subscription(push.fields)
    done = Delivered(f"topicSubscriptions/{topic}".encode())
    verdict = fcm_answers.judge(response, now)
    if isinstance(verdict, Delivered) or (verb == "unsubscribe" and _is_empty(response)):
        return done
    error = fcm_answers.read_error(response.status, read_object(response.body))
    if verb == "subscribe" and error.name == "ALREADY_EXISTS":
        return done
    if error.name == "NOT_FOUND" and not error.code:
        missing = error.resources
        if verb == "unsubscribe" and any("/topicSubscriptions/" in name for name in missing):
            return done
        if any(re.search("/registrations/[^/]+$", name) for name in missing):
            return BadDevice("UNREGISTERED")
    return verdict


def _is_empty(response: Response) -> bool:
    """Whether an answer is a success that has no content."""
    return response.status == 200 and not response.truncated and response.body.strip() == b"{}"


def _find_subscription(fields: Mapping[str, Any]) -> tuple[str, str]:
    """Return what a push does, and the topic."""
    return next((name, topic) for name, topic in fields.items() if name in SUBSCRIPTIONS)
