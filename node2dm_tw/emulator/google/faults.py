"""Fault injection: rules that say which requests fail, how, and how often."""

import json
import random
import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from node2dm_tw.emulator.google.messages import Headers, IncomingRequest, Reply, json_reply

ENDPOINTS = (
    "login",
    "captcha",
    "send",
    "token",
    "sts",
    "impersonate",
    "metadata",
    "fcm",
    "topics",
    "register",
    "messages",
    "idle",
    "refresh",
    "unregister",
)

CUTS = ("request", "answer", "headers", "body")
"""Where a connection can break: before the request is handled, after that and before any byte of
the reply, after the status line of the reply, in the middle of its body."""

MAX_RULES = 1_000
MAX_TEXT_LENGTH = 65_536
MAX_DELAY_SECONDS = 3_600.0

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_RESERVED_HEADERS = ("content-length", "transfer-encoding", "connection")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]{0,2000}")


@attrs.frozen
class FaultRule:
    """One fault: the requests that it affects, and what happens to them.

    Args:
        endpoint: one of `ENDPOINTS`; empty: any.
        device: a registration ID, Firebase installation ID or topic; empty: any.
        account: a sender account, project or service account; empty: any.
        times: how often it applies; None: until it is removed.
        after: the number of matching requests that are handled normally first.
        probability: of each matching request.
        seed: of the random generator; the same seed gives the same decisions.
        error: one of the endpoint's own error codes, which is the reply.
        status: replaces that of the normal reply.
        headers: added to the reply.
        body: replaces that of the normal reply.
        delay: seconds before the reply.
        cut: one of `CUTS`; empty: none.
        update_client_auth: the reply has a new ClientLogin token; the old one expires.
    """

    endpoint: str = ""
    device: str = ""
    account: str = ""
    times: int | None = 1
    after: int = 0
    probability: float = 1.0
    seed: int = 0
    error: str = ""
    status: int | None = None
    headers: Headers = ()
    body: str | None = None
    delay: float = 0.0
    cut: str = ""
    update_client_auth: bool = False


@attrs.define(eq=False)
class _ActiveRule:
    rule: FaultRule
    given: Mapping[str, Any]
    random: random.Random
    matches: int = 0
    hits: int = 0

    @property
    def is_used_up(self) -> bool:
        return self.rule.times is not None and self.hits >= self.rule.times


@attrs.define(eq=False)
class Faults:
    """The active rules.

    Args:
        errors: the error codes of each endpoint.
    """

    _errors: Mapping[str, frozenset[str]]
    _rules: list[_ActiveRule] = attrs.field(factory=list, init=False)

    @property
    def is_active(self) -> bool:
        """Whether any rule can still apply."""
        return any(not each.is_used_up for each in self._rules)

    def match(self, endpoint: str, names: frozenset[str]) -> FaultRule | None:
        """Return the first rule that applies to this request, and count it.

        Args:
            endpoint: one of `ENDPOINTS`.
            names: the devices and accounts that the request names.
        """
        for each in self._rules:
            rule = each.rule
            is_match = (
                not each.is_used_up
                and rule.endpoint in ("", endpoint)
                and (not rule.device or rule.device in names)
                and (not rule.account or rule.account in names)
            )
            if not is_match:
                continue
            each.matches += 1
            if each.matches > rule.after and each.random.random() < rule.probability:
                each.hits += 1
                return rule
        return None

    def add(self, request: IncomingRequest) -> Reply:
        """Answer ``POST /faults``: add one rule or a list of them, all or none."""
        try:
            content = json.loads(request.body)
        except (ValueError, RecursionError):
            return json_reply(400, {"error": "expected a JSON object or a list of them"})
        given = content if isinstance(content, list) else [content]
        if len(self._rules) + len(given) > MAX_RULES:
            return json_reply(400, {"error": f"more than {MAX_RULES} rules"})
        try:
            rules = [self._read(each) for each in given]
        except ValueError as error:
            return json_reply(400, {"error": str(error)})
        for rule, each in zip(rules, given, strict=True):
            self._rules.append(_ActiveRule(rule, each, random.Random(rule.seed)))  # noqa: S311
        return self.show()

    def show(self) -> Reply:
        """Answer ``GET /faults``: the rules, and how often each was applied."""
        rules = [{**each.given, "hits": each.hits} for each in self._rules]
        return json_reply(200, {"rules": rules})

    def clear(self) -> None:
        """Remove all rules."""
        self._rules.clear()

    def _read(self, given: Any) -> FaultRule:
        if not isinstance(given, dict):
            raise ValueError("expected a JSON object or a list of them")
        for name, value in given.items():
            if name not in _CHECKS:
                raise ValueError(f"{name}: unknown; known are {', '.join(_CHECKS)}")
            check, expected = _CHECKS[name]
            if not check(value):
                raise ValueError(f"{name}: {expected}")
        headers = tuple(
            (name.encode(), value.encode()) for name, value in given.get("headers", {}).items()
        )
        rule = FaultRule(**{**given, "headers": headers})
        if rule.error and rule.error not in self._errors.get(rule.endpoint, ()):
            known = ", ".join(sorted(self._errors.get(rule.endpoint, ()))) or "none"
            raise ValueError(f"error: the endpoint {rule.endpoint!r} has {known}")
        return rule


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT_LENGTH


def _are_headers(value: object) -> bool:
    return isinstance(value, dict) and all(
        _HEADER.fullmatch(name)
        and name.lower() not in _RESERVED_HEADERS
        and isinstance(each, str)
        and _HEADER_VALUE.fullmatch(each)
        for name, each in value.items()
    )


_CHECKS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "endpoint": (lambda value: value in ("", *ENDPOINTS), f"one of {', '.join(ENDPOINTS)}"),
    "device": (_is_text, "expected a registration ID"),
    "account": (_is_text, "expected an account"),
    "times": (
        lambda value: value is None or (_is_integer(value) and value > 0),
        "expected a number above 0, or null for no end",
    ),
    "after": (lambda value: _is_integer(value) and value >= 0, "expected a number"),
    "probability": (
        lambda value: _is_number(value) and 0 <= value <= 1,
        "expected a number from 0 to 1",
    ),
    "seed": (_is_integer, "expected a whole number"),
    "error": (_is_text, "expected an error code"),
    "status": (
        lambda value: _is_integer(value) and 200 <= value <= 599,
        "expected a number from 200 to 599",
    ),
    "headers": (_are_headers, "expected an object of header names to values"),
    "body": (_is_text, "expected a text"),
    "delay": (
        lambda value: _is_number(value) and 0 <= value <= MAX_DELAY_SECONDS,
        f"expected seconds from 0 to {MAX_DELAY_SECONDS:.0f}",
    ),
    "cut": (lambda value: value in CUTS, f"one of {', '.join(CUTS)}"),
    "update_client_auth": (lambda value: isinstance(value, bool), "expected true or false"),
}
