"""Puts a route together, from its section of the configuration to its lane."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred, maybeDeferred

from node2dm_tw.callbacks import HOLD_INTERVAL
from node2dm_tw.config.load import Settings
from node2dm_tw.config.route_sections import C2DMRoute, FCMRoute
from node2dm_tw.config.sections import GatewaySection
from node2dm_tw.core.logs import logger
from node2dm_tw.core.push import Push
from node2dm_tw.core.snapshot import LaneState, RouteSnapshot
from node2dm_tw.core.stats import Stats
from node2dm_tw.delivery.admission import Admission, LaneLimits
from node2dm_tw.delivery.alarm import BadDeviceAlarm
from node2dm_tw.delivery.blocked_devices import BlockedDevices
from node2dm_tw.delivery.circuit_breaker import CircuitBreaker
from node2dm_tw.delivery.lane import Lane
from node2dm_tw.delivery.rates import DeviceRates, ProjectRate
from node2dm_tw.delivery.retry_queue import RetryQueue
from node2dm_tw.delivery.session import LockReason, Session
from node2dm_tw.delivery.signin import SignIn
from node2dm_tw.delivery.snapshot import take_snapshot
from node2dm_tw.delivery.target_delays import TargetDelays
from node2dm_tw.delivery.window import Window
from node2dm_tw.http.interface import HTTPClient, OnOutcomes, finish_posts, post
from node2dm_tw.intake.parser import IntakeRoute
from node2dm_tw.providers.c2dm import C2DM
from node2dm_tw.providers.clientlogin import ClientLogin
from node2dm_tw.providers.fcm import FCM, send_url
from node2dm_tw.providers.interface import Credentials, Post, Provider
from node2dm_tw.providers.oauth2 import ServiceAccountCredentials, read_key
from node2dm_tw.queues.budget import ByteBudget
from node2dm_tw.queues.memory import MemoryQueue
from node2dm_tw.state.atomic import find_files
from node2dm_tw.state.pause_file import PauseFile
from node2dm_tw.state.quota_lock import QuotaLock, find_lock_files
from node2dm_tw.state.spool import Spool

log = logger()

_SPOOL = re.compile(r"(.+)\.spool(\.[0-9]+)?")

FCM_DEVICE_BLOCK = 60.0
"""Seconds for which a device over FCM's quota is left alone where the answer names none."""


class MakeClient(Protocol):
    """Makes an HTTP client that the gateway closes at its stop."""

    def __call__(
        self,
        timeout: float,
        connections: int,
        ca_file: Path | None,
        *,
        curl: bool,
        on_outcomes: OnOutcomes,
    ) -> HTTPClient:
        """Raises `StartFailed`."""
        ...


@attrs.frozen(eq=False)
class RouteContext:
    """What every route shares.

    Args:
        settings: the whole configuration.
        reactor: provides time, monotonic.
        wall: seconds since the epoch.
        random: numbers in [0, 1).
        stats: counts.
        budget: bounds the bytes of all queues together.
        make_client: see `MakeClient`.
        on_bad_outcome: told when a push ended badly, of its route, outcome, itself and the reason.
        on_locked: told which route sends nothing more, by its lock, and why.
    """

    settings: Settings
    reactor: Any
    wall: Callable[[], float]
    random: Callable[[], float]
    stats: Stats
    budget: ByteBudget
    make_client: MakeClient
    on_bad_outcome: Callable[[str, str, Push, str], None]
    on_locked: Callable[[QuotaLock, LockReason], None]


@attrs.frozen(eq=False)
class Route:
    """All that belongs to one route.

    Args:
        names: under which lines may ask for it.
        renew: takes over changed credentials.
    """

    names: tuple[str, ...]
    route: IntakeRoute
    queue: MemoryQueue
    lane: Lane
    quota_lock: QuotaLock
    renew: Callable[[Any], bool]

    def start(self) -> Deferred[None]:
        """Restore what was left, and send, unless the route is over its quota."""
        started: Deferred[None] = maybeDeferred(self.queue.start)
        return started.addCallback(lambda _: self._start_lane())

    def _start_lane(self) -> None:
        if self.quota_lock.is_set:
            self.lane.session.lock(LockReason.OVER_QUOTA, "QuotaExceeded")
        else:
            self.lane.start()

    def snapshot(self) -> RouteSnapshot:
        """Take a snapshot for the views."""
        return take_snapshot(
            self.lane,
            max_queued=self.queue.max_queued,
            queued_bytes=self.queue.queued_bytes,
            is_c2dm=isinstance(self.lane.provider, C2DM),
            advice=_advice(self.lane.session, self.quota_lock),
        )

    @property
    def callback_delay(self) -> float:
        """Seconds that a callback waits, so that the alarm can still hold it."""
        alarm = self.lane.alarm
        return HOLD_INTERVAL if alarm is not None and alarm.percent else 0.0

    def should_hold(self, reason: str) -> bool:
        """Whether a callback must go on waiting."""
        alarm, has_delivered = self.lane.alarm, self.lane.stats.messages_sent > 0
        return alarm is not None and alarm.should_hold(reason, has_delivered=has_delivered)

    def apply(self, gateway: GatewaySection, settings: C2DMRoute | FCMRoute) -> None:
        """Take over the options that change while running."""
        self.queue.max_queued = gateway.max_queued
        self.queue.budget.maximum = gateway.max_queued_bytes
        admission = self.lane.admission
        admission.retry_queue.retry_capacity = _retry_capacity(gateway)
        admission.limits = _limits(gateway, settings)
        admission.rates.change(settings.device_rate or (), settings.device_burst or 0)
        self.lane.window.set_maximum(settings.max_in_flight)
        if isinstance(settings, FCMRoute):
            self._apply_to_fcm(settings)
        self._apply_credentials(settings)
        self.queue.restore()
        self.queue.on_ready()  # more may go now than when the lane looked last

    def _apply_credentials(self, settings: C2DMRoute | FCMRoute) -> None:
        """Sign in with changed credentials; start again where what locked the route is gone."""
        is_changed, session = self.renew(settings), self.lane.session
        if session.state is not LaneState.LOCKED:
            if is_changed:
                session.signin.renew()
            return
        is_over_quota = session.lock_reason is LockReason.OVER_QUOTA
        if not self.quota_lock.is_set if is_over_quota else is_changed:
            log.info("{route}: unlocked", route=self.route.name)
            self.lane.start()

    def _apply_to_fcm(self, settings: FCMRoute) -> None:
        if self.lane.alarm is not None:
            self.lane.alarm.percent = settings.bad_device_alarm
        if self.lane.project_rate is not None and settings.project_rate is not None:
            self.lane.project_rate.change(settings.project_rate)
        else:
            self.lane.project_rate = _project_rate(settings, self.lane.clock)


def quota_lock(settings: Settings, route: str) -> QuotaLock:
    """Name the file that locks `route`."""
    name = "quota.lock" if len(settings.routes) == 1 else f"quota.lock.{route}"
    return QuotaLock(settings.gateway.state_dir / name, route)


def find_stray_files(settings: Settings) -> list[Path]:
    """List the spools and locks in state_dir that belong to no section of the configuration."""
    folder, routes = settings.gateway.state_dir, [route.name for route in settings.routes]
    known = {*routes, "callbacks"} if settings.callbacks else {*routes}
    spools = [(_SPOOL.fullmatch(file.name), file) for file in find_files(folder, "*.spool*")]
    locks = [quota_lock(settings, route) for route in routes]
    return [
        *(file for match, file in spools if match and match[1] not in known),
        *(
            file
            for file in find_lock_files(folder)
            if not any(lock.is_held_by(file) for lock in locks)
        ),
    ]


def build_route(context: RouteContext, section: C2DMRoute | FCMRoute) -> Route:
    """Put together all that one route needs; nothing is started."""
    gateway, reactor, name = context.settings.gateway, context.reactor, section.name
    wall, random = context.wall, context.random
    stats = context.stats.add_route(name)
    ca_file = None if section.ca_file is None else section.ca_file.path
    client = partial(context.make_client, section.timeout, ca_file=ca_file)
    signin_client = client(1, curl=gateway.proxy is not None, on_outcomes=finish_posts)
    post_signin = partial(post, signin_client)
    provider, credentials, renew = (
        _fcm(section, post_signin, wall)
        if isinstance(section, FCMRoute)
        else _c2dm(section, post_signin, wall, gateway.state_dir)
    )
    spool = Spool(gateway.state_dir / f"{name}.spool")
    queue = MemoryQueue(gateway.max_queued, stats, spool, reactor, wall, context.budget)
    make_signin = partial(SignIn, name, credentials, reactor, wall, random)
    pause_file = PauseFile(gateway.state_dir / f"{name}.pause", wall)
    make_breaker = partial(CircuitBreaker, name, reactor, random, provider.first_delay, pause_file)
    lock = quota_lock(context.settings, name)
    lane = Lane(
        route=name,
        queue=queue,
        provider=provider,
        make_client=lambda on_outcomes: client(
            section.max_in_flight, curl=gateway.uses_curl, on_outcomes=on_outcomes
        ),
        make_session=partial(Session, make_signin, make_breaker),
        window=Window(section.max_in_flight),
        admission=Admission(
            provider,
            RetryQueue(reactor, _retry_capacity(gateway)),
            BlockedDevices(reactor),
            TargetDelays(reactor, random, provider.first_delay),
            DeviceRates(section.device_rate or (), section.device_burst or 0),
            _limits(gateway, section),
        ),
        stats=stats,
        clock=reactor,
        wall=wall,
        random=random,
        project_rate=_project_rate(section, reactor),
        alarm=BadDeviceAlarm(section.bad_device_alarm) if isinstance(section, FCMRoute) else None,
        on_bad_outcome=partial(context.on_bad_outcome, name),
        on_locked=partial(context.on_locked, lock),
    )
    names = (name,) if section.prefix is None else (name, section.prefix)
    return Route(names, IntakeRoute(name, provider, queue, stats), queue, lane, lock, renew)


def _advice(session: Session, lock: QuotaLock) -> str | None:
    """Say what a person must do before the route sends again; None: nobody must act."""
    match session.lock_reason:
        case LockReason.OVER_QUOTA if (file := lock.file) is not None:
            return f"once the quota is granted again, delete {file} and send SIGHUP"
        case LockReason.OVER_QUOTA:
            return f"{lock.path} is gone: send SIGHUP"
        case LockReason.SIGN_IN_GIVEN_UP:
            return "correct the credentials and send SIGHUP; if they are right, restart"
        case None:
            return None


Service = tuple[Provider, Credentials, Callable[[Any], bool]]
"""A push service: what it speaks, how one signs in, and how changed credentials are taken over."""


def _c2dm(section: C2DMRoute, post: Post, wall: Callable[[], float], state_dir: Path) -> Service:
    credentials = ClientLogin(
        post,
        wall,
        state_dir / f"{section.name}.token",
        section.login_url,
        section.username,
        section.password,
        section.source,
        section.token_max_age,
    )

    def renew(changed: C2DMRoute) -> bool:
        return credentials.update(changed.username, changed.password, changed.source)

    return C2DM(section.send_url), credentials, renew


def _fcm(section: FCMRoute, post: Post, wall: Callable[[], float]) -> Service:
    key = read_key(section.service_account.content)
    credentials = ServiceAccountCredentials(post, wall, key)

    def renew(changed: FCMRoute) -> bool:
        return credentials.update(read_key(changed.service_account.content))

    return FCM(send_url(section.project or key.project, section.url)), credentials, renew


def _project_rate(section: C2DMRoute | FCMRoute, reactor: Any) -> ProjectRate | None:
    if isinstance(section, FCMRoute) and section.project_rate is not None:
        return ProjectRate(section.project_rate, reactor.seconds)
    return None


def _limits(gateway: GatewaySection, section: C2DMRoute | FCMRoute) -> LaneLimits:
    if isinstance(section, FCMRoute):
        return LaneLimits(min(gateway.max_age, section.max_age), FCM_DEVICE_BLOCK)
    return LaneLimits(gateway.max_age, section.device_block)


def _retry_capacity(gateway: GatewaySection) -> int:
    return max(1, gateway.max_queued // 10)
