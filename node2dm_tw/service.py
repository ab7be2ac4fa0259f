"""Where the parts meet: `twistd node2dm`, its options, its start and its stop."""

import random
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.service import IService, Service
from twisted.internet import reactor as _reactor
from twisted.internet.defer import gatherResults, inlineCallbacks, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.python import usage

from node2dm_tw import __version__, config
from node2dm_tw.admin.telnet import StatsFactory
from node2dm_tw.config import C2DMRoute, Settings
from node2dm_tw.delivery.lane import Lane, Limits
from node2dm_tw.delivery.session import Session
from node2dm_tw.delivery.shared import BlockedDevices
from node2dm_tw.delivery.signin import SignIn
from node2dm_tw.delivery.waiting import WaitingRoom
from node2dm_tw.delivery.window import Window
from node2dm_tw.emulator.certificates import prepare
from node2dm_tw.emulator.service import EmulatorService
from node2dm_tw.emulator.settings import EmulatorSettings, read_section
from node2dm_tw.http.treq_client import TreqClient
from node2dm_tw.ini import Faults
from node2dm_tw.intake.lines import Lines, Route
from node2dm_tw.intake.udp import MAX_DATAGRAM, UDPIntake
from node2dm_tw.logs import logger, set_level
from node2dm_tw.process import FAILED, StartFailed, exit_with, opened
from node2dm_tw.providers.c2dm import C2DM
from node2dm_tw.providers.clientlogin import ClientLogin
from node2dm_tw.queues.memory import MemoryQueue
from node2dm_tw.statedir import StateDir
from node2dm_tw.stats import RouteStats, Stats

log = logger()
reactor: Any = _reactor


class Options(usage.Options):
    """The command line of `twistd node2dm`."""

    optParameters = [["config", "c", None, "The configuration file; etc/config.ini shows one."]]
    longdesc = (
        "A push gateway: takes pushes by UDP and sends them to Android devices"
        " through Google's push services."
    )

    settings: Settings
    emulator: EmulatorSettings | None = None

    def postOptions(self) -> None:
        """Read the configuration before twistd forks: a faulty one ends it with status 1."""
        if self["config"] is None:
            raise usage.UsageError("a configuration file is wanted: twistd node2dm -c config.ini")
        try:
            self.settings = config.load(Path(self["config"]).absolute(), Path.cwd(), self._embed)
        except Faults as error:
            print(*error.faults, sep="\n", file=sys.stderr)  # noqa: T201 - no log is open yet
            raise SystemExit(FAILED) from error

    def _embed(self, texts: Mapping[str, str], state_dir: Path, folder: Path) -> Mapping[str, str]:
        """Make the emulator's files; its account and addresses are the defaults of a route."""
        settings, faults = read_section(texts, state_dir, folder)
        if settings is None:
            raise Faults([f"[emulator] {option}: {wanted}" for option, wanted in faults])
        self.emulator = settings
        places = prepare(settings)
        username, password = next(iter((settings.accounts or {"demo@example.com": "demo"}).items()))
        return {
            "username": username,
            "password": password,
            "login_url": places.login_url,
            "send_url": places.send_url,
            "ca_file": str(places.ca_file),
        }


def makeService(options: Options) -> IService:
    """Make the gateway that `twistd node2dm` runs."""
    # Twisted's own clock is the wall clock, which steps; durations must not.
    reactor.seconds = time.monotonic
    in_foreground = bool(options.parent and options.parent["nodaemon"])
    return Gateway(options.settings, options.emulator, in_foreground)


class Gateway(Service):
    """The whole of it: opens everything at the start, in order, and closes it at the stop."""

    name = "node2dm"

    def __init__(
        self, settings: Settings, emulator: EmulatorSettings | None, in_foreground: bool
    ) -> None:
        """Keep what is needed; nothing is opened yet, since twistd has still to fork."""
        self._settings = settings
        self._in_foreground = in_foreground
        self._state_dir = StateDir(settings.gateway.state_dir)
        self._stats = Stats(time.monotonic, __version__)
        self._emulator = None if emulator is None else EmulatorService(reactor, emulator, time.time)
        self._clients: list[TreqClient] = []
        self._lanes: list[Lane] = []
        self._ports: list[Any] = []

    def startService(self) -> None:
        """Open everything, or say in one line why that cannot be and end with status 1."""
        Service.startService(self)
        set_level(self._settings.gateway.log_level)
        for warning in self._settings.warnings:
            log.warn("{warning}", warning=warning)
        try:
            self._open()
        except StartFailed as error:
            log.critical("node2dm cannot start: {error}", error=str(error))
            if not self._in_foreground:
                raise  # twistd tells it where it was started, and ends with status 1
            exit_with(FAILED, reactor)

    def _open(self) -> None:
        gateway = self._settings.gateway
        opened("state_dir", self._state_dir.lock)
        if self._emulator is not None:
            opened("emulator", self._emulator.startService)
        routes = [self._add_route(settings) for settings in self._settings.routes]
        named = {route.name.encode(): route for route in routes}
        self._open_udp(Lines(named, routes[0], self._stats, reactor, time.time))
        endpoint = serverFromString(reactor, gateway.stats)
        factory = StatsFactory(reactor, self._stats.snapshot)
        self._ports.append(opened("stats", lambda: endpoint.listen(factory)))
        for lane in self._lanes:
            lane.queue.start()
            lane.start()
        log.info(
            "node2dm_tw {version} takes pushes at UDP {udp} and tells its state at {stats}",
            version=__version__,
            udp=", ".join(f"{host}:{port}" for host, port in gateway.udp),
            stats=gateway.stats,
        )

    def _open_udp(self, lines: Lines) -> None:
        gateway = self._settings.gateway
        intakes = []
        for host, port in gateway.udp:
            intake = UDPIntake(lines, gateway.allow, gateway.rcvbuf)
            listen = partial(reactor.listenUDP, port, intake, host, MAX_DATAGRAM)
            self._ports.append(opened("udp", listen))
            intakes.append(intake)
        self._stats.gauges["udp_dropped"] = lambda: sum(intake.dropped for intake in intakes)
        self._stats.gauges["rcvbuf"] = lambda: sum(intake.effective_rcvbuf for intake in intakes)

    def _add_route(self, settings: C2DMRoute) -> Route:
        """Put together all that one route needs."""
        gateway = self._settings.gateway
        stats = self._stats.route(settings.name)
        provider = C2DM(settings.send_url)
        queue = MemoryQueue(gateway.max_queued, partial(_count, stats, "messages_overflowed"))
        http = self._add_client(settings, settings.max_in_flight)
        credentials = ClientLogin(
            self._add_client(settings, 1).post,
            time.time,
            gateway.state_dir / f"{settings.name}.token",
            settings.login_url,
            settings.username,
            settings.password,
            settings.source,
            settings.token_max_age,
        )
        signin = SignIn(settings.name, credentials, reactor, time.time, random.random)
        lane = Lane(
            route=settings.name,
            queue=queue,
            provider=provider,
            http=http,
            session=Session(settings.name, signin, reactor, random.random),
            window=Window(settings.max_in_flight),
            waiting=WaitingRoom(reactor, max(1, gateway.max_queued // 10)),
            blocked=BlockedDevices(reactor),
            stats=stats,
            clock=reactor,
            wall=time.time,
            random=random.random,
            limits=Limits(gateway.max_age, settings.device_block),
            on_bad_device=lambda push, reason: None,
            on_over_quota=lambda: None,
        )
        stats.gauges["logged_in_to_c2dm"] = lambda: signin.credential is not None
        stats.gauges["http_client"] = lambda: http.name
        stats.gauges["handshakes"] = lambda: http.handshakes
        self._lanes.append(lane)
        return Route(settings.name, provider, queue, stats)

    def _add_client(self, settings: C2DMRoute, connections: int) -> TreqClient:
        client = TreqClient(
            reactor,
            timeout=settings.timeout,
            connections=connections,
            ca_file=settings.ca_file,
        )
        self._clients.append(client)
        return client

    @inlineCallbacks
    def stopService(self) -> Any:
        """Take nothing more in, send what can be sent in time, and close everything."""
        Service.stopService(self)
        *udp, telnet = self._ports or [None]
        for port in udp:
            yield port.stopListening()
        drain = self._settings.gateway.drain
        yield gatherResults([lane.stop(drain) for lane in self._lanes])
        for lane in self._lanes:
            yield maybeDeferred(lane.queue.stop)
        yield gatherResults([client.close() for client in self._clients])
        if telnet is not None:
            yield telnet.stopListening()
        if self._emulator is not None:
            yield self._emulator.stopService()
        self._state_dir.unlock()


def _count(stats: RouteStats, name: str) -> None:
    setattr(stats, name, getattr(stats, name) + 1)
