"""The names of `tests.support` under which tests have known them."""

from tests.support.gateway import (
    HEEDING,
    NODE2DM_LINES,
    TWISTD,
    as_numbers,
    telnet,
)
from tests.support.gateway import GatewayProcess as Gateway
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE, wait_until

__all__ = [
    "HEEDING",
    "NODE2DM_LINES",
    "PATIENCE",
    "TERMINAL_COUNTERS",
    "TWISTD",
    "Gateway",
    "as_numbers",
    "free_port",
    "telnet",
    "wait_until",
]
