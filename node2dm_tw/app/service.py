"""The gateway as a Twisted service: what it opens at its start, in order, and its stop."""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, FirstError, gatherResults, inlineCallbacks
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import ReactorNotRunning
from twisted.python.failure import Failure

from node2dm_tw import __version__
from node2dm_tw.admin.views import AdminServices, ViewLimits, statsd_sender
from node2dm_tw.app.clients import HTTPClients
from node2dm_tw.app.config_file import Configuration
from node2dm_tw.app.descriptors import Descriptors
from node2dm_tw.app.emulated import EmulatorService
from node2dm_tw.app.engines import open_engine
from node2dm_tw.app.log_output import set_observer
from node2dm_tw.app.options import Options
from node2dm_tw.app.parts import Parts, build_parts
from node2dm_tw.app.process import (
    FAILED,
    STATUS,
    TRUST,
    ShutdownStep,
    StartFailed,
    hide_traceback,
    open_or_fail,
    refuse,
    run_shutdown_steps,
)
from node2dm_tw.app.reload import apply, read_changes
from node2dm_tw.app.route import Route
from node2dm_tw.app.runtime import Runtime
from node2dm_tw.app.snapshot import SnapshotTaker
from node2dm_tw.app.state_files import find_stray_files
from node2dm_tw.config.show import format_settings
from node2dm_tw.core import untracked
from node2dm_tw.core.logs import logger, set_level
from node2dm_tw.core.snapshot import LaneState, ProcessSnapshot
from node2dm_tw.core.stats import Stats
from node2dm_tw.core.web import Endpoint
from node2dm_tw.delivery.session import LockReason
from node2dm_tw.intake.udp import BatchingUDPPort, UDPIntake, bind, listen
from node2dm_tw.state.directory import StateDir
from node2dm_tw.state.quota_lock import QuotaLock

log = logger()

STEP_SECONDS = 5.0
"""Seconds that a step of the stop may take, beside what the drain may."""


class GatewayService(Service):
    """The whole of it: opens everything at the start, in order, and closes it at the stop."""

    name = "node2dm"

    def __init__(self, options: Options, runtime: Runtime) -> None:
        """Keep what is needed; nothing is opened yet, since twistd has still to fork."""
        self._runtime, self._reactor = runtime, runtime.reactor
        self._twistd: Mapping[str, Any] | None = options.parent
        self._warnings = options.warnings
        self._config_file = options.config_file
        self._emulated = options.configuration.emulator
        self._settings = options.configuration.settings
        self._state_dir = StateDir(self._settings.gateway.state_dir)
        self._stats = Stats(runtime.reactor.seconds)
        self._snapshots = SnapshotTaker(runtime.reactor.seconds, self._stats)
        self._clients = HTTPClients(runtime.reactor, self._settings.gateway.proxy)
        self._admin = AdminServices(
            self._take_snapshot,
            runtime.reactor,
            runtime.wall,
            lambda: format_settings(self._settings),
            lambda: self._settings.gateway.web_hosts or (),
        )
        self._emulator: EmulatorService | None = None
        self._parts: Parts | None = None
        self._udp: list[tuple[UDPIntake, BatchingUDPPort]] = []
        self._is_ending = False
        self._is_hurried = False

    # The start

    def setServiceParent(self, parent: Any) -> None:
        """Join the application; twistd, which begins to log next, asks it how."""
        log_format = self._settings.gateway.log_format
        try:
            set_observer(parent, self._twistd, log_format, self._reactor.callFromThread)
        except OSError as error:
            refuse(FAILED, f"cannot open the log file {error.filename}: {error.strerror}")
        Service.setServiceParent(self, parent)

    def startService(self) -> None:
        """Open everything, or say in one line why that cannot be and end with status 1."""
        Service.startService(self)
        set_level(self._settings.gateway.log_level)
        for warning in (*self._warnings, *self._settings.warnings):
            log.warn("{warning}", warning=warning)
        for name in TRUST:
            if name in os.environ:
                log.info("{name} in the environment says which certificates are trusted", name=name)
        try:
            self._open()
        except StartFailed as error:
            log.critical("node2dm cannot start: {error}", error=str(error))
            if not (self._twistd and self._twistd["nodaemon"]):
                sys.excepthook = hide_traceback
                raise  # twistd tells it where it was started, and ends with status 1
            self._end(FAILED)

    def _open(self) -> None:
        open_or_fail("state_dir", self._state_dir.lock)
        self._descriptors = Descriptors.of_process(has_emulator=self._emulated is not None)
        self._settings, view_limits = self._descriptors.limit_settings(self._settings)
        if self._emulated is not None:
            self._emulator = EmulatorService(self._reactor, self._emulated, self._runtime.wall)
            open_or_fail("emulator", self._emulator.startService)
        parts = self._parts = build_parts(
            self._settings,
            self._runtime,
            self._stats,
            self._clients,
            self._on_locked,
            lambda: self._settings.gateway.push_token,
        )
        open_or_fail("outcomes", parts.outcomes.open)
        self._open_udp(parts)
        parts.report_pushes()
        self._open_views(view_limits, parts.endpoints)
        for path in find_stray_files(self._settings):
            log.warn("{path} belongs to no section of the configuration: ignored", path=str(path))
        # What an earlier process left is restored once a signal no longer ends this one at once.
        self._reactor.callWhenRunning(self._run, parts)

    def _open_udp(self, parts: Parts) -> None:
        gateway = self._settings.gateway
        for host, port in gateway.udp:
            intake = UDPIntake(parts.parser, gateway.allow, parts.verifier)
            bound = open_or_fail(
                "udp", partial(bind, host, port, gateway.rcvbuf, gateway.reuse_port)
            )
            self._udp.append((intake, listen(self._reactor, intake, bound)))

    def _open_views(self, limits: ViewLimits, endpoints: Mapping[bytes, Endpoint]) -> None:
        gateway, statsd = self._settings.gateway, self._settings.statsd
        telnet = serverFromString(self._reactor, gateway.stats)
        open_or_fail("stats", lambda: self._admin.open_telnet(telnet, limits))
        if gateway.web is not None:
            web = serverFromString(self._reactor, gateway.web)
            open_or_fail("web", lambda: self._admin.open_web(web, limits, endpoints))
        if statsd is not None:
            sender = statsd_sender(statsd.host, statsd.port, statsd.prefix, self._reactor)
            self._admin.open_statsd(sender, statsd.interval)

    def _run(self, parts: Parts) -> None:
        """Replace Twisted's signal handlers, which are set by now; restore pushes, and send."""
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) != signal.SIG_IGN:  # as a shell has it in the background
                signal.signal(number, lambda *_: self._soon(self._stop_or_hurry))
        opened = open_engine(parts.engine, self._settings.gateway)
        opened.addCallback(lambda _: self._start_routes(parts)).addErrback(self._fail_to_start)

    def _start_routes(self, parts: Parts) -> Deferred[None] | None:
        if self._is_ending:
            return None
        started = gatherResults(
            [route.start() for route in parts.routes.values()], consumeErrors=True
        )
        return started.addCallback(lambda _: self._start_rest(parts))

    def _start_rest(self, parts: Parts) -> None:
        if self._is_ending:
            return
        gateway = self._settings.gateway
        if parts.callbacks is not None:
            parts.callbacks.start()
        self._admin.start()
        untracked.freeze()
        log.info(
            "node2dm_tw {version} started: pushes on udp {udp}, stats on {stats}",
            version=__version__,
            udp=", ".join(f"{host}:{port}" for host, port in gateway.udp),
            stats=", ".join(place for place in (gateway.stats, gateway.web) if place),
        )
        self._runtime.hang_ups.obey(lambda: self._soon(self._reload))

    def _fail_to_start(self, failure: Failure) -> None:
        """End: a gateway that runs in part must not seem to run."""
        error = failure.value
        cause = error.subFailure if isinstance(error, FirstError) else failure
        if self._is_ending:
            return
        if cause.check(StartFailed):
            log.critical("node2dm cannot start: {error}", error=cause.getErrorMessage())
        else:
            log.failure("node2dm cannot start", cause)
        self._end(FAILED)

    # While it runs

    def _reload(self) -> None:
        """Read the configuration again (SIGHUP); a faulty one changes nothing."""
        if self._is_ending or self._parts is None:
            return
        self._parts.outcomes.reopen()  # whatever the configuration says: it may have been rotated
        running = Configuration(self._settings, self._emulated)
        changes = read_changes(self._config_file, running, self._descriptors)
        if changes is not None:
            self._settings = changes.settings
            apply(changes, self._parts, self._intakes)

    def _take_snapshot(self) -> ProcessSnapshot:
        parts, maximum = self._parts, self._settings.gateway.max_queued_bytes
        callbacks, dropped = (parts.callbacks, parts.outcomes.dropped) if parts else (None, 0)
        return self._snapshots.take(self._routes, self._intakes, callbacks, dropped, maximum)

    def _on_locked(self, lock: QuotaLock, why: LockReason) -> None:
        """A route sends nothing more; when none is left that does, the process ends."""
        log.critical("{route}: locked: {why}", route=lock.route, why=why.value)
        if all(route.lane.session.state is LaneState.LOCKED for route in self._routes.values()):
            self._end(STATUS[why])
        if why is LockReason.OVER_QUOTA:
            try:
                lock.set()
            except OSError as error:
                log.critical("{path}: {error}", path=str(lock.path), error=error.strerror)

    @property
    def _routes(self) -> Mapping[str, Route]:
        """None where the start failed."""
        return {} if self._parts is None else self._parts.routes

    @property
    def _intakes(self) -> list[UDPIntake]:
        return [intake for intake, _ in self._udp]

    # The stop

    def _soon(self, act: Callable[[], object]) -> None:
        """Have the reactor call something; may be called in a signal handler."""
        self._reactor.callFromThread(act)

    def _end(self, status: int) -> None:
        if not self._is_ending:
            self._is_ending = True
            self._runtime.exit_with(status)

    def _stop_or_hurry(self) -> None:
        """Stop (SIGTERM, SIGINT); where the stop has begun already, end its drain."""
        try:
            if not self._is_ending:
                self._is_ending = True
                self._reactor.stop()
                return
        except ReactorNotRunning:  # somebody else has stopped it
            pass
        self._is_hurried = True
        for route in self._routes.values():
            route.lane.abort()

    @inlineCallbacks
    def stopService(self) -> Any:
        """Take nothing more in, send what can be sent in time, keep the rest, close everything."""
        Service.stopService(self)
        self._is_ending = True
        timeout = self._settings.gateway.drain + STEP_SECONDS
        if not (yield run_shutdown_steps(self.shutdown_steps(), self._reactor, timeout)):
            self._runtime.set_exit_status(FAILED)

    def shutdown_steps(self) -> list[ShutdownStep]:
        """List what a stop does, in order. What can lose pushes comes first, and is tried twice."""
        steps: list[ShutdownStep] = [("announce the stop", self._admin.drain)]
        if self._parts is not None:
            steps.append(("close the HTTP intake", self._parts.pushes.stop))
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
        if self._parts is not None and self._parts.callbacks is not None:
            steps.append(("save the callbacks", self._parts.callbacks.stop))
        steps += [("close an HTTP client", client.close) for client in self._clients.made]
        steps.append(("close the views", self._admin.stop))
        if self._emulator is not None:
            steps.append(("stop the emulator", self._emulator.stopService))
        steps += [
            (f"save what is left of {name}", route.queue.stop)
            for name, route in self._routes.items()
        ]
        if self._parts is not None:
            steps.append(("close the queues", self._parts.engine.stop))
            steps.append(("write the outcomes", self._parts.outcomes.stop))
        steps.append(("unlock state_dir", self._state_dir.unlock))
        return steps

    def _drain(self) -> Deferred[Any]:
        """Send what can be sent in time."""
        drain = 0.0 if self._is_hurried else self._settings.gateway.drain
        return gatherResults([route.lane.stop(drain) for route in self._routes.values()])
