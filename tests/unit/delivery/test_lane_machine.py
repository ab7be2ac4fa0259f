"""A lane driven at random: answers, failures, time, signals; the accounting holds throughout."""

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from node2dm_tw.http.interface import CertificateRefused, NoAnswer, NotSent
from node2dm_tw.providers.interface import SignInFailed, SignInRefused
from node2dm_tw.queues.sqlite_engine import SqliteEngine
from tests.support.doubles import bench, make_memory_engine
from tests.support.in_place import make_in_place_writer

ANSWERS = st.sampled_from(
    [
        (200, b"id=1", {}),
        (200, b"id=1", {"Update_Client_Auth": "fresh"}),
        (200, b"Error=DeviceQuotaExceeded", {}),
        (200, b"Error=InvalidRegistration", {}),
        (200, b"Error=NotRegistered", {}),
        (200, b"Error=MessageTooBig", {}),
        (200, b"what?", {}),
        (401, b"", {}),
        (503, b"", {}),
        (503, b"", {"Retry_After": "7"}),
        (500, b"", {"Retry_After": "garbage"}),
        (302, b"", {}),
        (404, b"<html>", {}),
    ]
)
FAILURES = st.sampled_from(
    [
        lambda: NotSent("refused"),
        lambda: NoAnswer("cut"),
        lambda: NoAnswer("closed", retry_at_once=True),
        lambda: NoAnswer("slow", timed_out=True),
        lambda: CertificateRefused("forged"),
    ]
)
SIGN_INS = st.sampled_from(
    [3_600.0, 5.0, SignInFailed("503", 2.0), SignInRefused("BadAuthentication"), NotSent("x")]
)

MEMORY = Path("/dev/shm")
"""A disk on which a sync takes no time."""


class LaneMachine(RuleBasedStateMachine):
    """Every push received ends in exactly one counter, or is still in the queue."""

    make_engine = staticmethod(make_memory_engine)

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        folder = Path(self.folder.name)
        self.bench = bench(folder, max_queued=100, max_age=3_000, make_engine=self.make_engine)
        self.started = self.stopping = False
        self.number = 0

    def teardown(self) -> None:
        self.bench.engine.stop()
        self.folder.cleanup()

    @rule(script=st.lists(SIGN_INS, max_size=4))
    def sign_ins_will_go(self, script: list[Exception | float]) -> None:
        self.bench.credentials.script += script

    @precondition(lambda self: not self.started)
    @rule()
    def start(self) -> None:
        self.started = True
        self.bench.lane.start()

    @precondition(lambda self: not self.stopping)
    @rule(device=st.integers(0, 5), key=st.integers(0, 3), count=st.integers(1, 40))
    def push(self, device: int, key: int, count: int) -> None:
        lines = [b"d%d:k%d:%d" % (device, key, self.number + n) for n in range(count)]
        self.number += count
        self.bench.push(*lines)

    @precondition(lambda self: not self.stopping)
    @rule(device=st.integers(0, 5), count=st.integers(1, 40))
    def push_urgent(self, device: int, count: int) -> None:
        text = '{"token":"d%d","collapse_key":"k%d","data":"%d","urgent":true}'
        numbers = range(self.number, self.number + count)
        self.number += count
        self.bench.push_json(*((text % (device, n % 4, n)).encode() for n in numbers))

    @rule(answer=ANSWERS, which=st.integers(0, 63), count=st.integers(1, 64))
    def answer(self, answer, which: int, count: int) -> None:
        status, body, headers = answer
        for posted in self.bench.http.waiting()[which : which + count]:
            posted.say(status, body, **headers)

    @rule(failure=FAILURES, which=st.integers(0, 63), count=st.integers(1, 64))
    def fail(self, failure, which: int, count: int) -> None:
        for posted in self.bench.http.waiting()[which : which + count]:
            posted.fail(failure())

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 3.0, 30.0, 700.0, 4_000.0]))
    def time_passes(self, seconds: float) -> None:
        self.bench.clock.advance(seconds)

    @rule(seconds=st.sampled_from([-3_600.0, 3_600.0]))
    def the_wall_clock_steps(self, seconds: float) -> None:
        self.bench.wall_offset[0] += seconds

    @precondition(lambda self: self.started and not self.stopping)
    @rule(drain=st.sampled_from([0.0, 5.0]))
    def stop(self, drain: float) -> None:
        self.stopping = True
        done: list[None] = []
        self.bench.lane.stop(drain).addCallback(done.append)
        self.bench.clock.advance(drain)
        assert done
        assert not self.bench.http.waiting()
        self.bench.queue.stop()
        assert (self.bench.queue.depth, self.bench.queue.urgent_depth) == (0, 0)
        pending = [call for call in self.bench.clock.getDelayedCalls() if call.active()]
        assert not pending
        self.bench.engine.stop()
        restored = bench(Path(self.folder.name), make_engine=self.make_engine)
        restored.queue.start()
        assert restored.queue.depth == self.bench.stats.messages_handed_over
        restored.engine.stop()

    @invariant()
    def every_push_is_accounted_for(self) -> None:
        self.bench.check()

    @invariant()
    def what_is_on_lease_is_in_the_queue(self) -> None:
        out = len(self.bench.http.waiting()) + len(self.bench.lane.admission.retry_queue)
        assert out <= self.bench.queue.depth
        urgent = sum(posted.context.push.is_urgent for posted in self.bench.http.waiting())
        assert urgent <= self.bench.queue.urgent_depth <= self.bench.queue.depth

    @invariant()
    def the_window_holds(self) -> None:
        assert len(self.bench.http.waiting()) <= 64


def make_sqlite_engine(folder, clock, wall):
    return SqliteEngine(folder, clock, wall, make_in_place_writer(folder, clock))


class SqliteLaneMachine(LaneMachine):
    """The same with a queue on disk, which takes its time to store and to remove pushes."""

    make_engine = staticmethod(make_sqlite_engine)


LaneMachine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, derandomize=True
)
SqliteLaneMachine.TestCase.settings = settings(LaneMachine.TestCase.settings, max_examples=60)
TestLane = LaneMachine.TestCase
TestSqliteLane = SqliteLaneMachine.TestCase
