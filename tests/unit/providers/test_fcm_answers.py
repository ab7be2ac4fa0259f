"""What the answers of FCM mean: the table of its documentation, row by row."""

import json
from codecs import BOM_UTF8
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node2dm_tw.providers.fcm_answers import BAD_TOKEN, CODES, judge
from node2dm_tw.providers.interface import (
    BadDevice,
    Delivered,
    DeviceOverQuota,
    Rejected,
    Retry,
    Unauthorized,
    Unexplained,
    Verdict,
)
from tests.unit.providers.answers import NOW, SHAPES, STATUSES, answer, responses

HTML = b"<!DOCTYPE html>\n<html lang=en>\n<title>Error 404 (Not Found)!!1</title>\n"
GOOGLE = "type.googleapis.com/google."
SAID = "projects/shop/messages/0:15004%31bd"


def fcm_error(code):
    return {"@type": f"{GOOGLE}firebase.fcm.v1.FcmError", "errorCode": code}


def bad_request(*fields):
    violations = [{"field": field, "description": "no"} for field in fields]
    return {"@type": f"{GOOGLE}rpc.BadRequest", "fieldViolations": violations}


def quota_failure(*subjects):
    violations = [{"subject": subject, "description": "no"} for subject in subjects]
    return {"@type": f"{GOOGLE}rpc.QuotaFailure", "violations": violations}


def error(status, name, *details, message="No.", **headers):
    """An error as FCM writes them."""
    content = {"code": status, "message": message, "status": name, "details": list(details)}
    return answer(status, {"error": content}, **headers)


def invalid(*details, **more):
    return error(400, "INVALID_ARGUMENT", *details, **more)


CODE = fcm_error("INVALID_ARGUMENT")


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        (answer(200, {"name": SAID}), Delivered(SAID.encode())),
        (answer(200, {"name": "\ud800"}), Delivered(b"?")),
        (invalid(CODE), Rejected("INVALID_ARGUMENT")),
        (invalid(), Rejected("INVALID_ARGUMENT")),
        (invalid(CODE, bad_request("message.name")), Rejected("INVALID_ARGUMENT.message.name")),
        (invalid(bad_request("message.data[3].value")), Rejected("INVALID_ARGUMENT.message.data")),
        (invalid(bad_request("", "message.topic")), Rejected("INVALID_ARGUMENT.message.topic")),
        (invalid(bad_request("Drop table: x")), Rejected("INVALID_ARGUMENT")),
        (invalid(CODE, bad_request("message.token")), BadDevice("INVALID_ARGUMENT")),
        (invalid(bad_request("message.fid")), BadDevice("INVALID_ARGUMENT")),
        (invalid(CODE, message=BAD_TOKEN), BadDevice("INVALID_ARGUMENT")),
        (invalid(message=BAD_TOKEN), BadDevice("INVALID_ARGUMENT")),
        (invalid(CODE, message=BAD_TOKEN + "s"), Rejected("INVALID_ARGUMENT")),
        (invalid(bad_request("message"), message=BAD_TOKEN), Rejected("INVALID_ARGUMENT.message")),
        (error(401, "UNAUTHENTICATED"), Unauthorized()),
        (answer(401), Unauthorized()),
        (
            error(401, "UNAUTHENTICATED", fcm_error("THIRD_PARTY_AUTH_ERROR")),
            Rejected("THIRD_PARTY_AUTH_ERROR"),
        ),
        (error(401, "UNAUTHENTICATED", fcm_error("APNS_AUTH_ERROR")), Rejected("APNS_AUTH_ERROR")),
        (
            error(403, "PERMISSION_DENIED", fcm_error("SENDER_ID_MISMATCH")),
            BadDevice("SENDER_ID_MISMATCH"),
        ),
        (error(404, "NOT_FOUND", fcm_error("UNREGISTERED")), BadDevice("UNREGISTERED")),
        (answer(200, BOM_UTF8 + json.dumps({"name": SAID}).encode()), Delivered(SAID.encode())),
        (answer(200, HTML), Rejected("unreadable", is_explained=False)),
        (answer(200, {"name": ""}), Rejected("unreadable", is_explained=False)),
        (answer(200, b'{"name": "a"}', truncated=True), Rejected("too_large", is_explained=False)),
        (answer(204), Rejected("http_204", is_explained=False)),
    ],
)  # fmt: skip
def test_each_row(said, verdict):
    """Codes that name the device blame it; nothing else does."""
    assert judge(said, NOW) == verdict


@pytest.mark.parametrize("status", [302, 400, 402, 403, 404, 405, 407, 413, 451])
@pytest.mark.parametrize("truncated", [False, True])
@pytest.mark.parametrize(
    "body", [b"", HTML, b"null", b'{"error": {"details": [{"errorCode": "UNREG']
)
def test_3xx_and_4xx_without_a_code_explain_nothing(status, body, truncated):
    """Neither a portal nor a wrong project or URL may cost a push or a healthy device anything."""
    verdict = judge(answer(status, body, truncated), NOW)
    assert isinstance(verdict, Unexplained)
    assert verdict.hint.startswith(f"{status}, ")
    assert (verdict.reason, verdict.after, verdict.pause) == (f"http_{status}", None, 60.0)


def test_404_with_details_that_are_null_explains_nothing():
    """NOT_FOUND by itself may be the project, the URL, or this one message."""
    content = {"error": {"code": 404, "message": "No.", "status": "NOT_FOUND", "details": None}}
    assert judge(answer(404, content), NOW) == Unexplained(
        "http_404", "404, NOT_FOUND: No., are project and url right?", None, 60.0
    )


def test_what_explains_nothing_is_quoted():
    """On one line, for the log, with what to look at."""
    said = error(403, "PERMISSION_DENIED", message="The API is\noff in \x1b[1mproject 1.")
    assert judge(said, NOW).hint == (
        "403, PERMISSION_DENIED: The API is off in [1mproject 1.,"
        " is FCM's API on in this project, and may this account send for it?"
    )


WAITS = [({}, None), ({"Retry_After": "7"}, 7.0), ({"Retry_After": "soon"}, None)]
WAITS += [({"Retry_After": "Tue, 14 Nov 2023 22:13:50 GMT"}, 30.0)]


@pytest.mark.parametrize(("headers", "after"), WAITS)
@pytest.mark.parametrize("body", [error(503, "X", fcm_error("UNAVAILABLE")).body, b"", HTML])
def test_unavailable_pauses_the_lane(body, headers, after):
    """For Retry-After; where there is none the lane's own delay counts."""
    verdict = judge(answer(503, body, **headers), NOW)
    assert (verdict.after, verdict.whole_lane) == (after, True)


@pytest.mark.parametrize(("headers", "after"), WAITS)
@pytest.mark.parametrize("status", [500, 501, 502, 504, 520])
def test_a_fault_of_the_server_explains_nothing(status, headers, after):
    """The route goes on as long as other pushes get better answers."""
    for said, reason in (
        (error(status, "INTERNAL", fcm_error("INTERNAL"), **headers), "INTERNAL"),
        (answer(status, HTML, **headers), f"http_{status}"),
    ):
        verdict = judge(said, NOW)
        assert isinstance(verdict, Unexplained)
        assert (verdict.reason, verdict.after, verdict.pause) == (reason, after, None)


@pytest.mark.parametrize("status", [408, 425])
def test_a_proxys_time_out_is_this_requests_alone(status):
    """It says nothing, neither of the push nor of the service."""
    assert judge(answer(status, HTML), NOW) == Retry(None, whole_lane=False, reason=f"{status}")


def retry_info(delay):
    return {"@type": f"{GOOGLE}rpc.RetryInfo", "retryDelay": delay}


@pytest.mark.parametrize(
    ("delay", "header", "after"),
    [
        ("300s", None, 300.0),
        ("1.5s", None, 1.5),
        ("30s", "120", 120.0),
        ("300s", "120", 300.0),
        ("soon", "7", 7.0),
        ({"seconds": 3}, None, None),
        ("315576000000s", None, 3_600.0),
    ],
)
@pytest.mark.parametrize(
    ("status", "code"), [(503, "UNAVAILABLE"), (429, "QUOTA_EXCEEDED"), (500, "INTERNAL")]
)
def test_retry_info_counts_like_retry_after(status, code, delay, header, after):
    """The later of the two wins."""
    named = {} if header is None else {"Retry_After": header}
    verdict = judge(error(status, "X", fcm_error(code), retry_info(delay), **named), NOW)
    if after is None and status == 429:
        after = 60.0
    assert verdict.after == after


@pytest.mark.parametrize(("headers", "after"), WAITS)
def test_over_quota(headers, after):
    """The lane pauses for Retry-After or 60 s; only a subject `device:` is the device's alone."""
    wait = 60.0 if after is None else after
    code = fcm_error("QUOTA_EXCEEDED")
    name = "RESOURCE_EXHAUSTED"
    for details in (
        (),
        (code,),
        (code, quota_failure("project:shop")),
        (quota_failure("x:device:"),),
    ):
        verdict = judge(error(429, name, *details, **headers), NOW)
        assert (verdict.after, verdict.whole_lane, verdict.over_quota) == (wait, True, True)
    assert judge(answer(429, HTML, **headers), NOW).whole_lane
    for details in ((code, quota_failure("device:t")), (quota_failure("project:x", "device:t"),)):
        assert judge(error(429, name, *details, **headers), NOW) == DeviceOverQuota(wait)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("INVALID_ARGUMENT", Rejected),
        ("THIRD_PARTY_AUTH_ERROR", Rejected),
        ("SENDER_ID_MISMATCH", BadDevice),
        ("UNREGISTERED", BadDevice),
        ("QUOTA_EXCEEDED", Retry),
        ("INTERNAL", Unexplained),
        ("UNAVAILABLE", Retry),
    ],
)
@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 429, 500, 503])
def test_the_code_decides_and_not_the_status(status, code, kind):
    """It may be any detail of several, and stand under any status."""
    noise = [{"@type": f"{GOOGLE}rpc.ErrorInfo", "reason": "X"}, fcm_error("UNSPECIFIED_ERROR")]
    verdict = judge(error(status, "X", *noise, fcm_error(code)), NOW)
    assert type(verdict) is kind
    assert getattr(verdict, "whole_lane", None) == {
        "QUOTA_EXCEEDED": True, "UNAVAILABLE": True
    }.get(code)  # fmt: skip


def test_a_code_counts_in_its_own_detail_only():
    """APNs' errors, and fields of the same name elsewhere, say nothing."""
    apns = {"@type": f"{GOOGLE}firebase.fcm.v1.ApnsError", "errorCode": "UNREGISTERED"}
    for details in ([apns], [{"errorCode": "UNREGISTERED"}], [fcm_error(["UNREGISTERED"])]):
        assert isinstance(judge(error(404, "UNREGISTERED", *details), NOW), Unexplained)


TYPES = st.sampled_from(
    [f"{GOOGLE}firebase.fcm.v1.FcmError", f"{GOOGLE}rpc.BadRequest", f"{GOOGLE}rpc.QuotaFailure"]
)
DETAILS = st.fixed_dictionaries(
    {"@type": TYPES | SHAPES},
    optional={
        "errorCode": st.sampled_from(sorted(CODES)) | SHAPES,
        "fieldViolations": st.lists(st.fixed_dictionaries({"field": SHAPES})) | SHAPES,
        "violations": st.lists(st.fixed_dictionaries({"subject": SHAPES})) | SHAPES,
    },
)
ERRORS = st.fixed_dictionaries(
    {},
    optional={
        "name": SHAPES,
        "error": st.fixed_dictionaries(
            {},
            optional={"details": st.lists(DETAILS) | SHAPES, "message": SHAPES, "status": SHAPES},
        )
        | SHAPES,
    },
)
BODIES = (ERRORS | SHAPES).map(lambda content: answer(200, content).body)


@given(responses(BODIES | BODIES.map(lambda body: body[: len(body) // 2])))
def test_whatever_comes_is_judged(said):
    """No body, status or header makes it raise."""
    verdict = judge(said, NOW)
    assert isinstance(verdict, get_args(Verdict))
    if isinstance(verdict, Retry | DeviceOverQuota) and verdict.after is not None:
        assert 0 <= verdict.after <= 86_400
    if isinstance(verdict, Rejected | Unexplained):
        text = verdict.reason + getattr(verdict, "hint", "")
        assert text.isprintable()
        assert text.isascii()


@given(STATUSES, SHAPES)
def test_without_a_code_no_device_is_blamed(status, shape):
    """Only a 400 can say so otherwise, by a field or its one sentence."""
    verdict = judge(answer(status, {"error": shape}), NOW)
    assert not isinstance(verdict, BadDevice | DeviceOverQuota)


@pytest.mark.parametrize("body", [b"[" * 60_000, b'{"a":' * 10_000, b"1" * 60_000, b"\xff\xfe{\0"])
def test_bodies_made_to_hurt(body):
    """Too deep, too long a number, another encoding."""
    assert judge(answer(200, body), NOW) == Rejected("unreadable", is_explained=False)
    assert isinstance(judge(answer(404, body), NOW), Unexplained)
