"""The emulator as a Twisted service: TLS, the token file, and a log line for each event."""

# mypy: allow-untyped-calls

import json
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort, IReactorCore, IReactorTime
from twisted.internet.ssl import CertificateOptions
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from node2dm_tw.emulator.files import (
    Endpoints,
    ensure_files,
    find_endpoints,
    read_secret,
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


class IEmulatorReactor(IReactorCore, IReactorTime):
    """What the emulator uses of the reactor, besides listening."""


class EmulatorService(Service):
    """Runs the emulator from its start to its stop.

    Attributes:
        google: answers the requests.
        endpoints: its URLs and files; they have the actual port once it listens.
        factory: makes its connections, without TLS.
    """

    name = "emulator"

    def __init__(
        self, reactor: IEmulatorReactor, settings: EmulatorSettings, wall: Callable[[], float]
    ) -> None:
        """Keep the settings; no file is made or opened yet.

        Args:
            reactor: keeps time and listens.
            wall: returns seconds since the epoch.
        """
        self.reactor = reactor
        self._settings = settings
        self._wall = wall
        self._port: IListeningPort | None = None
        self.google = GoogleEmulator(settings, log_sink, self._tokens_changed)
        self._token_file = TokenFile(
            settings.folder / "tokens.json", self.google.accounts, self.google.oauth, reactor
        )
        self.endpoints: Endpoints = find_endpoints(settings)
        self.factory = EmulatorFactory(reactor, self.google, wall)

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
    def stopService(self) -> Generator[Deferred[None], object, None]:
        super().stopService()
        if self._port is not None:
            port, self._port = self._port, None
            yield port.stopListening() or succeed(None)
            yield self.factory.close()
            self._token_file.close()

    def listen(self) -> None:
        """Listen, unless it already does; raises like `startService`."""
        if self._port is not None:
            return
        ensure_files(self._settings, now=self._wall())
        tls = TLSMemoryBIOFactory(_tls_options(self._settings), False, self.factory)
        tls.noisy = False
        endpoint = serverFromString(self.reactor, self._settings.listen)
        self._port = _result_of(endpoint.listen(tls))
        if address(self._settings.listen)[1] == 0:
            host = self._port.getHost()
            assert isinstance(host, IPv4Address | IPv6Address)
            self.endpoints = ensure_files(self._settings, host.port, self._wall())
        self._token_file.load(self._wall())
        self.google.oauth.account = read_service_account(self.endpoints.service_account)
        self.google.oauth.secret = read_secret(self.endpoints)
        # A reader of this line may send a signal at once, so the reactor has to run before it.
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
        if not self.google.oauth.is_available:
            _log.warn("{problem}", problem=NEEDS_EXTRA)


def log_sink(name: str) -> EventSink:
    """Make a sink that logs each event in a line."""

    def show(event: Event) -> None:
        # One formatted field: formatting several costs more than the rest of a push.
        _log.info("{line}", line=f"phone {name} {_describe(event)}", phone=name)

    return show


def _tls_options(settings: EmulatorSettings) -> CertificateOptions:
    # Twisted's own loaders return objects that pyOpenSSL has deprecated.
    pem = server_file(settings).read_bytes()
    key: Any = load_pem_private_key(pem, None)
    certificate: Any = load_pem_x509_certificate(pem)
    return CertificateOptions(privateKey=key, certificate=certificate)


def _describe(event: Event) -> str:
    what, fields = event_fields(event)
    if isinstance(event, Message):
        return f"received {describe_message(fields)}"
    return f"{what} {json.dumps(fields)}"


def _result_of(listening: Deferred[IListeningPort]) -> IListeningPort:
    """Return the port of a Deferred that has already fired, or raise its failure."""
    results: list[IListeningPort | Failure] = []
    listening.addBoth(results.append)
    (result,) = results
    if isinstance(result, Failure):
        result.raiseException()
    return result
