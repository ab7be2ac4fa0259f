"""Puts a route together, from its section of the configuration to its lane."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime

from node2dm_tw.app.blocking import BlockingWork
from node2dm_tw.app.fcm_credentials import SignInClients, make_credentials
from node2dm_tw.app.route_settings import (
    Account,
    C2DMAccount,
    RouteSection,
    RouteSettings,
    route_settings,
)
from node2dm_tw.app.state_files import quota_lock
from node2dm_tw.callbacks import HOLD_INTERVAL
from node2dm_tw.config.load import Settings
from node2dm_tw.config.route_sections import C2DMRoute, FCMRoute
from node2dm_tw.core.logs import logger
from node2dm_tw.core.outcome import OnEnded
from node2dm_tw.core.snapshot import LaneState, RouteSnapshot
from node2dm_tw.core.stats import Stats
from node2dm_tw.delivery.admission import Admission
from node2dm_tw.delivery.blocked_devices import BlockedDevices
from node2dm_tw.delivery.circuit_breaker import CircuitBreaker
from node2dm_tw.delivery.lane import Lane
from node2dm_tw.delivery.rates import DeviceRates
from node2dm_tw.delivery.retry_queue import RetryQueue
from node2dm_tw.delivery.session import LockReason, Session
from node2dm_tw.delivery.signin import SignIn
from node2dm_tw.delivery.snapshot import take_snapshot
from node2dm_tw.delivery.target_delays import TargetDelays
from node2dm_tw.http.interface import HTTPClient, OnOutcomes, finish_posts, post
from node2dm_tw.intake.parser import IntakeRoute
from node2dm_tw.providers.c2dm import C2DM
from node2dm_tw.providers.clientlogin import ClientLogin
from node2dm_tw.providers.fcm import FCM, send_url
from node2dm_tw.providers.interface import Credentials, Post, Provider
from node2dm_tw.queues.interface import Lease, PushEngine, PushQueue
from node2dm_tw.state.pause_file import PauseFile
from node2dm_tw.state.quota_lock import QuotaLock

log = logger()


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
        clock: monotonic seconds.
        wall: seconds since the epoch.
        random: numbers in [0, 1).
        stats: counts.
        engine: makes the queues.
        make_client: see `MakeClient`.
        on_bad_outcome: called when a push ended that was neither sent nor collapsed.
        on_locked: told which route sends nothing more, by its lock, and why.
        blocking: runs sign-ins that block.
    """

    settings: Settings
    clock: IReactorTime
    wall: Callable[[], float]
    random: Callable[[], float]
    stats: Stats
    engine: PushEngine
    make_client: MakeClient
    on_bad_outcome: OnEnded
    on_locked: Callable[[QuotaLock, LockReason], None]
    blocking: BlockingWork


@attrs.frozen(eq=False)
class Route:
    """All that belongs to one route.

    Args:
        names: under which lines may ask for it.
        renew: takes over changed credentials.
    """

    names: tuple[str, ...]
    route: IntakeRoute
    queue: PushQueue
    lane: Lane
    quota_lock: QuotaLock
    renew: Callable[[Any], bool]

    def start(self) -> Deferred[None]:
        """Restore what was left, and send, unless the route is over its quota."""
        started: Deferred[None] = maybeDeferred(lambda: self.queue.start() or succeed(None))
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

    def reconfigure(self, settings: RouteSettings) -> None:
        """Take over the options that change while running."""
        self.lane.reconfigure(settings.lane)
        self._change_account(settings.account)
        self.queue.reconfigure(settings.max_queued)
        self.lane.pump()  # more may go now than when the lane looked last

    def _change_account(self, account: Account) -> None:
        """Sign in with a changed account; start again where what locked the route is gone."""
        is_changed, session = self.renew(account), self.lane.session
        if session.state is not LaneState.LOCKED:
            if is_changed:
                session.signin.renew()
            return
        is_over_quota = session.lock_reason is LockReason.OVER_QUOTA
        if not self.quota_lock.is_set if is_over_quota else is_changed:
            log.info("{route}: unlocked", route=self.route.name)
            self.lane.start()


def build_route(context: RouteContext, section: RouteSection) -> Route:
    """Put together all that one route needs; nothing is started.

    What calls the lane is made before it, and finds it once it calls.
    """
    lane: Lane
    name, gateway = section.name, context.settings.gateway
    settings = route_settings(gateway, section)
    clock, wall, random = context.clock, context.wall, context.random
    stats = context.stats.add_route(name)
    ca_file = None if section.ca_file is None else section.ca_file.path
    client = partial(context.make_client, section.timeout, ca_file=ca_file)
    provider, credentials, renew = _service(context, section, settings.account, client)
    queue = context.engine.add_queue(
        name,
        settings.max_queued,
        stats,
        on_ready=lambda: lane.pump(),
        on_overflow=lambda push, limit: lane.on_overflow(push, limit),
    )
    on_sleep = partial(_store_sleep, queue, wall)
    make_signin = partial(SignIn, name, credentials, clock, wall, random)
    pause_file = PauseFile(gateway.state_dir / f"{name}.pause", wall)
    make_breaker = partial(CircuitBreaker, name, clock, random, provider.first_delay, pause_file)
    lock = quota_lock(context.settings, name)
    lane = Lane(
        route=name,
        queue=queue,
        provider=provider,
        make_client=lambda on_outcomes: client(
            section.max_in_flight, curl=gateway.uses_curl, on_outcomes=on_outcomes
        ),
        make_session=partial(Session, make_signin, make_breaker),
        admission=Admission(
            provider,
            RetryQueue(clock, settings.lane.retry_capacity, lambda: lane.pump(), on_sleep),
            BlockedDevices(clock),
            TargetDelays(clock, random, provider.first_delay),
            DeviceRates(settings.lane.device_rate, settings.lane.device_burst),
            settings.lane,
        ),
        stats=stats,
        clock=clock,
        wall=wall,
        random=random,
        settings=settings.lane,
        on_bad_outcome=context.on_bad_outcome,
        on_locked=partial(context.on_locked, lock),
    )
    names = (name,) if section.prefix is None else (name, section.prefix)
    return Route(names, IntakeRoute(name, provider, queue, stats), queue, lane, lock, renew)


def _store_sleep(queue: PushQueue, wall: Callable[[], float], lease: Lease, delay: float) -> None:
    """Let the queue store for how many seconds a push sleeps."""
    queue.sleep(lease, wall() + delay)


Service = tuple[Provider, Credentials, Callable[[Any], bool]]
"""A push service: what it speaks, how one signs in, and what takes over a changed account."""


def _service(
    context: RouteContext, section: RouteSection, account: Any, client: Callable[..., HTTPClient]
) -> Service:
    has_proxy = context.settings.gateway.proxy is not None
    sign_in = partial(client, 1, on_outcomes=finish_posts)
    signin_post = partial(post, sign_in(curl=has_proxy))
    if isinstance(section, FCMRoute):
        clients = SignInClients(signin_post, sign_in(curl=False), section.timeout)
        return _fcm(context, section, account, clients)
    return _c2dm(section, account, signin_post, context.wall, context.settings.gateway.state_dir)


def _c2dm(
    section: C2DMRoute,
    account: C2DMAccount,
    post: Post,
    wall: Callable[[], float],
    state_dir: Path,
) -> Service:
    credentials = ClientLogin(
        post,
        wall,
        state_dir / f"{section.name}.token",
        section.login_url,
        *account,
        section.token_max_age,
    )
    return C2DM(section.send_url), credentials, lambda changed: credentials.update(*changed)


def _fcm(context: RouteContext, section: FCMRoute, account: Any, clients: SignInClients) -> Service:
    credentials = make_credentials(account, clients, context.blocking, context.wall)
    url = send_url(section.project or account.project, section.url, account.universe)
    return FCM(url, context.wall), credentials, credentials.update


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
