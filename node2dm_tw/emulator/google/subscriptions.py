"""FCM's topic subscriptions: the endpoints of one registration's topics.

They follow
https://firebase.google.com/docs/reference/fcm/fcmtopics/rest/v1/projects.registrations.topicSubscriptions
"""

import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import attrs

from node2dm_tw.emulator.google import fcm
from node2dm_tw.emulator.google.fcm_fields import (
    Invalid,
    invalid_type,
    read_json,
    read_subscription,
)
from node2dm_tw.emulator.google.messages import IncomingRequest, Reply, json_reply
from node2dm_tw.emulator.google.registrations import Registration
from node2dm_tw.emulator.google.topics import is_topic

SUBSCRIPTION_ERRORS = frozenset({*fcm.FCM_ERRORS, *fcm.PLAIN_ERRORS, "ALREADY_EXISTS"})

MAX_TOPICS = 2_000
"""Topics of one registration."""

_DEFAULT_PAGE, _MAX_PAGE = 1_000, 2_000


@attrs.define(eq=False)
class Subscriptions:
    """Answers ``/v1/projects/PROJECT/registrations/REGISTRATION/topicSubscriptions``.

    Args:
        fcm: knows who may ask, and which registrations there are.
    """

    _fcm: fcm.FCM

    def answer(
        self, project: str, name: str, topic: str | None, request: IncomingRequest, now: float
    ) -> Reply:
        """Answer a request.

        Args:
            name: a token or Firebase installation ID.
            topic: the topic in the path; None for the collection.
            now: seconds since the epoch.
        """
        found = self._fcm.refuse_sender(project, request, now) or self._fcm.find_registration(name)
        if isinstance(found, Reply):
            return found
        subscriptions = _Subscriptions(f"projects/{project}/registrations/{name}", found, now)
        query = dict(parse_qsl(request.query.decode("latin-1")))
        try:
            match request.method:
                case "GET" if topic is None:
                    return subscriptions.list(query)
                case "GET":
                    return subscriptions.get(_topic(topic))
                case "POST":
                    read_json(request.body or b"{}", read_subscription)
                    return subscriptions.create(_topic(_parameter(query, "topic_name")))
                case "PATCH":
                    read_json(request.body or b"{}", read_subscription)
                    return subscriptions.patch(_topic(topic), _allows_missing(query))
                case _:
                    return subscriptions.delete(_topic(topic), _allows_missing(query))
        except Invalid as error:
            return fcm.invalid_reply(error)


def error_reply(code: str) -> Reply:
    """Build the reply for one of `SUBSCRIPTION_ERRORS`."""
    if code == "ALREADY_EXISTS":
        return fcm.status_reply(409, code, "Requested entity already exists")
    return fcm.error_reply(code)


@attrs.define
class _Subscriptions:
    """The subscriptions of one registration, under the name by which it was asked for."""

    parent: str
    registration: Registration
    now: float

    def list(self, query: dict[str, str]) -> Reply:
        size = _number(query, "page_size") or _DEFAULT_PAGE
        start = _number(query, "page_token")
        topics = list(self.registration.topics)
        end = start + min(size, _MAX_PAGE)
        content: dict[str, Any] = {}
        if found := [self._show(topic) for topic in topics[start:end]]:
            content["topic_subscriptions"] = found
        if end < len(topics):
            content["next_page_token"] = str(end)
        return json_reply(200, content)

    def get(self, topic: str) -> Reply:
        if topic not in self.registration.topics:
            return self._not_found(topic)
        return json_reply(200, self._show(topic))

    def create(self, topic: str) -> Reply:
        if topic in self.registration.topics:
            return error_reply("ALREADY_EXISTS")
        return self._add(topic)

    def patch(self, topic: str, allows_missing: bool) -> Reply:
        if topic not in self.registration.topics and allows_missing:
            return self._add(topic)
        return self.get(topic)

    def delete(self, topic: str, allows_missing: bool) -> Reply:
        if self.registration.topics.pop(topic, None) is None and not allows_missing:
            return self._not_found(topic)
        return json_reply(200, {})

    def _add(self, topic: str) -> Reply:
        topics = self.registration.topics
        if len(topics) >= MAX_TOPICS:
            raise Invalid(f"More than {MAX_TOPICS} topics.", "topic_name", True)
        topics[topic] = self.now
        return self.get(topic)

    def _not_found(self, topic: str) -> Reply:
        name = f"{self.parent}/topicSubscriptions/{topic}"
        return fcm.status_reply(*fcm.PLAIN_ERRORS["NOT_FOUND"], name)

    def _show(self, topic: str) -> dict[str, str]:
        created = datetime.fromtimestamp(self.registration.topics[topic], UTC)
        return {
            "name": f"{self.parent}/topicSubscriptions/{topic}",
            "topic_name": topic,
            "create_time": created.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        }


def _topic(name: str | None) -> str:
    if name is None or not is_topic(name):
        raise Invalid("Malformed topic name.", "topic_name", True)
    return name


def _parameter(query: dict[str, str], name: str) -> str:
    """Return a parameter, which Google accepts in both spellings; empty without one."""
    first, *rest = name.split("_")
    return query.get(name) or query.get(first + "".join(map(str.capitalize, rest)), "")


def _allows_missing(query: dict[str, str]) -> bool:
    text = _parameter(query, "allow_missing") or "false"
    if text not in ("true", "false"):
        raise invalid_type(text, "allow_missing", "TYPE_BOOL")
    return text == "true"


def _number(query: dict[str, str], name: str) -> int:
    text = _parameter(query, name) or "0"
    if not re.fullmatch("[0-9]{1,9}", text):
        raise invalid_type(text, name, "TYPE_INT32")
    return int(text)
