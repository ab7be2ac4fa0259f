"""Whether a web page of another site makes a browser send a request; pure functions of headers."""

import ipaddress
import re
from collections.abc import Collection

_HOST = re.compile(r"(\[[^\s\[\]]+\]|[^\s:\[\]]+)(:[0-9]{0,5})?", re.ASCII)

_OWN_SITE = ("same-origin", "none")
"""`Sec-Fetch-Site` of a page of ours, and of a person who types an address."""


def host_name(host: str) -> str | None:
    """Read the name or IP address in a header `Host`; None where it cannot be read."""
    match = _HOST.fullmatch(host.strip())
    return match[1].strip("[]").lower().removesuffix(".") if match else None


def is_known_host(host: str, web_hosts: Collection[str]) -> bool:
    """Whether a header `Host` names this gateway.

    A page of another site may let its own name point to our address (DNS rebinding), and would then
    read what we answer. An IP address cannot be pointed elsewhere.

    Args:
        web_hosts: names of ours, in lower case.
    """
    name = host_name(host)
    if name is None:
        return False
    return name == "localhost" or name in web_hosts or _is_ip_address(name)


def _is_ip_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_of_another_site(fetch_site: str | None, origin: str | None, host: str | None) -> bool:
    """Whether a browser sends a request on behalf of a page that is not ours.

    Args:
        fetch_site: the header `Sec-Fetch-Site`.
        origin: the header `Origin`.
        host: the header `Host`.
    """
    if fetch_site is not None and fetch_site.strip().lower() not in _OWN_SITE:
        return True
    if origin is None:
        return False
    scheme, _, place = origin.strip().lower().partition("://")
    return scheme not in ("http", "https") or host is None or place != host.strip().lower()
