"""Work that blocks, in threads of its own."""

import threading

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from node2dm_tw.app.blocking import BlockingWork


class BlockingWorkTests(TestCase):
    """On the real reactor, which is the only one that threads can call."""

    def setUp(self):
        self.work = BlockingWork(reactor)
        self.may_end = threading.Event()
        self.addCleanup(self.may_end.set)

    async def test_a_result_and_an_error(self):
        """Both come from a daemon thread that is none of the reactor's pool."""
        thread = await self.work.run(5, threading.current_thread)
        assert thread.daemon
        assert thread is not threading.current_thread()
        assert thread not in reactor.getThreadPool().threads
        with pytest.raises(ZeroDivisionError):
            await self.work.run(5, lambda: 1 / 0)

    async def test_a_thread_that_hangs(self):
        """It is not waited for; what it brings later is ignored."""
        hanging = self.work.run(0.05, self.may_end.wait)
        with pytest.raises(TimeoutError, match=r"^not finished within 0\.05 s$"):
            await hanging
        self.may_end.set()
        await deferLater(reactor, 0.05, lambda: None)

    async def test_cancelled(self):
        """It ends at once, as what it is."""
        hanging = self.work.run(5, self.may_end.wait)
        hanging.cancel()
        with pytest.raises(CancelledError):
            await hanging

    async def test_a_thread_waits_for_the_reactor(self):
        """What it asks for happens in the reactor's thread; an error is raised in its own."""
        threads = []

        def ask(result):
            threads.append(threading.current_thread())
            return deferLater(reactor, 0.01, result)

        answer = await self.work.run(5, lambda: self.work.wait_for(lambda: ask(lambda: "answer")))
        assert answer == "answer"
        with pytest.raises(ZeroDivisionError):
            await self.work.run(5, lambda: self.work.wait_for(lambda: ask(lambda: 1 / 0)))
        assert threads == [threading.current_thread()] * 2

    async def test_a_reactor_that_never_answers(self):
        """The thread is lost, and nobody else."""
        with pytest.raises(TimeoutError):
            await self.work.run(0.05, lambda: self.work.wait_for(Deferred))
