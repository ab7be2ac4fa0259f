"""What schemathesis cannot know of the gateway; it loads this file by SCHEMATHESIS_HOOKS."""

import json
import re
import uuid
from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def write_line(ctx: Any, value: Any) -> bytes:
    """Write a push on a line of its own."""
    return value if isinstance(value, bytes) else json.dumps(value).encode() + b"\n"


@schemathesis.hook
def before_call(ctx: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Give each request an idempotency key of its own: it draws the same ones again and again."""
    if re.fullmatch("[!-~]{1,64}", str(case.headers.get("Idempotency-Key", ""))):
        case.headers["Idempotency-Key"] = uuid.uuid4().hex
