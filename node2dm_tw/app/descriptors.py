"""File descriptors: as many as the system allows, divided so that nobody takes what others need."""

import os
import resource
from collections.abc import Mapping

import attrs

from node2dm_tw.admin.views import ViewLimits
from node2dm_tw.callbacks import IN_FLIGHT
from node2dm_tw.config.load import Settings
from node2dm_tw.core.logs import logger

log = logger()

KEPT = 64
"""Descriptors for everything but requests and clients of the views: files, sign-ins, lookups."""

PER_ROUTE = 4
"""Descriptors of a route beside its requests: three of libcurl's, and a connection to sign in."""

PER_PROCESS = 4
"""Descriptors that the reactor opens once it listens."""

UNLIMITED = 1 << 20
"""Taken as the limit where there is none."""


def raise_limit() -> int:
    """Raise the soft limit on open files to the hard one; give the limit that then holds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    except (OSError, ValueError):
        pass  # some systems have a maximum below the hard limit: what holds must do
    return UNLIMITED if soft == resource.RLIM_INFINITY else soft


def first_free() -> int:
    """Give the lowest number that no open file has: how many are open, as numbers are reused."""
    descriptor = os.open(os.devnull, os.O_RDONLY)
    os.close(descriptor)
    return descriptor


@attrs.frozen
class Budget:
    """How many descriptors each may hold.

    Args:
        needed: the sum, if everybody got what was asked for.
        requests: by route, in flight at once.
        views: connections to the views.
        kept: for everything else, beside what is open already.
    """

    needed: int
    requests: Mapping[str, int]
    views: int
    kept: int

    def lowered(self, wanted: Mapping[str, int]) -> str:
        """Describe who gets less than wanted, where the limit is too low for all."""
        routes = [
            f"[{route}] max_in_flight is {number} instead of {wanted[route]}"
            for route, number in self.requests.items()
            if number < wanted[route]
        ]
        return ", ".join(routes) or "the views get fewer connections"


def divide(
    limit: int, used: int, requests: Mapping[str, int], views: int, *, per_request: int = 1
) -> Budget:
    """Divide the limit. Where it is too low everybody gets less, but nobody nothing.

    Args:
        used: open already, or for certain.
        requests: what each route wants to have in flight at once.
        views: connections that the views want.
        per_request: descriptors of one request.
    """
    room = max(0, limit - used)
    wanted = per_request * sum(requests.values())
    kept = min(KEPT, max(room // 4, room - wanted - views))
    granted_views = min(views, max(room // 3, room - kept - wanted))
    share = min(1.0, (room - kept - granted_views) / wanted)
    return Budget(
        used + KEPT + wanted + views,
        {route: max(1, int(number * share)) for route, number in requests.items()},
        granted_views,
        kept,
    )


@attrs.frozen
class Descriptors:
    """The file descriptors of this process.

    Args:
        limit: open files at the most.
        used: open before the gateway opens any, or for certain.
        has_emulator: it answers in this process, and each request holds a second one.
    """

    limit: int
    used: int
    has_emulator: bool

    @classmethod
    def of_process(cls, *, has_emulator: bool) -> "Descriptors":
        """Raise the limit, and count what is open."""
        return cls(raise_limit(), first_free() + PER_PROCESS, has_emulator)

    def limit_settings(self, settings: Settings) -> tuple[Settings, ViewLimits]:
        """Lower what the limit on open files does not allow, and say so."""
        gateway, has_web = settings.gateway, settings.gateway.web is not None
        wanted = {route.title: route.max_in_flight for route in settings.routes}
        listeners = len(gateway.udp) + sum([bool(gateway.stats), has_web, self.has_emulator])
        webhooks = IN_FLIGHT * len(settings.route_callbacks)
        budget = divide(
            self.limit,
            self.used + listeners + webhooks + PER_ROUTE * len(wanted),
            wanted,
            ViewLimits.descriptors(has_web=has_web),
            per_request=2 if self.has_emulator else 1,
        )
        if budget.needed > self.limit:
            log.warn(
                "{needed} open files are needed, but the limit is {limit}: {lowered};"
                " raise it with ulimit -n or LimitNOFILE",
                needed=budget.needed,
                limit=self.limit,
                lowered=budget.lowered(wanted),
            )
        routes = (
            attrs.evolve(route, max_in_flight=budget.requests[route.title])
            for route in settings.routes
        )
        views = ViewLimits.within(budget.views, self.limit - budget.kept, has_web=has_web)
        return attrs.evolve(settings, routes=tuple(routes)), views
