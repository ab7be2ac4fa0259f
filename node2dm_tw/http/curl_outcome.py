"""Converts the end of a libcurl transfer to the outcome of its request."""

import re
from collections.abc import Callable

import pycurl  # type: ignore[import-untyped]

from node2dm_tw.http.curl_transfer import BLANK_LINES, Transfer
from node2dm_tw.http.head import parse_status
from node2dm_tw.http.interface import (
    CertificateRefused,
    NoAnswer,
    NotSent,
    Outcome,
    RequestFailed,
)

_REFUSALS = {pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_INVALIDCERTSTATUS}

_HTTP2_STREAM = 92
"""CURLE_HTTP2_STREAM, which pycurl does not define: one stream of a connection failed."""

_ANSWERED = {pycurl.E_UNSUPPORTED_PROTOCOL, pycurl.E_FTP_WEIRD_SERVER_REPLY, _HTTP2_STREAM}
"""Errors after an answer that was not as expected."""

_ABOVE_LAST_STREAM = re.compile(r"HTTP/2 stream \d+ reset by curl \(error 0x([0-9a-d]) ")
"""A GOAWAY with this error code, which named a lower stream as the last to be processed."""

_ENHANCE_YOUR_CALM = "b"
_GAVE_UP = "Connection died, tried"
"""libcurl's error after it has repeated a request several times by itself."""


def outcome_of(
    transfer: Transfer, code: int, text: str, has_broken: Callable[[float], bool]
) -> Outcome:
    """Make the outcome of a transfer that libcurl has ended.

    Args:
        transfer: the transfer with the received data.
        code: libcurl's CURLcode.
        text: libcurl's error message.
        has_broken: returns whether a connection in use was reset within some seconds.
    """
    if code in _REFUSALS:
        return refusal_of(transfer, text)
    head = transfer.final_lines()
    if head and (parse_status(head[0]) or 0) >= 200:
        is_complete = any(line in BLANK_LINES for line in head)
        return transfer.make_response(cut=code != 0 or not is_complete)
    if code == 0:
        return failure_of(transfer, "no complete header came", lost=True)
    text = text or f"libcurl's error {code}"
    timed_out = code == pycurl.E_OPERATION_TIMEDOUT
    refused = None if timed_out else _refused_stream(transfer, text, has_broken)
    lost = not timed_out and code not in _ANSWERED
    return refused or failure_of(transfer, text, timed_out=timed_out, lost=lost)


def failure_of(
    transfer: Transfer,
    text: str,
    *,
    lost: bool = False,
    timed_out: bool = False,
    is_collateral: bool = False,
) -> RequestFailed:
    """Make a failure, depending on whether the request was sent and an old connection `lost`."""
    if not transfer.getinfo(pycurl.REQUEST_SIZE):
        return NotSent(text, timed_out=timed_out)
    is_stale = lost and not transfer.getinfo(pycurl.NUM_CONNECTS) and not transfer.lines
    return NoAnswer(text, timed_out=timed_out, retry_at_once=is_stale, is_collateral=is_collateral)


def refusal_of(transfer: Transfer, text: str) -> RequestFailed:
    """Make the failure for an unverified server. The request may have reached an earlier server."""
    if transfer.getinfo(pycurl.REQUEST_SIZE):
        return NoAnswer(text)
    return CertificateRefused(text)


def _refused_stream(
    transfer: Transfer, text: str, has_broken: Callable[[float], bool]
) -> NotSent | None:
    """Recognise a request that the server has not processed (RFC 9113, section 8.7)."""
    if above := _ABOVE_LAST_STREAM.match(text):
        return NotSent(text, retry_at_once=above[1] != _ENHANCE_YOUR_CALM)
    assert transfer.target is not None
    gave_up = text.startswith(_GAVE_UP) and transfer.target.pipewait
    # libcurl has the same error for refused streams and lost connections.
    if gave_up and not has_broken(transfer.getinfo(pycurl.TOTAL_TIME)):
        return NotSent("the server refuses every stream", retry_at_once=True)
    return None
