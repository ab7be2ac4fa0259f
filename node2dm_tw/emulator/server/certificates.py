"""Certificates of the emulator, in PEM: an authority, and the server's, which it signs."""

import datetime
import ipaddress

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE = datetime.timedelta(days=730)
_RENEW_BEFORE = datetime.timedelta(days=30)

KEY_FORMAT = (
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
)

DAMAGED = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RecursionError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.ExtensionNotFound,
)
"""What the reading of certificates, keys and JSON raises if a file is damaged."""


def are_usable(authority_pem: bytes, server_pem: bytes, host: str, now: datetime.datetime) -> bool:
    """Whether the certificates belong together, are for `host`, and do not expire soon."""
    try:
        authority = x509.load_pem_x509_certificate(authority_pem)
        server = x509.load_pem_x509_certificate(server_pem)
        key = serialization.load_pem_private_key(server_pem, None)
        server.verify_directly_issued_by(authority)
        names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except DAMAGED:
        return False
    return (
        server.public_key() == key.public_key()
        and set(_names(host)) <= set(names)
        and server.not_valid_before_utc <= now < server.not_valid_after_utc - _RENEW_BEFORE
    )


def make_certificates(host: str, now: datetime.datetime) -> tuple[bytes, bytes]:
    """Make an authority and a certificate for `host`.

    The authority's key is not kept, so it can never sign anything else.

    Returns:
        the authority's certificate; and the server's with its key and the authority's.
    """
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
    authority_pem = authority.public_bytes(serialization.Encoding.PEM)
    server_pem = server.public_bytes(serialization.Encoding.PEM)
    return authority_pem, server_pem + server_key.private_bytes(*KEY_FORMAT) + authority_pem


def _names(host: str) -> list[x509.GeneralName]:
    addresses = dict.fromkeys(ipaddress.ip_address(each) for each in ("127.0.0.1", "::1", host))
    return [x509.DNSName("localhost"), *map(x509.IPAddress, addresses)]


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
