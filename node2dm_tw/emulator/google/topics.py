"""FCM's topics, and conditions over them such as ``'a' in topics && !('b' in topics)``."""

import re
from collections.abc import Callable, Container, Iterator

Condition = Callable[[Container[str]], bool]
"""Whether the topics of a registration meet the condition."""

_TOPIC = re.compile(r"[a-zA-Z0-9_.~%-]{1,900}")
_TOKEN = re.compile(r"\s*(?:'([^']*)'\s+in\s+topics\b|(&&|\|\||!|\(|\)))")
_MAX_TOPICS = 5
_MAX_LENGTH = 2_000


def is_topic(name: str) -> bool:
    """Whether this is a valid name of a topic."""
    return _TOPIC.fullmatch(name) is not None


def read_condition(text: str) -> Condition:
    """Parse a condition of at most five topics.

    Raises:
        ValueError: it is not one.
    """
    tokens = _split(text)
    if sum(bool(topic) for topic, _ in tokens) > _MAX_TOPICS:
        raise ValueError("too many topics")
    queue = iter([*tokens, ("", "")])
    parser = _Parser(queue)
    condition = parser.parse_or()
    if parser.current != ("", ""):
        raise ValueError("unexpected text at the end")
    return condition


def _split(text: str) -> list[tuple[str, str]]:
    """Split a condition into pairs (topic, operator), one of the two empty."""
    tokens = []
    position, end = 0, len(text.rstrip())
    if end > _MAX_LENGTH:
        raise ValueError("too long")
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None or (match[1] is not None and not is_topic(match[1])):
            raise ValueError(f"syntax error at {position}")
        tokens.append((match[1] or "", match[2] or ""))
        position = match.end()
    return tokens


class _Parser:
    """A recursive descent parser; `current` is the next token."""

    def __init__(self, tokens: Iterator[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._depth = 0
        self.current = next(tokens)

    def parse_or(self) -> Condition:
        condition = self._parse_and()
        while self._take("||"):
            condition = _or(condition, self._parse_and())
        return condition

    def _parse_and(self) -> Condition:
        condition = self._parse_term()
        while self._take("&&"):
            condition = _and(condition, self._parse_term())
        return condition

    def _parse_term(self) -> Condition:
        self._depth += 1
        if self._depth > 50:
            raise ValueError("too deep")
        try:
            if self._take("!"):
                inner = self._parse_term()
                return lambda topics: not inner(topics)
            if self._take("("):
                condition = self.parse_or()
                if not self._take(")"):
                    raise ValueError("expected a closing parenthesis")
                return condition
            topic, _ = self.current
            if not topic:
                raise ValueError("expected a topic")
            self.current = next(self._tokens)
            return lambda topics: topic in topics
        finally:
            self._depth -= 1

    def _take(self, operator: str) -> bool:
        if self.current != ("", operator):
            return False
        self.current = next(self._tokens)
        return True


def _or(first: Condition, second: Condition) -> Condition:
    return lambda topics: first(topics) or second(topics)


def _and(first: Condition, second: Condition) -> Condition:
    return lambda topics: first(topics) and second(topics)
