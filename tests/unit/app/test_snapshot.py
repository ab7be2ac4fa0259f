"""The snapshot of the process."""

from twisted.internet.task import Clock

from node2dm_tw import __version__
from node2dm_tw.app.snapshot import SnapshotTaker
from node2dm_tw.core.stats import Stats
from node2dm_tw.intake.udp import UDPIntake
from tests.support.doubles import WALL, MemoryHTTP
from tests.support.routes import build_route, load_settings

C2DM = "[c2dm]\nusername = sender@example.com\npassword = secret\n"


def test_the_process_and_its_routes(tmp_path):
    """Each part gives its own values; the uptime is in whole seconds of the monotonic clock."""
    clock = Clock()
    stats = Stats(clock.seconds)
    taker = SnapshotTaker(clock.seconds, stats)
    settings = load_settings(tmp_path, f"[node2dm]\nmax_queued = 7\n{C2DM}")
    route = build_route(settings, clock, lambda: WALL, MemoryHTTP)
    intakes = [UDPIntake(None, (), None), UDPIntake(None, (), None)]
    for intake in intakes:
        intake.effective_rcvbuf = 4_096
    stats.count_invalid("colons", "too few", "192.0.2.1:9")
    clock.advance(61.9)
    shown = taker.take({"c2dm": route}, intakes, ["callback"] * 3, 2, 1_000)
    assert (shown.version, shown.uptime) == (__version__, 61)
    assert (shown.rcvbuf, shown.udp_dropped) == (8_192, 0)
    assert (shown.callbacks_waiting, shown.outcomes_dropped) == (3, 2)
    assert shown.max_queued_bytes == 1_000
    assert shown.invalid == {"colons": 1}
    assert [(each.reason, each.age) for each in shown.latest_invalid] == [("colons", 61.9)]
    assert shown.memory.rss > 0
    assert list(shown.routes) == ["c2dm"]
    assert shown.routes["c2dm"].max_queued == 7
    assert shown.routes["c2dm"].logged_in_to_c2dm is False


def test_without_callbacks(tmp_path):
    """None waits where none is configured."""
    clock = Clock()
    taker = SnapshotTaker(clock.seconds, Stats(clock.seconds))
    assert taker.take({}, [], None, 0, 0).callbacks_waiting == 0
