"""The files of the emulator: those that it makes for its clients and for itself."""

import datetime
import errno
import json
import os
import secrets
from contextlib import suppress
from pathlib import Path

import attrs
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from node2dm_tw.emulator.google.oauth import CLIENT_ID, ServiceAccount
from node2dm_tw.emulator.server.certificates import (
    DAMAGED,
    KEY_FORMAT,
    are_usable,
    make_certificates,
)
from node2dm_tw.emulator.settings import PROJECT, EmulatorSettings, address

_MAX_FILE_BYTES = 65_536


@attrs.frozen
class Endpoints:
    """The URLs of the emulator, and the files that its clients need."""

    base_url: str
    login_url: str
    send_url: str
    fcm_url: str
    token_uri: str
    ca_file: Path
    service_account: Path
    external_account: Path
    impersonated_account: Path
    authorized_user: Path
    project: str = PROJECT


def find_endpoints(settings: EmulatorSettings, port: int | None = None) -> Endpoints:
    """Find the URLs and the paths of the files, which need not exist yet.

    Args:
        port: the one it listens on, if the settings leave the choice to the system (port 0).
    """
    host, configured = address(settings.listen)
    shown = f"[{host}]" if ":" in host else host
    base = f"https://{shown}:{port or configured}"
    return Endpoints(
        base_url=base,
        login_url=f"{base}/accounts/ClientLogin",
        send_url=f"{base}/c2dm/send",
        fcm_url=f"{base}/v1/projects/{PROJECT}/messages:send",
        token_uri=f"{base}/token",
        ca_file=settings.folder / "ca.pem",
        service_account=settings.folder / "service-account.json",
        external_account=settings.folder / "external-account.json",
        impersonated_account=settings.folder / "impersonated-service-account.json",
        authorized_user=settings.folder / "authorized-user.json",
    )


def ensure_files(
    settings: EmulatorSettings, port: int | None = None, now: float | None = None
) -> Endpoints:
    """Make the files that are missing, damaged, expired or no longer right.

    Args:
        port: as for `find_endpoints`.
        now: seconds since the epoch; None asks the system.

    Raises:
        OSError: the folder cannot be made or written.
    """
    endpoints = find_endpoints(settings, port)
    for folder in (settings.state_dir, settings.folder):  # `mode` holds for the last part alone
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if settings.folder.is_symlink():
        raise NotADirectoryError(errno.ENOTDIR, "it is a symbolic link", str(settings.folder))
    settings.folder.chmod(0o700)
    _ensure_certificates(settings, now)
    _ensure_service_account(endpoints)
    _ensure_federated_keys(endpoints)
    return endpoints


def server_file(settings: EmulatorSettings) -> Path:
    """Name the file with the server's certificate, its key and the authority's certificate."""
    return settings.folder / "server.pem"


def read_service_account(path: Path) -> ServiceAccount:
    """Read a key file that `ensure_files` made."""
    content = json.loads(path.read_bytes())
    key = serialization.load_pem_private_key(content["private_key"].encode(), None)
    pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return ServiceAccount(
        content["client_email"], content["project_id"], content["token_uri"], pem.decode()
    )


def read_secret(endpoints: Endpoints) -> str:
    """Read the secret in the key files that `ensure_files` made; empty: there is none."""
    try:
        content = json.loads(read_file(endpoints.authorized_user, _MAX_FILE_BYTES))
        return str(content["refresh_token"])
    except (OSError, *DAMAGED):
        return ""


def read_file(path: Path, limit: int) -> bytes:
    """Read at most `limit` bytes of a regular file.

    It never blocks on a FIFO and follows no symbolic link.

    Raises:
        OSError: it cannot be read.
    """

    def open_it(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)

    with open(path, "rb", opener=open_it) as file:
        return file.read(limit) or b""


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file atomically, readable by its owner alone. Raises OSError."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def _ensure_certificates(settings: EmulatorSettings, now: float | None) -> None:
    zone = datetime.UTC
    date = (
        datetime.datetime.now(zone) if now is None else datetime.datetime.fromtimestamp(now, zone)
    )
    files = (settings.folder / "ca.pem", server_file(settings))
    host, _ = address(settings.listen)
    with suppress(OSError):
        authority, server = (read_file(file, _MAX_FILE_BYTES) for file in files)
        if are_usable(authority, server, host, date):
            return
    authority, server = make_certificates(host, date)
    replace_file(files[1], server)
    replace_file(files[0], authority)


def _ensure_service_account(endpoints: Endpoints) -> None:
    """Keep the key that is there; only the port, and with it token_uri, may have changed."""
    try:
        account = json.loads(read_file(endpoints.service_account, _MAX_FILE_BYTES))
        key = serialization.load_pem_private_key(account["private_key"].encode(), None)
        is_kept = isinstance(key, rsa.RSAPrivateKey) and account["project_id"] == PROJECT
        is_current = is_kept and account["token_uri"] == endpoints.token_uri
    except (OSError, *DAMAGED):
        is_kept = is_current = False
    if is_current:
        return
    if not is_kept:
        account = _new_service_account()
    account["token_uri"] = endpoints.token_uri
    replace_file(endpoints.service_account, json.dumps(account, indent=2).encode() + b"\n")


def _new_service_account() -> dict[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return {
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": secrets.token_hex(20),
        "private_key": key.private_bytes(*KEY_FORMAT).decode(),
        "client_email": f"node2dm@{PROJECT}.iam.gserviceaccount.com",
        "client_id": "100000000000000000000",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
    }


def _ensure_federated_keys(endpoints: Endpoints) -> None:
    """Write the key files of who has no key of the service account; their secret is kept."""
    secret = read_secret(endpoints) or secrets.token_urlsafe(48)
    account = read_service_account(endpoints.service_account).client_email
    subject_token = endpoints.external_account.with_name("subject-token")
    impersonation = {
        "service_account_impersonation_url": f"{endpoints.base_url}/v1/projects/-/serviceAccounts/"
        f"{account}:generateAccessToken"
    }
    user = {
        "type": "authorized_user",
        "client_id": CLIENT_ID,
        "client_secret": secret,
        "refresh_token": secret,
        "token_uri": endpoints.token_uri,
        "quota_project_id": PROJECT,
    }
    external = {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool"
        "/providers/provider",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{endpoints.base_url}/v1/token",
        "credential_source": {"file": str(subject_token)},
        **impersonation,
    }
    impersonated = {
        "type": "impersonated_service_account",
        "source_credentials": user,
        **impersonation,
    }
    files = {
        endpoints.authorized_user: json.dumps(user, indent=2) + "\n",
        endpoints.external_account: json.dumps(external, indent=2) + "\n",
        endpoints.impersonated_account: json.dumps(impersonated, indent=2) + "\n",
        subject_token: secret,
    }
    for path, content in files.items():
        with suppress(OSError):
            if read_file(path, _MAX_FILE_BYTES) == content.encode():
                continue
        replace_file(path, content.encode())
