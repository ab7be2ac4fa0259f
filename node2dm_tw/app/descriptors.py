"""File descriptors: as many as the system allows, divided so that nobody takes what others need."""

import os
import resource
from collections.abc import Mapping

import attrs

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
