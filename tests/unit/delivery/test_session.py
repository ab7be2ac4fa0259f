"""The session: each transition of its table, and what its states mean."""

from functools import partial
from itertools import product

import pytest
from twisted.internet.task import Clock

from node2dm_tw.core.snapshot import LaneState
from node2dm_tw.delivery.circuit_breaker import BreakerState, CircuitBreaker
from node2dm_tw.delivery.session import TRANSITIONS, LockReason, Session, SessionEvent
from node2dm_tw.delivery.signin import SignIn
from node2dm_tw.providers.interface import SignInFailed
from tests.support.doubles import WALL, MemoryCredentials, no_jitter

IMPOSSIBLE = {
    (LaneState.READY, SessionEvent.CREDENTIAL_WHILE_OPEN),
    (LaneState.PAUSED, SessionEvent.CREDENTIAL),
}
"""The breaker is not open in the one, and open in the other."""


class Driver:
    """A session with its real parts, and what can happen to it."""

    def __init__(self):
        self.clock = Clock()
        wall = lambda: WALL + self.clock.seconds()  # noqa: E731
        self.credentials = MemoryCredentials(wall)
        self.session = Session(
            partial(SignIn, "shop", self.credentials, self.clock, wall, no_jitter),
            partial(CircuitBreaker, "shop", self.clock, no_jitter, 1.0, None),
            on_ready=self.on_ready,
            on_open=lambda: None,
            on_given_up=partial(self.lock, LockReason.SIGN_IN_GIVEN_UP),
        )
        self.given = []
        self.is_started = False
        self.tokens = 0

    def on_ready(self):
        self.given.append(self.session.credential)

    def start(self):
        self.is_started = True
        self.session.start()

    def stop(self):
        self.is_started = False
        self.session.stop()

    def lock(self, reason=LockReason.OVER_QUOTA, text="QuotaExceeded"):
        self.is_started = False
        self.session.lock(reason, text)

    def fetch_ends(self):
        if self.credentials.held:
            held = self.credentials.held.pop()
            if not held.called:
                held.callback(self.credentials.make())

    def bring_new_token(self):
        self.tokens += 1
        self.session.signin.replace(f"new-{self.tokens}")

    def refuse_credential(self):
        credential = self.session.signin.credential
        if credential is not None:
            self.session.signin.on_unauthorized(credential.generation, 0)

    def open_breaker(self):
        self.session.breaker.open("503", 5.0)

    def end_pause(self):
        self.clock.advance(self.session.breaker.pause_left)

    def answer_probe(self):
        self.session.breaker.on_explained(self.session.breaker.epoch)

    def bring_to(self, state):
        self.credentials.hold = state is LaneState.SIGNING_IN
        if state is not LaneState.SIGNED_OUT:
            self.start()
        if state is LaneState.PAUSED:
            self.open_breaker()
        if state is LaneState.LOCKED:
            self.lock()
        assert self.session.state is state

    def cause(self, event):
        match event:
            case SessionEvent.START:
                self.credentials.hold = True
                self.start()
            case SessionEvent.CREDENTIAL:
                self.bring_new_token()
            case SessionEvent.CREDENTIAL_WHILE_OPEN:
                self.open_breaker()
                self.bring_new_token()
            case SessionEvent.NO_CREDENTIAL:
                self.refuse_credential()
            case SessionEvent.BREAKER_OPEN:
                self.open_breaker()
            case SessionEvent.BREAKER_PASSES:
                if self.session.breaker.state is BreakerState.CLOSED:
                    self.open_breaker()
                self.end_pause()
            case SessionEvent.LOCK:
                self.lock()
            case SessionEvent.STOP:
                self.stop()


CELLS = [
    (state, event)
    for event in SessionEvent
    for state in LaneState
    if (state, event) not in IMPOSSIBLE
]


@pytest.mark.parametrize(("state", "event"), CELLS, ids=lambda each: each.name)
def test_each_cell_of_the_table(state, event):
    """The session goes where it says, and stays where it says nothing."""
    driver = Driver()
    driver.bring_to(state)
    driver.cause(event)
    assert driver.session.state is TRANSITIONS.get((state, event), state)


def test_every_transition_is_possible():
    """The table names nothing that cannot happen."""
    assert not IMPOSSIBLE & TRANSITIONS.keys()


def test_the_latest_credential_is_handed_out_after_a_pause():
    """One that came during the pause, and once more when the probe is answered."""
    driver = Driver()
    driver.bring_to(LaneState.PAUSED)
    driver.bring_new_token()
    assert driver.session.credential is None
    driver.end_pause()
    driver.answer_probe()
    headers = [credential.header.partition(b"=")[2] for credential in driver.given]
    assert headers == [b"token-1", b"new-1", b"new-1"]


def test_the_reason_is_that_of_the_state():
    """Of the lock, of the last sign-in that failed, of the pause; none while it is ready."""
    driver = Driver()
    driver.credentials.script = [SignInFailed("503", 2.0)]
    reasons = [driver.session.reason_text]
    driver.start()
    reasons.append(driver.session.reason_text)
    driver.clock.advance(2.0)
    reasons.append(driver.session.reason_text)
    driver.open_breaker()
    reasons.append(driver.session.reason_text)
    driver.lock()
    reasons.append(driver.session.reason_text)
    assert reasons == [None, "503", None, "503", "QuotaExceeded"]
    driver.start()
    assert driver.session.lock_reason is None


STEPS = (
    Driver.start,
    Driver.fetch_ends,
    Driver.bring_new_token,
    Driver.refuse_credential,
    Driver.open_breaker,
    Driver.end_pause,
    Driver.answer_probe,
    Driver.lock,
    Driver.stop,
)


def expected_state(driver):
    session = driver.session
    if not driver.is_started:
        return LaneState.LOCKED if session.lock_reason else LaneState.SIGNED_OUT
    if session.signin.credential is None:
        return LaneState.SIGNING_IN
    is_open = session.breaker.state is BreakerState.OPEN
    return LaneState.PAUSED if is_open else LaneState.READY


@pytest.mark.parametrize("first", STEPS, ids=lambda step: step.__name__)
def test_the_state_follows_from_the_parts(first):
    """After every series of four steps from the start on, and so is the credential."""
    for steps in product([first], STEPS, STEPS, STEPS):
        driver = Driver()
        driver.credentials.hold = True
        driver.start()
        for step in steps:
            step(driver)
            names = [each.__name__ for each in steps]
            session, expected = driver.session, expected_state(driver)
            assert session.state is expected, names
            is_ready = expected is LaneState.READY
            assert session.credential is (session.signin.credential if is_ready else None), names
            assert not is_ready or driver.given[-1] is session.credential, names
