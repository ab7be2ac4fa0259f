"""ClientLogin: accounts, captchas, and the tokens that senders authenticate with."""

import hashlib
import hmac
import re
import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from node2dm_tw.emulator.google.messages import Headers, Reply

TOKEN_SECONDS = 14 * 86400.0
"""Seconds for which a ClientLogin token is valid."""

FAILURES_BEFORE_CAPTCHA = 5
"""Wrong passwords in a row after which an account has to solve a captcha."""

LOGIN_ERRORS = frozenset(
    {
        "BadAuthentication",
        "NotVerified",
        "TermsNotAgreed",
        "CaptchaRequired",
        "Unknown",
        "AccountDeleted",
        "AccountDisabled",
        "ServiceDisabled",
        "ServiceUnavailable",
    }
)

_ACCOUNT_TYPES = ("HOSTED_OR_GOOGLE", "GOOGLE", "HOSTED")
_MAX_ENTRIES = 10_000
_MAX_DUMPED = 1_000
"""The newest tokens of each kind are kept for the next start."""

_MAX_ACCOUNT_LENGTH = 320


@attrs.frozen
class Grant:
    """The account and the validity of a token.

    Args:
        number: identifies the token in the log without revealing it.
        issued: seconds since the epoch, as is `expires`.
    """

    account: str
    number: int
    issued: float
    expires: float


def random_token() -> str:
    """Make a token that cannot be guessed."""
    return secrets.token_urlsafe(48)


@attrs.define(eq=False)
class Tokens:
    """The newest ten thousand tokens.

    They are looked up by their hash, so that the duration of a look-up reveals nothing of a token.

    Args:
        on_change: called after each change.
    """

    _make: Callable[[], str] = random_token
    _on_change: Callable[[], None] = lambda: None
    _grants: dict[bytes, Grant] = attrs.field(factory=dict, init=False, repr=False)
    _successors: dict[int, str] = attrs.field(factory=dict, init=False, repr=False)
    _issued: int = attrs.field(default=0, init=False)

    def issue(self, account: str, now: float, life: float) -> str:
        """Issue a token that is valid for `life` seconds."""
        token = self._make()
        self._issued += 1
        self._grants[_digest(token.encode())] = Grant(account, self._issued, now, now + life)
        _drop_oldest(self._grants)
        self._on_change()
        return token

    def find(self, token: bytes, now: float) -> Grant | None:
        """Return the grant of a token, or None if the token is unknown or expired."""
        grant = self._grants.get(_digest(token))
        return grant if grant is not None and now < grant.expires else None

    def successor(self, grant: Grant, now: float, life: float) -> str:
        """Return the token that replaces another: the same one while it is valid."""
        token = self._successors.get(grant.number, "")
        if self.find(token.encode(), now) is None:
            token = self._successors[grant.number] = self.issue(grant.account, now, life)
            _drop_oldest(self._successors)
        return token

    def expire(self, account: str | None = None) -> int:
        """Expire the tokens of an account, or all; return their number."""
        expired = [
            key
            for key, grant in self._grants.items()
            if account is None or grant.account == account
        ]
        for key in expired:
            del self._grants[key]
        self._on_change()
        return len(expired)

    def dump(self) -> list[dict[str, object]]:
        """Return the newest thousand tokens for `restore`."""
        newest = list(self._grants.items())[-_MAX_DUMPED:]
        return [{"sha256": digest.hex(), **attrs.asdict(grant)} for digest, grant in newest]

    def restore(self, entries: object, now: float, is_known: Callable[[str], bool]) -> None:
        """Restore the tokens of an earlier process.

        Args:
            entries: what `dump` returned; invalid and expired entries are skipped.
            now: seconds since the epoch.
            is_known: whether the account of this name still exists.
        """
        for entry in entries[:_MAX_DUMPED] if isinstance(entries, list) else ():
            match entry:
                case {
                    "sha256": str(digest),
                    "account": str(account),
                    "number": int(number),
                    "issued": float(issued),
                    "expires": float(expires),
                } if re.fullmatch("[0-9a-f]{64}", digest) and is_known(account):
                    if issued <= now < expires <= issued + TOKEN_SECONDS:
                        grant = Grant(account, number, issued, expires)
                        self._grants[bytes.fromhex(digest)] = grant
                        self._issued = max(self._issued, number)


@attrs.define(eq=False)
class Accounts:
    """The sender accounts.

    Args:
        passwords: by e-mail address; None: any account may sign in with any password.
        tokens: the tokens that sign-ins are answered with.
    """

    _passwords: Mapping[str, str] | None = attrs.field(repr=False)
    tokens: Tokens = attrs.field(factory=Tokens)
    _failures: Counter[str] = attrs.field(factory=Counter, init=False)
    _captchas: dict[str, str] = attrs.field(factory=dict, init=False, repr=False)

    def knows(self, account: str) -> bool:
        """Whether a phone may name this account as its sender."""
        if self._passwords is None:
            return "@" in account.strip("@")
        return account in self._passwords

    def has_password(self, account: str, password: str) -> bool:
        """Whether the password is right; the comparison takes constant time."""
        if self._passwords is None:
            return bool(password) and "@" in account.strip("@")
        expected = self._passwords.get(account, "")
        return hmac.compare_digest(expected.encode(), password.encode()) and bool(expected)

    def login(self, form: Mapping[str, str], now: float) -> Reply:
        """Answer a ClientLogin request."""
        account = form.get("Email", "")
        if len(account) > _MAX_ACCOUNT_LENGTH:
            return self.error_reply("BadAuthentication")
        failures = self._failures.get(account, 0)
        if failures >= FAILURES_BEFORE_CAPTCHA and not self._is_solved(form):
            return self.error_reply("CaptchaRequired", account)
        if not self.has_password(account, form.get("Passwd", "")):
            self._count_failure(account)
            return self.error_reply("BadAuthentication")
        if form.get("accountType", "HOSTED_OR_GOOGLE") not in _ACCOUNT_TYPES:
            return self.error_reply("BadAuthentication")
        if form.get("service") != "ac2dm":
            return self.error_reply("ServiceDisabled")
        self._failures.pop(account, None)
        token = self.tokens.issue(account, now, TOKEN_SECONDS)
        return _lines(200, f"SID={random_token()}", f"LSID={random_token()}", f"Auth={token}")

    def error_reply(self, code: str, account: str = "") -> Reply:
        """Build the reply for one of `LOGIN_ERRORS`; a captcha is required until it is solved."""
        if code != "CaptchaRequired" or len(account) > _MAX_ACCOUNT_LENGTH:
            return _lines(403, f"Error={code}")
        self._failures[account] = FAILURES_BEFORE_CAPTCHA
        token = secrets.token_urlsafe(24)
        self._captchas[token] = secrets.token_hex(3)
        _drop_oldest(self._captchas)
        return _lines(
            403,
            f"Error={code}",
            "Url=https://www.google.com/accounts/DisplayUnlockCaptcha",
            f"CaptchaToken={token}",
            f"CaptchaUrl=Captcha?ctoken={token}",
        )

    def reset(self) -> None:
        """Forget wrong passwords and captchas; tokens remain valid."""
        self._failures.clear()
        self._captchas.clear()

    def captcha(self, token: str) -> str | None:
        """Return the letters of the picture, or None if there is no such captcha."""
        return self._captchas.get(token)

    def _is_solved(self, form: Mapping[str, str]) -> bool:
        letters = self._captchas.pop(form.get("logintoken", ""), "")
        given = form.get("logincaptcha", "").strip().lower()
        return bool(letters) and hmac.compare_digest(letters.encode(), given.encode())

    def _count_failure(self, account: str) -> None:
        self._failures[account] += 1
        _drop_oldest(self._failures)


def renewal_headers(grant: Grant, tokens: Tokens, now: float) -> Headers:
    """Return a header with a new token if half the life of the present one has passed."""
    if now - grant.issued < TOKEN_SECONDS / 2:
        return ()
    return ((b"Update-Client-Auth", tokens.successor(grant, now, TOKEN_SECONDS).encode()),)


def _lines(status: int, *lines: str) -> Reply:
    error = lines[0].removeprefix("Error=") if status == 403 else ""
    return Reply(status, "".join(f"{line}\n" for line in lines).encode(), error=error)


def _drop_oldest(entries: dict[Any, Any]) -> None:
    if len(entries) > _MAX_ENTRIES:
        del entries[next(iter(entries))]


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
