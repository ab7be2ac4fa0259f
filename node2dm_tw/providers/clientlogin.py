"""ClientLogin, the sign-in of C2DM, and the file that saves its token for the next start."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeGuard
from urllib.parse import urlencode

import attrs
from twisted.internet.defer import Deferred

from node2dm_tw.core.backoff import retry_after
from node2dm_tw.core.logs import logger
from node2dm_tw.core.response import Headers, Response
from node2dm_tw.providers.interface import (
    Credential,
    Post,
    SignInFailed,
    SignInRefused,
)
from node2dm_tw.state.atomic import as_number, parse_json, read_own_file, write_atomically

log = logger()

_FORM: Headers = ((b"Content-Type", b"application/x-www-form-urlencoded"),)
_TOKEN = re.compile(r"[!-~]{1,16384}")
"""A token that a header can contain."""

MAX_FILE_BYTES = 65_536
"""Maximum size of the token file."""

_TRANSIENT_CODES = frozenset(("Unknown", "ServiceUnavailable"))
"""Codes that say nothing about the account: retried without limit, never counted."""


@attrs.define(eq=False)
class ClientLogin:
    """Signs in with an e-mail address and a password (ClientLogin for installed applications).

    Args:
        post: sends the request.
        wall: seconds since the epoch.
        token_file: saves the token for the next process; mode 0600.
        token_max_age: seconds for which a token is used.
    """

    post: Post = attrs.field(repr=False)
    wall: Callable[[], float]
    token_file: Path
    login_url: str
    username: str
    password: str = attrs.field(repr=False)
    source: str
    token_max_age: float
    _generation: int = attrs.field(default=0, init=False)
    _is_discarded: bool = attrs.field(default=False, init=False)
    _kept: dict[str, str | float] = attrs.field(factory=dict, init=False, repr=False)

    def update(self, username: str, password: str, source: str) -> bool:
        """Use these from now on; return whether account or password changed."""
        is_other = (username, password) != (self.username, self.password)
        self.username, self.password, self.source = username, password, source
        return is_other

    def stored(self) -> Credential | None:
        if self._is_discarded:  # the file may still exist
            return None
        content = read_own_file(self.token_file, MAX_FILE_BYTES)
        if content is None:
            return None
        kept = parse_json(content)
        if not isinstance(kept, dict):
            kept = {}
        token, obtained = kept.get("auth"), as_number(kept.get("obtained"))
        if obtained is None or not _is_token(token):
            log.warn("{path} is damaged: its token is not used", path=str(self.token_file))
            return None
        age = max(0.0, self.wall() - obtained)
        if kept.get("account") != self._account or age >= self.token_max_age:
            return None
        return self._credential(token, self.wall() - age)

    def fetch(self) -> Deferred[Credential]:
        form = {
            "accountType": "HOSTED_OR_GOOGLE",
            "Email": self.username,
            "Passwd": self.password,
            "service": "ac2dm",
            "source": self.source,
        }
        answered = self.post(self.login_url, _FORM, urlencode(form).encode())
        return answered.addCallback(lambda answer: self.replace(read_answer(answer, self.wall())))

    def replace(self, token: str) -> Credential:
        if not _is_token(token):
            raise SignInFailed("a token that no header can carry")
        obtained = self.wall()
        self._kept = {"account": self._account, "obtained": obtained, "auth": token}
        return self._credential(token, obtained)

    def keep(self) -> None:
        try:
            write_atomically(self.token_file, [json.dumps(self._kept).encode()])
            self._is_discarded = False
        except OSError as error:
            log.warn("cannot save the auth token for the next start: {error}", error=str(error))

    def discard_stored(self) -> None:
        self._is_discarded = True
        try:
            self.token_file.unlink(missing_ok=True)
        except OSError as error:
            log.warn(
                "cannot remove {path} ({error}): the next start will try its token",
                path=str(self.token_file),
                error=error.strerror,
            )

    @property
    def _account(self) -> str:
        return f"{self.username} at {self.login_url}"

    def _credential(self, token: str, obtained: float) -> Credential:
        self._generation += 1
        header = b"GoogleLogin auth=" + token.encode("ascii")
        return Credential(header, self._generation, obtained, obtained + self.token_max_age)


def _is_token(token: object) -> TypeGuard[str]:
    return isinstance(token, str) and _TOKEN.fullmatch(token) is not None


def read_answer(response: Response, now: float) -> str:
    """Read the token in an answer to a sign-in.

    Raises:
        SignInRefused: the answer has an error of the account; final for a captcha.
        SignInFailed: any other answer without a token.
    """
    lines = [line.strip() for line in response.body.decode("utf-8", "replace").split("\n")]
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    if response.status == 200:
        token = values.get("Auth", "")
        if not token:
            raise SignInFailed("an answer without a token")
        return token
    code = values.get("Error", "")
    if response.status >= 500 or not code or code in _TRANSIENT_CODES:
        after = retry_after(response.headers.get(b"retry-after"), now)
        raise SignInFailed(f"status {response.status} {code[:60]}".rstrip(), after)
    if code == "CaptchaRequired":
        url = _captcha_url(values.get("CaptchaUrl", ""))
        raise SignInRefused(f"{code}, to be solved at {url}", final=True)
    raise SignInRefused(code[:60])


def _captcha_url(relative: str) -> str:
    """Resolve `CaptchaUrl`, which is relative to the accounts page (ClientLogin documentation)."""
    return "https://www.google.com/accounts/" + relative.lstrip("/")[:500]
