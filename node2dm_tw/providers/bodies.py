"""Reads bodies of answers that should be JSON."""

import json
from codecs import BOM_UTF8

_decoder = json.JSONDecoder()


def read_object(body: bytes) -> dict[str, object]:
    """Read a JSON object; return an empty one for anything else. Never raises.

    A byte-order mark before it is skipped (RFC 8259, 8.1).
    """
    try:
        text = body.removeprefix(BOM_UTF8).decode().strip()
        content, end = _decoder.raw_decode(text)
    except (ValueError, RecursionError):
        return {}
    return content if end == len(text) and isinstance(content, dict) else {}
