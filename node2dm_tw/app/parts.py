"""The parts of a running gateway between its sockets: parser, routes, callbacks."""

from collections.abc import Callable, Mapping

import attrs

from node2dm_tw.app.blocking import BlockingWork
from node2dm_tw.app.clients import HTTPClients
from node2dm_tw.app.engines import build_engine
from node2dm_tw.app.route import Route, RouteContext, build_route
from node2dm_tw.app.runtime import Runtime
from node2dm_tw.app.webhooks import build_callbacks
from node2dm_tw.callback_target import BAD_DEVICE, Callback
from node2dm_tw.callbacks import Callbacks
from node2dm_tw.config.load import Settings
from node2dm_tw.config.sections import GatewaySection
from node2dm_tw.core.logs import is_traced
from node2dm_tw.core.outcome import Ended
from node2dm_tw.core.stats import Stats
from node2dm_tw.core.web import Endpoint
from node2dm_tw.delivery.session import LockReason
from node2dm_tw.intake.http import BearerCheck, OutcomeEndpoint, PushEndpoint
from node2dm_tw.intake.parser import LineParser
from node2dm_tw.intake.signatures import SignatureVerifier
from node2dm_tw.outcomes import LineFile, OutcomeRecorder
from node2dm_tw.queues.interface import PushEngine
from node2dm_tw.state.quota_lock import QuotaLock


@attrs.frozen(eq=False)
class Parts:
    """The parts.

    Args:
        engine: made the queues of the routes.
        verifier: checks the signatures of all datagrams.
        pushes: takes pushes by HTTP.
        endpoints: what the web port answers beside the views, by path.
        outcomes: records the end of each push.
        callbacks: None: the configuration has no [callback].
    """

    routes: Mapping[str, Route]
    engine: PushEngine
    parser: LineParser
    verifier: SignatureVerifier
    pushes: PushEndpoint
    endpoints: Mapping[bytes, Endpoint]
    outcomes: OutcomeRecorder
    callbacks: Callbacks | None

    def report_pushes(self) -> None:
        """Log what becomes of each push, where the level is debug, and record its end."""
        self.parser.trace_pushes(is_traced("intake"))
        for route in self.routes.values():
            route.lane.report_pushes(
                is_traced=is_traced("delivery"), on_outcome=self.outcomes.on_ended
            )


def build_parts(
    settings: Settings,
    runtime: Runtime,
    stats: Stats,
    clients: HTTPClients,
    on_locked: Callable[[QuotaLock, LockReason], None],
    push_token: Callable[[], str | None],
) -> Parts:
    """Put the parts together; nothing is started."""
    routes: dict[str, Route] = {}

    def should_hold(callback: Callback) -> bool:
        """Whether a callback must wait; one of a route that is no longer configured need not."""
        route = routes.get(callback.route) if callback.outcome == BAD_DEVICE else None
        return route is not None and route.should_hold(callback.reason.decode())

    def on_bad_outcome(ended: Ended) -> None:
        if callbacks is not None:
            is_bad_device = ended.outcome == BAD_DEVICE
            delay = routes[ended.route].callback_delay if is_bad_device else 0.0
            callbacks.enqueue(ended, delay)

    callbacks = build_callbacks(settings, stats, clients.make, runtime, should_hold)
    engine = build_engine(settings.gateway, runtime)
    context = RouteContext(
        settings,
        runtime.reactor,
        runtime.wall,
        runtime.random,
        stats,
        engine,
        clients.make,
        on_bad_outcome,
        on_locked,
        BlockingWork(runtime.reactor),
    )
    for section in settings.routes:
        routes[section.name] = build_route(context, section)
    intake = {name.encode(): route.route for route in routes.values() for name in route.names}
    default = routes[settings.routes[0].name].route
    parser = LineParser(intake, default, stats, runtime.reactor)
    verifier = SignatureVerifier(settings.gateway.datagram_key, runtime.wall, runtime.reactor)
    outcomes = _build_outcomes(settings.gateway, runtime)
    bearer = BearerCheck(push_token, runtime.reactor)
    pushes = PushEndpoint(parser, engine, runtime.wall, bearer)
    endpoints: dict[bytes, Endpoint] = {
        b"/v1/push": pushes,
        b"/v1/push/": OutcomeEndpoint(bearer, outcomes.find_outcome),
    }
    return Parts(routes, engine, parser, verifier, pushes, endpoints, outcomes, callbacks)


def _build_outcomes(gateway: GatewaySection, runtime: Runtime) -> OutcomeRecorder:
    path = gateway.outcomes
    recorder = OutcomeRecorder(
        None if path is None else LineFile(path, runtime.reactor),
        gateway.outcomes_sample,
        gateway.outcomes_targets,
        runtime.wall,
        runtime.random,
    )
    recorder.keep_recent(gateway.push_token is not None)
    return recorder
