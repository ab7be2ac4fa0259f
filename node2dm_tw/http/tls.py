"""Verifies servers: the chain must verify, and subjectAltName must contain the host."""

from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from ssl import get_default_verify_paths

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL
from OpenSSL.crypto import X509, X509StoreFlags
from service_identity.pyopenssl import verify_hostname, verify_ip_address
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from node2dm_tw.http.interface import CertificateRefused

_CHAIN_ERRORS = {
    9: "it is not yet valid",
    10: "it has expired",
    18: "it is self-signed",
    19: "its chain ends in a self-signed certificate that is not trusted",
    20: "its issuer is not trusted",
    21: "its issuer is not trusted",
}
"""Texts for the most common X509_V_ERR numbers (openssl-verification-options(1))."""


def read_authorities(ca_file: Path) -> list[x509.Certificate]:
    """Read every certificate of a PEM bundle.

    Raises:
        OSError: the file cannot be read.
        ValueError: it contains no certificate, or a damaged one.
    """
    try:
        return x509.load_pem_x509_certificates(ca_file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{ca_file} is not a bundle of PEM certificates: {error}") from error


def client_context(ca_file: Path | None) -> SSL.Context:
    """Make a TLS context that trusts the roots of `ca_file`, or the platform's without it."""
    context: SSL.Context = CertificateOptions().getContext()
    if ca_file is None:
        context.set_default_verify_paths()
        return context
    store = context.get_cert_store()
    assert store is not None
    for certificate in read_authorities(ca_file):
        store.add_cert(X509.from_cryptography(certificate))
    # An intermediate certificate in the file is trusted itself, as with libcurl.
    store.set_flags(X509StoreFlags.PARTIAL_CHAIN)
    return context


def is_address(host: str) -> bool:
    """Whether `host` is an IP address, not a name."""
    return isIPAddress(host) or isIPv6Address(host)


def verify_name(connection: SSL.Connection, host: str) -> None:
    """Check the name in the server's certificate after the handshake.

    Twisted's own check accepts a certificate without subjectAltName.

    Raises:
        CertificateRefused: subjectAltName is missing, unreadable, or does not contain `host`.
    """
    verify = verify_ip_address if is_address(host) else verify_hostname
    try:
        verify(connection, host)
    except Exception as error:
        raise CertificateRefused(f"the certificate is not for {host}: {error!r}") from error


_failure: Callable[[Exception], Failure] = Failure


@implementer(IOpenSSLClientConnectionCreator)
@attrs.frozen
class _Connections:
    """Makes TLS connections to one host with the shared context."""

    _context: SSL.Context
    _host: str

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        def on_chain_verified(
            connection: SSL.Connection, certificate: X509, number: int, depth: int, ok: int
        ) -> bool:
            if not ok:
                words = _CHAIN_ERRORS.get(number, f"OpenSSL error {number}")
                reason = f"the certificate of {self._host} does not verify: {words}"
                tlsProtocol.failVerification(_failure(CertificateRefused(reason)))
            return bool(ok)

        connection = SSL.Connection(self._context, None)
        if not is_address(self._host):
            connection.set_tlsext_host_name(self._host.encode("ascii"))
        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, on_chain_verified)
        return connection


@implementer(IPolicyForHTTPS)
class VerifiedTLS:
    """Verifies chains against a set of roots; `verify_name` checks the name after the handshake.

    Args:
        ca_file: a PEM bundle; None means the platform's roots.

    Raises:
        OSError, ValueError: as `read_authorities`.
    """

    def __init__(self, ca_file: Path | None) -> None:
        self._context = client_context(ca_file)

    def creatorForNetloc(self, hostname: bytes, port: int) -> _Connections:
        return _Connections(self._context, hostname.decode("ascii"))


_PLATFORM_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""The root certificates of Debian, Fedora, openSUSE and Alpine."""


def platform_authorities() -> Path:
    """Find the platform's bundle of roots, for a library that does not find it itself.

    Raises:
        ValueError: there is none.
    """
    named = get_default_verify_paths().cafile
    for name in (named, *_PLATFORM_FILES):
        if name and Path(name).is_file():
            return Path(name)
    raise ValueError("the platform has no bundle of CA certificates; set ca_file")


def pin_of(certificate: bytes) -> str:
    """Return the pin of a server's key, in libcurl's format, if its certificate has host names.

    Args:
        certificate: the server's, in PEM; its chain and host name are already verified.

    Raises:
        CertificateRefused: subjectAltName is missing, or has neither a host name nor an address.
    """
    try:
        leaf = x509.load_pem_x509_certificate(certificate)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound) as error:
        raise CertificateRefused(f"the certificate has no subjectAltName: {error}") from error
    if not any(isinstance(name, (x509.DNSName, x509.IPAddress)) for name in names):
        raise CertificateRefused("the certificate's subjectAltName contains no host name")
    key = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return "sha256//" + b64encode(sha256(key).digest()).decode("ascii")
