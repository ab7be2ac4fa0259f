"""A process with real views and made-up pushes: `python -m tests.unit.admin.fake_gateway PORT ...`.

It stands for a gateway with many routes under load, of which only the views' work is to be seen.
"""

import math
import random
import sys
import time

import attrs
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import LoopingCall

from node2dm_tw.admin.views import AdminServices
from tests.unit.admin.support import FakeGateway, FakeRoute

NAMES = ("shop", "news", "chat", "weather", "bank", "games", "maps", "music")
STATES = {
    "news": {"state": "paused", "state_reason": "503, Retry-After", "pause_left": 42.0},
    "bank": {
        "state": "locked",
        "state_reason": "QuotaExceeded",
        "state_advice": "once the quota is granted again, delete /var/lib/node2dm/quota.lock.bank"
        " and send SIGHUP",
        "signed_in": False,
    },
    "maps": {"state": "signing in", "state_reason": "BadAuthentication", "signed_in": False},
}
FAULTS = [
    ("refused", "MessageTooBig", "messages_refused"),
    ("bad device", "NotRegistered", "messages_bad_device"),
    ("no answer", "the connection was closed before any answer", "network_failures"),
    ("blocked", "the device is over its quota", "messages_blocked"),
]


@attrs.define(eq=False)
class BusyRoute:
    """A route that counts pushes nobody sent."""

    route: FakeRoute
    depth: float = 0.0

    def live(self, seconds: float, rate: float, errors: float, *, stands: bool) -> None:
        """Count what comes and goes in these seconds."""
        stats, came = self.route.stats, round(rate * seconds)
        stats.messages_received += came
        wrong = min(came, round(errors * seconds))
        if stands:
            self.depth += came
            return
        gone = min(self.depth, rate * seconds)
        self.depth -= gone
        stats.messages_sent += came - wrong + round(gone)
        for number in range(wrong):
            kind, reason, counter = FAULTS[min(3, int(random.expovariate(1.2)))]
            device = b"APA91bH" + b"%06d" % (number * 7919 % 1_000_000) + b"x" * 120
            self.route.recent_errors.record(kind, reason, device, time.time())
            setattr(stats, counter, getattr(stats, counter) + 1)
            if counter == "messages_blocked" and number % 10 == 0:
                self.route.blocked.block(device, 3_600)


def make(gateway: FakeGateway, name: str) -> BusyRoute:
    route = BusyRoute(
        gateway.add_route(name, window=64, max_queued=100_000, **STATES.get(name, {}))
    )
    route.route.live = lambda: {
        "messages_in_queue": int(route.depth),
        "oldest_age": round(route.depth / 40, 1),
        "messages_in_flight": 0 if name in STATES else random.randrange(20, 50),
    }
    return route


def main(port: int, routes: int, errors: float, minutes: float) -> None:
    """Serve; `minutes` of history are made up before, `errors` a second then go on."""
    passed = [0.0]
    reactor.seconds = lambda: time.monotonic() + passed[0]
    gateway = FakeGateway(reactor, values={"version": "0.1.0", "rcvbuf": 16_777_216})
    names = [NAMES[n] if n < len(NAMES) else f"{NAMES[n % 8]}-{n // 8 + 1}" for n in range(routes)]
    all_routes = {name: make(gateway, name) for name in names}
    admin = AdminServices(gateway.snapshot, reactor, time.time, list)

    def live(seconds: float, share: float) -> None:
        for number, (name, route) in enumerate(all_routes.items()):
            swing = 1 + math.sin(reactor.seconds() / 90 + number) / 3 + random.random() / 6
            rate = 400 * swing / (1 + number / 2)
            stands = name in STATES and reactor.seconds() - start > minutes * 60 - 150
            route.live(seconds, rate, errors / len(all_routes) * share, stands=stands)

    start = reactor.seconds()
    for _ in range(int(minutes * 30)):
        passed[0] += 2.0
        live(2.0, 0.01 + 0.2 * (random.random() < 0.02))
        admin.history.add(gateway.snapshot())
    admin.open_web(serverFromString(reactor, f"tcp:{port}:interface=127.0.0.1"))
    admin.start()
    if errors:
        LoopingCall(live, 0.1, 1.0 if errors > 1_000 else 0.1).start(0.1)
    reactor.run()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
