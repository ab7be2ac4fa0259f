"""When a service account signs in again, over hours."""

from itertools import pairwise

import pytest
from twisted.internet.defer import succeed
from twisted.internet.task import Clock

from node2dm_tw.providers.oauth2 import ServiceAccountCredentials
from tests.support.doubles import sign_in
from tests.unit.providers.answers import NOW, answer
from tests.unit.providers.keys import KEY


class TokenServer:
    """Hands a token out until it ends; from `renews_before` its end on, the next one."""

    def __init__(self, clock, renews_before):
        self.clock, self.renews_before = clock, renews_before
        self.ends, self.number, self.asked = 0.0, 0, []

    def post(self, url, headers, body):
        now = self.clock.seconds()
        self.asked.append(now)
        if self.ends - now <= self.renews_before:
            self.ends, self.number = now + 3_600, self.number + 1
        content = {"access_token": f"t{self.number}", "expires_in": round(self.ends - now)}
        return succeed(answer(200, content))

    def takes(self, credential):
        return credential.header == b"Bearer t%d" % self.number and self.clock.seconds() < self.ends


def six_hours(server_renews_before):
    """Send every ten seconds; give the moments of the sign-ins, and how often it was refused."""
    clock = Clock()
    server = TokenServer(clock, server_renews_before)
    wall = lambda: NOW + clock.seconds()  # noqa: E731
    signin = sign_in(ServiceAccountCredentials(server.post, wall, KEY), clock, wall)
    signin.start()
    refusals = 0
    for _ in range(2_160):
        clock.advance(10)
        credential = signin.credential
        assert credential is not None, "there is a credential at every moment"
        if server.takes(credential):
            signin.on_accepted(credential.generation)
        else:
            refusals += 1
            signin.on_unauthorized(credential.generation, 0)
            clock.advance(0)
    signin.stop()
    return server.asked, refusals


def test_a_token_of_an_hour_is_one_sign_in_each_55_minutes():
    """It is renewed before it ends, so that no push is ever refused."""
    asked, refusals = six_hours(3_600)
    assert refusals == 0
    gaps = [later - earlier for earlier, later in pairwise(asked)]
    assert min(gaps) >= 3_000
    assert max(gaps) <= 3_400


@pytest.mark.parametrize("renews_before", [0, 30, 299])
def test_a_token_handed_out_again_is_used_up(renews_before):
    """One renewal comes too early and brings it again; then it serves until it is refused."""
    asked, refusals = six_hours(renews_before)
    assert len(asked) <= 2 * 6 + 1
    assert refusals <= 6


def test_short_lives_do_not_storm():
    """However short a life is named, a token is kept for the better part of a minute."""
    clock = Clock()
    posts = []

    def post(url, headers, body):
        posts.append(clock.seconds())
        return succeed(answer(200, {"access_token": f"t{len(posts)}", "expires_in": 1}))

    wall = lambda: NOW + clock.seconds()  # noqa: E731
    signin = sign_in(ServiceAccountCredentials(post, wall, KEY), clock, wall)
    signin.start()
    clock.pump([1] * 600)
    signin.stop()
    assert len(posts) <= 12
