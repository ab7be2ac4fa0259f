"""The sections of routes in the gateway's configuration file, and their options."""

import os
from pathlib import Path

import attrs
from cryptography import x509

from node2dm_tw.config.converters import (
    MAX_SECRET_BYTES,
    FileContent,
    file_content,
    full_match,
    number,
    plain_word,
    rate,
    rates,
    seconds,
    text,
    url,
)
from node2dm_tw.config.ini import option
from node2dm_tw.config.sections import DAY

key_file = file_content(MAX_SECRET_BYTES)
"""Converts a path to the content of a key file."""

METADATA = "metadata"
"""The value of `service_account` for the metadata server of Google Cloud."""

DEFAULT = "default"
"""The value of `service_account` for the application default credentials."""


def service_account(value: str, folder: Path) -> FileContent | str:
    """Convert the path of a key file, `METADATA`, or `DEFAULT`, which is one of these two."""
    if value == METADATA:
        return METADATA
    if value == DEFAULT:
        value = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS", "") or _gcloud_file()
    file: FileContent | str = key_file(value, folder) if value else METADATA
    return file


def source_of(found: FileContent | str) -> bytes | str:
    """Return the content of a key file, or `METADATA`."""
    return found if isinstance(found, str) else found.content


def _gcloud_file() -> str:
    """Return the file that ``gcloud auth application-default login`` has written; empty: none."""
    folder = os.environ.get("CLOUDSDK_CONFIG", "")
    try:
        place = Path(folder) if folder else Path.home() / ".config" / "gcloud"
        file = place / "application_default_credentials.json"
        return str(file) if file.exists() else ""
    except (RuntimeError, OSError):  # the user has no home, or none that can be entered
        return ""


def _authorities(value: str, folder: Path) -> FileContent:
    """Convert the path of a file with certificates."""
    file: FileContent = file_content()(value, folder)
    if file.content.startswith(b"\x30"):
        raise ValueError("certificates in PEM; this is DER: openssl x509 -inform der -in FILE")
    try:
        x509.load_pem_x509_certificates(file.content)
    except ValueError:
        is_damaged = b"-----BEGIN CERTIFICATE" in file.content
        reason = "one of them is damaged" if is_damaged else "there is none in the file"
        raise ValueError(f"a file with certificates in PEM ({reason})") from None
    return file


_project = full_match(r"[a-z0-9.:-]{1,100}", "a project ID")

Rates = tuple[tuple[int, float], ...]
"""Limits that all apply: (number of pushes, in any period of so many seconds)."""


@attrs.frozen(kw_only=True)
class RouteSection:
    """The options that every route has.

    Args:
        title: name of the section.
    """

    title: str
    prefix: str | None = option(
        plain_word, "", "another name for the route, written before the | of a line", shown=True
    )
    ca_file: FileContent | None = option(
        _authorities,
        "",
        "a file of certificates to trust instead of the platform's",
        shown=True,
    )
    max_in_flight: int = option(
        number(1, 4096),
        "64",
        "maximum number of requests in flight",
        shown=True,
        reloads=True,
    )
    timeout: float = option(
        seconds(1, 600), "30", "seconds that a request, connecting included, may take", shown=True
    )
    device_rate: Rates | None = option(
        rates,
        "",
        "pushes to one device: one or more rates such as 240/m; empty: no limit",
        shown=True,
        reloads=True,
    )
    device_burst: int | None = option(
        number(1, 1_000_000),
        "",
        "pushes to one device that may be sent at once; empty: a quarter of the lowest device_rate",
        shown=True,
        reloads=True,
    )

    @property
    def kind(self) -> str:
        """``c2dm`` or ``fcm``."""
        return self.title.partition(":")[0]

    @property
    def name(self) -> str:
        """The name of the route: NAME of [c2dm:NAME], or c2dm."""
        return self.title.rpartition(":")[2]


@attrs.frozen(kw_only=True)
class C2DMRoute(RouteSection):
    """A section [c2dm]: one sender account."""

    username: str = option(
        text, None, "the sender's account, an e-mail address", shown=True, reloads=True
    )
    password: str = option(text, None, "its password", secret=True, reloads=True)
    source: str = option(
        text,
        "node2dm_tw",
        "the name of the application in sign-ins: company-app-version",
        shown=True,
        reloads=True,
    )
    login_url: str = option(
        url,
        "https://www.google.com/accounts/ClientLogin",
        "the address of ClientLogin",
        shown=True,
    )
    send_url: str = option(
        url,
        "https://android.apis.google.com/c2dm/send",
        "the address to which pushes are sent",
        shown=True,
    )
    token_max_age: float = option(
        seconds(2, 365 * DAY),
        "1209600",
        "seconds after which the auth token is renewed",
        shown=True,
    )
    device_block: float = option(
        seconds(1, 28 * DAY),
        "3600",
        "seconds during which pushes to a device over its quota are dropped",
        shown=True,
        reloads=True,
    )


@attrs.frozen(kw_only=True)
class FCMRoute(RouteSection):
    """A section [fcm]: one Firebase project."""

    service_account: FileContent | str = option(
        service_account,
        None,
        "how to sign in: the path of a key file; metadata: as the machine in Google Cloud; default:"
        " the application default credentials",
        shown=True,
        reloads=True,
    )
    project: str | None = option(
        _project, "", "the project that sends; empty: the project that the key names", shown=True
    )
    prefix: str | None = option(
        plain_word,
        "g",
        "another name for the route, written before the | of a line; default: only for [fcm]",
        shown=True,
        optional=True,
    )
    url: str = option(
        url,
        "https://fcm.googleapis.com",
        "the address of the service, or of messages:send; the default changes with the"
        " universe_domain of the key",
        shown=True,
    )
    max_in_flight: int = option(
        number(1, 4096),
        "512",
        "maximum number of requests in flight",
        shown=True,
        reloads=True,
    )
    max_age: float = option(
        seconds(1, 28 * DAY),
        "3600",
        "seconds after which a push is dropped",
        shown=True,
        reloads=True,
    )
    device_rate: Rates | None = option(
        rates,
        "240/m, 5000/h",
        "pushes to one device: one or more rates; empty: no limit",
        shown=True,
        reloads=True,
        optional=True,
    )
    device_burst: int | None = option(
        number(1, 1_000_000),
        "60",
        "pushes to one device that may be sent at once; the default is lower if device_rate is low",
        shown=True,
        reloads=True,
    )
    project_rate: tuple[int, float] | None = option(
        rate,
        "600000/m",
        "pushes of the whole project, spread evenly; empty: no limit",
        shown=True,
        reloads=True,
        optional=True,
    )
    bad_device_alarm: int = option(
        number(0, 100),
        "50",
        "percent of answers that blame devices, above which callbacks are held; 0: off",
        shown=True,
        reloads=True,
    )
