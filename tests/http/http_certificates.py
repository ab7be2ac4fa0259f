"""Certificates for servers of the tests: good ones, and one of each bad kind."""

from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import IPv4Address

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NAMES = (x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1")))


@attrs.frozen
class Identity:
    """A certificate and its key, in PEM."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


def make(common_name, *, issuer=None, names=(), days=1, authority=False):
    """Make an identity; without an issuer it signs itself. A negative `days` has expired."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=3))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    signer = issuer.key if issuer else key
    return Identity(builder.sign(signer, hashes.SHA256()), key)


@cache
def authority(name="a root of the tests"):
    return make(name, authority=True)


@cache
def good():
    return make("localhost", issuer=authority(), names=NAMES)


@cache
def bad(kind):
    """An identity that must be refused where `authority()` is trusted."""
    if kind == "no subjectAltName":
        return make("localhost", issuer=authority())
    if kind == "wrong name":
        return make("localhost", issuer=authority(), names=[x509.DNSName("elsewhere.example")])
    if kind == "expired":
        return make("localhost", issuer=authority(), names=NAMES, days=-1)
    if kind == "self-signed":
        return make("localhost", names=NAMES)
    if kind == "unknown issuer":
        return make("localhost", issuer=authority("another root"), names=NAMES)
    raise KeyError(kind)


BAD = ("no subjectAltName", "wrong name", "expired", "self-signed", "unknown issuer")
