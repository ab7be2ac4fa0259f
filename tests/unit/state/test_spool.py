"""The files in which records wait from a stop to the next start, and the records of pushes."""

import ctypes
import json
import mmap
import re
import zlib
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from node2dm_tw.core.json_form import read_json
from node2dm_tw.core.push import Push, split_at_colons
from node2dm_tw.state.spool import (
    MAX_BYTES_PER_READ,
    MAX_LINE_BYTES,
    Spool,
    SpoolReader,
    from_record,
    to_record,
)
from tests.unit.state.test_atomic import JSON

HEADER = b"node2dm_tw spool 1\n"


def line(record: bytes) -> bytes:
    return b"%08x %b\n" % (zlib.crc32(record), record)


def whole(record: bytes) -> bytes | None:
    """Reads a record as it is, but none that says it is bad."""
    return None if b"bad" in record else record


def read_all(reader: SpoolReader[bytes], most: int = 500) -> list[bytes]:
    records = []
    while not reader.is_at_end:
        records += reader.read(most)
    return records


def test_what_is_written_is_read(tmp_path):
    """In order, and a file that was read is removed."""
    spool = Spool(tmp_path / "spool")
    path = spool.add([b"one", b"", b"three"])
    assert path.read_bytes() == b"node2dm_tw spool 1\n7a6c86f1 one\n00000000 \n46c5d8f5 three\n"
    reader = SpoolReader(path, whole)
    assert reader.read(2) == [b"one", b""]
    assert not reader.is_at_end
    assert reader.read(2) == [b"three"]
    assert reader.is_at_end
    reader.remove()
    assert not list(tmp_path.iterdir())


def test_a_file_is_never_written_over(tmp_path):
    """A new one is numbered after the newest, so that they are read in the order of their ages."""
    spool = Spool(tmp_path / "spool")
    assert not spool.files()
    for name in ("spool", "spool.1", "spool.2"):
        assert spool.add([]) == tmp_path / name
    (tmp_path / "spool").unlink()
    (tmp_path / "spool.2").rename(tmp_path / "spool.10")
    for other in ("spool.part", "spool.damaged", "spool.01", "spool.0", "spools", "a.spool", "x"):
        (tmp_path / other).touch()
    assert [path.name for path in spool.files()] == ["spool.1", "spool.10"]
    assert spool.add([]) == tmp_path / "spool.11"


def test_damaged_lines_are_kept_beside_the_file(tmp_path):
    """Below the file's first line; an earlier file of damaged lines is never written over."""
    path = tmp_path / "spool"
    bad = [line(b"bad"), b"garbage\n", b"\n", line(b"x").replace(b"x", b"y"), b"cut short"]
    for name in ("spool.damaged", "spool.damaged.1"):
        path.write_bytes(HEADER + line(b"1") + b"".join(bad[:3]) + line(b"2") + b"".join(bad[3:]))
        reader = SpoolReader(path, whole)
        assert read_all(reader) == [b"1", b"2"]
        reader.remove()
        assert reader.damaged == 5
        assert reader.aside == tmp_path / name
        assert reader.aside.read_bytes() == HEADER + b"".join(bad)
        assert reader.aside.stat().st_mode & 0o777 == 0o600
        assert not path.exists()


@given(st.lists(st.binary(max_size=40) | st.binary().map(line), max_size=20).map(b"".join))
@example(b"")
@example(b"\n")
@example(HEADER)
@example(HEADER[:-1])
@example(line(b"one"))
def test_nothing_in_a_file_is_lost(tmp_path_factory, content):
    """Of any bytes, each line is read or is kept beside the file, in order."""
    folder = tmp_path_factory.mktemp("spool")
    path = folder / "spool"
    path.write_bytes(content)
    reader = SpoolReader(path, whole)
    records = read_all(reader, most=3)
    reader.remove()
    kept = b"" if reader.aside is None else reader.aside.read_bytes()
    read = [line(record).removesuffix(b"\n") for record in records]
    assert sorted(read + lines_of(kept)) == sorted(lines_of(content))
    assert content.startswith(HEADER) or reader.damaged


def lines_of(content: bytes) -> list[bytes]:
    """The lines without their ends, and without the first line of a spool."""
    found = re.findall(rb"[^\n]*\n|[^\n]+", content.removeprefix(HEADER))
    return [each.removesuffix(b"\n") for each in found]


@pytest.mark.parametrize("letter", ["\u00e9", "\U0001f600", '"', "\\"])
def test_the_longest_push_of_a_request_is_restored(tmp_path, letter):
    """Its line has the collapse key twice, and JSON writes some letters with more bytes."""
    key = letter * ((1 << 20) // len(json.dumps(letter, ensure_ascii=False).strip('"').encode()))
    body = json.dumps({"token": "a", "collapse_key": key}, ensure_ascii=False).encode()
    _, push = read_json(body, 5.0)
    reader = SpoolReader(
        Spool(tmp_path / "spool").add([to_record(push, 0.0)]), lambda r: from_record(r, 9.0, 0.0)
    )
    with closing(reader):
        assert reader.read(1) == [push]


def test_a_file_that_never_ends_a_line_costs_no_memory(tmp_path):
    """It is read in pieces, each of which is damaged; a whole record after it is found."""
    path = tmp_path / "spool"
    path.write_bytes(HEADER + b"x" * (3 * MAX_LINE_BYTES) + b"\n" + line(b"one"))
    reader = SpoolReader(path, whole)
    assert reader.read(500) == []
    assert reader.offset <= len(HEADER) + MAX_BYTES_PER_READ + MAX_LINE_BYTES
    assert read_all(reader) == [b"one"]
    reader.remove()
    assert reader.damaged == 4
    assert reader.aside is not None
    assert reader.aside.stat().st_size == len(HEADER) + 3 * MAX_LINE_BYTES + 1


def test_what_was_not_read_is_kept_as_it_is(tmp_path):
    """New records take the place of those that were read; damaged lines go on to the next."""
    path = tmp_path / "spool"
    rest = line(b"3") + b"garbage\n" + line(b"bad") + b"cut sho"
    path.write_bytes(HEADER + line(b"1") + b"zz\n" + line(b"2") + rest)
    reader = SpoolReader(path, whole)
    assert reader.read(2) == [b"1"]
    assert reader.read(1) == [b"2"]
    reader.replace([b"new"])
    reader.close()
    assert path.read_bytes() == HEADER + line(b"new") + rest
    assert (tmp_path / "spool.damaged").read_bytes() == HEADER + b"zz\n"


def memory_before_a_hole(content: bytes) -> tuple[Path, int]:
    """A file and an offset at which `content` can be read, and behind it nothing but EIO."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    page = mmap.PAGESIZE
    address = libc.mmap(None, 3 * page, mmap.PROT_READ | mmap.PROT_WRITE, 0x22, -1, 0)
    libc.munmap(address + page, page)
    start = address + page - len(content)
    ctypes.memmove(start, content, len(content))
    return Path("/proc/self/mem"), start


def test_a_disk_that_fails_loses_nothing_that_was_read_before(tmp_path):
    """What came before the failure is given out; the failure is raised when nothing else comes."""
    path, offset = memory_before_a_hole(line(b"one") + line(b"two") + b"12345678 cut off he")
    reader = SpoolReader(path, whole, offset)
    assert reader.read(500) == [b"one", b"two"]
    for _ in range(2):
        with pytest.raises(OSError, match="Input/output error"):
            reader.read(500)
        assert reader.offset == offset + len(line(b"one") + line(b"two"))
    with pytest.raises(OSError, match="Input/output error"):
        list(reader._rest())
    reader.close()


@pytest.mark.parametrize(
    "push",
    [
        split_at_colons("tök:k:a\u2028b\r😀".encode(), 12.5),
        split_at_colons(b"a::" + bytes(range(1, 128)), 1.0),
        Push(b'a:b:c:{"token":"a:b","collapse_key":"c"}', 3, 5, 1.25, True),
        Push(b'n::{"topic":"n","data":{"k":"v"},"notification":{"title":"x"}}', 1, 2, 1.25, True),
    ],
)
def test_a_push_survives_its_record(push):
    """Both forms come back as they were."""
    record = to_record(push, 1_000.0)
    assert b"\n" not in record
    assert from_record(record, now=push.received, offset=1_000.0) == push


def test_a_record_of_version_1_is_read_for_ever():
    """These are bytes as the first release wrote them."""
    record = b'["t\\u00f6k:key:{\\"a\\": 1}", 4, 8, 1700000000.25, false]'
    push = from_record(record, now=100.0, offset=1_700_000_000.0)
    assert push == Push('tök:key:{"a": 1}'.encode(), 4, 8, 0.25)


LINE = '"a:b:c"'


@pytest.mark.parametrize(
    "record",
    [
        "",
        "{}",
        "[]",
        "null",
        "[1,2,3,4,5]",
        f"[{LINE},1,3,1]",
        f"[{LINE},1,3,1,false,0]",
        f"[{LINE},9,9,1,false]",
        f"[{LINE},-5,3,1,false]",
        f"[{LINE},3,1,1,false]",
        f"[{LINE},1,1,1,false]",
        f"[{LINE},1,2,1,false]",
        f"[{LINE},1,3.0,1,false]",
        f"[{LINE},true,3,1,false]",
        f"[{LINE},1,3,1e999,false]",
        f"[{LINE},1,3,-1e999,false]",
        f"[{LINE},1,3,NaN,false]",
        f"[{LINE},1,3,{'9' * 400},false]",
        f"[{LINE},1,3,{'9' * 5000},false]",
        f"[{LINE},{'9' * 400},3,1,false]",
        f'[{LINE},1,3,"1",false]',
        f"[{LINE},1,3,true,false]",
        f"[{LINE},1,3,null,false]",
        f"[{LINE},1,3,1,0]",
        f"[{LINE},1,3,1,true]",
        '["abc",1,2,0,false]',
        '[":b:c",0,2,0,false]',
        '["\\ud800:b:c",3,5,0,false]',
        '["a:b:{}",1,3,0,true]',
        '["a:b:[]",1,3,0,true]',
        '["a:b:{\\"token\\":\\"other\\"}",1,3,0,true]',
        '["a:b:{\\"token\\":\\"a\\",\\"ttl\\":1e999}",1,3,0,true]',
        '["a:b:{\\"token\\":\\"a\\",\\"data\\":5}",1,3,0,true]',
        f'["a:b:{"[" * 5000}",1,3,0,true]',
        "[" * 100_000,
    ],
)
def test_a_record_that_is_no_push_is_none(record):
    """Whatever it is, nothing is raised, and nothing that would be raised later comes back."""
    assert from_record(record.encode(), 0.0, 0.0) is None


@given(JSON | st.tuples(st.text(), JSON, JSON, JSON, JSON).map(list))
@example([":" * 10, 2, 5, 10**400, False])
def test_whatever_a_record_holds_it_is_a_push_that_can_be_sent_or_none(value):
    """Every property of what comes back can be asked for, and it can be written again."""
    for record in (json.dumps(value).encode(), json.dumps(value, ensure_ascii=False).encode()):
        push = from_record(record, 5.0, 0.0)
        if push is not None:
            assert push.device
            assert push.received <= 5.0
            assert isinstance(push.data, dict)
            assert push.message_body is not None
            assert isinstance(push.has_single_device, bool)
            assert from_record(to_record(push, 0.0), 5.0, 0.0) == push


@given(st.binary())
def test_any_bytes_are_a_record_or_none(record):
    """Nothing is raised."""
    assert from_record(record, 0.0, 0.0) is None
