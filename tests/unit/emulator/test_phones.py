"""Phones: what is shown at once, and what waits."""

import time

import pytest

from node2dm_tw.emulator.google.messages import Deleted, Message, Registered, Unregistered
from node2dm_tw.emulator.google.registrations import Registrations, is_issued

from .support import NOW

LIFE = 1000.0


def _push(number, key="", *, life=LIFE, while_active=False):
    return Message(f"id{number}", key, {"n": str(number)}, NOW + life, while_active)


def _numbers(shown):
    return [event.data["n"] for event in shown if isinstance(event, Message)]


@pytest.fixture(name="phones")
def _phones():
    return Registrations()


def test_ids_look_like_googles(phones):
    """They are new each time and can be told from nonsense."""
    plain = phones.register("a@b", "app").registration_id
    firebase = phones.register("project", "app", firebase=True).registration_id
    assert plain != phones.register("a@b", "app").registration_id
    assert is_issued(plain)
    assert is_issued(firebase)
    assert firebase.count(":") == 1
    assert not is_issued("demo-phone")


def test_an_installed_application_keeps_its_id(phones):
    """Registering again on a named device changes nothing."""
    first = phones.register("a@b", "app", device="my phone")
    assert phones.register("a@b", "app", device="my phone") is first
    assert phones.register("a@b", "other", device="my phone") is not first
    phones.unregister(first)
    assert phones.register("a@b", "app", device="my phone") is not first


def test_too_many_applications(phones):
    """A device has room for a hundred."""
    assert all(phones.register("a@b", str(n), device="d") for n in range(100))
    assert phones.register("a@b", "more", device="d") is None
    assert phones.register("a@b", "more", device="e") is not None


def test_too_many_phones():
    """All together they have room as well."""
    phones = Registrations(max_registrations=2)
    assert phones.register("a@b", "app")
    assert phones.register("a@b", "app")
    assert phones.register("a@b", "app") is None


def test_offline_the_last_of_each_key_is_kept(phones):
    """Then shown in the order of arrival."""
    phone = phones.register("a@b", "app")
    for number, key in enumerate("abcab"):
        phones.deliver(phone, _push(number, key), NOW)
    assert phones.stored == 3
    shown = []
    phones.connect(phone, shown.append, NOW)
    assert _numbers(shown) == ["2", "3", "4"]
    assert phones.stored == 0
    assert phones.counters == {"stored": 5, "collapsed": 2, "delivered": 3}


def test_fcm_keeps_four_keys_and_a_hundred_others(phones):
    """The fifth key costs the first; one message too many without a key costs all of them."""
    phone = phones.register("project", "app", firebase=True)
    for number, key in enumerate("abcde"):
        phones.deliver(phone, _push(number, key), NOW)
    for number in range(100):
        phones.deliver(phone, _push(number), NOW)
    assert phones.stored == 104
    phones.deliver(phone, _push(100), NOW)
    shown = []
    phones.connect(phone, shown.append, NOW)
    assert shown[0] == Deleted(100)
    assert _numbers(shown) == ["1", "2", "3", "4", "100"]


def test_c2dm_has_no_such_limit(phones):
    """Hundreds of keys wait."""
    phone = phones.register("a@b", "app")
    for number in range(900):
        phones.deliver(phone, _push(number, str(number)), NOW)
    assert phones.stored == 900


def test_time_to_live(phones):
    """What is too old when the phone comes is not shown; zero means now or never."""
    phone = phones.register("a@b", "app")
    phones.deliver(phone, _push(1, "a", life=10), NOW)
    phones.deliver(phone, _push(2, "b", life=20), NOW)
    phones.deliver(phone, _push(3, "c", life=0), NOW)
    shown = []
    phones.connect(phone, shown.append, NOW + 10)
    assert _numbers(shown) == ["2"]
    phones.deliver(phone, _push(4, life=0), NOW)
    assert _numbers(shown) == ["2", "4"]
    assert phones.counters["expired"] == 2


def test_delay_while_idle(phones):
    """It waits for activity, and only the last of a key is then shown."""
    phone = phones.register("a@b", "app")
    shown = []
    phones.connect(phone, shown.append, NOW)
    phones.set_idle(phone, True, NOW)
    phones.deliver(phone, _push(1, "a", while_active=True), NOW)
    phones.deliver(phone, _push(2, "a", while_active=True), NOW)
    phones.deliver(phone, _push(3, "b", while_active=True), NOW)
    phones.deliver(phone, _push(4, "b"), NOW)
    assert _numbers(shown) == ["4"]
    phones.set_idle(phone, False, NOW)
    assert _numbers(shown) == ["4", "2"]


def test_refresh(phones):
    """The old ID is no longer good; the phone learns of the new one whichever it asks with."""
    phone = phones.register("project", "app", firebase=True)
    former = phone.registration_id
    fresh = phones.refresh(phone)
    assert phones.find(former) is None
    assert phones.was_issued(former)
    assert phones.find(fresh) is phone
    assert phones.find_with_former(former) is phones.find_with_former(fresh) is phone
    assert phones.find_by_fid(fresh.partition(":")[0]) is phone
    shown = []
    phones.connect(phone, shown.append, NOW)
    assert shown == [Registered(fresh)]


def test_unregister(phones):
    """The application is told; what waited is gone."""
    phone = phones.register("a@b", "app", device="d")
    phones.deliver(phone, _push(1), NOW)
    phones.unregister(phone)
    assert (phones.stored, len(phones)) == (0, 0)
    other = phones.register("a@b", "app")
    shown = []
    phones.connect(other, shown.append, NOW)
    phones.unregister(other)
    assert shown == [Unregistered(other.registration_id)]
    assert phones.was_issued(other.registration_id)


def test_a_phone_of_the_settings(phones):
    """It is always on; a stream of its own is a second screen."""
    first, second = [], []
    phone = phones.add("demo", first.append)
    phones.deliver(phone, _push(1), NOW)
    phones.connect(phone, second.append, NOW)
    phones.deliver(phone, _push(2), NOW)
    phones.disconnect(phone)
    phones.deliver(phone, _push(3), NOW)
    assert (_numbers(first), _numbers(second)) == (["1", "2", "3"], ["2"])
    assert not phones.was_issued("demo")
    phones.unregister(phone)
    assert phones.was_issued("demo")


def test_a_screen_that_goes_away_while_it_is_filled(phones):
    """What it did not take goes on waiting."""
    phone = phones.register("a@b", "app")
    for number in range(5):
        phones.deliver(phone, _push(number), NOW)
    shown = []

    def sink(event):
        shown.append(event)
        if len(shown) == 2:
            phones.disconnect(phone)

    phones.connect(phone, sink, NOW)
    assert phones.stored == 3
    phones.connect(phone, shown.append, NOW)
    assert _numbers(shown) == ["0", "1", "2", "3", "4"]


def test_storage_is_bounded():
    """Beyond it messages are dropped and counted."""
    phones = Registrations(max_stored=3)
    phone = phones.register("a@b", "app")
    for number in range(5):
        phones.deliver(phone, _push(number), NOW)
    assert (phones.stored, phones.counters["dropped"]) == (3, 2)


def test_ten_thousand_messages_to_offline_phones(phones):
    """With five collapse keys each they arrive as the last of each, in seconds."""
    started = time.process_time()
    offline = [phones.register("a@b", "app") for _ in range(100)]
    for number in range(10_000):
        key = str(number // 100 % 5)
        phones.deliver(offline[number % 100], _push(number, key), NOW)
    assert phones.stored == 500
    for index, phone in enumerate(offline):
        shown = []
        phones.connect(phone, shown.append, NOW)
        assert _numbers(shown) == [str(9500 + 100 * key + index) for key in range(5)]
    assert time.process_time() - started < 5
