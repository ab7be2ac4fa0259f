"""Rows come out of CSV and JSON lines with their line numbers, the faulty ones too."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node2dm_tw.cli.rows import InputError, Row, read_rows
from node2dm_tw.client import OBJECTS, Push

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1)


def rows(text: str) -> list[Row]:
    return list(read_rows(io.StringIO(text, newline="\n")))


def faults(text: str) -> list[tuple[int, str]]:
    return [
        (row.number, str(row.fields)) for row in rows(text) if isinstance(row.fields, Exception)
    ]


def test_csv() -> None:
    """Columns may come in any order; empty cells are absent, but for data; CRLF is fine."""
    text = 'data,token,ttl,delay_while_idle,notification\r\nhi,A,60,true,\r\n,B,,0,"{""a"": 1}"\r\n'
    assert rows(text) == [
        Row(2, {"data": "hi", "token": "A", "ttl": 60, "delay_while_idle": True}),
        Row(3, {"data": "", "token": "B", "delay_while_idle": False, "notification": {"a": 1}}),
    ]


def test_csv_line_numbers() -> None:
    """A record is named by the line it begins at, empty lines and lines in quotes counted."""
    assert [row.number for row in rows('\n\ntoken,data\nA,"1\n\n2"\n\nB,3\n')] == [4, 8]


@given(st.lists(st.tuples(texts, texts, texts), max_size=8))
def test_csv_written_by_python_reads_back(records: list[tuple[str, str, str]]) -> None:
    """Whatever the csv module writes is read back cell by cell, in JSON lines too."""
    names = ("token", "collapse_key", "data")
    wanted = [dict(zip(names, record, strict=True)) for record in records]
    written = io.StringIO(newline="")
    csv.writer(written).writerows([names, *records])
    assert [row.fields for row in rows(written.getvalue())] == wanted
    lines = "\n".join(json.dumps(fields, ensure_ascii=False) for fields in wanted)
    assert [row.fields for row in rows(lines)] == wanted


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("A,k", "2 cells where the header row has 4"),
        ("A,k,x,5,6", "5 cells"),
        ("A,k,x,soon", "ttl = 'soon': expected a whole number"),
        ('A,k,"x"y,5', "expected after"),
        (f"A,k,{'x' * 200_000},5", "field larger than field limit"),
    ],
)
def test_a_faulty_record_spoils_only_itself(record: str, reason: str) -> None:
    """The records after a faulty one are read."""
    text = f"token,collapse_key,data,ttl\n{record}\nB,k,x,5\n"
    ((number, told),) = faults(text)
    assert number == 2
    assert reason in told
    assert rows(text)[-1] == Row(3, {"token": "B", "collapse_key": "k", "data": "x", "ttl": 5})


@pytest.mark.parametrize("name", ["delay_while_idle", "validate_only"])
@pytest.mark.parametrize("cell", ["maybe", "2"])
def test_faulty_booleans(name: str, cell: str) -> None:
    """They are true, false, 1 or 0."""
    assert faults(f"token,{name}\nA,{cell}\n") == [
        (2, f"{name} = '{cell}': expected true or false")
    ]


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("cell", ["{", "NaN", "{}{}", "[" * 5_000])
def test_faulty_objects(name: str, cell: str) -> None:
    """They are JSON."""
    ((number, told),) = faults(f"token,{name}\nA,{cell}\n")
    assert number == 2
    assert told == f"{name} = '{cell[:48]}': expected JSON"


def test_an_open_quote_takes_the_rest() -> None:
    """A quote that is never closed is one fault, at the line of its record."""
    assert faults('token,data\nA,x\nB,"y\nC,z\n') == [(3, "unexpected end of data")]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("token,colour", "unknown columns: 'colour'"),
        ("token,token", "twice"),
        ("token,", "unknown columns: ''"),
        ('"token"x', "not CSV"),
    ],
)
def test_a_header_of_no_use(header: str, reason: str) -> None:
    """Nothing can be made of rows whose columns are unknown: that is told at once."""
    with pytest.raises(InputError, match=reason):
        read_rows([header + "\n", "A,B\n"])


def test_json_lines() -> None:
    """A first line that begins with a brace says JSON lines; faulty ones keep their number."""
    text = '\n {"token": "A", "data": {"a": "b"}}\n\n[1]\n{"token"\n' + "[" * 100_000 + "\n{}\n"
    assert [row.number for row in rows(text)] == [2, 4, 5, 6, 7]
    assert rows(text)[0].fields == {"token": "A", "data": {"a": "b"}}
    assert [number for number, _ in faults(text)] == [4, 5, 6]


def test_nothing_at_all() -> None:
    """Empty input has no rows and is no fault."""
    assert rows("") == rows("\n \n") == rows("token,data\n") == []


def test_every_field_of_a_push_is_a_column() -> None:
    """The JSON form's names and the columns are the same."""
    assert rows(",".join(Push.__dataclass_fields__) + "\n") == []
