"""One grammar for the gateway, PushClient and node2dm-push: as the table has it."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node2dm_tw.cli.rows import read_rows
from node2dm_tw.client import FLAGS
from node2dm_tw.client import Push as ClientPush
from node2dm_tw.core.push import REASONS, InvalidPush
from node2dm_tw.providers.c2dm import C2DM
from node2dm_tw.providers.fcm import FCM
from tests.support.grammar import BLOCKS, LINES, OBJECTS, Case
from tests.unit.intake.support import Intake

SERVICES = {"c2dm": C2DM("https://x.example/"), "fcm": FCM("https://x.example/", lambda: 0.0)}


def parse(line: bytes, service: str):
    """What the gateway reads on a route of that service: as `Case` has it."""
    parser = Intake().parser
    parser.default = attrs.evolve(parser.default, provider=SERVICES[service])
    try:
        _, (push,) = parser.read(line, 0.0)
    except InvalidPush as error:
        return None, (error.reason, error.field)
    content = push.fields if push.is_json else push.payload.decode()
    return (push.device.decode(), push.collapse_key.decode(), content), None


def meaning(push):
    """A push as device, collapse key and fields, whichever form it came in."""
    device, key, content = push
    fields = dict(content) if isinstance(content, dict) else {"data": content}
    for name in ("token", "fid", "topic", "condition", "collapse_key"):
        fields.pop(name, None)
    return device, key, fields


def expect(case: Case, line: bytes) -> None:
    """The gateway reads this line, which a client made of the case, as it reads the case."""
    push, fault = parse(line, case.service)
    assert fault == case.fault
    if case.push is not None:
        assert meaning(push) == meaning(case.push)


@pytest.mark.parametrize("case", [*OBJECTS, *LINES], ids=lambda case: case.name)
def test_the_gateway(case):
    """Each line of the table is the push it should be, or has its reason and field."""
    assert parse(case.line, case.service) == (case.push, case.fault)


def fields_of(case: Case) -> dict | None:
    """The object of a case; None where it is none that a program could hold."""
    (row,) = read_rows([case.line.decode("utf-8", "surrogateescape")])
    return row.fields if isinstance(row.fields, dict) else None


HELD = [case for case in OBJECTS if fields_of(case) is not None]


@pytest.mark.parametrize("case", HELD, ids=lambda case: case.name)
def test_push_client(case):
    """An object is refused by its field's name, or becomes a line that is read as the object."""
    try:
        line = ClientPush.from_fields(fields_of(case)).line()
    except ValueError as fault:
        refusal = str(fault)
    else:
        expect(case, line)
        return
    assert case.fault is not None
    assert case.fault[1].partition(".")[0] in refusal


def test_node2dm_push(tmp_path: Path):
    """Rows are read as the gateway reads them: what is faulty is named, the rest is sent."""
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(b"".join(case.line + b"\n" for case in OBJECTS))
    done = subprocess.run(
        [sys.executable, "-m", "node2dm_tw.cli.push", "--from", str(rows), "--dry-run"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    told = done.stderr.decode()
    faulty = {int(number) for number in re.findall(r"line (\d+):", told)}
    sent = [line for line in done.stdout.split(b"\n") if line]
    assert len(sent) + len(faulty) == len(OBJECTS)
    lines = iter(sent)
    for number, case in enumerate(OBJECTS, 1):
        if number in faulty:
            assert case.fault is not None, (case, told)
        else:
            expect(case, next(lines))


TEXTS = ("id", "token", "collapse_key", "data", "priority")
CSV_COLUMNS = (*TEXTS, "ttl", *FLAGS, *BLOCKS)


def cell(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def is_a_row(case: Case) -> bool:
    """Whether CSV can say it: an empty cell is absent, and a cell has the type of its column."""
    found = fields_of(case) or {}
    return (
        bool(found.get("token"))
        and found.keys() <= set(CSV_COLUMNS)
        and all(value is not None and value != "" for value in found.values())
        and not any(re.search(r"[\r\n\0\ud800-\udfff]", cell(value)) for value in found.values())
        and type(found.get("ttl", 0)) in (int, float)
        and all(isinstance(found.get(name, True), bool) for name in FLAGS)
        and all(isinstance(found.get(name, ""), str) for name in TEXTS)
        and not any(isinstance(found.get(name), str) for name in BLOCKS)
    )


def test_node2dm_push_by_csv(tmp_path: Path):
    """A CSV file says the same as far as it can."""
    cases = [case for case in OBJECTS if is_a_row(case)]
    assert len(cases) > 80
    rows = tmp_path / "rows.csv"
    with rows.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(CSV_COLUMNS)
        for case in cases:
            found = fields_of(case) or {}
            # Without data a row says the empty text, since that is what an empty cell of it means.
            writer.writerow([cell(found.get(name, "")) for name in CSV_COLUMNS])
    done = subprocess.run(
        [sys.executable, "-m", "node2dm_tw.cli.push", "--from", str(rows), "--dry-run"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    faulty = {int(number) - 1 for number in re.findall(r"line (\d+):", done.stderr.decode())}
    lines = iter(line for line in done.stdout.split(b"\n") if line)
    for number, case in enumerate(cases, 1):
        if number in faulty:
            assert case.fault is not None, (case, done.stderr)
            continue
        push, fault = parse(next(lines), case.service)
        assert fault == case.fault
        if case.push is not None:
            device, key, fields = meaning(case.push)
            assert meaning(push) == (device, key, {"data": ""} | fields)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
NAMES = (
    "token",
    "fid",
    "topic",
    "collapse_key",
    "data",
    "ttl",
    "priority",
    "notification",
    "android",
    "android_v2",
    "apns",
    "validate_only",
    "urgent",
    "route",
    "id",
)


@given(
    st.dictionaries(
        st.sampled_from(NAMES) | st.text(max_size=5),
        JSON_VALUES | st.sampled_from(["t", "high", "HIGH", 60.0, {"title": "x"}, {"a": "b"}]),
    ),
    st.sampled_from(["c2dm", "fcm"]),
)
def test_no_object_divides_them(fields, service):
    """Whatever an object holds, PushClient and the gateway agree on it."""
    try:
        line = json.dumps(fields).encode()
    except ValueError:
        return
    direct = parse(line, service)
    try:
        through = parse(ClientPush.from_fields(fields).line(), service)
    except ValueError:
        assert direct[1] is not None
        return
    assert through[1] == direct[1]
    if direct[0] is not None:
        assert meaning(through[0]) == meaning(direct[0])


LINE_PARTS = st.sampled_from(
    [
        *(b":", b"|", b"\r", b"{", b"}", b"[", b",", b'"', b" ", b"\0", b"\xef\xbb\xbf", b"\xff"),
        *(b"shop", b"n", b'{"token":"a"', b'"collapse_key":"k"', b'"route":', b'"data":', b"null"),
        *(b"\\ud800", b"1e999", "ü".encode(), "\u200b".encode(), b" HTTP/1.1", b"60.0"),
    ]
)


@given(st.binary(max_size=200) | st.lists(LINE_PARTS, max_size=20).map(b"".join), st.booleans())
def test_any_bytes_are_a_push_that_comes_back_or_have_a_known_reason(line, is_fcm):
    """What was accepted, sent on by PushClient, is the same push again."""
    service = "fcm" if is_fcm else "c2dm"
    line = line.replace(b"\n", b"")
    push, fault = parse(line, service)
    if fault is not None:
        assert fault[0] in REASONS
        return
    device, key, content = push
    fields = content if isinstance(content, dict) else {"data": content}
    if not {"token", "fid", "topic", "condition"} & fields.keys():
        fields = {"token": device, **({"collapse_key": key} if key else {}), **fields}
    again = parse(ClientPush.from_fields(fields).line(), service)
    assert again[1] is None
    assert meaning(again[0]) == meaning(push)
