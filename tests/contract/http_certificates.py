"""Certificates for servers of the tests: good ones, and one of each bad kind."""

from datetime import UTC, datetime, timedelta
from functools import cache

import attrs
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

NAMES = ("localhost", "127.0.0.1")


@attrs.frozen
class Identity:
    """A certificate and its key, in PEM."""

    certificate_pem: bytes
    key_pem: bytes

    @property
    def certificate(self):
        return x509.load_pem_x509_certificate(self.certificate_pem)

    @property
    def key(self):
        return serialization.load_pem_private_key(self.key_pem, None)


@cache
def _authority(name):
    return trustme.CA(organization_unit_name=name)


def authority(name="a root of the tests"):
    """Return a root, which is the same for as long as the process lives."""
    found = _authority(name)
    return Identity(found.cert_pem.bytes(), found.private_key_pem.bytes())


def make(*names, issuer="a root of the tests", **options):
    """Make an identity for hosts and addresses; options as `not_after` are trustme's."""
    made = _authority(issuer).issue_cert(*names, common_name="localhost", **options)
    return Identity(made.cert_chain_pems[0].bytes(), made.private_key_pem.bytes())


def make_odd(*names, self_signed=False):
    """Make an identity that trustme does not: without a subjectAltName, or signed by itself.

    Args:
        names: what subjectAltName holds; without any there is no such extension.
    """
    issuer, own = authority(), make("localhost")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if self_signed else issuer.certificate.subject)
        .public_key(own.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    signed = builder.sign(own.key if self_signed else issuer.key, hashes.SHA256())
    return attrs.evolve(own, certificate_pem=signed.public_bytes(serialization.Encoding.PEM))


@cache
def good():
    return make(*NAMES)


@cache
def bad(kind):
    """An identity that must be refused where `authority()` is trusted."""
    match kind:
        case "no subjectAltName":
            return make_odd()
        case "wrong name":
            return make("elsewhere.example")
        case "expired":
            return make(*NAMES, not_after=datetime.now(UTC) - timedelta(days=1))
        case "self-signed":
            return make_odd(x509.DNSName("localhost"), self_signed=True)
        case "unknown issuer":
            return make(*NAMES, issuer="another root")
    raise KeyError(kind)


BAD = ("no subjectAltName", "wrong name", "expired", "self-signed", "unknown issuer")
