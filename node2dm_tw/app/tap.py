"""What `twistd node2dm` loads: its command line, and what makes its service."""

from node2dm_tw.app.hangups import hang_ups  # isort: skip - it handles SIGHUP while the rest is loaded

import random
import time
from typing import Any, cast

from twisted.application.service import IService
from twisted.internet import reactor as _reactor

from node2dm_tw.app.options import Options
from node2dm_tw.app.process import set_exit_status
from node2dm_tw.app.runtime import Runtime
from node2dm_tw.app.service import GatewayService

__all__ = ["Options", "makeService"]


def make_runtime() -> Runtime:
    """Give the gateway Twisted's reactor, and what this process has."""
    reactor = cast(Any, _reactor)
    # Twisted's own clock is the wall clock, which steps; durations must not.
    reactor.seconds = time.monotonic
    return Runtime(reactor, time.time, random.random, hang_ups, set_exit_status)


def makeService(options: Options) -> IService:
    """Make the gateway that `twistd node2dm` runs."""
    return GatewayService(options, make_runtime())
