"""Passes hosts to treq and Twisted without IDNA, which rejects valid hosts.

It rejects IPv6 addresses, and names with an underscore, which containers may have. The
configuration has checked every host, and all are ASCII, so nothing needs to be encoded.
"""

from hyperlink import EncodedURL
from twisted.internet.endpoints import HostnameEndpoint


class PlainURL(EncodedURL):
    """A URL that is sent unchanged."""

    def to_uri(self) -> EncodedURL:
        return self


class PlainHostEndpoint(HostnameEndpoint):
    """Connects to any host that the resolver finds."""

    @staticmethod
    def _hostAsBytesAndText(host: bytes | str) -> tuple[bool, bytes, str]:
        text = host if isinstance(host, str) else host.decode("ascii")
        return False, text.encode("ascii"), text
