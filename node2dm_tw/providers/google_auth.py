"""The sign-ins of FCM that google-auth does: the metadata server, and other types of key files.

google-auth blocks, so it runs in a thread. Its requests are sent by our HTTP clients. It gets no
answer but one of status 200, and no error of the network: so it never waits and tries again by
itself, and its own texts, which may quote answers, are rarely needed.
"""

import functools
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from node2dm_tw.core.response import Headers, Response
from node2dm_tw.providers.interface import (
    DEFAULT_UNIVERSE,
    Credential,
    Credentials,
    SignInFailed,
    SignInRefused,
)
from node2dm_tw.providers.oauth2 import (
    MIN_TOKEN_SECONDS,
    SCOPE,
    KeyFault,
    ServiceAccountKey,
    UnsavedCredentials,
    is_token,
    is_url,
    read_error,
    read_key,
    read_key_object,
    read_universe,
    sanitize,
    text_field,
)

METADATA = "metadata"
"""The source of credentials on Google Cloud: a server that each machine there can ask."""

INSTALL = "pip install 'google-auth[requests]'"

_FIELDS = {
    "external_account": ("audience", "subject_token_type", "token_url"),
    "impersonated_service_account": ("service_account_impersonation_url",),
    "authorized_user": ("client_id", "client_secret", "refresh_token"),
}
"""What a key file of each type must have."""

_URLS = ("token_url", "token_uri", "service_account_impersonation_url")
_AWS = "urn:ietf:params:aws:token-type:aws4_request"
_PRINCIPAL = re.compile(r".*/serviceAccounts/([^/:]+):generateAccessToken")

AskBlocking = Callable[[str, str, Headers, bytes], Response]
"""Sends a request (method, URL, headers, body), and blocks until its answer; raises any error."""


@attrs.frozen
class GoogleAccount:
    """What google-auth signs in with.

    Args:
        kind: `METADATA`, or the type of the key file.
        file: the key file; empty for `METADATA`.
        project: empty if the file names none.
        universe: the domain of the cloud that the account belongs to.
        user_project: the project that requests are charged to; empty: the account's own.
    """

    kind: str
    file: bytes = attrs.field(default=b"", repr=False)
    project: str = ""
    universe: str = DEFAULT_UNIVERSE
    user_project: str = ""


Account = ServiceAccountKey | GoogleAccount


def read_account(source: bytes | str) -> Account:
    """Read what a route signs in with.

    Args:
        source: the content of a key file, or `METADATA`.

    Raises:
        ValueError: says what is expected, and what is wrong.
    """
    if isinstance(source, str):
        account = GoogleAccount(METADATA)
        _build(account)
        return account
    with suppress(KeyFault):  # `read_key` says what the file is
        content = read_key_object(source)
        if content.get("type") in tuple(_FIELDS):
            return _read_google_key(content, source)
    return read_key(source)


def _read_google_key(content: dict[str, object], file: bytes) -> GoogleAccount:
    """Read a key file of one of the types in `_FIELDS`. Raises ValueError."""
    kind = str(content["type"])
    try:
        for name in _FIELDS[kind]:
            text_field(content, name)
        account = GoogleAccount(
            kind,
            file,
            text_field(content, "project_id", ""),
            read_universe(content),
            text_field(content, "quota_project_id", ""),
        )
        if not re.fullmatch(r"[!-~]*", account.user_project):
            raise KeyFault("its quota_project_id is not a project ID")
        _build(account)
    except KeyFault as error:
        raise ValueError(f"a key file of the type {kind} ({error})") from None
    return account


def _build(account: GoogleAccount) -> Any:
    """Make google-auth's object for an account, without any token yet; contacts nobody.

    Raises:
        ValueError: the extra is missing.
        KeyFault: the key file is invalid.
    """
    try:
        import google.auth.exceptions as errors

        if account.kind == METADATA:
            from google.auth.compute_engine import Credentials as Found

            return Found(scopes=[SCOPE])  # type: ignore[no-untyped-call]
    except ImportError:
        raise ValueError(f"google-auth, which {account.kind} needs: {INSTALL}") from None
    try:
        return _BUILDERS[account.kind](read_key_object(account.file))
    except (errors.GoogleAuthError, ValueError, TypeError, AttributeError) as error:
        reason = sanitize(str(error.args[0])) if error.args else ""
        raise KeyFault(f"google-auth cannot use it: {reason or type(error).__name__}") from None


def _external(content: dict[str, Any]) -> Any:
    """Read a key file of workload identity federation."""
    _check_urls(content)
    if content["subject_token_type"] == _AWS:
        from google.auth.aws import Credentials as Found
    elif "executable" in content.get("credential_source", {}):
        from google.auth.pluggable import Credentials as Found  # type: ignore[assignment]
    else:
        from google.auth.identity_pool import Credentials as Found  # type: ignore[assignment]
    return Found.from_info(content, scopes=[SCOPE])  # type: ignore[no-untyped-call]


def _impersonated(content: dict[str, Any]) -> Any:
    """Read a key file that lets another account act as a service account."""
    from google.auth import impersonated_credentials

    _check_urls(content)
    url: str = content["service_account_impersonation_url"]
    source: Any = content.get("source_credentials")
    principal = _PRINCIPAL.fullmatch(url)
    if principal is None:
        raise KeyFault("its service_account_impersonation_url names no service account")
    kind = source.get("type") if isinstance(source, dict) else None
    if kind == "authorized_user":
        found = _user(source)
    elif kind == "service_account":
        found = _service_account(json.dumps(source))
    else:
        raise KeyFault("its source_credentials are neither service_account nor authorized_user")
    return impersonated_credentials.Credentials(  # type: ignore[no-untyped-call]
        found, principal[1], [SCOPE], content.get("delegates"), iam_endpoint_override=url
    )


def _user(content: dict[str, Any]) -> Any:
    """Read what `gcloud auth application-default login` writes; its scopes are fixed."""
    from google.oauth2.credentials import Credentials as Found

    _check_urls(content)
    found = Found.from_authorized_user_info(content)  # type: ignore[no-untyped-call]
    uri = content.get("token_uri")
    return found.with_token_uri(uri) if uri else found


@functools.lru_cache(maxsize=16)
def _service_account(content: str) -> Any:
    """Read a service account. Cached, because OpenSSL takes 100 ms to check the key."""
    from google.oauth2.service_account import Credentials as Found

    return Found.from_service_account_info(json.loads(content))  # type: ignore[no-untyped-call]


_BUILDERS: Mapping[str, Callable[[dict[str, Any]], Any]] = {
    "external_account": _external,
    "impersonated_service_account": _impersonated,
    "authorized_user": _user,
}


def _check_urls(content: dict[str, Any]) -> None:
    for name in _URLS:
        if name in content and not is_url(text_field(content, name)):
            raise KeyFault(f"its {name} is not a URL that begins with https://")


@attrs.define(eq=False)
class GoogleAuthCredentials(UnsavedCredentials):
    """Signs in with google-auth, each time from the beginning, so that no old token comes back.

    Args:
        run: runs a function in a thread of its own; its Deferred may fail before the thread ends.
        ask: sends a request; called in that thread.
        wall: seconds since the epoch.
    """

    run: Callable[[Callable[[], tuple[str, float]]], Deferred[tuple[str, float]]]
    ask: AskBlocking
    wall: Callable[[], float]
    account: GoogleAccount
    _is_running: bool = attrs.field(default=False, init=False)

    def fetch(self) -> Deferred[Credential]:
        if self._is_running:
            return fail(SignInFailed("an earlier sign-in has not ended yet"))
        return self.run(self._sign_in).addCallback(self._on_token)

    def _on_token(self, found: tuple[str, float]) -> Credential:
        token, life = found
        user_project = self.account.user_project
        return self.make_credential(token, self.wall(), max(life, MIN_TOKEN_SECONDS), user_project)

    def _sign_in(self) -> tuple[str, float]:
        """Return a token, and its lifetime in seconds. Runs in the thread.

        Raises:
            SignInFailed, SignInRefused: there is none.
        """
        self._is_running = True
        try:
            credentials = _build(self.account)
            credentials.refresh(_Transport(self.ask, self.wall))
            if not is_token(credentials.token):
                raise SignInFailed("an answer without a token")
            return credentials.token, _seconds_left(credentials)
        except (SignInFailed, SignInRefused):
            raise
        except Exception as error:  # noqa: BLE001  # google-auth documents a part of them
            raise _describe(error) from None
        finally:
            self._is_running = False


def _seconds_left(credentials: Any) -> float:
    from google.auth import _helpers

    now = _helpers.utcnow()  # type: ignore[no-untyped-call]
    left: float = (credentials.expiry - now).total_seconds()
    return left


def _describe(error: Exception) -> SignInFailed | SignInRefused:
    """Say in a line why google-auth failed."""
    from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError

    # Later arguments are answers, which may contain tokens.
    text = sanitize(str(error.args[0])) if error.args else ""
    if isinstance(error, OSError) and error.strerror:
        text = sanitize(f"{error.strerror}: {error.filename}")
    if isinstance(error, DefaultCredentialsError):
        return SignInRefused(text)
    name = type(error).__name__
    return SignInFailed(text if text and isinstance(error, GoogleAuthError) else f"{name}: {text}")


@attrs.frozen
class _Answer:
    """An answer as google-auth reads it."""

    status: int
    headers: Mapping[str, str]
    data: bytes = attrs.field(repr=False)


@attrs.frozen
class _Transport:
    """Sends google-auth's requests, and raises our own errors."""

    ask: AskBlocking
    wall: Callable[[], float]

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **more: object,
    ) -> _Answer:
        if more.get("cert") is not None:
            raise SignInRefused("key files with X.509 certificates are not supported", final=True)
        fields = tuple((n.encode(), v.encode("latin-1")) for n, v in (headers or {}).items())
        content = body.encode() if isinstance(body, str) else body or b""
        host = urlsplit(url).hostname
        try:
            response = self.ask(method, url, fields, content)
        except Exception as error:  # noqa: BLE001
            raise SignInFailed(f"{host}: {error or type(error).__name__}") from None
        if response.status == 200:
            told = {
                name.decode(): value.decode("latin-1") for name, value in response.headers.items()
            }
            return _Answer(200, told, response.body)
        raise read_error(response, self.wall(), f"{host}: ")


@attrs.define(eq=False)
class AccountCredentials(UnsavedCredentials):
    """Signs in with the account of a route, which may change, also to one of another kind.

    Args:
        make: makes the credentials of an account.
    """

    make: Callable[[Account], Credentials]
    account: Account
    _credentials: Credentials = attrs.field(init=False)
    _fetching: Deferred[Credential] | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._credentials = self.make(self.account)

    def update(self, account: Account) -> bool:
        """Use this account from now on; return whether it has changed."""
        if account == self.account:
            return False
        self.account, self._credentials = account, self.make(account)
        if self._fetching is not None:
            self._fetching.cancel()
        return True

    def fetch(self) -> Deferred[Credential]:
        asked = self._credentials
        self._fetching = fetching = asked.fetch()
        return fetching.addBoth(self._on_fetched, asked)

    def _on_fetched(self, found: Credential | Failure, asked: Credentials) -> Any:
        """Pass on what was fetched, unless the account has changed in the meantime."""
        self._fetching = None
        if asked is not self._credentials:
            return self.fetch()
        if isinstance(found, Failure):
            return found
        self._generation += 1
        return attrs.evolve(found, generation=self._generation)
