"""Registrations: what is delivered at once, and what waits."""

import time

import pytest

from node2dm_tw.emulator.google.messages import Deleted, Message, Registered, Unregistered
from node2dm_tw.emulator.google.registrations import Registrations, is_issued
from tests.unit.emulator.support import NOW

LIFE = 1000.0


def _push(number, key="", *, life=LIFE, while_active=False):
    return Message(f"id{number}", key, {"n": str(number)}, NOW + life, while_active)


def _numbers(shown):
    return [event.data["n"] for event in shown if isinstance(event, Message)]


@pytest.fixture(name="registrations")
def _registrations():
    return Registrations()


def test_ids_look_like_googles(registrations):
    """They are new each time, and no other text looks like one."""
    plain = registrations.register("a@b", "app").registration_id
    firebase = registrations.register("project", "app", firebase=True).registration_id
    assert plain != registrations.register("a@b", "app").registration_id
    assert is_issued(plain)
    assert is_issued(firebase)
    assert firebase.count(":") == 1
    assert not is_issued("demo-phone")


def test_an_installed_application_keeps_its_id(registrations):
    """Registering again on a named device changes nothing."""
    first = registrations.register("a@b", "app", device="my phone")
    assert registrations.register("a@b", "app", device="my phone") is first
    assert registrations.register("a@b", "other", device="my phone") is not first
    registrations.unregister(first)
    assert registrations.register("a@b", "app", device="my phone") is not first


def test_too_many_applications(registrations):
    """A device has room for a hundred."""
    assert all(registrations.register("a@b", str(n), device="d") for n in range(100))
    assert registrations.register("a@b", "more", device="d") is None
    assert registrations.register("a@b", "more", device="e") is not None


def test_too_many_phones():
    """All together they have room as well."""
    registrations = Registrations(max_registrations=2)
    assert registrations.register("a@b", "app")
    assert registrations.register("a@b", "app")
    assert registrations.register("a@b", "app") is None


def test_offline_the_last_of_each_key_is_kept(registrations):
    """Then shown in the order of arrival."""
    registration = registrations.register("a@b", "app")
    for number, key in enumerate("abcab"):
        registrations.deliver(registration, _push(number, key), NOW)
    assert registrations.stored == 3
    shown = []
    registrations.connect(registration, shown.append, NOW)
    assert _numbers(shown) == ["2", "3", "4"]
    assert registrations.stored == 0
    assert registrations.counters == {"stored": 5, "collapsed": 2, "delivered": 3}


def test_fcm_keeps_four_keys_and_a_hundred_others(registrations):
    """The fifth key costs the first; one message too many without a key costs all of them."""
    registration = registrations.register("project", "app", firebase=True)
    for number, key in enumerate("abcde"):
        registrations.deliver(registration, _push(number, key), NOW)
    for number in range(100):
        registrations.deliver(registration, _push(number), NOW)
    assert registrations.stored == 104
    registrations.deliver(registration, _push(100), NOW)
    shown = []
    registrations.connect(registration, shown.append, NOW)
    assert shown[0] == Deleted(100)
    assert _numbers(shown) == ["1", "2", "3", "4", "100"]


def test_c2dm_has_no_such_limit(registrations):
    """Hundreds of keys wait."""
    registration = registrations.register("a@b", "app")
    for number in range(900):
        registrations.deliver(registration, _push(number, str(number)), NOW)
    assert registrations.stored == 900


def test_time_to_live(registrations):
    """What is too old when the phone comes is not shown; zero means now or never."""
    registration = registrations.register("a@b", "app")
    registrations.deliver(registration, _push(1, "a", life=10), NOW)
    registrations.deliver(registration, _push(2, "b", life=20), NOW)
    registrations.deliver(registration, _push(3, "c", life=0), NOW)
    shown = []
    registrations.connect(registration, shown.append, NOW + 10)
    assert _numbers(shown) == ["2"]
    registrations.deliver(registration, _push(4, life=0), NOW)
    assert _numbers(shown) == ["2", "4"]
    assert registrations.counters["expired"] == 2


def test_delay_while_idle(registrations):
    """It waits for activity, and only the last of a key is then shown."""
    registration = registrations.register("a@b", "app")
    shown = []
    registrations.connect(registration, shown.append, NOW)
    registrations.set_idle(registration, True, NOW)
    registrations.deliver(registration, _push(1, "a", while_active=True), NOW)
    registrations.deliver(registration, _push(2, "a", while_active=True), NOW)
    registrations.deliver(registration, _push(3, "b", while_active=True), NOW)
    registrations.deliver(registration, _push(4, "b"), NOW)
    assert _numbers(shown) == ["4"]
    registrations.set_idle(registration, False, NOW)
    assert _numbers(shown) == ["4", "2"]


def test_refresh(registrations):
    """The old ID is no longer good; the phone learns of the new one whichever it asks with."""
    registration = registrations.register("project", "app", firebase=True)
    former = registration.registration_id
    fresh = registrations.refresh(registration)
    assert registrations.find(former) is None
    assert registrations.was_issued(former)
    assert registrations.find(fresh) is registration
    assert (
        registrations.find_with_former(former)
        is registrations.find_with_former(fresh)
        is registration
    )
    assert registrations.find_by_fid(fresh.partition(":")[0]) is registration
    shown = []
    registrations.connect(registration, shown.append, NOW)
    assert shown == [Registered(fresh)]


def test_unregister(registrations):
    """The application gets an event; what waited is dropped."""
    registration = registrations.register("a@b", "app", device="d")
    registrations.deliver(registration, _push(1), NOW)
    registrations.unregister(registration)
    assert (registrations.stored, len(registrations)) == (0, 0)
    other = registrations.register("a@b", "app")
    shown = []
    registrations.connect(other, shown.append, NOW)
    registrations.unregister(other)
    assert shown == [Unregistered(other.registration_id)]
    assert registrations.was_issued(other.registration_id)


def test_a_phone_of_the_settings(registrations):
    """It is always online; a stream is a second sink."""
    first, second = [], []
    registration = registrations.add("demo", first.append)
    registrations.deliver(registration, _push(1), NOW)
    registrations.connect(registration, second.append, NOW)
    registrations.deliver(registration, _push(2), NOW)
    registrations.disconnect(registration)
    registrations.deliver(registration, _push(3), NOW)
    assert (_numbers(first), _numbers(second)) == (["1", "2", "3"], ["2"])
    assert not registrations.was_issued("demo")
    registrations.unregister(registration)
    assert registrations.was_issued("demo")


def test_a_screen_that_goes_away_while_it_is_filled(registrations):
    """What it did not take goes on waiting."""
    registration = registrations.register("a@b", "app")
    for number in range(5):
        registrations.deliver(registration, _push(number), NOW)
    shown = []

    def sink(event):
        shown.append(event)
        if len(shown) == 2:
            registrations.disconnect(registration)

    registrations.connect(registration, sink, NOW)
    assert registrations.stored == 3
    registrations.connect(registration, shown.append, NOW)
    assert _numbers(shown) == ["0", "1", "2", "3", "4"]


def test_storage_is_bounded():
    """Beyond it messages are dropped and counted."""
    registrations = Registrations(max_stored=3)
    registration = registrations.register("a@b", "app")
    for number in range(5):
        registrations.deliver(registration, _push(number), NOW)
    assert (registrations.stored, registrations.counters["dropped"]) == (3, 2)


def test_ten_thousand_messages_to_offline_phones(registrations):
    """With five collapse keys each they arrive as the last of each, in seconds."""
    started = time.process_time()
    offline = [registrations.register("a@b", "app") for _ in range(100)]
    for number in range(10_000):
        key = str(number // 100 % 5)
        registrations.deliver(offline[number % 100], _push(number, key), NOW)
    assert registrations.stored == 500
    for index, registration in enumerate(offline):
        shown = []
        registrations.connect(registration, shown.append, NOW)
        assert _numbers(shown) == [str(9500 + 100 * key + index) for key in range(5)]
    assert time.process_time() - started < 5
