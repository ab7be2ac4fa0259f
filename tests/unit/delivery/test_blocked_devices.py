"""Devices that are over their quota."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from node2dm_tw.core.snapshot import BlockedDevice
from node2dm_tw.delivery.blocked_devices import LISTED, BlockedDevices


@given(
    st.lists(
        st.tuples(st.sampled_from([b"a", b"b", b"c", b"d"]), st.integers(1, 9), st.integers(0, 5)),
        max_size=60,
    )
)
def test_devices_are_blocked_until_their_time_and_counted(steps):
    """Whatever the order of the times; a device that is blocked anew has its new time."""
    clock, until = Clock(), {}
    blocked = BlockedDevices(clock)
    for device, seconds, passed in steps:
        blocked.block(device, seconds)
        until[device] = clock.seconds() + seconds
        clock.advance(passed)
        still = {device for device, end in until.items() if end > clock.seconds()}
        assert len(blocked) == len(still)
        assert {d for d in (b"a", b"b", b"c", b"d") if blocked.is_blocked(d)} == still


def test_the_one_blocked_first_makes_room():
    """And what is kept for counting stays bounded as well."""
    blocked = BlockedDevices(Clock(), capacity=10)
    for number in range(1_000):
        blocked.block(b"%d" % number, 60)
        blocked.block(b"again", 60)
    assert len(blocked) == 10
    assert not blocked.is_blocked(b"0")
    assert blocked.is_blocked(b"999")
    assert len(blocked._ends) <= 21


def test_the_latest_for_people():
    """Shortened, with the seconds that are left; the last one first."""
    clock = Clock()
    blocked = BlockedDevices(clock)
    for number in range(50):
        blocked.block(b"device-%d-0123456789" % number, 60 + number)
    clock.advance(30)
    listed = blocked.latest()
    assert len(listed) == LISTED
    assert listed[0] == BlockedDevice("device-49-...", left=79)
