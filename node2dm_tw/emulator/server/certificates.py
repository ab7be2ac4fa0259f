"""The emulator's files: a certificate authority, a server certificate, a service account's key."""

import datetime
import errno
import ipaddress
import json
import secrets
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from node2dm_tw.emulator.files import read_file, replace_file
from node2dm_tw.emulator.settings import EmulatorSettings, address

PROJECT = "node2dm-emulator"
"""The project of the service account."""

_LIFE = datetime.timedelta(days=730)
_RENEW_BEFORE = datetime.timedelta(days=30)
_MAX_FILE_BYTES = 65_536
_UNUSABLE = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RecursionError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.ExtensionNotFound,
)
"""What reading a file that anybody may have written can raise."""

_KEY_FORM = (
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
)


@attrs.frozen
class Endpoints:
    """The URLs the emulator answers at, and the files a client of it needs."""

    base_url: str
    login_url: str
    send_url: str
    fcm_url: str
    token_uri: str
    ca_file: Path
    service_account: Path
    project: str = PROJECT


def places(settings: EmulatorSettings, port: int | None = None) -> Endpoints:
    """Say where things are; nothing need exist yet.

    Args:
        settings: of the emulator.
        port: where it listens in fact, when the settings leave the choice open (port 0).
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
    )


def ensure_files(
    settings: EmulatorSettings, port: int | None = None, now: float | None = None
) -> Endpoints:
    """Make the files that are missing, damaged, expired or no longer right.

    Args:
        settings: of the emulator.
        port: as for `places`.
        now: seconds since the epoch; None asks the system.

    Raises:
        OSError: the folder cannot be made or written.
    """
    where = places(settings, port)
    moment = _moment(now)
    for folder in (settings.state_dir, settings.folder):  # `mode` holds for the last part alone
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if settings.folder.is_symlink():
        raise NotADirectoryError(errno.ENOTDIR, "it is a symbolic link", str(settings.folder))
    settings.folder.chmod(0o700)
    host, _ = address(settings.listen)
    if not _certificates_serve(settings.folder, host, moment):
        _make_certificates(settings.folder, host, moment)
    _prepare_service_account(where)
    return where


def server_file(settings: EmulatorSettings) -> Path:
    """Name the file with the server's certificate, its key and the authority's certificate."""
    return settings.folder / "server.pem"


def _moment(now: float | None) -> datetime.datetime:
    if now is None:
        return datetime.datetime.now(datetime.UTC)
    return datetime.datetime.fromtimestamp(now, datetime.UTC)


def _names(host: str) -> list[x509.GeneralName]:
    addresses = dict.fromkeys(ipaddress.ip_address(each) for each in ("127.0.0.1", "::1", host))
    return [x509.DNSName("localhost"), *map(x509.IPAddress, addresses)]


def _certificates_serve(folder: Path, host: str, now: datetime.datetime) -> bool:
    try:
        authority = x509.load_pem_x509_certificate(read_file(folder / "ca.pem", _MAX_FILE_BYTES))
        pem = read_file(folder / "server.pem", _MAX_FILE_BYTES)
        server = x509.load_pem_x509_certificate(pem)
        key = serialization.load_pem_private_key(pem, None)
        server.verify_directly_issued_by(authority)
        names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except _UNUSABLE:
        return False
    return (
        server.public_key() == key.public_key()
        and set(_names(host)) <= set(names)
        and server.not_valid_before_utc <= now < server.not_valid_after_utc - _RENEW_BEFORE
    )


def _make_certificates(folder: Path, host: str, now: datetime.datetime) -> None:
    """Make both anew. The authority's key is not kept, so it can never sign anything else."""
    authority_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node2dm emulator CA")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())
    authority = (
        _builder(issuer, issuer, authority_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    server = (
        _builder(subject, issuer, server_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_names(host)), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
        .sign(authority_key, hashes.SHA256())
    )
    shown = authority.public_bytes(serialization.Encoding.PEM)
    parts = (
        server.public_bytes(serialization.Encoding.PEM),
        server_key.private_bytes(*_KEY_FORM),
        shown,
    )
    replace_file(folder / "server.pem", b"".join(parts))
    replace_file(folder / "ca.pem", shown)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + _LIFE)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _prepare_service_account(where: Endpoints) -> None:
    """Keep the key that is there; only the port, and with it token_uri, may have changed."""
    try:
        account = json.loads(read_file(where.service_account, _MAX_FILE_BYTES))
        key = serialization.load_pem_private_key(account["private_key"].encode(), None)
        kept = isinstance(key, rsa.RSAPrivateKey) and account["project_id"] == PROJECT
        current = kept and account["token_uri"] == where.token_uri
    except _UNUSABLE:
        kept = current = False
    if current:
        return
    if not kept:
        account = _new_service_account()
    account["token_uri"] = where.token_uri
    replace_file(where.service_account, json.dumps(account, indent=2).encode() + b"\n")


def _new_service_account() -> dict[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return {
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": secrets.token_hex(20),
        "private_key": key.private_bytes(*_KEY_FORM).decode(),
        "client_email": f"node2dm@{PROJECT}.iam.gserviceaccount.com",
        "client_id": "100000000000000000000",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
    }
