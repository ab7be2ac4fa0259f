"""The OAuth 2.0 token endpoint: a service account's signed assertion for an access token."""

import hmac
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import attrs

from node2dm_tw.emulator.google.accounts import Tokens
from node2dm_tw.emulator.google.messages import Reply, json_answer

ACCESS_LIFE = 3_599.0
"""Seconds an access token is good for."""

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"

SCOPES = frozenset(
    {
        "https://www.googleapis.com/auth/firebase.messaging",
        "https://www.googleapis.com/auth/cloud-platform",
    }
)
"""Either lets a service account send."""

AUDIENCES = frozenset(
    {
        "https://oauth2.googleapis.com/token",
        "https://accounts.google.com/o/oauth2/token",
        "https://www.googleapis.com/oauth2/v4/token",
    }
)
"""Good besides token_uri: google-auth writes the first one whatever the key file says."""

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

_LONGEST_ASSERTION = 3_600.0
_SKEW = 300.0
"""Seconds by which a client's clock may be wrong."""

Verify = Callable[[str, str], Mapping[str, Any]]
"""An assertion and a public key in PEM to the claims; ValueError unless RS256 and intact."""


def find_verifier() -> Verify | None:
    """Give the means to verify assertions, or None if PyJWT is not installed."""
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
        token_uri: the audience its assertions must name.
        public_key: PEM.
    """

    client_email: str
    project: str
    token_uri: str
    public_key: str = attrs.field(repr=False)


@attrs.define(eq=False)
class OAuth:
    """The token endpoint.

    Attributes:
        account: who may sign in; None until it is known.
        tokens: the access tokens in use.
    """

    _verify: Verify | None
    account: ServiceAccount | None = None
    tokens: Tokens = attrs.field(factory=Tokens)

    @property
    def available(self) -> bool:
        """Whether assertions can be verified."""
        return self._verify is not None

    def token(self, form: Mapping[str, str], now: float) -> Reply:
        """Answer a request for an access token."""
        if form.get("grant_type") != GRANT_TYPE:
            return refuse("unsupported_grant_type", f"Invalid grant_type: {form.get('grant_type')}")
        assertion = form.get("assertion")
        if not assertion:
            return refuse("invalid_request", "Missing required parameter: assertion")
        if self._verify is None:
            return refuse("temporarily_unavailable", NEEDS_EXTRA)
        account = self.account
        if account is None:
            return refuse("temporarily_unavailable", "The emulator has no service account yet.")
        try:
            claims = self._verify(assertion, account.public_key)
        except ValueError:
            return refuse("invalid_grant", "Invalid JWT Signature.")
        error = _find_fault(claims, account, now)
        if error is not None:
            return refuse(*error)
        token = self.tokens.issue(account.client_email, now, ACCESS_LIFE + 1)
        content = {"access_token": token, "expires_in": int(ACCESS_LIFE), "token_type": "Bearer"}
        return json_answer(200, content)


def refuse(error: str, description: str = "") -> Reply:
    """Answer with one of `TOKEN_ERRORS`."""
    status = {"temporarily_unavailable": 503, "invalid_client": 401}.get(error, 400)
    content = {"error": error, "error_description": description or "Refused on request."}
    return json_answer(status, content, error)


def _find_fault(
    claims: Mapping[str, Any], account: ServiceAccount, now: float
) -> tuple[str, str] | None:
    """Give error and description of the first claim that is wrong."""
    issuer, scope = (str(claims.get(name, "")) for name in ("iss", "scope"))
    if not hmac.compare_digest(issuer.encode(), account.client_email.encode()):
        return "invalid_grant", "Invalid grant: account not found"
    if claims.get("aud") not in (account.token_uri, *AUDIENCES):
        right = f"The right audience is {account.token_uri}"
        return "invalid_grant", f"Invalid JWT: Failed audience check. {right}"
    issued, expires = claims.get("iat"), claims.get("exp")
    numbers = all(
        isinstance(each, int | float) and not isinstance(each, bool) for each in (issued, expires)
    )
    if not numbers or not _short_lived(float(issued or 0), float(expires or 0), now):
        return "invalid_grant", (
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable "
            "timeframe. Check your iat and exp values in the JWT claim."
        )
    if not scope.split():
        return "invalid_scope", "Empty or missing scope not allowed."
    if not SCOPES & set(scope.split()):
        return "invalid_scope", "Invalid OAuth scope or ID token audience provided."
    return None


def _short_lived(issued: float, expires: float, now: float) -> bool:
    return issued <= now + _SKEW and now < expires and expires - issued <= _LONGEST_ASSERTION
