"""The emulator as a Twisted service: Google's side behind TLS, its first phones in the log."""

# mypy: allow-untyped-calls

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from twisted.application.service import Service
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.internet.ssl import CertificateOptions
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory

from node2dm_tw.emulator.files import (
    Endpoints,
    ensure_files,
    find_endpoints,
    read_service_account,
    server_file,
)
from node2dm_tw.emulator.google.emulator import GoogleEmulator
from node2dm_tw.emulator.google.messages import (
    Event,
    EventSink,
    Message,
    describe_message,
    event_fields,
)
from node2dm_tw.emulator.google.oauth import NEEDS_EXTRA
from node2dm_tw.emulator.server.token_file import TokenFile
from node2dm_tw.emulator.server.wire import EmulatorFactory
from node2dm_tw.emulator.settings import EmulatorSettings, address

_log = Logger()


class EmulatorService(Service):
    """Listens from its start to its stop.

    Attributes:
        google: what answers, for a look from the same process.
        endpoints: its URLs and files; with the true port once it listens.
    """

    name = "emulator"

    def __init__(self, reactor: Any, settings: EmulatorSettings, wall: Callable[[], float]) -> None:
        """Keep the settings; nothing is made or opened yet.

        Args:
            reactor: gives the time and listens.
            settings: of the emulator.
            wall: seconds since the epoch.
        """
        self.reactor = reactor
        self._settings = settings
        self._wall = wall
        self._port: IListeningPort | None = None
        self.google = GoogleEmulator(settings, log_screen, self._tokens_changed)
        self._token_file = TokenFile(
            settings.folder / "tokens.json", self.google.accounts, self.google.oauth, reactor
        )
        self.endpoints: Endpoints = find_endpoints(settings)
        self._factory = EmulatorFactory(reactor, self.google, wall)

    def privilegedStartService(self) -> None:
        super().privilegedStartService()
        self.listen()

    def startService(self) -> None:
        """Listen.

        Raises:
            CannotListenError: the port is taken.
            OSError: the emulator's files cannot be written.
        """
        self.listen()
        super().startService()

    @inlineCallbacks
    def stopService(self) -> Any:
        super().stopService()
        if self._port is not None:
            port, self._port = self._port, None
            yield port.stopListening()
            yield self._factory.close()
            self._token_file.close()

    def listen(self) -> None:
        """Listen, unless it does so already; raises as `startService` does."""
        if self._port is not None:
            return
        ensure_files(self._settings, now=self._wall())
        tls = TLSMemoryBIOFactory(_contexts(self._settings), False, self._factory)
        tls.noisy = False
        endpoint = serverFromString(self.reactor, self._settings.listen)
        self._port = _at_once(endpoint.listen(tls))
        if address(self._settings.listen)[1] == 0:
            host: Any = self._port.getHost()
            self.endpoints = ensure_files(self._settings, host.port, self._wall())
        self._token_file.load(self._wall())
        self.google.oauth.account = read_service_account(self.endpoints.service_account)
        # Whoever reads that line may stop the process, which takes signals once the reactor runs.
        self.reactor.callWhenRunning(self._announce)

    def _tokens_changed(self) -> None:
        self._token_file.save_soon()

    def _announce(self) -> None:
        names = ", ".join(self._settings.phones) or "none"
        _log.info(
            "emulator listens at {url} (CA {ca}); phones: {phones}; another one: "
            "{command} --url {url} --ca-file {ca}",
            command=str(Path(sys.executable).with_name("node2dm-phone")),
            url=self.endpoints.base_url,
            ca=str(self.endpoints.ca_file),
            phones=names,
        )
        if not self.google.oauth.available:
            _log.warn("{problem}", problem=NEEDS_EXTRA)


def log_screen(name: str) -> EventSink:
    """Make a screen that is a line in the log for each event."""

    def show(event: Event) -> None:
        # One ready-made field: formatting several costs more than all the rest of a push.
        _log.info("{line}", line=f"phone {name} {_told(event)}", phone=name)

    return show


def _contexts(settings: EmulatorSettings) -> CertificateOptions:
    # Twisted's own loaders give pyOpenSSL's objects, which pyOpenSSL has deprecated.
    pem = server_file(settings).read_bytes()
    key: Any = load_pem_private_key(pem, None)
    certificate: Any = load_pem_x509_certificate(pem)
    return CertificateOptions(privateKey=key, certificate=certificate)


def _told(event: Event) -> str:
    what, fields = event_fields(event)
    if isinstance(event, Message):
        return f"received {describe_message(fields)}"
    return f"{what} {json.dumps(fields)}"


def _at_once(listening: Deferred[IListeningPort]) -> IListeningPort:
    """Take the port out of a Deferred that has fired already, or raise what it holds."""
    results: list[Any] = []
    listening.addBoth(results.append)
    (result,) = results
    if not hasattr(result, "getHost"):
        result.raiseException()
    port: IListeningPort = result
    return port
