"""Where the parts meet: `twistd node2dm`, its options, its start and its stop."""

from node2dm_tw.app.hangups import hang_ups  # isort: skip - it handles SIGHUP while the rest is loaded

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import attrs
from twisted.application.service import IService, Service
from twisted.internet import reactor as _reactor
from twisted.internet.defer import FirstError, gatherResults, inlineCallbacks
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import ReactorNotRunning
from twisted.python import usage
from twisted.python.failure import Failure

from node2dm_tw import __version__
from node2dm_tw.admin.views import AdminServices, ViewLimits, statsd_sender
from node2dm_tw.app import descriptors
from node2dm_tw.app.log_output import set_observer
from node2dm_tw.app.process import (
    FAILED,
    TRUST,
    ShutdownStep,
    StartFailed,
    drop_key_log,
    exit_with,
    find_unusable_options,
    hide_traceback,
    open_or_fail,
    run_shutdown_steps,
    set_exit_status,
)
from node2dm_tw.app.route import Route, RouteContext, build_route, find_stray_files, quota_lock
from node2dm_tw.app.snapshot import SnapshotTaker
from node2dm_tw.callback_target import BAD_DEVICE, Callback, CallbackTarget
from node2dm_tw.callbacks import IN_FLIGHT, CallbackBudget, Callbacks, CallbackSender
from node2dm_tw.config.changes import take_changes
from node2dm_tw.config.ini import ConfigErrors
from node2dm_tw.config.load import Settings, find_places, load
from node2dm_tw.config.sections import CallbackSection
from node2dm_tw.config.show import format_settings
from node2dm_tw.core import untracked
from node2dm_tw.core.logs import is_traced, logger, set_level
from node2dm_tw.core.push import Push
from node2dm_tw.core.snapshot import LaneState, ProcessSnapshot
from node2dm_tw.core.stats import Stats
from node2dm_tw.delivery.session import LockReason
from node2dm_tw.emulator.files import Endpoints, ensure_files, find_endpoints
from node2dm_tw.emulator.server.service import EmulatorService
from node2dm_tw.emulator.settings import (
    DEMO_ACCOUNT,
    OPTIONS,
    EmulatorSettings,
    changed_options,
    read_section,
)
from node2dm_tw.http.interface import HTTPClient, OnOutcomes, finish_posts
from node2dm_tw.http.treq_client import TreqClient
from node2dm_tw.intake.parser import LineParser
from node2dm_tw.intake.udp import UDPIntake, bind, listen
from node2dm_tw.providers.oauth2 import read_key, require_extra
from node2dm_tw.queues.budget import ByteBudget
from node2dm_tw.state.directory import StateDir
from node2dm_tw.state.quota_lock import QuotaLock
from node2dm_tw.state.spool import Spool

log = logger()
reactor: Any = _reactor


PLACES = find_places(OPTIONS)

STEP_SECONDS = 5.0
"""Seconds that a step of the stop may take, beside what the drain may."""

STATUS = {LockReason.OVER_QUOTA: 3, LockReason.SIGN_IN_GIVEN_UP: 4}
"""Exit statuses of a process whose every route is locked."""


class Options(usage.Options):
    """The command line of `twistd node2dm`."""

    optParameters: ClassVar[list[list[str | None]]] = [
        ["config", "c", None, "The configuration file; etc/config.ini shows one."]
    ]
    optFlags: ClassVar[list[list[str | None]]] = [
        ["check", None, "Say what is wrong with the configuration, or ok; start and write nothing."]
    ]
    emulator: EmulatorSettings | None = None
    warnings: Sequence[str] = ()
    longdesc = (
        "A push gateway: takes pushes by UDP and sends them to Android devices"
        " through Google's push services."
    )

    def postOptions(self) -> None:
        """Read the configuration before twistd forks: what is wrong with it ends it here."""
        self.warnings = drop_key_log(os.environ)
        if self["config"] is None:
            raise usage.UsageError("expected a configuration file: twistd node2dm -c config.ini")
        if not self["check"] and (faults := find_unusable_options(self.parent or {}, os.geteuid())):
            _refuse(FAILED, *faults)
        self._file, self._folder = Path(self["config"]).absolute(), Path.cwd()
        try:
            self.settings, self.emulator = self.read()
        except ConfigErrors as error:
            _refuse(FAILED, *error.errors)
        if self["check"]:
            for warning in (*self.warnings, *self.settings.warnings):
                print("warning:", warning, file=sys.stderr)  # noqa: T201 - no log is open
            print(f"{self['config']}: ok")  # noqa: T201
            raise SystemExit(0)
        locks = [quota_lock(self.settings, route.name) for route in self.settings.routes]
        if all(lock.is_set for lock in locks):
            _refuse(STATUS[LockReason.OVER_QUOTA], *(lock.advice for lock in locks))

    def read(self) -> tuple[Settings, EmulatorSettings | None]:
        """Read the configuration file. Raises ConfigErrors."""
        emulators: list[EmulatorSettings] = []
        may_write = not self["check"]

        def emulator_defaults(
            texts: Mapping[str, str], state_dir: Path, folder: Path
        ) -> Mapping[str, str]:
            settings, errors = read_section(texts, state_dir, folder, PLACES)
            if settings is None:
                raise ConfigErrors(errors)
            emulators.append(settings)
            # One that runs stays as it is until a restart, and so must its files.
            current = self.emulator or settings
            return _route_defaults(
                current, (ensure_files if may_write else find_endpoints)(current)
            )

        settings = load(
            self._file,
            self._folder,
            emulator_defaults,
            _check_key,
            places=PLACES,
            check_state_dir=None if may_write else lambda folder: StateDir(folder).check(),
        )
        return settings, next(iter(emulators), None)


def _check_key(key: bytes | None) -> str | None:
    if key is None:
        require_extra()
        return None
    return read_key(key).project


def _route_defaults(settings: EmulatorSettings, places: Endpoints) -> Mapping[str, str]:
    """Take an emulator's addresses, its files and an account of its as a route's defaults."""
    username, password = next(iter((settings.accounts or {DEMO_ACCOUNT: "demo"}).items()))
    return {
        "username": username,
        "password": password,
        "login_url": places.login_url,
        "send_url": places.send_url,
        "ca_file": str(places.ca_file),
        "url": places.fcm_url,
        "service_account": str(places.service_account),
    }


def _refuse(status: int, *lines: str) -> NoReturn:
    print(*lines, sep="\n", file=sys.stderr)  # noqa: T201 - no log is open yet
    raise SystemExit(status)


def _callback_target(callback: CallbackSection) -> CallbackTarget:
    return CallbackTarget(
        callback.url,
        callback.shared_secret or "",
        callback.signing_secret,
        callback.retries,
        callback.format == "json",
        callback.outcomes,
    )


def makeService(options: Options) -> IService:
    """Make the gateway that `twistd node2dm` runs."""
    # Twisted's own clock is the wall clock, which steps; durations must not.
    reactor.seconds = time.monotonic
    return GatewayService(options)


class GatewayService(Service):
    """The whole of it: opens everything at the start, in order, and closes it at the stop."""

    name = "node2dm"

    def __init__(self, options: Options) -> None:
        """Keep what is needed; nothing is opened yet, since twistd has still to fork."""
        self._options = options
        self._settings = options.settings
        self._in_foreground = bool(options.parent and options.parent["nodaemon"])
        self._state_dir = StateDir(self._settings.gateway.state_dir)
        self._stats = Stats(time.monotonic)
        self._snapshots = SnapshotTaker(time.monotonic, self._stats)
        self._emulator: EmulatorService | None = None
        self._callbacks: Callbacks | None = None
        self._clients: list[HTTPClient] = []
        self._routes: dict[str, Route] = {}
        self._udp: list[tuple[UDPIntake, Any]] = []
        self._admin = AdminServices(
            self._take_snapshot,
            reactor,
            time.time,
            lambda: format_settings(self._settings),
            lambda: self._settings.gateway.web_hosts or (),
        )
        self._max_files = self._files_at_start = 0
        self._view_limits = ViewLimits()
        self._is_ending = False
        self._is_hurried = False

    def setServiceParent(self, parent: Any) -> None:
        """Join the application; twistd, which begins to log next, asks it how."""
        log_format = self._settings.gateway.log_format
        try:
            set_observer(parent, self._options.parent, log_format, reactor.callFromThread)
        except OSError as error:
            _refuse(FAILED, f"cannot open the log file {error.filename}: {error.strerror}")
        Service.setServiceParent(self, parent)

    def startService(self) -> None:
        """Open everything, or say in one line why that cannot be and end with status 1."""
        Service.startService(self)
        set_level(self._settings.gateway.log_level)
        for warning in (*self._options.warnings, *self._settings.warnings):
            log.warn("{warning}", warning=warning)
        for name in TRUST:
            if name in os.environ:
                log.info("{name} in the environment says which certificates are trusted", name=name)
        try:
            self._open()
        except StartFailed as error:
            log.critical("node2dm cannot start: {error}", error=str(error))
            if not self._in_foreground:
                sys.excepthook = hide_traceback
                raise  # twistd tells it where it was started, and ends with status 1
            self._end(FAILED)

    def _open(self) -> None:
        open_or_fail("state_dir", self._state_dir.lock)
        self._max_files = descriptors.raise_limit()
        self._files_at_start = descriptors.first_free() + descriptors.PER_PROCESS
        self._settings = self._limit_to_descriptors(self._settings)
        if self._options.emulator is not None:
            self._emulator = EmulatorService(reactor, self._options.emulator, time.time)
            open_or_fail("emulator", self._emulator.startService)
        if self._settings.callbacks:
            self._callbacks = self._make_callbacks()
        context = RouteContext(
            self._settings,
            reactor,
            time.time,
            random.random,
            self._stats,
            ByteBudget(self._settings.gateway.max_queued_bytes),
            self._make_client,
            self._enqueue_callback,
            self._locked,
        )
        self._routes = {
            section.name: build_route(context, section) for section in self._settings.routes
        }
        routes = list(self._routes.values())
        named = {name.encode(): route.route for route in routes for name in route.names}
        self._parser = LineParser(named, routes[0].route, self._stats, reactor)
        self._open_udp(self._parser)
        self._trace_pushes()
        self._open_views()
        for path in find_stray_files(self._settings):
            log.warn("{path} belongs to no section of the configuration: ignored", path=str(path))
        # What an earlier process left is restored once a signal no longer ends this one at once.
        reactor.callWhenRunning(self._run)

    def _run(self) -> None:
        """Replace Twisted's signal handlers, which are set by now; restore pushes, and send."""
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) != signal.SIG_IGN:  # as a shell has it in the background
                signal.signal(number, lambda *_: reactor.callFromThread(self._stop_or_hurry))
        started = gatherResults(
            [route.start() for route in self._routes.values()], consumeErrors=True
        )
        started.addCallback(lambda _: self._start_rest()).addErrback(self._fail_to_start)

    def _fail_to_start(self, failure: Failure) -> None:
        """End: a gateway that runs in part must not seem to run."""
        error = failure.value
        cause = error.subFailure if isinstance(error, FirstError) else failure
        log.failure("node2dm cannot start", cause)
        self._end(FAILED)

    def _start_rest(self) -> None:
        if self._is_ending:
            return
        gateway = self._settings.gateway
        if self._callbacks is not None:
            self._callbacks.start()
        self._admin.start()
        untracked.freeze()
        log.info(
            "node2dm_tw {version} started: pushes on udp {udp}, stats on {stats}",
            version=__version__,
            udp=", ".join(f"{host}:{port}" for host, port in gateway.udp),
            stats=", ".join(place for place in (gateway.stats, gateway.web) if place),
        )
        hang_ups.obey(lambda: reactor.callFromThread(self._reload))

    def _trace_pushes(self) -> None:
        """Log what becomes of each push, where the level is debug."""
        self._parser.trace_pushes(is_traced("intake"))
        for route in self._routes.values():
            route.lane.trace_pushes(is_traced("delivery"))

    def _limit_to_descriptors(self, settings: Settings) -> Settings:
        """Lower what the limit on open files does not allow, and say so."""
        gateway, emulated = settings.gateway, self._options.emulator
        wanted = {route.title: route.max_in_flight for route in settings.routes}
        listeners = len(gateway.udp) + sum(map(bool, (gateway.stats, gateway.web, emulated)))
        webhooks = IN_FLIGHT * len(settings.route_callbacks)
        has_web = gateway.web is not None
        budget = descriptors.divide(
            self._max_files,
            self._files_at_start + listeners + webhooks + descriptors.PER_ROUTE * len(wanted),
            wanted,
            ViewLimits.descriptors(has_web=has_web),
            per_request=1 if emulated is None else 2,
        )
        self._view_limits = ViewLimits.within(
            budget.views, self._max_files - budget.kept, has_web=has_web
        )
        if budget.needed > self._max_files:
            log.warn(
                "{needed} open files are needed, but the limit is {limit}: {lowered};"
                " raise it with ulimit -n or LimitNOFILE",
                needed=budget.needed,
                limit=self._max_files,
                lowered=budget.lowered(wanted),
            )
        routes = (
            attrs.evolve(route, max_in_flight=budget.requests[route.title])
            for route in settings.routes
        )
        return attrs.evolve(settings, routes=tuple(routes))

    def _open_udp(self, parser: LineParser) -> None:
        gateway = self._settings.gateway
        for host, port in gateway.udp:
            intake = UDPIntake(parser, gateway.allow)
            bound = open_or_fail(
                "udp", partial(bind, host, port, gateway.rcvbuf, gateway.reuse_port)
            )
            self._udp.append((intake, listen(reactor, intake, bound)))

    def _open_views(self) -> None:
        gateway, statsd = self._settings.gateway, self._settings.statsd
        telnet = serverFromString(reactor, gateway.stats)
        open_or_fail("stats", lambda: self._admin.open_telnet(telnet, self._view_limits))
        if gateway.web is not None:
            web = serverFromString(reactor, gateway.web)
            open_or_fail("web", lambda: self._admin.open_web(web, self._view_limits))
        if statsd is not None:
            sender = statsd_sender(statsd.host, statsd.port, statsd.prefix, reactor)
            self._admin.open_statsd(sender, statsd.interval)

    def _take_snapshot(self) -> ProcessSnapshot:
        intakes = [intake for intake, _ in self._udp]
        maximum = self._settings.gateway.max_queued_bytes
        return self._snapshots.take(self._routes, intakes, self._callbacks, maximum)

    def _make_callbacks(self) -> Callbacks:
        """Make a sender for each section: a webhook that is away holds up no other."""
        budget = CallbackBudget()
        senders = {
            callback.route: CallbackSender(
                _callback_target(callback),
                self._make_client(callback.timeout, IN_FLIGHT, None, curl=False),
                self._stats.routes,
                budget,
                reactor,
                time.time,
                random.random,
                self._should_hold,
            )
            for callback in self._settings.callbacks
        }
        spool = Spool(self._settings.gateway.state_dir / "callbacks.spool")
        return Callbacks(senders, self._stats.routes, spool, reactor, time.time)

    def _make_client(
        self,
        timeout: float,
        connections: int,
        ca_file: Path | None,
        *,
        curl: bool,
        on_outcomes: OnOutcomes = finish_posts,
    ) -> HTTPClient:
        options: dict[str, Any] = {
            "timeout": timeout,
            "connections": connections,
            "ca_file": ca_file,
            "on_outcomes": on_outcomes,
        }
        make: Callable[..., HTTPClient] = TreqClient
        if curl:
            # Imported here, since the extra may not be installed.
            from node2dm_tw.http.curl_client import CurlClient

            make, options["proxy"] = CurlClient, self._settings.gateway.proxy
        client = open_or_fail("ca_file", partial(make, reactor, **options))
        self._clients.append(client)
        return client

    def _enqueue_callback(self, route: str, outcome: str, push: Push, reason: str) -> None:
        if self._callbacks is not None:
            delay = self._routes[route].callback_delay if outcome == BAD_DEVICE else 0.0
            self._callbacks.enqueue(route, outcome, push, reason, delay)

    def _should_hold(self, callback: Callback) -> bool:
        """Whether a callback must wait; one of a route that is no longer configured need not."""
        route = self._routes.get(callback.route) if callback.outcome == BAD_DEVICE else None
        return route is not None and route.should_hold(callback.reason.decode())

    def _locked(self, lock: QuotaLock, why: LockReason) -> None:
        """A route sends nothing more; when none is left that does, the process ends."""
        log.critical("{route}: locked: {why}", route=lock.route, why=why.value)
        if all(route.lane.session.state is LaneState.LOCKED for route in self._routes.values()):
            self._end(STATUS[why])
        if why is LockReason.OVER_QUOTA:
            try:
                lock.set()
            except OSError as error:
                log.critical("{path}: {error}", path=str(lock.path), error=error.strerror)

    def _end(self, status: int) -> None:
        if not self._is_ending:
            self._is_ending = True
            exit_with(status, reactor)

    def _stop_or_hurry(self) -> None:
        """Stop (SIGTERM, SIGINT); where the stop has begun already, end its drain."""
        try:
            if not self._is_ending:
                self._is_ending = True
                reactor.stop()
                return
        except ReactorNotRunning:  # somebody else has stopped it
            pass
        self._is_hurried = True
        for route in self._routes.values():
            route.lane.abort()

    def _reload(self) -> None:
        """Read the configuration again (SIGHUP); a faulty one changes nothing."""
        if self._is_ending:
            return
        try:
            new, emulator = self._options.read()
        except ConfigErrors as error:
            log.error("the configuration is not reloaded: {faults}", faults="; ".join(error.errors))
            return
        self._settings, reloaded, waiting = take_changes(
            self._settings, self._limit_to_descriptors(new)
        )
        waiting += [
            f"[emulator] {name}" for name in changed_options(self._options.emulator, emulator)
        ]
        log.info("reloaded: {options}", options=", ".join(reloaded) or "nothing")
        if waiting:
            log.warn("changed, but waiting for a restart: {options}", options=", ".join(waiting))
        gateway = self._settings.gateway
        set_level(gateway.log_level)
        self._trace_pushes()
        for intake, _ in self._udp:
            intake.allow_only(gateway.allow)
        for route, settings in zip(self._routes.values(), self._settings.routes, strict=True):
            route.apply(gateway, settings)
        if self._callbacks is not None:
            for callback in self._settings.callbacks:
                self._callbacks.senders[callback.route].target = _callback_target(callback)

    @inlineCallbacks
    def stopService(self) -> Any:
        """Take nothing more in, send what can be sent in time, keep the rest, close everything."""
        Service.stopService(self)
        self._is_ending = True
        timeout = self._settings.gateway.drain + STEP_SECONDS
        if not (yield run_shutdown_steps(self.shutdown_steps(), reactor, timeout)):
            set_exit_status(FAILED)

    def shutdown_steps(self) -> list[ShutdownStep]:
        """List what a stop does, in order. What can lose pushes comes first, and is tried twice."""
        steps: list[ShutdownStep] = [("announce the stop", self._admin.drain)]
        for intake, port in self._udp:
            steps += [
                ("drain a UDP socket", intake.drain_socket),
                ("close a UDP socket", port.stopListening),
            ]
        steps.append(("drain the queues", self._drain))
        for name, route in self._routes.items():
            steps += [
                (f"stop sending for {name}", route.lane.abort),
                (f"save the pushes of {name}", route.queue.stop),
            ]
        if self._callbacks is not None:
            steps.append(("save the callbacks", self._callbacks.stop))
        steps += [("close an HTTP client", client.close) for client in self._clients]
        steps.append(("close the views", self._admin.stop))
        if self._emulator is not None:
            steps.append(("stop the emulator", self._emulator.stopService))
        steps += [
            (f"save what is left of {name}", route.queue.stop)
            for name, route in self._routes.items()
        ]
        steps.append(("unlock state_dir", self._state_dir.unlock))
        return steps

    def _drain(self) -> Any:
        """Send what can be sent in time."""
        drain = 0.0 if self._is_hurried else self._settings.gateway.drain
        return gatherResults([route.lane.stop(drain) for route in self._routes.values()])
