"""URLs as they are: treq and Twisted pass a host through IDNA, which refuses more than it should.

An IPv6 address is no domain name, and the name of a container may hold an underscore. The
configuration has checked every host, and all of them are ASCII: nothing is left to encode.
"""

from hyperlink import EncodedURL
from twisted.internet.endpoints import HostnameEndpoint


class PlainURL(EncodedURL):
    """A URL that is sent as it was written."""

    def to_uri(self) -> EncodedURL:
        return self


class PlainHostEndpoint(HostnameEndpoint):
    """Connects to any host that the resolver finds."""

    @staticmethod
    def _hostAsBytesAndText(host: bytes | str) -> tuple[bool, bytes, str]:
        text = host if isinstance(host, str) else host.decode("ascii")
        return False, text.encode("ascii"), text
