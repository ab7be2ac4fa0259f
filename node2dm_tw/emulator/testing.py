"""The emulator in an application's own tests.

With ``pytest_plugins = ["node2dm_tw.emulator.testing"]`` in conftest.py, tests can use the fixture
``push_emulator``. Without pytest, `start` is a context manager that does the same.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs

from node2dm_tw.emulator.phone.client import EmulatorClient, Listener

LISTEN = "tcp:0:interface=127.0.0.1"

_STOP_SECONDS = 30.0


@attrs.define(eq=False)
class PushEmulator:
    """A running emulator.

    Attributes:
        login_url: of ClientLogin.
        send_url: of C2DM.
        fcm_url: of FCM's messages:send.
        service_account: the key file with which clients of FCM sign in.
        external_account: a key file of workload identity federation; also of other types are
            impersonated_account and authorized_user.
        metadata_host: the value of GCE_METADATA_HOST, for clients on an emulated machine.
        ca_file: the certificate of its authority.
        log_file: its log.
    """

    base_url: str
    login_url: str
    send_url: str
    fcm_url: str
    token_uri: str
    project: str
    ca_file: Path = attrs.field(converter=Path)
    service_account: Path = attrs.field(converter=Path)
    external_account: Path = attrs.field(converter=Path)
    impersonated_account: Path = attrs.field(converter=Path)
    authorized_user: Path = attrs.field(converter=Path)
    metadata_host: str
    log_file: Path = attrs.field(converter=Path)
    client: EmulatorClient = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Make its client."""
        self.client = EmulatorClient(self.base_url, self.ca_file)

    def register(self, sender: str, app: str = "com.example", **more: Any) -> "TestPhone":
        """Register a phone, which is offline until it connects."""
        return TestPhone(self.client, self.client.register(sender, app, **more))

    def fault(self, **rule: Any) -> None:
        """Inject a fault; docs/emulator.md lists the fields of a rule."""
        self.client.ask("POST", "/faults", rule)

    def faults(self) -> list[dict[str, Any]]:
        """Return the rules, and how often each was applied."""
        return list(self.client.ask("GET", "/faults")["rules"])

    def log(self, endpoint: str = "", after: int = 0) -> list[dict[str, Any]]:
        """Return the requests since entry `after`, the oldest first."""
        query = f"after={after}" + (f"&endpoint={quote(endpoint)}" if endpoint else "")
        return list(self.client.ask("GET", f"/log?{query}")["entries"])

    def stats(self) -> dict[str, Any]:
        """Return the counts."""
        return self.client.ask("GET", "/stats")

    def expire_tokens(self, account: str | None = None) -> None:
        """Expire the tokens of one account, or all."""
        self.client.ask("POST", "/expire", {} if account is None else {"account": account})

    def reset(self) -> None:
        """Forget faults, log, counts and phones; tokens remain valid."""
        self.client.ask("POST", "/reset", {})


@attrs.define(eq=False)
class TestPhone:
    """A phone of a test; as a context manager it is online."""

    __test__ = False

    _client: EmulatorClient
    registration_id: str
    _listener: Listener | None = attrs.field(default=None, init=False)
    _events: Iterator[tuple[str, dict[str, Any]]] = attrs.field(
        factory=lambda: iter(()), init=False
    )

    def __enter__(self) -> "TestPhone":
        """Go online."""
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        """Go offline."""
        self.disconnect()

    def connect(self) -> None:
        """Go online."""
        self._listener = self._client.listen(self.registration_id)
        self._events = iter(self._listener)

    def disconnect(self) -> None:
        """Go offline."""
        if self._listener is not None:
            self._listener.close()
        self._listener, self._events = None, iter(())

    def receive(self, timeout: float = 10.0) -> dict[str, Any]:
        """Wait for the next event; its name is under ``event``.

        Args:
            timeout: maximum seconds to wait.

        Raises:
            TimeoutError: none came; the phone remains online.
            EOFError: the phone is offline or unregistered.
        """
        if self._listener is None:
            raise EOFError("the phone is offline")
        self._listener.wait_at_most(timeout)
        try:
            event = next(self._events, None)
        except TimeoutError:
            # A response that timed out cannot be read any more.
            self.disconnect()
            self.connect()
            raise TimeoutError(f"no event in {timeout} seconds") from None
        if event is None:
            raise EOFError("the stream has ended")
        name, fields = event
        if name == "registration":
            self.registration_id = fields["registration_id"]
        return {"event": name, **fields}

    def set_idle(self, idle: bool) -> None:
        """Set whether the phone is idle."""
        self._client.set_idle(self.registration_id, idle)

    def refresh(self) -> None:
        """Replace its ID; the phone receives the new one when it is online."""
        self._client.refresh(self.registration_id)

    def unregister(self) -> None:
        """End the registration."""
        self._client.unregister(self.registration_id)


@contextmanager
def start(state_dir: Path, options: Sequence[str] = ()) -> Iterator[PushEmulator]:
    """Run an emulator in its own process on a free port.

    Args:
        state_dir: an empty folder for its files.
        options: of ``python -m node2dm_tw.emulator``, such as ``--device-quota=5/s``.

    Raises:
        RuntimeError: it did not start; its log is in the message.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    log_file = state_dir / "emulator.log"
    command = [sys.executable, "-m", "node2dm_tw.emulator", f"--state-dir={state_dir}"]
    with log_file.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603
            [*command, f"--listen={LISTEN}", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    with process:
        try:
            line = process.stdout.readline() if process.stdout is not None else b""
            if not line:
                raise RuntimeError(f"no emulator: {log_file.read_text(encoding='utf-8')}")
            yield PushEmulator(**json.loads(line), log_file=log_file)
        finally:
            _stop(process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


try:
    import pytest
except ModuleNotFoundError:
    pass  # An application whose tests run without pytest has no use for fixtures.
else:

    @pytest.fixture(scope="session")
    def push_emulator_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PushEmulator]:
        """Run one emulator for all tests of a session."""
        with start(tmp_path_factory.mktemp("push-emulator")) as emulator:
            yield emulator

    @pytest.fixture
    def push_emulator(push_emulator_process: PushEmulator) -> PushEmulator:
        """Return the emulator, reset for this test."""
        push_emulator_process.reset()
        return push_emulator_process
