"""Roots and pins."""

import pytest
from cryptography import x509

from node2dm_tw.http.interface import CertificateRefused
from node2dm_tw.http.tls import is_address, pin_of, platform_authorities, read_authorities
from tests.contract import http_certificates as certificates


def test_pin():
    """A pin is of the key: another certificate for the same key has the same."""
    identity = certificates.good()
    pin = pin_of(identity.certificate_pem)
    assert pin.startswith("sha256//")
    assert len(pin) == len("sha256//") + 44
    assert pin_of(certificates.bad("wrong name").certificate_pem) != pin


@pytest.mark.parametrize("names", [(), (x509.UniformResourceIdentifier("https://a, DNS:b"),)])
def test_no_pin_without_a_host(names):
    """A certificate that names no host in subjectAltName gets none, whatever else it names."""
    identity = certificates.make_odd(*names)
    with pytest.raises(CertificateRefused, match="subjectAltName"):
        pin_of(identity.certificate_pem)


def test_no_pin_without_a_certificate():
    """What is no certificate is refused."""
    with pytest.raises(CertificateRefused):
        pin_of(b"")


def test_bundle(tmp_path):
    """All certificates of a bundle are read, in order."""
    pair = [certificates.authority(), certificates.authority("another root")]
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(b"a comment\n" + b"\n".join(one.certificate_pem for one in pair))
    assert read_authorities(bundle) == [one.certificate for one in pair]


def test_platform(monkeypatch, tmp_path):
    """SSL_CERT_FILE names the platform's roots, as everywhere else."""
    named = tmp_path / "roots.pem"
    named.write_bytes(certificates.authority().certificate_pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(named))
    assert platform_authorities() == named


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", True), ("::1", True), ("a.example", False)]
)
def test_is_address(host, expected):
    """Addresses are told from names."""
    assert is_address(host) is expected
