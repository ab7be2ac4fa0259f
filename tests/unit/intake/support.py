"""What the tests of the intake share: lines that end in a list."""

from collections.abc import Callable

import attrs
from twisted.internet.task import Clock

from node2dm_tw.core.stats import RouteStats, Stats
from node2dm_tw.intake.parser import IntakeRoute, LineParser
from node2dm_tw.intake.signatures import SignatureVerifier
from node2dm_tw.providers.c2dm import C2DM

NOW = 1_000.0
WALL = 1_800_000_000.0


@attrs.define(eq=False)
class KeptPushes:
    """A queue that only keeps."""

    pushes: list = attrs.field(factory=list)
    puts: int = 0

    def put(self, pushes):
        self.pushes += pushes
        self.puts += 1


@attrs.frozen
class Overheard(C2DM):
    """A service that tells of each line before it reads it, and takes any size."""

    tell: Callable[[bytes], object]

    def split(self, line, received):
        self.tell(line)
        return C2DM.split(line, received)

    def validate(self, push):
        """Everything is right."""


class Intake:
    """A parser with two routes, `shop` the default and `news`, also known as `n`."""

    def __init__(self):
        self.clock = Clock()
        self.clock.advance(NOW)
        self.stats = Stats(self.clock.seconds)
        self.shop, self.news = (self._route(name) for name in ("shop", "news"))
        routes = {b"shop": self.shop, b"news": self.news, b"n": self.news}
        self.parser = LineParser(routes, self.shop, self.stats, self.clock)
        self.wall = WALL
        self.verifier = SignatureVerifier(None, lambda: self.wall, self.clock)

    def _route(self, name):
        stats: RouteStats = self.stats.add_route(name)
        return IntakeRoute(name, C2DM("https://x.example/"), KeptPushes(), stats)

    def on_line(self, tell):
        """Have `tell` called with each line for the default route."""
        overheard = Overheard("https://x.example/", tell)
        self.parser.default = attrs.evolve(self.shop, provider=overheard)

    def got(self, datagram, source=("127.0.0.1", 9)):
        """What a datagram brought: (device, collapse key, payload) for each push, by route."""
        for route in (self.shop, self.news):
            route.queue.pushes.clear()
        self.parser.datagram(datagram, source)
        return {
            route.name: [(p.device, p.collapse_key, p.payload) for p in route.queue.pushes]
            for route in (self.shop, self.news)
            if route.queue.pushes
        }
