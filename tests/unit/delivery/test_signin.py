"""Signing in: when it happens, what a 401 means for the push, and when it is given up."""

import pytest
from twisted.internet.task import Clock

from node2dm_tw.delivery.signin import MAX_REFUSALS, PUSH_INTERVAL, Refusal, SignIn
from node2dm_tw.providers.interface import SignInFailed, SignInRefused
from tests.support.doubles import DAY, WALL, MemoryCredentials, no_jitter


class Made:
    """A sign-in, and what it calls."""

    def __init__(self, *script, has_stored=False):
        self.clock = Clock()
        self.credentials = MemoryCredentials(self.wall, list(script))
        if has_stored:
            self.credentials.kept = self.credentials.make()
        self.changes, self.given_up = [], []
        self.signin = SignIn(
            "shop",
            self.credentials,
            self.clock,
            self.wall,
            no_jitter,
            on_credential=lambda: self.changes.append(self.generation),
            on_given_up=self.given_up.append,
        )

    def wall(self):
        return WALL + self.clock.seconds()

    @property
    def generation(self):
        credential = self.signin.credential
        return None if credential is None else credential.generation


def test_a_stored_credential_is_used_without_a_request():
    """An earlier process's; it is renewed in time like any other."""
    made = Made(has_stored=True)
    made.signin.start()
    assert (made.changes, made.credentials.fetches) == ([1], 0)
    made.clock.advance(14 * DAY)
    assert (made.changes, made.credentials.fetches) == ([1, 2], 1)


def test_it_is_renewed_while_the_present_one_still_serves():
    """Five minutes before the end, or a tenth of a life that is shorter."""
    made = Made(1_000.0, 50_000.0)
    made.signin.start()
    made.clock.advance(899.0)
    assert made.changes == [1]
    made.clock.advance(1.0)
    assert made.changes == [1, 2]
    made.clock.advance(49_699.0)
    assert made.generation == 2
    made.clock.advance(1.0)
    assert made.generation == 3


def test_a_failed_renewal_takes_nothing_away():
    """The present credential serves on, and the reason is shown until a try succeeds."""
    made = Made(1_000.0, SignInFailed("503", 20.0))
    made.signin.start()
    made.clock.advance(900.0)
    assert (made.generation, made.signin.last_error) == (1, "503")
    made.clock.advance(20.0)
    assert (made.generation, made.signin.last_error) == (2, "")


def test_refusals_in_a_row_end_it_and_failures_do_not():
    """Ten are the end; whoever is merely not reached is asked again for ever."""
    made = Made(*[SignInFailed("503", 1.0)] * 50, *[SignInRefused("BadAuthentication")] * 20)
    made.signin.start()
    made.clock.pump([1.0] * 49)
    assert (made.credentials.fetches, made.given_up) == (50, [])
    made.clock.pump([600.0] * MAX_REFUSALS)
    assert made.given_up == ["BadAuthentication"]
    assert made.credentials.fetches == 50 + MAX_REFUSALS
    assert not made.clock.getDelayedCalls()


def test_a_final_refusal_ends_it_at_once():
    """Asking again would be of no use."""
    made = Made(SignInRefused("CaptchaRequired", final=True))
    made.signin.start()
    assert made.given_up == ["CaptchaRequired"]


@pytest.mark.parametrize(
    ("accepted", "generation", "first_refused", "fate", "still_serves"),
    [
        (0, 1, 0, Refusal.SEND_AGAIN, False),  # a new token is refused
        (1, 1, 0, Refusal.SEND_AGAIN, False),  # it was good: one sign-in
        (1, 1, 1, Refusal.REJECT, True),  # others are accepted, and this push never
        (1, 7, 0, Refusal.SEND_AGAIN, True),  # late, with another credential
    ],
)
def test_what_a_401_means(accepted, generation, first_refused, fate, still_serves):
    """It depends on who else was accepted with that credential."""
    made = Made()
    made.signin.start()
    made.signin.on_accepted(accepted)
    assert made.signin.on_unauthorized(generation, first_refused) is fate
    assert (made.generation == 1) is still_serves


def test_pushes_cause_one_sign_in_a_minute():
    """Where others are accepted; until then a refused push sleeps."""
    made = Made()
    made.signin.start()
    fates = []
    for _ in range(3):
        made.signin.on_accepted(made.generation)
        fates.append(made.signin.on_unauthorized(made.generation, 0))
        made.clock.advance(PUSH_INTERVAL / 2)
    assert fates == [Refusal.SEND_AGAIN, Refusal.SLEEP, Refusal.SEND_AGAIN]
    assert made.credentials.fetches == 3


def test_a_new_token_of_an_answer_is_used_once_and_kept():
    """Many answers bring the same one; the disk sees it once a second at the most."""
    made = Made()
    made.signin.start()
    for token in ("fresh", "fresh", "fresher", ""):
        made.signin.replace(token)
    assert made.changes == [1, 2, 3]
    made.clock.advance(1.0)
    assert made.credentials.kept_writes == 1


def test_nothing_happens_after_a_stop():
    """Neither an answer's new token nor a refusal starts anything; what was to be kept is."""
    made = Made()
    made.signin.start()
    made.signin.replace("fresh")
    made.signin.stop()
    assert made.credentials.kept_writes == 1
    made.signin.replace("fresher")
    made.signin.renew()
    assert made.signin.on_unauthorized(2, 0) is Refusal.SEND_AGAIN
    assert made.generation is None
    assert not made.clock.getDelayedCalls()
    made.signin.start()
    assert made.generation == 3


def test_one_sign_in_at_a_time():
    """However many ask for one meanwhile; a stop cancels it."""
    made = Made()
    made.credentials.hold = True
    made.signin.start()
    for _ in range(5):
        made.signin.renew()
        made.clock.advance(0.0)
    assert made.credentials.fetches == 1
    made.signin.stop()
    assert (made.changes, made.given_up) == ([], [])
