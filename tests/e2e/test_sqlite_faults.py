"""`queue = sqlite` on a bad disk: a clear line in the log, and nothing acknowledged is lost."""

import json
import random
import re
import signal
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from contextlib import closing

import pytest

from node2dm_tw.queues.sqlite_file import SCHEMA
from node2dm_tw.queues.sqlite_pages import wal_path
from tests.support.gateway import GatewayProcess
from tests.support.ports import free_port
from tests.support.queue_database import add, connect, copy_in_use, damage, make_database
from tests.support.upstream import Answer, Upstream, sign_in_or, upstream
from tests.support.waiting import wait_until

SQLITE = "queue = sqlite\ndrain = 0"
TOKEN = "a-token-of-32-characters-for-test"


def state(gateway: GatewayProcess):
    folder = gateway.folder / "state"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def push(gateway: GatewayProcess, numbers: Iterable[int], payload_bytes: int = 100) -> None:
    for number in numbers:
        gateway.push(b"d%d:key:%d %b" % (number, number, b"x" * payload_bytes))


def post(web: int, number: int) -> int:
    """Send a push by HTTP; return the status."""
    body = {"token": f"d{number}", "collapse_key": "key", "data": f"{number} x"}
    request = urllib.request.Request(
        f"http://127.0.0.1:{web}/v1/push",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            status: int = answer.status
    except urllib.error.HTTPError as error:
        return error.code if "Retry-After" in error.headers else 0
    return status


def ready(web: int) -> dict[str, object]:
    """Ask for /readyz."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{web}/readyz", timeout=30) as answer:
            found: dict[str, object] = json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)
    return found


def numbers(google: Upstream) -> list[int]:
    """The pushes that the upstream has got, in order."""
    return sorted(int(payload.split()[0]) for payload in google.delivered().elements())


def test_a_full_disk_turns_pushes_away_until_there_is_space(make_gateway, small_disk):
    """By HTTP with 503, by UDP as overflowed; those before and after it are delivered."""
    web = free_port()
    with upstream(lambda sent: Answer()) as google:
        gateway = make_gateway(
            google.section(),
            node2dm=f"{SQLITE}\nweb = tcp:{web}:interface=127.0.0.1\npush_token = {TOKEN}",
            state_dir=str(small_disk.path),
        ).start()
        push(gateway, range(10))
        gateway.wait_for(messages_received=10, messages_in_queue=0)
        assert post(web, 10) == 202
        gateway.wait_for(messages_sent=11)
        small_disk.fill()
        push(gateway, range(1_000, 1_020), payload_bytes=900)
        stats = gateway.wait_for(messages_received=31)
        assert stats["messages_overflowed"] > 0
        assert post(web, 2_000) == 503
        assert "c2dm: the queue cannot be written" in str(ready(web)["reasons"])
        assert re.search("queue.sqlite cannot be written .*full", gateway.log)
        (small_disk.path / "ballast").unlink()
        wait_until(lambda: post(web, 11) == 202, "there is space again")
        push(gateway, range(12, 20))
        overflowed = gateway.stats()["messages_overflowed"]
        gateway.wait_for(messages_received=40, messages_overflowed=overflowed, messages_in_queue=0)
        assert ready(web)["ready"]
        assert gateway.stop() == 0
        found = numbers(google)
        assert [number for number in found if number < 1_000] == list(range(20))
        assert len(found) == len(set(found))
        assert len([number for number in found if number >= 1_000]) == 20 - overflowed
        assert 2_000 not in found


def test_a_stop_on_a_full_disk_keeps_what_was_stored(make_gateway, small_disk):
    """What was sent and cannot be removed comes twice; nothing else happens."""
    google = Upstream(sign_in_or(lambda sent: Answer()), free_port())
    gateway = make_gateway(google.section(), node2dm=SQLITE, state_dir=str(small_disk.path))
    gateway.start()
    push(gateway, range(100))
    gateway.wait_for(messages_received=100)
    small_disk.fill()
    google.start()
    try:
        gateway.stop(signal.SIGTERM)
        gateway.start()
        gateway.wait_for(messages_taken_over=100, messages_sent=100)
        gateway.stop(signal.SIGTERM)
        (small_disk.path / "ballast").unlink()
        gateway.start()
        gateway.wait_for(messages_in_queue=0)
        assert gateway.stop() == 0
        assert set(numbers(google)) == set(range(100))
    finally:
        google.stop()


@pytest.mark.parametrize(
    "seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(4, 20))]
)
def test_damage_at_random_bytes(make_gateway, seed):
    """The process starts, says what is wrong, and delivers all but what the damage has hit."""
    chance = random.Random(seed)
    with upstream(lambda sent: Answer()) as google:
        gateway = make_gateway(google.section(), node2dm=SQLITE)
        folder = state(gateway)
        path = make_database(folder / "made.sqlite", 500)
        with closing(connect(path)) as connection:
            for first in range(500, 600, 5):
                add(connection, 1, range(first, first + 5))
            killed = copy_in_use(path, folder / "queue.sqlite")
        hits = 5
        for _ in range(hits):
            file = chance.choice([killed, wal_path(killed)])
            damage(file, chance.randrange(file.stat().st_size), chance.randbytes(1))
        gateway.start()
        gateway.push(b"fresh:key:1000 x")
        gateway.wait_for(messages_received=1, messages_in_queue=0)
        assert gateway.stop() == 0
        found = numbers(google)
        assert found[-1] == 1_000
        assert set(found[:-1]) <= set(range(600))
        lost = set(range(600)) - set(found)
        assert len(lost) <= hits * 15
        assert len(found) - len(set(found)) == 0
        is_said = (
            "was damaged and is now" in gateway.log or "are damaged, and are lost" in gateway.log
        )
        assert is_said or not lost, sorted(lost)


@pytest.mark.parametrize("content", [b"no database at all", b""])
def test_a_file_that_is_no_database(make_gateway, content):
    """It is set aside, and a new one takes its place."""
    with upstream(lambda sent: Answer()) as google:
        gateway = make_gateway(google.section(), node2dm=SQLITE)
        (state(gateway) / "queue.sqlite").write_bytes(content)
        gateway.start()
        push(gateway, range(10))
        gateway.wait_for(messages_received=10, messages_in_queue=0)
        assert (state(gateway) / "queue.sqlite.damaged").read_bytes() == content
        assert "0 pushes were taken over" in gateway.log
        assert gateway.stop() == 0


def test_damage_that_is_found_while_the_gateway_runs(make_gateway):
    """More pushes wait than the gateway keeps in memory; the file is damaged under it."""
    google = Upstream(sign_in_or(lambda sent: Answer()), free_port())
    gateway = make_gateway(google.section(), node2dm=SQLITE)
    path = make_database(state(gateway) / "queue.sqlite", 12_000)
    gateway.start()
    gateway.wait_for(messages_taken_over=12_000)
    size = path.stat().st_size
    for place in range(6, 10):  # pages that are not in SQLite's cache any more, or not yet
        damage(path, size * place // 10 // 4096 * 4096, b"\xee" * 4096)
    google.start()
    try:
        gateway.push(b"fresh:key:100000 x")
        gateway.wait_for(120, messages_received=1, messages_in_queue=0)
        found = numbers(google)
        assert found[-1] == 100_000
        assert len(set(range(12_000)) - set(found)) <= 4 * 20
        assert len(found) == len(set(found))
        assert "was damaged and is now" in gateway.log
        assert gateway.stop() == 0
    finally:
        google.stop()


def start_line(gateway: GatewayProcess) -> str:
    """Run a gateway that does not start; return what it says."""
    done = gateway.run("-n")
    assert done.returncode == 1, done.stdout
    (line,) = re.findall("node2dm cannot start: .*", done.stdout)
    assert "Traceback" not in done.stdout
    return line


def test_a_database_of_a_newer_version_is_not_touched(make_gateway):
    """The start fails, with both versions in the line."""
    gateway = make_gateway(node2dm=SQLITE)
    path = make_database(state(gateway) / "queue.sqlite", 10)
    version = SCHEMA.version + 1
    with closing(sqlite3.connect(path)) as connection:
        ((application,),) = connection.execute("PRAGMA application_id")
        connection.execute(f"PRAGMA application_id = {application + 1}")
        connection.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    line = start_line(gateway)
    assert f"it has version {version}, and this gateway knows versions up to" in line
    assert str(path) in line
    assert path.read_bytes() == before


def test_a_state_dir_that_is_read_only(make_gateway, small_disk):
    """With a database in it, and without."""
    gateway = make_gateway(
        node2dm=SQLITE, config="[c2dm]\nusername = a@example.com\npassword = x\n"
    )
    gateway.state_dir = str(small_disk.path)
    small_disk.remount("ro")
    assert "Read-only file system" in start_line(gateway)
    small_disk.remount("rw")
    make_database(small_disk.path / "queue.sqlite", 10)
    (small_disk.path / "lock").touch(mode=0o600)
    small_disk.remount("ro")
    assert re.search("read-?only", start_line(gateway), re.IGNORECASE)
    small_disk.remount("rw")


def test_two_gateways_on_one_state_dir(make_gateway):
    """The second one does not start, and the first one goes on."""
    with upstream(lambda sent: Answer()) as google:
        gateway = make_gateway(google.section(), node2dm=SQLITE).start()
        push(gateway, range(10))
        gateway.wait_for(messages_received=10, messages_in_queue=0)
        other = make_gateway(google.section(), node2dm=SQLITE, state_dir=str(state(gateway)))
        assert "another process uses it" in start_line(other)
        push(gateway, range(10, 20))
        gateway.wait_for(messages_received=20, messages_sent=20)
        assert gateway.stop() == 0


def test_another_program_that_holds_the_database(make_gateway):
    """The sqlite3 command, for example: the start fails and says so."""
    gateway = make_gateway(node2dm=SQLITE)
    path = make_database(state(gateway) / "queue.sqlite", 10)
    with closing(connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        assert "database is locked" in start_line(gateway)


def test_changes_of_the_engine_lose_nothing(make_gateway):
    """From memory to sqlite and back, twice; the upstream is there only at the end."""
    google = Upstream(sign_in_or(lambda sent: Answer()), free_port())
    gateway = make_gateway(google.section(), node2dm="drain = 0")
    total = 0
    for queue in ("memory", "sqlite", "memory", "sqlite", "memory"):
        gateway.node2dm = f"queue = {queue}\ndrain = 0"
        gateway.start()
        gateway.wait_for(messages_taken_over=total)
        push(gateway, range(total, total + 50))
        gateway.wait_for(messages_received=50)
        total += 50
        assert gateway.stop() == 0
        left = {file.name for file in state(gateway).iterdir()}
        assert ("queue.sqlite" in left, "c2dm.spool" in left) == (
            queue == "sqlite",
            queue == "memory",
        )
    google.start()
    try:
        gateway.start()
        gateway.wait_for(messages_taken_over=total, messages_sent=total)
        assert numbers(google) == list(range(total))
    finally:
        google.stop()


@pytest.mark.parametrize("to", ["memory", "sqlite"])
def test_kills_while_the_engine_changes_lose_nothing(make_gateway, to):
    """Pushes are moved; what was moved already may come twice."""
    chance = random.Random()
    total = 5_000
    google = Upstream(sign_in_or(lambda sent: Answer()), free_port())
    gateway = make_gateway(google.section(), node2dm="queue = sqlite\ndrain = 0")
    make_database(state(gateway) / "queue.sqlite", total)
    if to == "sqlite":
        gateway.node2dm = "queue = memory\ndrain = 0"
        gateway.start()
        gateway.wait_for(messages_taken_over=total)
        assert gateway.stop() == 0
    gateway.node2dm = f"queue = {to}\ndrain = 0"
    for _ in range(3):
        gateway.start(wait=False)
        time.sleep(chance.uniform(1.0, 2.5))
        gateway.stop(signal.SIGKILL)
        database, spools = state(gateway) / "queue.sqlite", state(gateway).glob("*.spool*")
        if not database.exists() and not any(spools):
            # All were in memory, which a kill empties: begin again.
            make_database(database, total)
    google.start()
    try:
        gateway.start()
        wait_until(lambda: gateway.stats()["messages_taken_over"] >= total, "all are moved")
        gateway.wait_for(120, messages_in_queue=0)
        assert set(numbers(google)) == set(range(total))
    finally:
        google.stop()
