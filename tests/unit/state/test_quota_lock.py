"""The lock of a route that is over its quota."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node2dm_tw.state.quota_lock import QuotaLock, find_lock_files
from tests.support.odd_files import ODD, is_untouched


def test_a_lock_names_its_route(tmp_path):
    """It says what happened and what to do, and is gone when it was deleted."""
    lock = QuotaLock(tmp_path / "quota.lock", "c2dm")
    assert not lock.is_set
    lock.set()
    assert lock.is_set
    assert lock.file == lock.path
    first = lock.path.read_text(encoding="utf-8").split("\n")[0]
    assert first == (
        "The push service answered QuotaExceeded for route c2dm: the sender is over its quota."
    )
    assert str(lock.path) in lock.advice
    lock.path.unlink()
    assert not lock.is_set


@pytest.mark.parametrize(
    ("written", "read"),
    [("quota.lock", "quota.lock.c2dm"), ("quota.lock.c2dm", "quota.lock")],
    ids=["a section was added", "a section was removed"],
)
def test_a_lock_holds_for_the_route_it_names(tmp_path, written, read):
    """Whatever sections there are now; no other route is locked by it."""
    QuotaLock(tmp_path / written, "c2dm").set()
    lock = QuotaLock(tmp_path / read, "c2dm")
    assert lock.is_set
    assert str(tmp_path / written) in lock.advice
    assert not QuotaLock(tmp_path / "quota.lock", "fcm").is_set
    assert not QuotaLock(tmp_path / "quota.lock.c2dm", "fcm").is_set
    assert not QuotaLock(tmp_path / "quota.lock.fcm", "fcm").is_set


@pytest.mark.parametrize("content", [b"", b"\xff\n", b"The push service answered\n", b"x" * 9_999])
def test_a_lock_that_names_no_route_is_known_by_its_name(tmp_path, content):
    """A person may have made it, to keep a route from sending."""
    path = tmp_path / "quota.lock.a"
    path.write_bytes(content)
    assert QuotaLock(path, "a").is_set
    assert not QuotaLock(tmp_path / "quota.lock.b", "b").is_set
    assert not QuotaLock(tmp_path / "quota.lock", "a").is_set


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_file_is_no_lock(tmp_path, monkeypatch, kind):
    """It is neither read nor followed."""
    monkeypatch.chdir(tmp_path)
    lock = QuotaLock(tmp_path / "quota.lock", "c2dm")
    ODD[kind](lock.path)
    assert not lock.is_set
    assert is_untouched(lock.path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_lock_that_cannot_be_read_is_known_by_its_name(tmp_path):
    """Better not to send than to send over the quota."""
    lock = QuotaLock(tmp_path / "quota.lock", "c2dm")
    lock.set()
    os.chown(lock.path, 12_345, -1)
    assert lock.is_set
    assert not QuotaLock(tmp_path / "quota.lock.c2dm", "c2dm").is_set


def test_a_folder_that_is_not_there_has_no_locks(tmp_path):
    """The start makes it."""
    assert not find_lock_files(tmp_path / "state")
    assert not QuotaLock(tmp_path / "state" / "quota.lock", "c2dm").is_set


@given(st.binary() | st.binary().map(lambda more: b"The push service answered Quota" + more))
def test_any_first_line_names_a_route_or_none(tmp_path_factory, content):
    """Nothing is raised."""
    path = tmp_path_factory.getbasetemp() / "quota.lock.x"
    path.write_bytes(content)
    assert QuotaLock(path, "x").is_held_by(path)
