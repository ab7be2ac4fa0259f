"""Sign-ins without a service account's key: token exchange, impersonation, metadata server."""

import datetime
import hmac
import re
from collections.abc import Mapping

import attrs

from node2dm_tw.emulator.google.messages import (
    IncomingRequest,
    Reply,
    json_reply,
    read_form,
    read_object,
)
from node2dm_tw.emulator.google.oauth import ACCESS_TOKEN_SECONDS, OAuth, error_reply

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105
SUBJECT_TYPES = frozenset(
    f"urn:ietf:params:oauth:token-type:{kind}" for kind in ("jwt", "id_token", "saml2")
)
METADATA_PATH = "/computeMetadata/v1/instance/service-accounts/default"
REISSUE_SECONDS = 300.0
"""The metadata server gives out the same token until so many seconds of its life are left."""

IMPERSONATION_ERRORS = {
    "UNAUTHENTICATED": (401, "Request had invalid authentication credentials."),
    "PERMISSION_DENIED": (
        403,
        "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).",
    ),
    "INVALID_ARGUMENT": (400, "Request contains an invalid argument."),
    "UNAVAILABLE": (503, "The service is currently unavailable."),
}
"""Status to HTTP status and message."""

_FLAVOR = (b"Metadata-Flavor", b"Google")


@attrs.define(eq=False)
class Federation:
    """The endpoints that issue tokens of `oauth` to who has no key of the service account."""

    _oauth: OAuth
    _metadata_token: str = attrs.field(default="", init=False, repr=False)

    def exchange(self, request: IncomingRequest, now: float) -> Reply:
        """Answer ``POST /v1/token``: the token of another identity provider for one of Google."""
        form = read_form(request.body)
        if form.get("grant_type") != EXCHANGE:
            return error_reply(
                "unsupported_grant_type", f"Invalid grant_type: {form.get('grant_type')}"
            )
        if form.get("requested_token_type") != ACCESS_TOKEN or not form.get("audience"):
            return error_reply("invalid_request", "Invalid requested_token_type or audience.")
        if form.get("subject_token_type") not in SUBJECT_TYPES:
            return error_reply("invalid_request", "Invalid subject_token_type.")
        if not self._oauth.is_secret(form.get("subject_token", "")):
            return error_reply("invalid_grant", "The given subject token is not valid.")
        scopes = form.get("scope", "").split()
        token = self._oauth.issue(f"principal://{form['audience'].strip('/')}", scopes, now)
        if token is None:
            return error_reply("invalid_scope", "Invalid OAuth scope.")
        return json_reply(200, {**_token_fields(token), "issued_token_type": ACCESS_TOKEN})

    def impersonate(self, account: str, request: IncomingRequest, now: float) -> Reply:
        """Answer ``POST /v1/projects/-/serviceAccounts/ACCOUNT:generateAccessToken``."""
        scheme, _, token = request.headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not self._oauth.may_impersonate(token.strip(), now):
            return impersonation_error("UNAUTHENTICATED")
        own = self._oauth.account
        if own is None or not hmac.compare_digest(account.encode(), own.client_email.encode()):
            return impersonation_error("PERMISSION_DENIED")
        content = read_object(request.body) or {}
        scopes, lifetime = content.get("scope"), content.get("lifetime", "3600s")
        is_valid = isinstance(scopes, list) and all(isinstance(scope, str) for scope in scopes)
        life = re.fullmatch(r"(\d{1,5})s", str(lifetime))
        if not is_valid or life is None or not 0 < int(life[1]) <= 3600:
            return impersonation_error("INVALID_ARGUMENT")
        issued = self._oauth.issue(account, content["scope"], now, float(life[1]))
        if issued is None:
            return impersonation_error("INVALID_ARGUMENT")
        end = datetime.datetime.fromtimestamp(int(now + float(life[1])), datetime.UTC)
        return json_reply(
            200, {"accessToken": issued, "expireTime": end.strftime("%Y-%m-%dT%H:%M:%SZ")}
        )

    def metadata(self, request: IncomingRequest, now: float) -> Reply:
        """Answer what the metadata server of a machine in Google Cloud answers."""
        if request.headers.get(b"metadata-flavor") != b"Google":
            return Reply(403, b"Missing Metadata-Flavor:Google header.\n", headers=(_FLAVOR,))
        account = self._oauth.account
        if account is None:
            return Reply(404, b"no service account\n", headers=(_FLAVOR,))
        if request.path.rstrip("/") == METADATA_PATH:
            scopes = ["https://www.googleapis.com/auth/cloud-platform"]
            content: Mapping[str, object] = {"email": account.client_email, "scopes": scopes}
            return attrs.evolve(json_reply(200, content), headers=(_FLAVOR,))
        grant = self._oauth.tokens.find(self._metadata_token.encode(), now)
        if grant is None or grant.expires - now < REISSUE_SECONDS:
            life = ACCESS_TOKEN_SECONDS + 1
            self._metadata_token = self._oauth.tokens.issue(account.client_email, now, life)
            left = ACCESS_TOKEN_SECONDS
        else:
            left = grant.expires - now
        fields = _token_fields(self._metadata_token, int(left))
        return attrs.evolve(json_reply(200, fields), headers=(_FLAVOR,))


def impersonation_error(code: str) -> Reply:
    """Build the reply for one of `IMPERSONATION_ERRORS`."""
    status, message = IMPERSONATION_ERRORS[code]
    error = {"code": status, "message": message, "status": code}
    return json_reply(status, {"error": error}, code)


def _token_fields(token: str, life: int = int(ACCESS_TOKEN_SECONDS)) -> dict[str, object]:
    return {"access_token": token, "expires_in": life, "token_type": "Bearer"}
