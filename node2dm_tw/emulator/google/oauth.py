"""The OAuth 2.0 token endpoint: it exchanges a signed assertion for an access token."""

import hmac
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

import attrs

from node2dm_tw.emulator.google.accounts import Tokens
from node2dm_tw.emulator.google.messages import Reply, json_reply

ACCESS_TOKEN_SECONDS = 3_599.0
"""Seconds for which an access token is valid."""

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"

SCOPES = frozenset(
    {
        "https://www.googleapis.com/auth/firebase.messaging",
        "https://www.googleapis.com/auth/cloud-platform",
    }
)
"""A service account needs one of these to send."""

IAM_SCOPES = frozenset(
    {
        "https://www.googleapis.com/auth/iam",
        "https://www.googleapis.com/auth/cloud-platform",
    }
)
"""An account needs one of these to impersonate another."""

USER = "user@example.com"
CLIENT_ID = "node2dm.apps.googleusercontent.com"

AUDIENCES = frozenset(
    {
        "https://oauth2.googleapis.com/token",
        "https://accounts.google.com/o/oauth2/token",
        "https://www.googleapis.com/oauth2/v4/token",
    }
)
"""Accepted besides token_uri: google-auth always writes the first one."""

TOKEN_ERRORS = frozenset(
    {
        "invalid_grant",
        "invalid_request",
        "invalid_scope",
        "invalid_client",
        "unauthorized_client",
        "unsupported_grant_type",
        "temporarily_unavailable",
    }
)

NEEDS_EXTRA = "the emulator's FCM side needs PyJWT: pip install 'PyJWT[crypto]'"

_MAX_ASSERTION_SECONDS = 3_600.0
_MAX_SKEW_SECONDS = 300.0
"""Seconds by which the clock of a client may be ahead."""

Verify = Callable[[str, str], Mapping[str, Any]]
"""
Takes an assertion and a public key in PEM; returns the claims. Raises ValueError if the signature
is not RS256 or not valid.
"""


def find_verifier() -> Verify | None:
    """Return the function that verifies assertions, or None if PyJWT is not installed."""
    try:
        jwt = import_module("jwt")
    except ImportError:
        return None
    claims_are_ours = {
        "verify_exp": False,
        "verify_iat": False,
        "verify_nbf": False,
        "verify_aud": False,
        "verify_iss": False,
    }

    def verify(assertion: str, key: str) -> Mapping[str, Any]:
        try:
            claims: Mapping[str, Any] = jwt.decode(
                assertion, key, algorithms=["RS256"], options=claims_are_ours
            )
        except jwt.InvalidTokenError as error:
            raise ValueError(str(error)) from error
        return claims

    return verify


@attrs.frozen
class ServiceAccount:
    """The account that may sign in.

    Args:
        token_uri: the audience that its assertions have to name.
        public_key: in PEM.
    """

    client_email: str
    project: str
    token_uri: str
    public_key: str = attrs.field(repr=False)


@attrs.define(eq=False)
class OAuth:
    """The token endpoint.

    Attributes:
        account: the one that may sign in; None until it is known.
        tokens: the issued access tokens that are valid for FCM.
        iam_tokens: those that are only valid for impersonation.
        secret: what a user or another identity provider proves itself with; empty: nobody can.
    """

    _verify: Verify | None
    account: ServiceAccount | None = None
    tokens: Tokens = attrs.field(factory=Tokens)
    iam_tokens: Tokens = attrs.field(factory=Tokens)
    secret: str = attrs.field(default="", repr=False)

    @property
    def is_available(self) -> bool:
        """Whether assertions can be verified."""
        return self._verify is not None

    def token(self, form: Mapping[str, str], now: float) -> Reply:
        """Answer a request for an access token."""
        if form.get("grant_type") == "refresh_token":
            return self._refresh(form, now)
        if form.get("grant_type") != GRANT_TYPE:
            return error_reply(
                "unsupported_grant_type", f"Invalid grant_type: {form.get('grant_type')}"
            )
        assertion = form.get("assertion")
        if not assertion:
            return error_reply("invalid_request", "Missing required parameter: assertion")
        if self._verify is None:
            return error_reply("temporarily_unavailable", NEEDS_EXTRA)
        account = self.account
        if account is None:
            return error_reply(
                "temporarily_unavailable", "The emulator has no service account yet."
            )
        try:
            claims = self._verify(assertion, account.public_key)
        except ValueError:
            return error_reply("invalid_grant", "Invalid JWT Signature.")
        error = _find_error(claims, account, now)
        if error is not None:
            return error_reply(*error)
        return self._issue_reply(account.client_email, str(claims["scope"]).split(), now)

    def is_secret(self, text: str) -> bool:
        """Whether this is `secret`; the comparison takes constant time."""
        return bool(self.secret) and hmac.compare_digest(text.encode(), self.secret.encode())

    def issue(
        self, account: str, scopes: Iterable[str], now: float, life: float = ACCESS_TOKEN_SECONDS
    ) -> str | None:
        """Issue a token; None: the scopes are of no use here."""
        if not {*SCOPES, *IAM_SCOPES} & set(scopes):
            return None
        tokens = self.tokens if SCOPES & set(scopes) else self.iam_tokens
        return tokens.issue(account, now, life + 1)

    def may_impersonate(self, token: bytes, now: float) -> bool:
        """Whether a token is valid."""
        return any(each.find(token, now) is not None for each in (self.tokens, self.iam_tokens))

    def expire(self, account: str | None) -> int:
        """Expire the tokens of an account, or all; return their number."""
        return self.tokens.expire(account) + self.iam_tokens.expire(account)

    def _refresh(self, form: Mapping[str, str], now: float) -> Reply:
        """Answer a user's client, which has the scopes that the user granted once."""
        if form.get("client_id") != CLIENT_ID or not self.is_secret(form.get("client_secret", "")):
            return error_reply("invalid_client", "Unauthorized")
        if not self.is_secret(form.get("refresh_token", "")):
            return error_reply("invalid_grant", "Token has been expired or revoked.")
        return self._issue_reply(USER, IAM_SCOPES, now)

    def _issue_reply(self, account: str, scopes: Iterable[str], now: float) -> Reply:
        life = int(ACCESS_TOKEN_SECONDS)
        token = self.issue(account, scopes, now)
        return json_reply(200, {"access_token": token, "expires_in": life, "token_type": "Bearer"})


def error_reply(error: str, description: str = "") -> Reply:
    """Build the reply for one of `TOKEN_ERRORS`."""
    status = {"temporarily_unavailable": 503, "invalid_client": 401}.get(error, 400)
    content = {"error": error, "error_description": description or "Refused on request."}
    return json_reply(status, content, error)


def _find_error(
    claims: Mapping[str, Any], account: ServiceAccount, now: float
) -> tuple[str, str] | None:
    """Return error and description of the first invalid claim, or None."""
    issuer, scope = (str(claims.get(name, "")) for name in ("iss", "scope"))
    if not hmac.compare_digest(issuer.encode(), account.client_email.encode()):
        return "invalid_grant", "Invalid grant: account not found"
    if claims.get("aud") not in (account.token_uri, *AUDIENCES):
        right = f"The right audience is {account.token_uri}"
        return "invalid_grant", f"Invalid JWT: Failed audience check. {right}"
    issued, expires = claims.get("iat"), claims.get("exp")
    are_numbers = all(
        isinstance(each, int | float) and not isinstance(each, bool) for each in (issued, expires)
    )
    if not are_numbers or not _is_short_lived(float(issued or 0), float(expires or 0), now):
        return "invalid_grant", (
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable "
            "timeframe. Check your iat and exp values in the JWT claim."
        )
    if not scope.split():
        return "invalid_scope", "Empty or missing scope not allowed."
    if not {*SCOPES, *IAM_SCOPES} & set(scope.split()):
        return "invalid_scope", "Invalid OAuth scope or ID token audience provided."
    return None


def _is_short_lived(issued: float, expires: float, now: float) -> bool:
    return (
        issued <= now + _MAX_SKEW_SECONDS
        and now < expires
        and expires - issued <= _MAX_ASSERTION_SECONDS
    )
