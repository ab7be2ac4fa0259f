"""A full working day of pushes through an outage, a quota storm and a token that ends each hour."""

import sys

import pytest

from tests.simulation.day import CAMPAIGNS, Day
from tests.simulation.load import HOUR, Load

BETWEEN_SIGN_INS = 50 * 60
"""Seconds; never less."""

DEVICE_LIMITS = ((60.0, 240), (HOUR, 5_000))
"""FCM's own, for one device."""


def check(day: Day) -> None:
    """All that must hold at the end of a day."""
    check_limits(day)
    check_endings(day)
    check_manners(day)


def check_limits(day: Day) -> None:
    google = day.google
    limit, seconds = google.project_rate
    assert 0.9 * limit < google.most_of_project(seconds) <= limit
    for seconds, limit in DEVICE_LIMITS:
        assert google.most_of_device(seconds) <= limit
    assert google.most_of_device(HOUR) > 4_900, "one device was sent to as fast as can be"


def check_endings(day: Day) -> None:
    """Each push ended once; each that was sent was shown once; what was not had a reason."""
    stats, google = day.stats, day.google
    assert day.way.queue.depth == 0
    assert len(day.device_of) >= day.load.pushes
    assert stats.messages_received == len(day.device_of) == sum(day.endings().values())
    assert stats.messages_sent == len(google.deliveries) == google.deliveries.total()
    assert stats.messages_bad_device == google.answers[404, "UNREGISTERED"]
    assert day.bad_devices == {google.tokens[number] for number in day.gone}
    for name in ("refused", "blocked", "expired", "handed_over"):
        assert getattr(stats, f"messages_{name}") == 0, name
    unseen = [n for n in range(len(day.device_of)) if n not in google.deliveries]
    devices = [day.device_of[number] for number in unseen]
    flooded = sum(device in day.load.flooded for device in devices)
    assert stats.messages_overflowed == flooded <= 20 * len(day.load.flooded)


def check_manners(day: Day) -> None:
    """Pauses are kept, an outage costs few requests, and signing in is rare."""
    google = day.google
    # In the storm a push that alone is over quota for a second time is taken for the cause.
    assert len(google.manners.breaches) <= 5, google.manners.breaches
    assert google.refused < 100
    assert 0 < google.answers[503, ""] < 100
    assert google.answers[429, "QUOTA_EXCEEDED"] > 0
    gaps = [b - a for a, b in zip(google.granted, google.granted[1:], strict=False)]
    assert min(gaps) >= BETWEEN_SIGN_INS
    assert max(gaps) < 2 * HOUR
    assert google.sign_ins < len(google.granted) + 10, "those of the outage"


def test_a_small_day(tmp_path):
    """60,000 pushes to 3,000 devices."""
    day = Day(tmp_path, Load(60_000, 3_000, CAMPAIGNS))
    day.run(lambda line: None)
    check(day)


@pytest.mark.long
def test_a_whole_day(tmp_path, capsys):
    """2,000,000 pushes to 100,000 devices."""

    def tell(line: str) -> None:
        with capsys.disabled():
            sys.stderr.write(f"{line}\n")

    day = Day(tmp_path, Load(2_000_000, 100_000, CAMPAIGNS))
    day.run(tell)
    google = day.google
    tell(f"{day.cpu_seconds:.0f} s CPU; {day.endings()}; {dict(google.answers)}")
    tell(f"{len(google.granted)} sign-ins; {google.most_of_project(60)} a minute at the most,")
    tell(f"a device {google.most_of_device(60)} a minute, {google.most_of_device(HOUR)} an hour")
    check(day)
