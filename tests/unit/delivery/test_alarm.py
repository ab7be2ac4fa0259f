"""The alarm that holds callbacks back."""

from node2dm_tw.delivery.alarm import MIN_SAMPLES, SAMPLE_SIZE, BadDeviceAlarm


def feed(alarm: BadDeviceAlarm, bad: int, good: int) -> None:
    for _ in range(bad):
        alarm.record(True)
    for _ in range(good):
        alarm.record(False)


def test_it_goes_on_from_20_answers_on():
    """Nineteen dead devices in a row may be chance, the twentieth is an alarm."""
    alarm = BadDeviceAlarm(50)
    feed(alarm, MIN_SAMPLES - 1, 0)
    assert not alarm.is_on
    feed(alarm, 1, 0)
    assert alarm.is_on


def test_it_wants_more_than_the_share():
    """Half of the answers is not more than 50 percent."""
    alarm = BadDeviceAlarm(50)
    feed(alarm, 20, 20)
    assert not alarm.is_on
    feed(alarm, 1, 0)
    assert alarm.is_on


def test_it_goes_off_when_the_share_falls_again():
    """Good answers push the bad ones out of sight."""
    alarm = BadDeviceAlarm(50)
    feed(alarm, SAMPLE_SIZE, 0)
    feed(alarm, 0, SAMPLE_SIZE // 2 - 1)
    assert alarm.is_on
    feed(alarm, 0, 1)
    assert not alarm.is_on


def test_0_percent_means_never():
    """An operator may do without."""
    alarm = BadDeviceAlarm(0)
    feed(alarm, SAMPLE_SIZE, 0)
    assert not alarm.is_on
