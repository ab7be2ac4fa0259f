"""What the answers of FCM mean: the table of its documentation, row by row."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node2dm_tw.providers.fcm_answers import BAD_TOKEN, CODES, judge
from node2dm_tw.providers.interface import (
    BadDevice,
    Delivered,
    DeviceOverQuota,
    Misconfigured,
    Refused,
    Retry,
    SignInAgain,
    Verdict,
)
from tests.providers.answers import NOW, SHAPES, STATUSES, answer, responses

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
        (invalid(CODE), Refused("INVALID_ARGUMENT")),
        (invalid(), Refused("INVALID_ARGUMENT")),
        (invalid(CODE, bad_request("message.name")), Refused("INVALID_ARGUMENT.message.name")),
        (invalid(bad_request("message.data[3].value")), Refused("INVALID_ARGUMENT.message.data")),
        (invalid(bad_request("", "message.topic")), Refused("INVALID_ARGUMENT.message.topic")),
        (invalid(bad_request("Drop table: x")), Refused("INVALID_ARGUMENT")),
        (invalid(CODE, bad_request("message.token")), BadDevice("INVALID_ARGUMENT")),
        (invalid(bad_request("message.fid")), BadDevice("INVALID_ARGUMENT")),
        (invalid(CODE, message=BAD_TOKEN), BadDevice("INVALID_ARGUMENT")),
        (invalid(message=BAD_TOKEN), BadDevice("INVALID_ARGUMENT")),
        (invalid(CODE, message=BAD_TOKEN + "s"), Refused("INVALID_ARGUMENT")),
        (invalid(bad_request("message"), message=BAD_TOKEN), Refused("INVALID_ARGUMENT.message")),
        (answer(400, HTML), Refused("INVALID_ARGUMENT")),
        (error(401, "UNAUTHENTICATED"), SignInAgain(once=True)),
        (answer(401), SignInAgain(once=True)),
        (
            error(401, "UNAUTHENTICATED", fcm_error("THIRD_PARTY_AUTH_ERROR")),
            Refused("THIRD_PARTY_AUTH_ERROR"),
        ),
        (
            error(403, "PERMISSION_DENIED", fcm_error("SENDER_ID_MISMATCH")),
            BadDevice("SENDER_ID_MISMATCH"),
        ),
        (error(404, "NOT_FOUND", fcm_error("UNREGISTERED")), BadDevice("UNREGISTERED")),
        (answer(302, HTML, Location="https://x/"), Misconfigured("302, is url right?")),
        (answer(405, HTML), Misconfigured("405, is url right?")),
        (answer(413, HTML), Refused("http_413")),
        (answer(200, HTML), Refused("unreadable")),
        (answer(200, {"name": ""}), Refused("unreadable")),
        (answer(200, b'{"name": "a"}', truncated=True), Refused("too_large")),
    ],
)  # fmt: skip
def test_each_row(said, verdict):
    """Codes that name the device blame it; nothing else does."""
    assert judge(said, NOW) == verdict


@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize("truncated", [False, True])
@pytest.mark.parametrize(
    "body", [b"", HTML, b"null", b'{"error": {"details": [{"errorCode": "UNREG']
)
def test_403_and_404_without_a_code_are_our_configuration(status, body, truncated):
    """A wrong project or URL must never cost a healthy device its registration."""
    verdict = judge(answer(status, body, truncated), NOW)
    assert isinstance(verdict, Misconfigured)
    assert verdict.reason.startswith(f"{status}, ")


def test_a_misconfiguration_is_told_in_googles_words():
    """On one line, for the log, with what to look at."""
    said = error(403, "PERMISSION_DENIED", message="The API is\noff in \x1b[1mproject 1.")
    assert judge(said, NOW) == Misconfigured(
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
@pytest.mark.parametrize("status", [500, 502, 504, 408, 520])
def test_a_fault_of_the_server_is_this_pushs_alone(status, headers, after):
    """It is never tried again before ten seconds are over."""
    for said in (
        error(status, "INTERNAL", fcm_error("INTERNAL"), **headers),
        answer(status, HTML, **headers),
    ):
        verdict = judge(said, NOW)
        expected = None if after is None else max(10.0, after)
        assert (verdict.after, verdict.whole_lane) == (expected, False)
        assert verdict.reason.startswith(f"{status} INTERNAL")


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
        ("INVALID_ARGUMENT", Refused),
        ("THIRD_PARTY_AUTH_ERROR", Refused),
        ("SENDER_ID_MISMATCH", BadDevice),
        ("UNREGISTERED", BadDevice),
        ("QUOTA_EXCEEDED", Retry),
        ("INTERNAL", Retry),
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
        "QUOTA_EXCEEDED": True, "UNAVAILABLE": True, "INTERNAL": False
    }.get(code)  # fmt: skip


def test_a_code_counts_in_its_own_detail_only():
    """APNs' errors, and fields of the same name elsewhere, say nothing."""
    apns = {"@type": f"{GOOGLE}firebase.fcm.v1.ApnsError", "errorCode": "UNREGISTERED"}
    for details in ([apns], [{"errorCode": "UNREGISTERED"}], [fcm_error(["UNREGISTERED"])]):
        assert isinstance(judge(error(404, "UNREGISTERED", *details), NOW), Misconfigured)


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
    if isinstance(verdict, Refused | Misconfigured):
        assert verdict.reason.isprintable()
        assert verdict.reason.isascii()


@given(STATUSES, SHAPES)
def test_without_a_code_no_device_is_blamed(status, shape):
    """Only a 400 can say so otherwise, by a field or its one sentence."""
    verdict = judge(answer(status, {"error": shape}), NOW)
    assert not isinstance(verdict, BadDevice | DeviceOverQuota)


@pytest.mark.parametrize("body", [b"[" * 60_000, b'{"a":' * 10_000, b"1" * 60_000, b"\xff\xfe{\0"])
def test_bodies_made_to_hurt(body):
    """Too deep, too long a number, another encoding."""
    assert judge(answer(200, body), NOW) == Refused("unreadable")
    assert isinstance(judge(answer(404, body), NOW), Misconfigured)
