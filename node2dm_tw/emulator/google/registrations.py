"""Registrations: who is registered, who is online, and the messages that wait."""

import base64
import re
import secrets
from collections import Counter
from collections.abc import Callable, Container, Iterable

import attrs

from node2dm_tw.emulator.google.messages import (
    Deleted,
    Event,
    EventSink,
    Message,
    Registered,
    Unregistered,
)

MAX_TTL_SECONDS = 2_419_200.0
"""Four weeks: the maximum for which a message is kept."""

MAX_REGISTRATIONS = 200_000
MAX_APPS_PER_PHONE = 100
"""On one phone."""
MAX_FORMER_IDS = 10_000
MAX_STORED = 200_000
"""Messages that wait, of all registrations together."""
MAX_COLLAPSE_KEYS = 1_000
"""Collapse keys that wait for one C2DM registration."""
MAX_COLLAPSE_KEYS_FCM = 4
MAX_PLAIN_MESSAGES = 100
"""Messages without a collapse key that wait for one registration."""

_ISSUED = re.compile(r"(?:[A-Za-z0-9_-]{22}:)?APA91b[A-Za-z0-9_-]{134}")


@attrs.define(eq=False)
class Registration:
    """One application on one phone.

    Args:
        sender: the account or project that may push to it; None: anyone.
        keys: the maximum of collapse keys that wait while it is offline.
        topics: the FCM topics that it is subscribed to, with the times since the epoch at which it
            was subscribed.
        base_sink: receives the events at all times, beside a connected client.
        sink: receives the events now; None: it is offline.
    """

    registration_id: str
    sender: str | None
    app: str
    keys: int = MAX_COLLAPSE_KEYS
    topics: dict[str, float] = attrs.field(factory=dict)
    base_sink: EventSink | None = None
    sink: EventSink | None = None
    idle: bool = False
    # By (collapse key, ""), or without a collapse key by ("", message ID).
    waiting: dict[tuple[str, str], Message] = attrs.field(factory=dict)
    pending_events: list[Event] = attrs.field(factory=list)
    device: str = ""
    former: str = ""


def random_id() -> str:
    """Make a C2DM registration ID."""
    return "APA91b" + secrets.token_urlsafe(101)[:134]


def random_fid() -> str:
    """Make a Firebase installation ID."""
    raw = bytearray(secrets.token_bytes(17))
    raw[0] = 0b0111_0000 | raw[0] & 0b1111
    return base64.urlsafe_b64encode(raw).decode()[:22]


def is_issued(registration_id: str) -> bool:
    """Whether an ID has the form of those that the emulator makes."""
    return _ISSUED.fullmatch(registration_id) is not None


@attrs.define(eq=False)
class Registrations:
    """All registrations.

    Args:
        new_id: makes registration IDs.
        counters: counts messages ``delivered``, ``stored``, ``collapsed``, ``expired``
            and ``dropped``.
        max_stored: limit of the messages that wait, of all registrations together.
        max_registrations: limit of the registrations.
    """

    _new_id: Callable[[], str] = random_id
    counters: Counter[str] = attrs.field(factory=Counter)
    _max_stored: int = MAX_STORED
    _max_registrations: int = MAX_REGISTRATIONS
    _by_id: dict[str, Registration] = attrs.field(factory=dict, init=False)
    _fids: dict[str, Registration] = attrs.field(factory=dict, init=False)
    _installed: dict[tuple[str, str, str], Registration] = attrs.field(factory=dict, init=False)
    _apps_on_device: Counter[str] = attrs.field(factory=Counter, init=False)
    _by_former_id: dict[str, Registration] = attrs.field(factory=dict, init=False)
    _ended: dict[str, None] = attrs.field(factory=dict, init=False)
    _stored: int = attrs.field(default=0, init=False)

    def __len__(self) -> int:
        """Count the registrations."""
        return len(self._by_id)

    @property
    def stored(self) -> int:
        """Count the messages that wait."""
        return self._stored

    def online(self) -> int:
        """Count the registrations that are online."""
        return sum(registration.sink is not None for registration in self._by_id.values())

    def add(self, name: str, sink: EventSink) -> Registration:
        """Register a phone under a name, with a sink that is always connected."""
        registration = Registration(name, None, "", base_sink=sink, sink=sink)
        self._by_id[name] = registration
        self._ended.pop(name, None)
        return registration

    def register(
        self,
        sender: str,
        app: str,
        *,
        device: str = "",
        firebase: bool = False,
        topics: Iterable[str] = (),
        now: float = 0.0,
    ) -> Registration | None:
        """Register an application; the same application on the same device keeps its ID.

        Args:
            sender: the account or the project.
            app: the application's own name.
            topics: the FCM topics that it is subscribed to.
            now: seconds since the epoch, the time of these subscriptions.
            device: the name of the phone; empty: a new phone without a name.
            firebase: make an ID of FCM, which begins with an installation ID.

        Returns:
            the registration; None if there are too many.
        """
        known = self._installed.get((device, sender, app)) if device else None
        if known is not None:
            return known
        full = device and self._apps_on_device[device] >= MAX_APPS_PER_PHONE
        if full or len(self._by_id) >= self._max_registrations:
            return None
        registration = Registration(self._make_id(firebase), sender, app, device=device)
        registration.topics = dict.fromkeys(topics, now)
        registration.keys = MAX_COLLAPSE_KEYS_FCM if firebase else MAX_COLLAPSE_KEYS
        self._add(registration)
        if device:
            self._installed[device, sender, app] = registration
            self._apps_on_device[device] += 1
        return registration

    def find(self, registration_id: str) -> Registration | None:
        """Look up a registration by its ID."""
        return self._by_id.get(registration_id)

    def find_by_fid(self, fid: str) -> Registration | None:
        """Look up a registration by its Firebase installation ID."""
        return self._fids.get(fid) or self._by_id.get(fid)

    def find_with_former(self, registration_id: str) -> Registration | None:
        """Look up a registration by its ID or former ID, which its application may still use."""
        return self._by_id.get(registration_id) or self._by_former_id.get(registration_id)

    def was_issued(self, registration_id: str) -> bool:
        """Whether an unknown ID was valid earlier."""
        return registration_id in self._ended or is_issued(registration_id)

    def subscribers(self) -> Iterable[Registration]:
        """Return the registrations with at least one topic."""
        return [registration for registration in self._by_id.values() if registration.topics]

    def connect(self, registration: Registration, sink: EventSink, now: float) -> None:
        """Go online: deliver what waits, then everything new."""
        base_sink = registration.base_sink
        registration.sink = sink if base_sink is None else _to_both(base_sink, sink)
        self._deliver_waiting(registration, now)

    def disconnect(self, registration: Registration) -> None:
        """Go offline."""
        registration.sink = registration.base_sink

    def set_idle(self, registration: Registration, idle: bool, now: float) -> None:
        """Set whether the phone is idle."""
        registration.idle = idle
        self._deliver_waiting(registration, now)

    def refresh(self, registration: Registration) -> str:
        """Replace the ID, as Google sometimes does; the former one becomes invalid."""
        former = registration.registration_id
        self._remove(registration)
        registration.registration_id = self._make_id(":" in former)
        self._by_former_id.pop(registration.former, None)
        self._by_former_id[former] = registration
        registration.former = former
        if len(self._by_former_id) > MAX_FORMER_IDS:
            del self._by_former_id[next(iter(self._by_former_id))]
        self._add(registration)
        self._send_event(registration, Registered(registration.registration_id))
        return registration.registration_id

    def unregister(self, registration: Registration) -> None:
        """End a registration; its sink gets an `Unregistered`."""
        self._remove(registration)
        self._by_former_id.pop(registration.former, None)
        self._stored -= len(registration.waiting)
        registration.waiting.clear()
        if self._installed.pop(
            (registration.device, registration.sender or "", registration.app), None
        ):
            self._apps_on_device[registration.device] -= 1
            self._apps_on_device += Counter()
        self._send_event(registration, Unregistered(registration.registration_id))
        registration.sink = registration.base_sink = None

    def reset(self, kept: Container[str] = ()) -> None:
        """End all registrations but those with these IDs; drop what waits."""
        for registration in list(self._by_id.values()):
            if registration.registration_id not in kept:
                self.unregister(registration)
            registration.waiting.clear()
            registration.topics.clear()
            registration.pending_events.clear()
            registration.idle = False
        self._stored = 0
        self._by_former_id.clear()
        self._ended.clear()
        self.counters.clear()

    def deliver(self, registration: Registration, message: Message, now: float) -> None:
        """Deliver a message, or store it until it can be delivered."""
        key = message.collapse_key
        if registration.waiting and key and registration.waiting.pop((key, ""), None) is not None:
            self._stored -= 1
            self.counters["collapsed"] += 1
        if registration.sink is not None and not (message.while_active and registration.idle):
            self.counters["delivered"] += 1
            registration.sink(message)
        elif message.expires <= now:
            self.counters["expired"] += 1
        else:
            self._store(registration, message)

    def _make_id(self, firebase: bool) -> str:
        while True:
            made = f"{random_fid()}:{self._new_id()}" if firebase else self._new_id()
            if made not in self._by_id:
                return made

    def _add(self, registration: Registration) -> None:
        self._by_id[registration.registration_id] = registration
        fid, colon, _ = registration.registration_id.partition(":")
        if colon:
            self._fids[fid] = registration

    def _remove(self, registration: Registration) -> None:
        del self._by_id[registration.registration_id]
        self._fids.pop(registration.registration_id.partition(":")[0], None)
        if not is_issued(registration.registration_id):
            self._ended[registration.registration_id] = None

    def _send_event(self, registration: Registration, event: Event) -> None:
        if registration.sink is not None:
            registration.sink(event)
            return
        # Only the last event of each kind matters.
        registration.pending_events = [
            each for each in registration.pending_events if type(each) is not type(event)
        ]
        registration.pending_events.append(event)

    def _store(self, registration: Registration, message: Message) -> None:
        if self._stored >= self._max_stored:
            self.counters["dropped"] += 1
            return
        self._make_room(registration, bool(message.collapse_key))
        registration.waiting[_waiting_key(message)] = message
        self._stored += 1
        self.counters["stored"] += 1

    def _make_room(self, registration: Registration, collapsible: bool) -> None:
        if len(registration.waiting) < min(registration.keys, MAX_PLAIN_MESSAGES):
            return
        same = [key for key in registration.waiting if bool(key[0]) is collapsible]
        if collapsible and len(same) >= registration.keys:
            self._drop_messages(registration, same[:1])
        elif not collapsible and len(same) >= MAX_PLAIN_MESSAGES:
            # FCM drops them all and reports it, instead of choosing among them.
            self._drop_messages(registration, same)
            self._send_event(registration, Deleted(len(same)))

    def _drop_messages(self, registration: Registration, keys: list[tuple[str, str]]) -> None:
        for key in keys:
            del registration.waiting[key]
        self._stored -= len(keys)
        self.counters["dropped"] += len(keys)

    def _deliver_waiting(self, registration: Registration, now: float) -> None:
        """Deliver what waits, in order, until the sink disconnects."""
        while registration.pending_events and registration.sink is not None:
            registration.sink(registration.pending_events.pop(0))
        for key, message in list(registration.waiting.items()):
            if message.expires <= now:
                outcome = "expired"
            elif registration.sink is None or (message.while_active and registration.idle):
                continue
            else:
                outcome = "delivered"
            del registration.waiting[key]
            self._stored -= 1
            self.counters[outcome] += 1
            if outcome == "delivered" and registration.sink is not None:
                registration.sink(message)


def _waiting_key(message: Message) -> tuple[str, str]:
    return (message.collapse_key, "" if message.collapse_key else message.message_id)


def _to_both(first: EventSink, second: EventSink) -> EventSink:
    def show(event: Event) -> None:
        first(event)
        second(event)

    return show
