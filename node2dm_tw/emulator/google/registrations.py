"""Phones: registration, what is shown at once, and what waits until it can be."""

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

LONGEST_LIFE = 2_419_200.0
"""Seconds a message is kept at most: four weeks."""

MOST_PHONES = 200_000
MOST_APPLICATIONS = 100
"""On one phone."""
MOST_FORMER = 10_000
MOST_STORED = 200_000
"""Messages that wait, of all phones together."""
MOST_KEYS = 1_000
"""Collapse keys that wait for one phone over C2DM."""
MOST_KEYS_FCM = 4
MOST_PLAIN = 100
"""Messages without a collapse key that wait for one phone."""

_ISSUED = re.compile(r"(?:[A-Za-z0-9_-]{22}:)?APA91b[A-Za-z0-9_-]{134}")


@attrs.define(eq=False)
class Registration:
    """One application on one phone.

    Args:
        sender: the account, or the project, whose pushes it takes; None: anyone's.
        keys: collapse keys that are kept for it while it cannot be reached.
        base: a screen that is always on.
    """

    registration_id: str
    sender: str | None
    app: str
    keys: int = MOST_KEYS
    topics: frozenset[str] = frozenset()
    base: EventSink | None = None
    screen: EventSink | None = None
    idle: bool = False
    # Under the collapse key and nothing, or under nothing and the message's own ID.
    waiting: dict[tuple[str, str], Message] = attrs.field(factory=dict)
    pending_events: list[Event] = attrs.field(factory=list)
    device: str = ""
    former: str = ""


def random_id() -> str:
    """Make a C2DM registration ID that has not been given to anyone."""
    return "APA91b" + secrets.token_urlsafe(101)[:134]


def random_fid() -> str:
    """Make a Firebase installation ID."""
    raw = bytearray(secrets.token_bytes(17))
    raw[0] = 0b0111_0000 | raw[0] & 0b1111
    return base64.urlsafe_b64encode(raw).decode()[:22]


def is_issued(registration_id: str) -> bool:
    """Say whether it looks like an ID that an emulator made, now or before."""
    return _ISSUED.fullmatch(registration_id) is not None


@attrs.define(eq=False)
class Registrations:
    """All phones there are.

    Args:
        new_id: makes registration IDs.
        counters: is told of messages ``delivered``, ``stored``, ``collapsed``, ``expired``
            and ``dropped``.
        most_stored: messages that may wait, of all phones together.
        most_phones: registrations.
    """

    _new_id: Callable[[], str] = random_id
    counters: Counter[str] = attrs.field(factory=Counter)
    _most_stored: int = MOST_STORED
    _most_phones: int = MOST_PHONES
    _phones: dict[str, Registration] = attrs.field(factory=dict, init=False)
    _fids: dict[str, Registration] = attrs.field(factory=dict, init=False)
    _installed: dict[tuple[str, str, str], Registration] = attrs.field(factory=dict, init=False)
    _on_device: Counter[str] = attrs.field(factory=Counter, init=False)
    _former: dict[str, Registration] = attrs.field(factory=dict, init=False)
    _gone: dict[str, None] = attrs.field(factory=dict, init=False)
    _stored: int = attrs.field(default=0, init=False)

    def __len__(self) -> int:
        """Count the registrations."""
        return len(self._phones)

    @property
    def stored(self) -> int:
        """Count the messages that wait."""
        return self._stored

    def online(self) -> int:
        """Count the phones that are connected."""
        return sum(phone.screen is not None for phone in self._phones.values())

    def add(self, name: str, screen: EventSink) -> Registration:
        """Register a phone under a name of its own, with a screen that is always on."""
        phone = Registration(name, None, "", base=screen, screen=screen)
        self._phones[name] = phone
        self._gone.pop(name, None)
        return phone

    def register(
        self,
        sender: str,
        app: str,
        *,
        device: str = "",
        firebase: bool = False,
        topics: Iterable[str] = (),
    ) -> Registration | None:
        """Register an application; the same one on the same device keeps its ID.

        Args:
            sender: the account or the project.
            app: the application's own name.
            topics: what it listens to besides, over FCM.
            device: names the phone; empty: a new one nobody else will name.
            firebase: give it an ID as FCM does, with an installation ID in front.

        Returns:
            the registration; None if there are too many.
        """
        known = self._installed.get((device, sender, app)) if device else None
        if known is not None:
            return known
        full = device and self._on_device[device] >= MOST_APPLICATIONS
        if full or len(self._phones) >= self._most_phones:
            return None
        phone = Registration(self._fresh_id(firebase), sender, app, device=device)
        phone.topics = frozenset(topics)
        phone.keys = MOST_KEYS_FCM if firebase else MOST_KEYS
        self._enter(phone)
        if device:
            self._installed[device, sender, app] = phone
            self._on_device[device] += 1
        return phone

    def find(self, registration_id: str) -> Registration | None:
        """Look up a registration that is good."""
        return self._phones.get(registration_id)

    def find_by_fid(self, fid: str) -> Registration | None:
        """Look up a registration by its Firebase installation ID."""
        return self._fids.get(fid) or self._phones.get(fid)

    def reach(self, registration_id: str) -> Registration | None:
        """Look up a phone as its own application does, which may still use its former ID."""
        return self._phones.get(registration_id) or self._former.get(registration_id)

    def was_issued(self, registration_id: str) -> bool:
        """Say of an unknown ID whether it was good once."""
        return registration_id in self._gone or is_issued(registration_id)

    def subscribers(self) -> Iterable[Registration]:
        """Give the phones that listen to any topic."""
        return [phone for phone in self._phones.values() if phone.topics]

    def connect(self, phone: Registration, screen: EventSink, now: float) -> None:
        """Put a phone online: what waited is shown, then what comes."""
        base = phone.base
        phone.screen = screen if base is None else _both(base, screen)
        self._catch_up(phone, now)

    def disconnect(self, phone: Registration) -> None:
        """Take a phone offline."""
        phone.screen = phone.base

    def set_idle(self, phone: Registration, idle: bool, now: float) -> None:
        """Say that nobody uses the phone, or that somebody does."""
        phone.idle = idle
        self._catch_up(phone, now)

    def refresh(self, phone: Registration) -> str:
        """Give a phone a new ID, as Google does at times; the old one is no longer good."""
        former = phone.registration_id
        self._leave(phone)
        phone.registration_id = self._fresh_id(":" in former)
        self._former.pop(phone.former, None)
        self._former[former] = phone
        phone.former = former
        if len(self._former) > MOST_FORMER:
            del self._former[next(iter(self._former))]
        self._enter(phone)
        self._send_event(phone, Registered(phone.registration_id))
        return phone.registration_id

    def unregister(self, phone: Registration) -> None:
        """End a registration; the application is told."""
        self._leave(phone)
        self._former.pop(phone.former, None)
        self._stored -= len(phone.waiting)
        phone.waiting.clear()
        if self._installed.pop((phone.device, phone.sender or "", phone.app), None):
            self._on_device[phone.device] -= 1
            self._on_device += Counter()
        self._send_event(phone, Unregistered(phone.registration_id))
        phone.screen = phone.base = None

    def reset(self, kept: Container[str] = ()) -> None:
        """Unregister every phone but those with these IDs; forget what waits."""
        for phone in list(self._phones.values()):
            if phone.registration_id not in kept:
                self.unregister(phone)
            phone.waiting.clear()
            phone.pending_events.clear()
            phone.idle = False
        self._stored = 0
        self._former.clear()
        self._gone.clear()
        self.counters.clear()

    def deliver(self, phone: Registration, message: Message, now: float) -> None:
        """Show a message, or keep it until it can be shown."""
        key = message.collapse_key
        if phone.waiting and key and phone.waiting.pop((key, ""), None) is not None:
            self._stored -= 1
            self.counters["collapsed"] += 1
        if phone.screen is not None and not (message.while_active and phone.idle):
            self.counters["delivered"] += 1
            phone.screen(message)
        elif message.expires <= now:
            self.counters["expired"] += 1
        else:
            self._store(phone, message)

    def _fresh_id(self, firebase: bool) -> str:
        while True:
            made = f"{random_fid()}:{self._new_id()}" if firebase else self._new_id()
            if made not in self._phones:
                return made

    def _enter(self, phone: Registration) -> None:
        self._phones[phone.registration_id] = phone
        fid, colon, _ = phone.registration_id.partition(":")
        if colon:
            self._fids[fid] = phone

    def _leave(self, phone: Registration) -> None:
        del self._phones[phone.registration_id]
        self._fids.pop(phone.registration_id.partition(":")[0], None)
        if not is_issued(phone.registration_id):
            self._gone[phone.registration_id] = None

    def _send_event(self, phone: Registration, event: Event) -> None:
        if phone.screen is not None:
            phone.screen(event)
            return
        # Of each kind of news only the last matters.
        phone.pending_events = [
            each for each in phone.pending_events if type(each) is not type(event)
        ]
        phone.pending_events.append(event)

    def _store(self, phone: Registration, message: Message) -> None:
        if self._stored >= self._most_stored:
            self.counters["dropped"] += 1
            return
        self._make_room(phone, bool(message.collapse_key))
        phone.waiting[_place(message)] = message
        self._stored += 1
        self.counters["stored"] += 1

    def _make_room(self, phone: Registration, collapsible: bool) -> None:
        if len(phone.waiting) < min(phone.keys, MOST_PLAIN):
            return
        same = [key for key in phone.waiting if bool(key[0]) is collapsible]
        if collapsible and len(same) >= phone.keys:
            self._drop_messages(phone, same[:1])
        elif not collapsible and len(same) >= MOST_PLAIN:
            # FCM throws them all away and says so, instead of choosing among them.
            self._drop_messages(phone, same)
            self._send_event(phone, Deleted(len(same)))

    def _drop_messages(self, phone: Registration, keys: list[tuple[str, str]]) -> None:
        for key in keys:
            del phone.waiting[key]
        self._stored -= len(keys)
        self.counters["dropped"] += len(keys)

    def _catch_up(self, phone: Registration, now: float) -> None:
        """Show what waited, in the order it came; a screen that has enough goes away meanwhile."""
        while phone.pending_events and phone.screen is not None:
            phone.screen(phone.pending_events.pop(0))
        for key, message in list(phone.waiting.items()):
            if message.expires <= now:
                outcome = "expired"
            elif phone.screen is None or (message.while_active and phone.idle):
                continue
            else:
                outcome = "delivered"
            del phone.waiting[key]
            self._stored -= 1
            self.counters[outcome] += 1
            if outcome == "delivered" and phone.screen is not None:
                phone.screen(message)


def _place(message: Message) -> tuple[str, str]:
    return (message.collapse_key, "" if message.collapse_key else message.message_id)


def _both(first: EventSink, second: EventSink) -> EventSink:
    def show(event: Event) -> None:
        first(event)
        second(event)

    return show
