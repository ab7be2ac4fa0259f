"""Bodies of answers that ought to be JSON."""

import json
from typing import Any


def read_object(body: bytes) -> dict[str, Any]:
    """Read a JSON object; an empty one where it is anything else. Never raises."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
