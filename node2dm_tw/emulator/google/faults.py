"""Faults on request: rules that say which request goes wrong, how, and how often."""

import json
import random
import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from node2dm_tw.emulator.google.messages import Headers, IncomingRequest, Reply, json_answer

ENDPOINTS = (
    "login",
    "captcha",
    "send",
    "token",
    "fcm",
    "register",
    "messages",
    "idle",
    "refresh",
    "unregister",
)

CUTS = ("request", "answer", "headers", "body")
"""Where a connection can break: before the request is looked at, after it and before any byte of
the answer, after the first line of the answer, in the middle of its body."""

MOST_RULES = 1_000
LONGEST_TEXT = 65_536
LONGEST_DELAY = 3_600.0

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_HEADERS_OF_THE_WIRE = ("content-length", "transfer-encoding", "connection")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]{0,2000}")


@attrs.frozen
class Rule:
    """What goes wrong, and when.

    Args:
        endpoint: one of `ENDPOINTS`; empty: any.
        device: a registration ID, Firebase installation ID or topic; empty: any.
        account: a sender account, project or service account; empty: any.
        times: how often; None: until it is taken back.
        after: so many requests it would fit are let through first.
        probability: of each request it would fit.
        seed: of the generator that decides; the same seed decides the same.
        error: one of the endpoint's own error codes; its answer is given.
        status: of the answer that is given instead of the true one.
        headers: added to the answer.
        body: of the answer that is given instead of the true one.
        delay: seconds before the answer.
        cut: one of `CUTS`; empty: none.
        update_client_auth: the answer brings a new ClientLogin token, the old one ends.
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
class _Armed:
    rule: Rule
    given: Mapping[str, Any]
    random: random.Random
    fitted: int = 0
    hits: int = 0

    @property
    def spent(self) -> bool:
        return self.rule.times is not None and self.hits >= self.rule.times


@attrs.define(eq=False)
class Faults:
    """The rules in force.

    Args:
        errors: the error codes each endpoint has.
    """

    _errors: Mapping[str, frozenset[str]]
    _armed: list[_Armed] = attrs.field(factory=list, init=False)

    @property
    def active(self) -> bool:
        """Whether any rule can still fire."""
        return any(not armed.spent for armed in self._armed)

    def take(self, endpoint: str, names: frozenset[str]) -> Rule | None:
        """Give the first rule that fires for this request, and count it.

        Args:
            endpoint: one of `ENDPOINTS`.
            names: the devices and accounts it speaks of.
        """
        for armed in self._armed:
            rule = armed.rule
            fits = (
                not armed.spent
                and rule.endpoint in ("", endpoint)
                and (not rule.device or rule.device in names)
                and (not rule.account or rule.account in names)
            )
            if not fits:
                continue
            armed.fitted += 1
            if armed.fitted > rule.after and armed.random.random() < rule.probability:
                armed.hits += 1
                return rule
        return None

    def add(self, call: IncomingRequest) -> Reply:
        """Answer ``POST /faults``: one rule or a list of them, all or none."""
        try:
            content = json.loads(call.body)
        except (ValueError, RecursionError):
            return json_answer(400, {"error": "expected a JSON object or a list of them"})
        given = content if isinstance(content, list) else [content]
        if len(self._armed) + len(given) > MOST_RULES:
            return json_answer(400, {"error": f"more than {MOST_RULES} rules"})
        try:
            rules = [self._read(each) for each in given]
        except ValueError as error:
            return json_answer(400, {"error": str(error)})
        for rule, each in zip(rules, given, strict=True):
            self._armed.append(_Armed(rule, each, random.Random(rule.seed)))  # noqa: S311
        return self.show()

    def show(self) -> Reply:
        """Answer ``GET /faults``: the rules, and how often each has fired."""
        rules = [{**armed.given, "hits": armed.hits} for armed in self._armed]
        return json_answer(200, {"rules": rules})

    def clear(self) -> None:
        """Take all rules back."""
        self._armed.clear()

    def _read(self, given: Any) -> Rule:
        if not isinstance(given, dict):
            raise ValueError("expected a JSON object or a list of them")
        for name, value in given.items():
            if name not in _CHECKS:
                raise ValueError(f"{name}: unknown; known are {', '.join(_CHECKS)}")
            check, wanted = _CHECKS[name]
            if not check(value):
                raise ValueError(f"{name}: {wanted}")
        headers = tuple(
            (name.encode(), value.encode()) for name, value in given.get("headers", {}).items()
        )
        rule = Rule(**{**given, "headers": headers})
        if rule.error and rule.error not in self._errors.get(rule.endpoint, ()):
            known = ", ".join(sorted(self._errors.get(rule.endpoint, ()))) or "none"
            raise ValueError(f"error: the endpoint {rule.endpoint!r} has {known}")
        return rule


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_TEXT


def _are_headers(value: object) -> bool:
    return isinstance(value, dict) and all(
        _HEADER.fullmatch(name)
        and name.lower() not in _HEADERS_OF_THE_WIRE
        and isinstance(each, str)
        and _HEADER_VALUE.fullmatch(each)
        for name, each in value.items()
    )


_CHECKS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "endpoint": (lambda value: value in ("", *ENDPOINTS), f"one of {', '.join(ENDPOINTS)}"),
    "device": (_is_text, "expected a registration ID"),
    "account": (_is_text, "expected an account"),
    "times": (
        lambda value: value is None or (_is_whole(value) and value > 0),
        "expected a number above 0, or null for no end",
    ),
    "after": (lambda value: _is_whole(value) and value >= 0, "expected a number"),
    "probability": (
        lambda value: _is_number(value) and 0 <= value <= 1,
        "expected a number from 0 to 1",
    ),
    "seed": (_is_whole, "expected a whole number"),
    "error": (_is_text, "expected an error code"),
    "status": (
        lambda value: _is_whole(value) and 200 <= value <= 599,
        "expected a number from 200 to 599",
    ),
    "headers": (_are_headers, "expected an object of header names to values"),
    "body": (_is_text, "expected a text"),
    "delay": (
        lambda value: _is_number(value) and 0 <= value <= LONGEST_DELAY,
        f"seconds from 0 to {LONGEST_DELAY:.0f} are wanted",
    ),
    "cut": (lambda value: value in CUTS, f"one of {', '.join(CUTS)}"),
    "update_client_auth": (lambda value: isinstance(value, bool), "expected true or false"),
}
