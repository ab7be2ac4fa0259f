"""FCM's topics, and conditions over them such as ``'a' in topics && !('b' in topics)``."""

import re
from collections.abc import Callable, Iterator, Set

Condition = Callable[[Set[str]], bool]
"""Says of the topics a phone listens to whether they meet the condition."""

_TOPIC = re.compile(r"[a-zA-Z0-9_.~%-]{1,900}")
_TOKEN = re.compile(r"\s*(?:'([^']*)'\s+in\s+topics\b|(&&|\|\||!|\(|\)))")
_MOST_TOPICS = 5
_LONGEST = 2_000


def is_topic(name: str) -> bool:
    """Say whether it can name a topic."""
    return _TOPIC.fullmatch(name) is not None


def read_condition(text: str) -> Condition:
    """Read a condition of at most five topics.

    Raises:
        ValueError: it is not one.
    """
    tokens = _split(text)
    if sum(bool(topic) for topic, _ in tokens) > _MOST_TOPICS:
        raise ValueError("too many topics")
    queue = iter([*tokens, ("", "")])
    parser = _Parser(queue)
    condition = parser.either()
    if parser.present != ("", ""):
        raise ValueError("something is left over")
    return condition


def _split(text: str) -> list[tuple[str, str]]:
    """Cut it into (topic, operator) pairs, one of the two empty."""
    tokens = []
    position, end = 0, len(text.rstrip())
    if end > _LONGEST:
        raise ValueError("too long")
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None or (match[1] is not None and not is_topic(match[1])):
            raise ValueError(f"not understood at {position}")
        tokens.append((match[1] or "", match[2] or ""))
        position = match.end()
    return tokens


class _Parser:
    """Reads what binds least first; `present` is the token that is looked at."""

    def __init__(self, tokens: Iterator[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._depth = 0
        self.present = next(tokens)

    def either(self) -> Condition:
        condition = self._both()
        while self._take("||"):
            condition = _or(condition, self._both())
        return condition

    def _both(self) -> Condition:
        condition = self._single()
        while self._take("&&"):
            condition = _and(condition, self._single())
        return condition

    def _single(self) -> Condition:
        self._depth += 1
        if self._depth > 50:
            raise ValueError("too deep")
        try:
            if self._take("!"):
                inner = self._single()
                return lambda topics: not inner(topics)
            if self._take("("):
                condition = self.either()
                if not self._take(")"):
                    raise ValueError("a bracket is not closed")
                return condition
            topic, _ = self.present
            if not topic:
                raise ValueError("expected a topic")
            self.present = next(self._tokens)
            return lambda topics: topic in topics
        finally:
            self._depth -= 1

    def _take(self, operator: str) -> bool:
        if self.present != ("", operator):
            return False
        self.present = next(self._tokens)
        return True


def _or(first: Condition, second: Condition) -> Condition:
    return lambda topics: first(topics) or second(topics)


def _and(first: Condition, second: Condition) -> Condition:
    return lambda topics: first(topics) and second(topics)
