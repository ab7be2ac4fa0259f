"""The limit on open files, and who gets how much of it."""

import os

import pytest
from hypothesis import given
from hypothesis.strategies import dictionaries, integers, text

from node2dm_tw.admin.views import ViewLimits
from node2dm_tw.app.descriptors import KEPT, Descriptors, divide, first_free
from tests.support.routes import load_settings

VIEWS = ViewLimits.descriptors(has_web=True)


def test_enough_for_all():
    """Everybody gets what it wants, to the last descriptor."""
    needed = 20 + KEPT + 64 + 512 + VIEWS
    wanted = {"c2dm": 64, "fcm": 512}
    budget = divide(needed, 20, wanted, VIEWS)
    assert (budget.needed, budget.requests) == (needed, wanted)
    assert (budget.views, budget.kept) == (VIEWS, KEPT)
    short = divide(needed - 1, 20, wanted, VIEWS)
    assert (short.needed, short.requests) == (needed, wanted)
    assert short.views == VIEWS - 1
    assert short.lowered(wanted) == "the views get fewer connections"


@pytest.mark.parametrize(
    ("limit", "requests", "granted", "views"),
    [
        (1_024, [64], (64,), VIEWS),
        (1_024, [512], (512,), VIEWS),
        (1_024, [512, 512], (306, 306), 328),
        (256, [512], (99,), 78),
        (48, [200], (12,), 9),
        (20, [200], (1,), 0),
    ],
)
def test_a_low_limit_is_shared(limit, requests, granted, views):
    """Requests and views give way; neither is left without any."""
    wanted = {f"fcm:{number}": each for number, each in enumerate(requests)}
    budget = divide(limit, 20, wanted, VIEWS)
    assert (tuple(budget.requests.values()), budget.views) == (granted, views)
    assert budget.needed == 20 + KEPT + sum(requests) + VIEWS
    if granted[0] < requests[0]:
        told = f"[fcm:0] max_in_flight is {granted[0]} instead of {requests[0]}"
        assert budget.lowered(wanted).startswith(told)


@given(
    integers(0, 5_000),
    integers(0, 100),
    dictionaries(text(), integers(1, 4_096), min_size=1, max_size=10),
    integers(0, 500),
    integers(1, 2),
)
def test_nobody_gets_more_than_there_is_or_than_it_wants(limit, used, requests, views, each):
    """And each route can send."""
    budget = divide(limit, used, requests, views, per_request=each)
    assert all(1 <= got <= requests[route] for route, got in budget.requests.items())
    assert 0 <= budget.views <= views
    assert 0 <= budget.kept <= KEPT
    total = used + budget.kept + budget.views + each * sum(budget.requests.values())
    assert total <= max(limit, used) + each * len(requests)
    if budget.needed <= limit:
        assert (budget.requests, budget.views, budget.kept) == (requests, views, KEPT)


@given(integers(0, 500))
def test_clients_of_the_views_keep_within_their_share(descriptors):
    """Those that are about to make way for others included; one of each is always let in."""
    limits = ViewLimits.within(descriptors, 1_000, has_web=True)
    held = sum(number + min(32, number) for number in (limits.telnet, limits.web))
    assert held <= max(4, descriptors)
    if descriptors >= VIEWS:
        assert (limits.telnet, limits.web) == (64, 200)
    alone = ViewLimits.within(descriptors, 1_000, has_web=False)
    assert 1 <= alone.telnet <= 64
    assert 2 * alone.telnet <= max(2, descriptors) or alone.telnet == 64


def test_the_first_free_number():
    """It is given again to whoever opens next."""
    number = first_free()
    descriptor = os.open(os.devnull, os.O_RDONLY)
    assert descriptor == number < first_free()
    os.close(descriptor)


def test_settings_are_limited_to_what_can_be_open(tmp_path):
    """An emulator beside it holds the other end of each request."""
    settings = load_settings(
        tmp_path, "[node2dm]\n[c2dm]\nusername = a@b.c\npassword = d\nmax_in_flight = 1000\n"
    )
    limited = [
        Descriptors(limit, 20, has_emulator).limit_settings(settings)
        for limit, has_emulator in ((10_000, False), (1_500, True), (1_500, False), (100, False))
    ]
    wanted = [found.routes[0].max_in_flight for found, _ in limited]
    assert wanted[0] == wanted[2] == 1000
    assert wanted[1] < 1000
    assert wanted[3] < 100
    assert limited[0][0] == settings
    views = [found for _, found in limited]
    assert views[0].telnet > views[3].telnet
