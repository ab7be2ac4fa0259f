"""Converters from the texts of options to values, and the files that options name.

A converter takes the text, and the folder of the configuration file, to which paths are relative.
It raises ValueError with what is expected, as in "a number of seconds".
"""

import errno
import ipaddress
import os
import re
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import attrs

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
Converter = Callable[[str, Path], Any]

MAX_FILE_BYTES = 4 << 20
"""Maximum size of the configuration file, and of a file that it names, such as a CA bundle."""

MAX_SECRET_BYTES = 65_536
"""Maximum size of a file that holds a password, or a service account's key."""


@attrs.frozen
class FileContent:
    """A file, and its content when the configuration was read."""

    path: Path
    content: bytes = attrs.field(repr=False)


def text(value: str, folder: Path) -> str:
    """Check that a text is one line without control characters."""
    if re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", value):
        raise ValueError("one line without control characters")
    return value


def printable(value: str) -> str:
    """Escape unprintable characters, so that an error stays on one line."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in value)


def path(value: str, folder: Path) -> Path:
    """Convert a path, which is relative to the folder of the file."""
    if value.startswith("{") or "-----" in value:
        raise ValueError("the path of a file, not its content")
    return Path(os.path.normpath(folder.absolute() / text(value, folder)))


def read_file(file: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """Read a regular file of at most `limit` bytes. Never blocks, even on a FIFO without a writer.

    Raises:
        OSError: the file cannot be read, is not a regular file, or is larger.
    """
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            kind = " but a directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else ""
            raise OSError(errno.EINVAL, f"Not a regular file{kind}", str(file))
        with os.fdopen(descriptor, "rb", closefd=False) as opened:
            content = opened.read(limit + 1) or b""
    finally:
        os.close(descriptor)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"Larger than {limit} bytes", str(file))
    return content


def file_content(limit: int = MAX_FILE_BYTES) -> Converter:
    """Make a converter from the path of a file to its `FileContent`."""

    def convert(value: str, folder: Path) -> FileContent:
        found = path(value, folder)
        try:
            return FileContent(found, read_file(found, limit))
        except OSError as error:
            reason = f"{error.strerror}: {printable(str(found))}{describe_owner(found, error)}"
            raise ValueError(f"a file that can be read ({reason})") from error

    return convert


def describe_owner(file: Path, error: OSError) -> str:
    """Describe the owner and mode of a file without read permission; empty for other errors."""
    try:
        status = file.stat() if isinstance(error, PermissionError) else None
    except OSError:  # a folder of its path cannot be entered
        return ""
    if status is None:
        return ""
    mode = stat.S_IMODE(status.st_mode)
    return f"; it belongs to user {status.st_uid}, mode {mode:03o}; this is user {os.geteuid()}"


def file_text(value: str, folder: Path) -> str:
    """Read the text of a file, without a byte-order mark and trailing line ends."""
    file: FileContent = file_content(MAX_SECRET_BYTES)(value, folder)
    try:
        found = file.content.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"a file in UTF-8 ({printable(str(file.path))})") from None
    if not found:
        raise ValueError(f"a file that is not empty ({printable(str(file.path))})")
    return found


def number(lowest: int, highest: int) -> Converter:
    """Make a converter to a whole number."""

    def convert(value: str, folder: Path) -> int:
        if not re.fullmatch(r"\d{1,12}", value, re.ASCII) or not lowest <= int(value) <= highest:
            raise ValueError(f"a whole number from {lowest} to {highest}")
        return int(value)

    return convert


def decimal(wanted: str, lowest: float, highest: float) -> Converter:
    """Make a converter to a decimal number, of which `wanted` names the unit."""

    def convert(value: str, folder: Path) -> float:
        is_decimal = re.fullmatch(r"\d{1,12}(\.\d{1,6})?", value, re.ASCII)
        if is_decimal is None or not lowest <= float(value) <= highest:
            raise ValueError(f"{wanted}, from {lowest:.15g} to {highest:.15g}")
        return float(value)

    return convert


seconds = partial(decimal, "seconds")
percent = decimal("percent", 0, 100)


def choice(*values: str) -> Converter:
    """Make a converter to one of a few words."""

    def convert(value: str, folder: Path) -> str:
        if value not in values:
            raise ValueError("one of " + ", ".join(values))
        return value

    return convert


def full_match(pattern: str, wanted: str) -> Converter:
    """Make a converter that checks a text against a regular expression."""
    whole = re.compile(pattern, re.ASCII)

    def convert(value: str, folder: Path) -> str:
        if not whole.fullmatch(value):
            raise ValueError(wanted)
        return value

    return convert


plain_word = full_match(r"[A-Za-z0-9_.-]{1,100}", "letters, digits, _ . and -")


def yes_or_no(value: str, folder: Path) -> bool:
    """Convert yes or no."""
    if value not in ("yes", "no"):
        raise ValueError("yes or no")
    return value == "yes"


def host(value: str, folder: Path) -> str:
    """Check a host name or an IP address; add missing brackets to an IPv6 address."""
    bracketed = value if value.startswith("[") else f"[{value}]"
    if bracketed.endswith("]") and _is_ipv6(bracketed[1:-1]):
        return bracketed
    if len(value) > 253 or not _HOST_NAME.fullmatch(value):
        raise ValueError("a host name or an IP address")
    return value


_HOST_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")


def _is_ipv6(value: str) -> bool:
    try:
        return not ipaddress.IPv6Address(value).scope_id
    except ValueError:
        return False


def url(value: str, folder: Path) -> str:
    """Check an HTTPS or HTTP URL."""
    match = re.fullmatch(r"https?://([^/:]+|\[[^/]+\])(:\d{1,5})?(/[!-~]*)?", value, re.ASCII)
    try:
        if match is None or not 0 < int((match[2] or ":1")[1:]) <= 65_535:
            raise ValueError
        host(match[1], folder)
    except ValueError:
        raise ValueError("a URL such as https://host/path") from None
    return value


def proxy_url(value: str, folder: Path) -> str:
    """Check the URL of a proxy, which may contain a user and a password."""
    match = re.fullmatch(r"(https?://)(?:([^@/?#]+)@)?([^@/?#]+)/?", value)
    try:
        if match is None or not _CREDENTIALS.fullmatch(match[2] or ""):
            raise ValueError
        url(match[1] + match[3], folder)
        text(unquote(match[2] or ""), folder)
    except ValueError:
        raise ValueError(
            "a URL such as http://proxy:3128 or http://user:password@proxy:3128; special"
            " characters in user or password need percent-encoding, as in %40 for @"
        ) from None
    return value


_CREDENTIALS = re.compile(r"(?:[!-$&-~]|%[0-9A-Fa-f]{2})*")


def rate(value: str, folder: Path) -> tuple[int, float]:
    """Convert N/s, N/m, N/h or N/d to a number and a period in seconds."""
    match = re.fullmatch(r"(\d{1,12})/([smhd])", value, re.ASCII)
    if match is None or int(match[1]) == 0:
        raise ValueError("a rate such as 240/m")
    return int(match[1]), {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}[match[2]]


def rates(value: str, folder: Path) -> tuple[tuple[int, float], ...]:
    """Convert one or more rates, separated by commas."""
    return tuple(rate(word, folder) for word in words(value, folder) or ("",))


def words(value: str, folder: Path) -> tuple[str, ...]:
    """Split a list at its commas."""
    return tuple(word.strip() for word in value.split(",") if word.strip())


def networks(value: str, folder: Path) -> tuple[IPNetwork, ...]:
    """Convert IP networks, separated by commas."""
    try:
        return tuple(ipaddress.ip_network(word) for word in words(value, folder))
    except ValueError as error:
        raise ValueError(f"networks such as 127.0.0.0/8, separated by commas ({error})") from error


def address(value: str) -> tuple[str, int]:
    """Convert an IP address with a port, ``127.0.0.1:8120`` or ``[::1]:8120``."""
    host, _, port = value.rpartition(":")
    try:
        found = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        if not re.fullmatch(r"\d{1,5}", port, re.ASCII) or int(port) > 65_535:
            raise ValueError(port)
    except ValueError as error:
        raise ValueError(
            "IP addresses with ports such as 127.0.0.1:8120, separated by commas"
        ) from error
    return str(found), int(port)


def addresses(value: str, folder: Path) -> tuple[tuple[str, int], ...]:
    """Convert one or more addresses, separated by commas."""
    return tuple(address(word) for word in words(value, folder) or ("",))
