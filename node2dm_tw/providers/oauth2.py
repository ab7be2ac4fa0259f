"""OAuth 2.0 for service accounts, the sign-in of FCM; and what the other sign-ins share."""

import functools
import json
import math
import re
from collections.abc import Callable
from types import ModuleType
from typing import TypeGuard
from urllib.parse import urlencode, urlsplit

import attrs
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from twisted.internet.defer import Deferred, fail

from node2dm_tw.core.backoff import http_date, retry_after
from node2dm_tw.core.response import Headers, Response
from node2dm_tw.providers.bodies import read_object
from node2dm_tw.providers.interface import (
    DEFAULT_UNIVERSE,
    Credential,
    Post,
    SignInFailed,
    SignInRefused,
)

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
MAX_ASSERTION_SECONDS = 3_600
"""Maximum lifetime of an assertion."""

DEFAULT_TOKEN_SECONDS = 3_600.0
"""Lifetime of a token if the answer has no valid one."""

MIN_TOKEN_SECONDS = 60.0
"""Minimum lifetime of a token, whatever the answer says."""

MIN_REISSUED_TOKEN_SECONDS = 600.0
"""
Minimum lifetime of a token that the server issued again: the server keeps it until it expires, so
an earlier renewal is useless. A 401 leads to the next token.
"""

MAX_TOKEN_SECONDS = 86_400.0

MAX_CLOCK_ERROR_SECONDS = 60.0
"""Clock errors below this are not mentioned."""

NEEDS_EXTRA = "PyJWT, which FCM needs: pip install 'PyJWT[crypto]'"

_FORM: Headers = ((b"Content-Type", b"application/x-www-form-urlencoded"),)
_TOKEN = re.compile(r"[!-~]{1,16384}")
"""A token that a header can contain."""

_LOOKS_SECRET = re.compile(r"(?![A-Z_]{40,}(?![A-Za-z0-9-]))[A-Za-z0-9_-]{40,}")
"""Matches what may be a secret, but not the name of an environment variable."""

_TRANSIENT_CODES = frozenset(("temporarily_unavailable", "server_error", "internal_failure"))
"""Errors that say nothing about the account: retried without limit, never counted."""


@attrs.frozen
class ServiceAccountKey:
    """A service account and its private key, as in a key file.

    Args:
        private_key: PEM.
        private_key_id: may be empty.
        project: the project of the account; may be empty.
        universe: the domain of the cloud that the account belongs to.
    """

    client_email: str
    private_key: str = attrs.field(repr=False)
    private_key_id: str
    token_uri: str
    project: str
    universe: str = DEFAULT_UNIVERSE


def read_key(file: bytes) -> ServiceAccountKey:
    """Read the key file of a service account, as Google's console creates it.

    Raises:
        ValueError: says what is expected, and what is wrong with the file.
    """
    require_extra()
    try:
        return _read_key(file)
    except KeyFault as error:
        raise ValueError(f"a service account's key file ({error})") from None


def require_extra() -> None:
    """Raise ValueError if the package that signs is not installed."""
    _signer()


class KeyFault(Exception):
    """A key file is invalid; the text says why."""


_GET_KEY = (
    "get one in the Firebase console: Project settings, Service accounts, Generate new private key"
)

_OTHER_FILES = (
    (rb"\s*\Z", "it is empty"),
    (rb"\s*-----BEGIN CERTIFICATE", f"it is a certificate, without a private key; {_GET_KEY}"),
    (rb"\s*-----BEGIN PUBLIC KEY", f"it is a public key; {_GET_KEY}"),
    (rb"\s*-----BEGIN [A-Z ]*PRIVATE KEY", f"it is a private key alone, not JSON; {_GET_KEY}"),
    (rb"\x30[\x80-\x84]", f"it is a P12 file, not JSON; {_GET_KEY}, as JSON"),
    (
        rb"(?s)\s*(<\?xml|<!DOCTYPE plist|bplist).*GOOGLE_APP_ID",
        f"it is GoogleService-Info.plist, which belongs in an iOS app; {_GET_KEY}",
    ),
    (rb"\s*e[wy][\w+/\s]{20,}=*\s*\Z", "it is base64: decode it with base64 -d"),
    (rb"\s*AAAA[\w-]{7}:APA91", f"it is a server key of FCM's old interface; {_GET_KEY}"),
)
"""How files begin that are mistaken for a key file, and what they are."""

_OTHER_OBJECTS = {
    "project_info": f"it is google-services.json, which belongs in an Android app; {_GET_KEY}",
    "installed": f"it is the client secret of an OAuth client; {_GET_KEY}",
    "web": f"it is the client secret of an OAuth client; {_GET_KEY}",
    "privateKeyData": "it is an answer of Google's IAM; its privateKeyData is the key in base64",
}
"""Members of JSON objects that are mistaken for a key file, and what these are."""


def read_key_object(file: bytes) -> dict[str, object]:
    """Read a JSON object, or raise an error that says what the file is."""
    for beginning, what in _OTHER_FILES:
        if re.match(beginning, file.removeprefix(b"\xef\xbb\xbf")):
            raise KeyFault(what)
    try:
        content = json.loads(file)
    except json.JSONDecodeError as error:
        raise KeyFault(f"it is not JSON, from line {error.lineno} on") from None
    except (ValueError, RecursionError):
        raise KeyFault("it is not JSON") from None
    if not isinstance(content, dict):
        raise KeyFault("its JSON is not an object")
    return content


def _read_key(file: bytes) -> ServiceAccountKey:
    content = read_key_object(file)
    kind = content.get("type")
    if kind != "service_account":
        for member, what in _OTHER_OBJECTS.items():
            if member in content:
                raise KeyFault(what)
        raise KeyFault(f"its type is {sanitize(kind, 60) or 'nothing'}, not service_account")
    key = ServiceAccountKey(
        client_email=text_field(content, "client_email"),
        # A key from an environment variable may contain \n as two characters. That is unambiguous,
        # because PEM contains no backslashes.
        private_key=text_field(content, "private_key").replace("\\r", "").replace("\\n", "\n"),
        private_key_id=text_field(content, "private_key_id", ""),
        token_uri=text_field(content, "token_uri", "https://oauth2.googleapis.com/token"),
        project=text_field(content, "project_id", ""),
        universe=read_universe(content),
    )
    if not is_url(key.token_uri):
        raise KeyFault("its token_uri is not a URL that begins with https://")
    _private_key(key.private_key)
    return key


def read_universe(content: dict[str, object]) -> str:
    """Read the domain of the cloud that a key file belongs to. Raises `KeyFault`."""
    universe = text_field(content, "universe_domain", "") or DEFAULT_UNIVERSE
    if not re.fullmatch(r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*", universe):
        raise KeyFault("its universe_domain is not a domain")
    return universe


def text_field(content: dict[str, object], name: str, default: str | None = None) -> str:
    """Read a member that is a text, and not empty unless it has a default. Raises `KeyFault`."""
    value = content.get(name, default)
    if not isinstance(value, str) or (default is None and not value):
        raise KeyFault(f"it has no {name}")
    return value


def is_url(value: str) -> bool:
    """Whether a text is an address to which a sign-in can be sent."""
    try:
        parts = urlsplit(value)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    # Without @ before the path, so without a user.
    is_plain = re.fullmatch(r"https?://[!-.0-?A-~]+(/[!-~]*)?", value) is not None
    return is_plain and has_port and bool(parts.hostname)


def _signer() -> ModuleType:
    try:
        import jwt
    except ImportError:
        raise ValueError(NEEDS_EXTRA) from None
    return jwt


@functools.lru_cache(maxsize=64)
def _private_key(pem: str) -> RSAPrivateKey:
    """Load a private key. Errors never contain it.

    Cached, because OpenSSL takes 40 ms to check it.
    """
    try:
        key = load_pem_private_key(pem.encode("utf-8", "replace"), None)
    except TypeError:
        raise KeyFault("its private_key is encrypted with a password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFault("its private_key is not a private key in PEM") from None
    if not isinstance(key, RSAPrivateKey):
        raise KeyFault("its private_key is not an RSA key")
    return key


def sign(key: ServiceAccountKey, now: float) -> str:
    """Make a signed assertion that requests an access token for sending.

    Args:
        now: seconds since the epoch.

    Raises:
        ValueError: the extra is missing.
    """
    claims = {
        "iss": key.client_email,
        "scope": SCOPE,
        "aud": key.token_uri,
        "iat": int(now),
        "exp": int(now) + MAX_ASSERTION_SECONDS,
    }
    headers = {"kid": key.private_key_id} if key.private_key_id else None
    assertion: str = _signer().encode(claims, _private_key(key.private_key), "RS256", headers)
    return assertion


@attrs.define(eq=False, kw_only=True)
class UnsavedCredentials:
    """Credentials whose tokens are not saved, because a new one is cheap."""

    _generation: int = attrs.field(default=0, init=False)

    def stored(self) -> Credential | None:
        return None

    def replace(self, token: str) -> Credential:
        raise SignInFailed("a token, which FCM's answers never do")

    def keep(self) -> None:
        """Do nothing, because tokens are not saved."""

    def discard_stored(self) -> None:
        """Do nothing, because tokens are not saved."""

    def make_credential(
        self, token: str, now: float, life: float, user_project: str = ""
    ) -> Credential:
        """Make a credential of the next generation, which is valid for `life` seconds."""
        self._generation += 1
        header = b"Bearer " + token.encode("ascii")
        return Credential(header, self._generation, now, now + life, user_project.encode())


@attrs.define(eq=False)
class ServiceAccountCredentials(UnsavedCredentials):
    """Signs in with a service account's key.

    Args:
        post: sends the request.
        wall: seconds since the epoch.
    """

    post: Post = attrs.field(repr=False)
    wall: Callable[[], float]
    key: ServiceAccountKey
    _last_token: str = attrs.field(default="", init=False, repr=False)

    def fetch(self) -> Deferred[Credential]:
        try:
            assertion = sign(self.key, self.wall())
        except ValueError as error:
            return fail(SignInRefused(f"needs {error}", final=True))
        form = urlencode({"grant_type": GRANT_TYPE, "assertion": assertion}).encode()
        return self.post(self.key.token_uri, _FORM, form).addCallback(self._on_answer)

    def _on_answer(self, response: Response) -> Credential:
        now = self.wall()
        token, life = read_answer(response, now)
        shortest = MIN_REISSUED_TOKEN_SECONDS if token == self._last_token else MIN_TOKEN_SECONDS
        self._last_token = token
        return self.make_credential(token, now, max(life, shortest))


def read_answer(response: Response, now: float) -> tuple[str, float]:
    """Read the token in an answer of the token endpoint.

    Args:
        now: seconds since the epoch.

    Returns:
        The token, and its lifetime in seconds.

    Raises:
        SignInRefused: the answer has an error of the account, its key, or our clock.
        SignInFailed: any other answer without a token.
    """
    content = read_object(response.body)
    if response.status == 200:
        token, kind = content.get("access_token"), content.get("token_type", "Bearer")
        if not is_token(token):
            raise SignInFailed("an answer without a token")
        if not isinstance(kind, str) or kind.lower() != "bearer":
            raise SignInFailed("a token of another type than Bearer")
        return token, _read_lifetime(content.get("expires_in"))
    raise read_error(response, now)


def is_token(value: object) -> TypeGuard[str]:
    """Whether this is a token that a header can contain."""
    return isinstance(value, str) and _TOKEN.fullmatch(value) is not None


def read_error(response: Response, now: float, place: str = "") -> SignInRefused | SignInFailed:
    """Read why a sign-in was not answered with a token.

    Args:
        now: seconds since the epoch.
        place: what the reason begins with.
    """
    content = read_object(response.body)
    code, description = _read_oauth_error(content)
    if (
        not code
        or code in _TRANSIENT_CODES
        or response.status >= 500
        or response.status in (408, 429)
    ):
        after = retry_after(response.headers.get(b"retry-after"), now)
        return SignInFailed(f"{place}status {response.status} {code}".rstrip(), after)
    reason = f"{code}: {description}" if description else code
    if code == "invalid_grant":
        reason += _describe_clock(http_date(response.headers.get(b"date")), now)
    return SignInRefused(place + reason)


def _describe_clock(theirs: float | None, now: float) -> str:
    """Describe the error of our clock, which may have made the assertion invalid."""
    if theirs is None:
        return ""
    off = round(now - theirs)
    if abs(off) < MAX_CLOCK_ERROR_SECONDS:
        return "; the clock of this machine is right"
    side = "ahead of" if off > 0 else "behind"
    return f"; the clock of this machine is {abs(off)} seconds {side} the server's: set it"


def _read_oauth_error(content: dict[str, object]) -> tuple[str, str]:
    """Read OAuth's two fields, or those of Google's other services."""
    error = content.get("error")
    if isinstance(error, dict):
        return sanitize(error.get("status"), 60), sanitize(error.get("message"))
    return sanitize(error, 60), sanitize(content.get("error_description"))


def sanitize(value: object, most: int = 200) -> str:
    """Shorten and mask a text from another side for the log."""
    if not isinstance(value, str):
        return ""
    return re.sub(r"[^!-~]+", " ", _LOOKS_SECRET.sub("...", value))[:most].strip()


def _read_lifetime(value: object) -> float:
    """Read `expires_in`, a number or the text of one."""
    try:
        life = float(value) if isinstance(value, int | float | str) else 0.0
    except (ValueError, OverflowError):
        return DEFAULT_TOKEN_SECONDS
    is_usable = life > 0 and math.isfinite(life)
    return min(life, MAX_TOKEN_SECONDS) if is_usable else DEFAULT_TOKEN_SECONDS
