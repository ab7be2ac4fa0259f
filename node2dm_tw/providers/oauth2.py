"""OAuth 2.0 for service accounts, the sign-in of FCM: a signed assertion for an access token."""

import functools
import json
import math
import re
from collections.abc import Callable
from types import ModuleType
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
    Credential,
    Post,
    SignInFailed,
    SignInRefused,
)

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ASSERTION_LIFE = 3_600
"""Seconds; the longest there is."""

USUAL_LIFE = 3_600.0
"""Seconds of a token's life where the answer names none that can be read."""

SHORTEST_LIFE = 60.0
"""Seconds; no token is renewed more often, however short a life is named."""

SHORTEST_LIFE_REPEATED = 600.0
"""
Seconds, where the token of before was handed out again: the server keeps it until it ends, so
asking again before brings nothing. A 401 brings the next one.
"""

LONGEST_LIFE = 86_400.0

WRONG_CLOCK = 60.0
"""Seconds by which a clock may be off without being worth a word."""

NEEDS_EXTRA = "PyJWT, which FCM needs: pip install 'PyJWT[crypto]'"

_FORM: Headers = ((b"Content-Type", b"application/x-www-form-urlencoded"),)
_TOKEN = re.compile(r"[!-~]{1,16384}")
"""What can stand in a header."""

_LOOKS_SECRET = re.compile(r"[A-Za-z0-9_-]{40,}")
_TRANSIENT_CODES = frozenset(("temporarily_unavailable", "server_error", "internal_failure"))
"""Errors that say nothing about the account: tried again for ever, never counted."""


@attrs.frozen
class ServiceAccountKey:
    """A service account and its private key, as a key file holds them.

    Args:
        private_key: PEM.
        private_key_id: may be empty.
        project: the account's own project; may be empty.
    """

    client_email: str
    private_key: str = attrs.field(repr=False)
    private_key_id: str
    token_uri: str
    project: str


def read_key(file: bytes) -> ServiceAccountKey:
    """Read a service account's key, as Google's console gives it out in a file.

    Raises:
        ValueError: says what is expected, and what is wrong with the file.
    """
    require_extra()
    try:
        return _read_key(file)
    except _KeyFault as error:
        raise ValueError(f"a service account's key file ({error})") from None


def require_extra() -> None:
    """Raise ValueError where no key can be used, because what signs is not installed."""
    _signer()


class _KeyFault(Exception):
    """What is wrong with a key file."""


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
        f"it is GoogleService-Info.plist, which belongs into an iOS app; {_GET_KEY}",
    ),
    (rb"\s*e[wy][\w+/\s]{20,}=*\s*\Z", "it is in base64: decode it, as base64 -d does"),
    (rb"\s*AAAA[\w-]{7}:APA91", f"it is a server key of FCM's old interface; {_GET_KEY}"),
)
"""How files begin that are taken for a key file, and what they are."""

_OTHER_OBJECTS = {
    "project_info": f"it is google-services.json, which belongs into an Android app; {_GET_KEY}",
    "installed": f"it is the client secret of an OAuth client; {_GET_KEY}",
    "web": f"it is the client secret of an OAuth client; {_GET_KEY}",
    "privateKeyData": "it is an answer of Google's IAM; its privateKeyData holds the key in base64",
}
"""Members of JSON objects that are taken for a key file, and what they are."""

_OTHER_TYPES = ("external_account", "impersonated_service_account", "authorized_user")
"""Credentials that are not implemented yet."""


def _read_json(file: bytes) -> dict[str, object]:
    """Read an object, or say what the file is."""
    for beginning, what in _OTHER_FILES:
        if re.match(beginning, file.removeprefix(b"\xef\xbb\xbf")):
            raise _KeyFault(what)
    try:
        content = json.loads(file)
    except json.JSONDecodeError as error:
        raise _KeyFault(f"it is not JSON, from line {error.lineno} on") from None
    except (ValueError, RecursionError):
        raise _KeyFault("it is not JSON") from None
    if not isinstance(content, dict):
        raise _KeyFault("its JSON is no object")
    return content


def _read_key(file: bytes) -> ServiceAccountKey:
    content = _read_json(file)
    kind = content.get("type")
    if kind in _OTHER_TYPES:
        raise _KeyFault(f"its type is {kind}, which is not implemented yet; {_GET_KEY}")
    if kind != "service_account":
        for member, what in _OTHER_OBJECTS.items():
            if member in content:
                raise _KeyFault(what)
        raise _KeyFault(f"its type is {_one_line(kind, 60) or 'nothing'}, not service_account")
    key = ServiceAccountKey(
        client_email=_field(content, "client_email"),
        # Whoever passes a key through the environment may end up with \n in two characters, which
        # can mean nothing else: PEM has no backslashes.
        private_key=_field(content, "private_key").replace("\\r", "").replace("\\n", "\n"),
        private_key_id=_field(content, "private_key_id", ""),
        token_uri=_field(content, "token_uri", "https://oauth2.googleapis.com/token"),
        project=_field(content, "project_id", ""),
    )
    if not _is_url(key.token_uri):
        raise _KeyFault("its token_uri is no URL that begins with https://")
    _private_key(key.private_key)
    return key


def _field(content: dict[str, object], name: str, default: str | None = None) -> str:
    value = content.get(name, default)
    if not isinstance(value, str) or (default is None and not value):
        raise _KeyFault(f"it has no {name}")
    return value


def _is_url(value: str) -> bool:
    try:
        parts = urlsplit(value)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    is_plain = re.fullmatch(r"https?://[!-?A-~]+", value) is not None  # no @, so no user
    return is_plain and has_port and bool(parts.hostname)


def _signer() -> ModuleType:
    try:
        import jwt
    except ImportError:
        raise ValueError(NEEDS_EXTRA) from None
    return jwt


@functools.lru_cache(maxsize=64)
def _private_key(pem: str) -> RSAPrivateKey:
    """Make of PEM what signs; say what is wrong with it, never what is in it.

    Kept, because OpenSSL takes 40 ms to check it.
    """
    try:
        key = load_pem_private_key(pem.encode("utf-8", "replace"), None)
    except TypeError:
        raise _KeyFault("its private_key is locked with a password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise _KeyFault("its private_key is no private key in PEM") from None
    if not isinstance(key, RSAPrivateKey):
        raise _KeyFault("its private_key is no RSA key")
    return key


def sign(key: ServiceAccountKey, now: float) -> str:
    """Make an assertion: "this is the account, and it wants to send".

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
        "exp": int(now) + ASSERTION_LIFE,
    }
    headers = {"kid": key.private_key_id} if key.private_key_id else None
    assertion: str = _signer().encode(claims, _private_key(key.private_key), "RS256", headers)
    return assertion


@attrs.define(eq=False)
class ServiceAccountCredentials:
    """Signs in with a service account's key. No token outlives the process: a new one is cheap.

    Args:
        post: sends the request.
        wall: seconds since the epoch.
    """

    post: Post = attrs.field(repr=False)
    wall: Callable[[], float]
    key: ServiceAccountKey
    _generation: int = attrs.field(default=0, init=False)
    _last_token: str = attrs.field(default="", init=False, repr=False)

    def update(self, key: ServiceAccountKey) -> bool:
        """Sign in with this key from now on; return whether it is another one."""
        is_other = key != self.key
        self.key = key
        return is_other

    def stored(self) -> Credential | None:
        return None

    def fetch(self) -> Deferred[Credential]:
        try:
            assertion = sign(self.key, self.wall())
        except ValueError as error:
            return fail(SignInRefused(f"wanted: {error}", final=True))
        form = urlencode({"grant_type": GRANT_TYPE, "assertion": assertion}).encode()
        return self.post(self.key.token_uri, _FORM, form).addCallback(self._signed_in)

    def replace(self, token: str) -> Credential:
        raise SignInFailed("a token, which FCM's answers never do")

    def keep(self) -> None:
        """Nothing is kept."""

    def discard_stored(self) -> None:
        """Nothing is kept."""

    def _signed_in(self, response: Response) -> Credential:
        now = self.wall()
        token, life = read_answer(response, now)
        shortest = SHORTEST_LIFE_REPEATED if token == self._last_token else SHORTEST_LIFE
        self._last_token = token
        self._generation += 1
        header = b"Bearer " + token.encode("ascii")
        return Credential(header, self._generation, now, now + max(life, shortest))


def read_answer(response: Response, now: float) -> tuple[str, float]:
    """Find the token in an answer of the token endpoint.

    Args:
        now: seconds since the epoch.

    Returns:
        the token, and seconds of its life.

    Raises:
        SignInRefused: the answer names an error of the account, its key, or our clock.
        SignInFailed: anything else that is no token.
    """
    content = read_object(response.body)
    if response.status == 200:
        token, kind = content.get("access_token"), content.get("token_type", "Bearer")
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise SignInFailed("an answer without a token")
        if not isinstance(kind, str) or kind.lower() != "bearer":
            raise SignInFailed("a token of another type than Bearer")
        return token, _seconds(content.get("expires_in"))
    code, description = _error(content)
    if (
        not code
        or code in _TRANSIENT_CODES
        or response.status >= 500
        or response.status in (408, 429)
    ):
        after = retry_after(response.headers.get(b"retry-after"), now)
        raise SignInFailed(f"status {response.status} {code}".rstrip(), after)
    reason = f"{code}: {description}" if description else code
    if code == "invalid_grant":
        reason += _clock(http_date(response.headers.get(b"date")), now)
    raise SignInRefused(reason)


def _clock(theirs: float | None, now: float) -> str:
    """Say whether it is our clock that makes an assertion worthless: it is dated by it."""
    if theirs is None:
        return ""
    off = round(now - theirs)
    if abs(off) < WRONG_CLOCK:
        return "; the clock of this machine is right"
    side = "ahead of" if off > 0 else "behind"
    return f"; the clock of this machine is {abs(off)} seconds {side} the server's: set it"


def _error(content: dict[str, object]) -> tuple[str, str]:
    """Read OAuth's two fields, or those of Google's other services."""
    error = content.get("error")
    if isinstance(error, dict):
        return _one_line(error.get("status"), 60), _one_line(error.get("message"))
    return _one_line(error, 60), _one_line(content.get("error_description"))


def _one_line(value: object, most: int = 200) -> str:
    """What a log may show of a text that another side wrote."""
    if not isinstance(value, str):
        return ""
    return re.sub(r"[^!-~]+", " ", _LOOKS_SECRET.sub("...", value))[:most].strip()


def _seconds(value: object) -> float:
    """Read `expires_in`, a number or the text of one."""
    try:
        life = float(value) if isinstance(value, int | float | str) else 0.0
    except (ValueError, OverflowError):
        return USUAL_LIFE
    return min(life, LONGEST_LIFE) if life > 0 and math.isfinite(life) else USUAL_LIFE
