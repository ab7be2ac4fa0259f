"""Makes the engine that the option `queue` names, and opens it."""

import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import inlineCallbacks
from twisted.internet.threads import deferToThread

from node2dm_tw.app.process import StartFailed
from node2dm_tw.app.runtime import Runtime
from node2dm_tw.config.sections import GatewaySection
from node2dm_tw.queues.budget import ByteBudget
from node2dm_tw.queues.interface import PushEngine
from node2dm_tw.queues.memory_engine import MemoryEngine
from node2dm_tw.queues.sqlite_engine import SqliteEngine
from node2dm_tw.queues.sqlite_file import FILE_NAME, export_to_spools
from node2dm_tw.queues.sqlite_writer import SqliteWriter
from node2dm_tw.state.spool import Spool


def build_engine(gateway: GatewaySection, runtime: Runtime) -> PushEngine:
    """Make the engine; nothing is opened."""
    reactor, state_dir = runtime.reactor, gateway.state_dir
    if gateway.queue == "sqlite":
        writer = SqliteWriter(state_dir / FILE_NAME, reactor, reactor)
        return SqliteEngine(state_dir, reactor, runtime.wall, writer)
    budget = ByteBudget(gateway.max_queued_bytes)
    return MemoryEngine(state_dir, budget, reactor, runtime.wall)


@inlineCallbacks
def open_engine(engine: PushEngine, gateway: GatewaySection) -> Any:
    """Open the engine; take over what another engine left, where it does not do so itself.

    Fails with `StartFailed`.
    """
    path = gateway.state_dir / FILE_NAME
    try:
        if gateway.queue == "memory" and any(gateway.state_dir.glob(f"{FILE_NAME}*")):
            spool_of = partial(_spool, gateway.state_dir)
            yield deferToThread(export_to_spools, path, spool_of)
        yield engine.start()
    except (OSError, sqlite3.Error) as error:
        raise StartFailed(f"{path} cannot be used: {_describe(error)}") from error


def _spool(state_dir: Path, route: str) -> Spool:
    return Spool(state_dir / f"{route}.spool")


def _describe(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
