"""The pushes in the body of a request."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node2dm_tw.intake.http_body import (
    COMPRESSED,
    MAX_ERRORS,
    MAX_PUSH_BYTES,
    MAX_PUSHES,
    WRONG_TYPE,
    Batch,
    read_values,
    refuse_type,
)
from tests.unit.intake.support import NOW, Intake

LINES = {b"content-type": b"application/x-ndjson"}
JSON = ("", "json")
NO_HEADERS: dict[bytes, bytes] = {}
PUSH = {"token": "phone", "collapse_key": "key", "data": "x"}


def parse(body, headers=NO_HEADERS):
    """Parse a body; return the batch, and its faults as index, field and reason."""
    batch = Batch(Intake().parser, read_values(body, headers), "ours-", NOW)
    assert batch.read(NOW + 1)
    return batch, [(index, error.field, error.reason) for index, error, _ in batch.faults]


def tokens(body, headers=NO_HEADERS):
    batch, faults = parse(body, headers)
    assert faults == []
    return [push.device.decode() for pushes in batch.pushes.values() for push in pushes]


def push(token="phone", **more):
    return json.dumps({**PUSH, "token": token, **more})


@pytest.mark.parametrize(
    ("content_type", "is_known"),
    [
        (None, True),
        ("application/json", True),
        ("Application/JSON; charset=UTF-8", True),
        ('application/json;charset="utf-8"', True),
        ("application/x-ndjson", True),
        ("application/ndjson ; charset = us-ascii", True),
        ("application/jsonl", True),
        ("application/json; charset=latin-1", False),
        ("application/json; boundary=x", False),
        ("application/x-www-form-urlencoded", False),
        ("multipart/form-data; boundary=x", False),
        ("text/plain", False),
        ("text/json", False),
        ("", False),
        ("\x0b" * 8_000 + "x;", False),
    ],
)
def test_content_types(content_type, is_known):
    """JSON and its form on lines, in UTF-8; without a type JSON is meant."""
    headers = {} if content_type is None else {b"content-type": content_type.encode()}
    assert refuse_type(headers) is (None if is_known else WRONG_TYPE)


def test_a_compressed_body_is_refused():
    """It would not be JSON."""
    assert refuse_type({b"content-encoding": b"gzip"}) is COMPRESSED
    assert refuse_type({b"content-encoding": b"Identity"}) is None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (push("a"), ["a"]),
        (f"\ufeff \r\n{push('a')}\n", ["a"]),
        (json.dumps(json.loads(push("a")), indent=2), ["a"]),
        (f"[{push('a')}]", ["a"]),
        (f"\ufeff [ {push('a')} ,\n\t{push('b')}\r\n] \n", ["a", "b"]),
        (f"[{push('ä')},{push('b', data='[]{},')}]", ["ä", "b"]),
    ],
)
def test_json(body, expected):
    """One object or an array of them, with blanks and a byte-order mark where there are some."""
    assert tokens(body.encode()) == expected


def test_objects_on_lines():
    """Empty lines, CR and NULs are skipped, as in datagrams; order is kept."""
    body = f"\ufeff{push('a')}\r\n\n \r\n{push('b')}\0\n  {push('c')}"
    assert tokens(body.encode(), LINES) == ["a", "b", "c"]
    assert tokens(body.encode(), {b"content-type": b"application/ndjson"}) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        ("", [(0, "", "empty")]),
        (" \n", [(0, "", "empty")]),
        ("[]", [(0, "", "empty")]),
        ("[ ] \n", [(0, "", "empty")]),
        ("null", [(0, "", "json")]),
        ('"x"', [(0, "", "json")]),
        ("{", [(0, "", "json")]),
        ("token=phone&data=x", [(0, "", "json")]),
        (f"{push()}\n{push()}", [(0, "", "json")]),
        ("[", [(0, "", "json")]),
        ("[,]", [(0, "", "json")]),
        ("[]]", [(0, "", "json")]),
        (f"[{push()}", [(1, "", "json")]),
        (f"[{push()},", [(1, "", "json")]),
        (f"[{push()},]", [(1, "", "json")]),
        (f"[{push()}] x", [(1, "", "json")]),
        (f"[{push()} {push()}]", [(1, "", "json")]),
        (f"[{push()}, NaN]", [(1, "", "json")]),
        (f"[{push()}, {{]", [(1, "", "json")]),
        ("[" * 100_000, [(0, "", "json")]),
        ("[null,[],{}]", [(0, "", "json"), (1, "", "json"), (2, "token", "token")]),
        (f'[{push()}, {{"token":"a","token":"b"}}, 1]', [(1, "token", "field")]),
        (f"[{push(ttl=-1)},{push(topic='x')}]", [(0, "ttl", "field"), (1, "topic", "target")]),
        (push(id="a b"), [(0, "id", "field")]),
        (push(route="nowhere"), [(0, "route", "unknown_route")]),
        (push(data="x" * 1_025), [(0, "data", "too_large")]),
        (push(data="\ud800"), [(0, "data", "utf8")]),
        (push(data="x" * MAX_PUSH_BYTES), [(0, "", "too_large")]),
        (f"[1, {push(data='x' * 70_000)}, 1]", [(0, *JSON), (1, "", "too_large"), (2, *JSON)]),
    ],
)  # fmt: skip
def test_what_is_invalid(body, faults):
    """Every fault is found, each with the index of its push, the field and a reason."""
    batch, found = parse(body.encode())
    assert found == faults
    described = json.loads(batch.describe_faults())["errors"]
    assert [(each["index"], each["field"], each["reason"]) for each in described] == faults
    assert all(each["detail"].startswith(("expected ", each["field"])) for each in described)


def test_invalid_utf8():
    """Is told for its own push alone."""
    bad = push(data="?").encode().replace(b"?", b"\xff")
    good = push().encode()
    assert parse(bad)[1] == [(0, "", "utf8")]
    assert parse(b"[%b,%b,%b]" % (good, bad, good))[1] == [(1, "data", "utf8")]
    assert parse(b"%b\n%b\n%b" % (good, bad, good), LINES)[1] == [(1, "", "utf8")]


def test_what_is_invalid_on_lines():
    """The index counts pushes, not lines; what follows an invalid line is read."""
    body = f"{push()}\n\n[]\n{{\n{push(ttl='x')}\n{push()}\n{push(data='x' * MAX_PUSH_BYTES)}"
    expected = [(1, "", "json"), (2, "", "json"), (3, "ttl", "field"), (5, "", "too_large")]
    assert parse(body.encode(), LINES)[1] == expected


def test_an_answer_describes_a_bounded_number_of_errors():
    """And says how many it leaves out."""
    batch, faults = parse(b"[%b]" % b",".join([b"{}"] * MAX_PUSHES))
    assert len(faults) == MAX_PUSHES
    answer = json.loads(batch.describe_faults())
    assert (len(answer["errors"]), answer["omitted"]) == (MAX_ERRORS, MAX_PUSHES - MAX_ERRORS)


@pytest.mark.parametrize("form", ["[{}]", "{}"])
def test_too_many_pushes(form):
    """One more than a thousand ends the parsing, however many follow."""
    separator, headers = (",", {}) if form == "[{}]" else ("\n", LINES)
    full = form.format(separator.join([push()] * MAX_PUSHES)).encode()
    assert len(tokens(full, headers)) == MAX_PUSHES
    batch, _ = parse(form.format(separator.join(["{}"] * 100_000)).encode(), headers)
    assert batch.is_too_long
    assert batch.count == MAX_PUSHES + 1


def test_ids():
    """The application's own are kept; a push without one, or with null, gets one of ours."""
    batch, faults = parse(f"[{push(id='a:1')},{push()},{push(id=None)},{push(id='a:1')}]".encode())
    assert faults == []
    assert batch.ids == ["a:1", "ours-2", "ours-3", "a:1"]
    (pushes,) = batch.pushes.values()
    assert [push.id for push in pushes] == batch.ids
    assert json.loads(batch.describe_receipt()) == {"accepted": 4, "ids": batch.ids}


def test_each_push_names_its_route():
    """The default is the first one; a prefix does as well."""
    batch, _ = parse(f"[{push('a')},{push('b', route='news')},{push('c', route='n')}]".encode())
    found = {r.name: [p.device for p in pushes] for r, pushes in batch.pushes.items()}
    assert found == {"shop": [b"a"], "news": [b"b", b"c"]}


def test_a_large_batch_is_parsed_in_slices():
    """Each goes on where the one before it ended; none is without progress."""
    batch = Batch(Intake().parser, read_values(f"[{push()},{push()},3]".encode(), {}), "x-", NOW)
    assert [batch.read(NOW) for _ in range(3)] == [False, False, False]
    assert batch.read(NOW)
    assert (batch.ids, len(batch.faults)) == (["x-1", "x-2"], 1)


@given(st.binary(max_size=200), st.sampled_from([{}, LINES]))
def test_any_bytes(body, headers):
    """They are pushes or faults, and nothing else comes of them."""
    batch, faults = parse(body, headers)
    assert len(faults) + len(batch.ids) == max(1, batch.count)


VALUES = [push(), push("b", ttl=5), push(data={"a": "[]"}), "{}", "1", "nul", "{", ""]


@given(st.lists(st.sampled_from(VALUES), max_size=6), st.sampled_from(["", " ", "\n"]))
def test_arrays_are_read_as_json_defines_them(values, blank):
    """Each element of what is JSON is looked at; what is not has a fault."""
    text = f"[{f'{blank},{blank}'.join(values)}]{blank}"
    batch, faults = parse(text.encode())
    try:
        expected = json.loads(text)
    except ValueError:
        assert faults
    else:
        assert batch.count == len(expected)
