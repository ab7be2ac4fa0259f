"""The lane, in simulated time, with the test as its upstream."""

import pytest

from node2dm_tw.core.snapshot import LaneState
from node2dm_tw.delivery.session import LockReason
from node2dm_tw.delivery.window import INITIAL
from node2dm_tw.http.interface import CertificateRefused, NoAnswer, NotSent
from node2dm_tw.providers.c2dm import C2DM
from node2dm_tw.providers.interface import SignInFailed, SignInRefused
from tests.support.doubles import DAY, Bench, bench


@pytest.fixture
def lane(tmp_path) -> Bench:
    made = bench(tmp_path)
    made.lane.start()
    return made


def open_window(lane: Bench) -> None:
    """Let good answers open the window to its maximum."""
    lane.push_many(200)
    while lane.lane.window.size < 64:
        lane.answer_all()
    while lane.queue.depth:
        lane.answer_all()
    lane.http.posted.clear()


def test_pushes_wait_for_the_sign_in(tmp_path):
    """Nothing is sent before there is a credential, and nothing is dropped."""
    lane = bench(tmp_path)
    lane.credentials.hold = True
    lane.lane.start()
    lane.push_many(20)
    lane.advance(60)
    assert not lane.http.posted
    lane.credentials.held[0].callback(lane.credentials.make())
    assert len(lane.http.posted) == INITIAL
    lane.check()


def test_the_window_begins_at_8_and_grows_to_its_maximum(lane):
    """Good answers let more requests fly, never more than max_in_flight."""
    lane.push_many(1_000)
    assert len(lane.http.waiting()) == 8
    most = 0
    while lane.queue.depth:
        most = max(most, len(lane.http.waiting()))
        lane.answer_all()
    assert most == 64
    assert lane.stats.messages_sent == 1_000


@pytest.mark.parametrize("named", ["3", "Tue, 14 Nov 2023 22:13:23 GMT"])
def test_64_answers_of_503_are_one_pause(lane, named):
    """However many 503s come, the lane pauses once, then one probe, then a slow start."""
    open_window(lane)
    lane.push_many(200)
    assert lane.answer_all(503, b"", Retry_After=named) == 64
    lane.http.posted.clear()
    lane.advance(2.75)
    assert not lane.http.posted
    lane.advance(0.25)
    assert len(lane.http.waiting()) == 1
    sizes = []
    while lane.queue.depth:
        sizes.append(lane.answer_all())
    assert sizes[:4] == [1, 2, 4, 8]
    assert lane.stats.messages_sent == 400


def test_of_several_answers_the_latest_moment_named_wins(lane):
    """Retry-After: 10 among Retry-After: 2 holds the lane for ten seconds."""
    lane.push_many(8)
    for seconds, posted in zip(
        ("2", "10", "3", "2", "1", "0", "-5", "soon"), lane.http.waiting(), strict=True
    ):
        posted.say(503, b"", Retry_After=seconds)
    lane.http.posted.clear()
    lane.advance(9.75)
    assert not lane.http.posted
    lane.advance(0.5)
    assert len(lane.http.posted) == 1


def test_a_pause_without_retry_after_doubles_up_to_ten_minutes(lane):
    """Each failed probe doubles the pause; a good answer begins anew."""
    lane.push_many(1)
    pauses = []
    for _ in range(12):
        lane.answer_all(503, b"")
        pauses.append(lane.lane.session.breaker.pause_left)
        lane.clock.advance(pauses[-1])
        assert len(lane.http.waiting()) == 1
    assert [round(seconds) for seconds in pauses] == [
        1,
        2,
        4,
        8,
        16,
        32,
        64,
        128,
        256,
        512,
        600,
        600,
    ]
    lane.answer_all()
    lane.push_many(1)
    lane.answer_all(503, b"")
    assert round(lane.lane.session.breaker.pause_left) == 1


def test_retry_after_0_does_not_hammer(lane):
    """An upstream that wants no pause gets one of a second."""
    lane.push_many(1)
    for _ in range(5):
        lane.answer_all(503, b"", Retry_After="0")
    assert len(lane.http.posted) == 1
    lane.advance(1)
    assert len(lane.http.posted) == 2


def test_a_late_503_of_before_the_pause_does_not_pause_again(lane):
    """An answer to a request of an earlier epoch says nothing new, unless it names a moment."""
    lane.push_many(8)
    late, later, *first = lane.http.waiting()
    for posted in first:
        posted.say(503, b"")
    lane.advance(1)
    assert len(lane.http.waiting()) == 3, "two from before the pause leave room for the probe"
    late.say(503, b"")
    assert lane.lane.session.breaker.pause_left == 0
    later.say(503, b"", Retry_After="5")
    assert lane.lane.session.breaker.pause_left == 5


def test_64_refusals_of_one_token_are_one_sign_in(lane):
    """However many 401s come for a token, one sign-in runs and every push goes again."""
    open_window(lane)
    lane.push_many(64)
    lane.credentials.hold = True
    lane.answer_all(401, b"")
    lane.advance(5)
    assert lane.credentials.fetches == 2
    assert not lane.http.waiting()
    lane.credentials.held[0].callback(lane.credentials.make())
    assert len(lane.http.waiting()) == 64
    assert {posted.auth for posted in lane.http.waiting()} == {b"GoogleLogin auth=token-2"}
    lane.answer_all()
    assert lane.stats.messages_sent == 264


def test_a_late_401_for_the_old_token_changes_nothing(lane):
    """After the new token is in use, a refusal of the old one only sends that push again."""
    open_window(lane)
    lane.push_many(8)
    late, *first = lane.http.waiting()
    for posted in first:
        posted.say(401, b"")
    lane.advance(1)
    for posted in lane.http.waiting():
        if posted is not late:
            posted.say()
    late.say(401, b"")
    lane.advance(1)
    assert lane.credentials.fetches == 2
    lane.answer_all()
    assert lane.stats.messages_sent == 208
    assert lane.queue.depth == 0


def test_tokens_that_are_refused_at_once_slow_the_sign_in_down(lane):
    """An upstream that accepts a token here and refuses it there is not stormed with sign-ins."""
    lane.push_many(2_000)
    for _ in range(240):
        waiting = lane.http.waiting()
        for number, posted in enumerate(waiting):
            posted.say(401 if number % 2 else 200, b"" if number % 2 else b"id=1")
        lane.advance(0.25)
    assert lane.credentials.fetches < 10


def test_a_new_token_that_is_refused_counts_as_a_failed_sign_in(lane):
    """Ten tokens refused before any was accepted: signing in is given up, the pushes are kept."""
    lane.push_many(1)
    for _ in range(10):
        lane.answer_all(401, b"")
        lane.advance(600, step=10)
    assert lane.locked == [LockReason.SIGN_IN_GIVEN_UP]
    assert lane.credentials.fetches == 10
    assert lane.queue.depth == 1


def test_ten_refused_sign_ins_give_up(tmp_path):
    """Ten answers of BadAuthentication in a row, with back-off between them, end it."""
    lane = bench(tmp_path, script=[SignInRefused("BadAuthentication")] * 10)
    lane.lane.start()
    lane.advance(3_600, step=5)
    assert lane.credentials.fetches == 10
    assert lane.locked == [LockReason.SIGN_IN_GIVEN_UP]


def test_a_captcha_gives_up_at_once(tmp_path):
    """A captcha wants a person; asking again would only make it worse."""
    lane = bench(tmp_path, script=[SignInRefused("CaptchaRequired", final=True)])
    lane.lane.start()
    lane.advance(60)
    assert lane.credentials.fetches == 1
    assert lane.locked == [LockReason.SIGN_IN_GIVEN_UP]


def test_network_failures_at_sign_in_are_retried_for_ever(tmp_path):
    """An unreachable sign-in never counts towards giving up, and is asked ever more seldom."""
    lane = bench(tmp_path, script=[NotSent("refused"), SignInFailed("status 503")] * 20)
    lane.lane.start()
    lane.push_many(3)
    lane.advance(12 * 3_600, step=30)
    assert not lane.locked
    assert lane.credentials.fetches == 41
    lane.answer_all()
    assert lane.stats.messages_sent == 3


def test_the_token_is_renewed_before_it_is_old_without_a_gap(tmp_path):
    """A second sign-in runs in the background; sending goes on with the first token meanwhile."""
    lane = bench(tmp_path, script=[3_600.0])
    lane.lane.start()
    lane.advance(3_299, step=1)
    lane.credentials.hold = True
    assert lane.credentials.fetches == 1
    lane.advance(2)
    assert lane.credentials.fetches == 2
    lane.push_many(1)
    assert lane.http.posted[-1].auth.endswith(b"token-1")
    lane.credentials.held[0].callback(lane.credentials.make())
    lane.push_many(1)
    assert lane.http.posted[-1].auth.endswith(b"token-2")


def test_a_failed_renewal_is_tried_again_while_the_old_token_serves(tmp_path):
    """A failure is never kept: the old token goes on serving, the next try follows."""
    lane = bench(tmp_path, script=[3_600.0, SignInFailed("503"), SignInRefused("Unknown"), 3_600.0])
    lane.lane.start()
    lane.advance(3_400, step=1)
    assert lane.credentials.fetches == 4
    assert not lane.locked


@pytest.mark.parametrize("error", [NotSent("x"), NoAnswer("x"), CertificateRefused("x")])
def test_a_push_without_an_answer_sleeps_and_fresh_ones_pass_it(lane, error):
    """It is tried again after 1, 2, 4 s; others are sent meanwhile."""
    lane.push(b"sleeper:key:1")
    lane.http.posted[-1].fail(error)
    lane.push(b"fresh:key:2")
    assert b"fresh" in lane.http.posted[-1].body
    lane.answer_all()
    lane.advance(0.75)
    assert len(lane.http.posted) == 2
    lane.advance(0.25)
    assert len(lane.http.posted) == 3
    lane.http.posted[-1].fail(error)
    lane.advance(1.75)
    assert len(lane.http.posted) == 3
    lane.advance(0.25)
    lane.answer_all()
    assert lane.stats.messages_sent == 2
    ambiguous = 0 if isinstance(error, NotSent) else 2
    assert lane.stats.messages_ambiguous == ambiguous
    assert lane.stats.network_failures == 2


def test_a_kept_alive_connection_that_breaks_costs_one_repeat_at_once(lane):
    """The first time the push goes again at once, the second time it sleeps."""
    lane.push_many(1)
    lane.http.posted[0].fail(NoAnswer("closed", retry_at_once=True))
    assert len(lane.http.posted) == 2
    lane.http.posted[1].fail(NoAnswer("closed", retry_at_once=True))
    assert len(lane.http.posted) == 2
    lane.advance(1)
    assert len(lane.http.posted) == 3


def test_five_failures_without_an_answer_between_them_pause_the_lane(lane):
    """Four failures and an answer do not; five in a row do, once, and one probe follows."""
    lane.push_many(100)
    for posted in lane.http.waiting()[:4]:
        posted.fail(NotSent("refused"))
    lane.http.waiting()[0].say()
    for posted in lane.http.waiting()[:4]:
        posted.fail(NotSent("refused"))
    assert lane.lane.session.breaker.pause_left == 0
    for posted in lane.http.waiting():
        posted.fail(NotSent("refused"))
    assert round(lane.lane.session.breaker.pause_left) == 1
    count = len(lane.http.posted)
    lane.advance(1)
    assert len(lane.http.posted) == count + 1


def test_an_urgent_push_is_second_after_a_pause_with_a_full_retry_queue(tmp_path):
    """A due push is the probe, which makes room; the urgent one follows it."""
    lane = bench(tmp_path, max_queued=100)
    lane.push_many(20)
    retry_queue = lane.lane.admission.retry_queue
    while not retry_queue.is_full:
        retry_queue.sleep(lane.queue.take(), 0.5)
    lane.lane.start()
    for posted in lane.http.waiting():
        posted.say(503)
    lane.push_json(b'{"token":"t","collapse_key":"k","data":"urgent","urgent":true}')
    count = len(lane.http.posted)
    lane.advance(2)
    assert len(lane.http.posted) == count + 1
    assert not lane.http.posted[count].context.push.is_urgent
    lane.http.posted[count].say()
    assert lane.http.posted[count + 1].context.push.is_urgent
    lane.check()


def test_time_outs_halve_the_window_once_for_all_that_met_them(lane):
    """Sixteen requests that ran out of time together halve the window once."""
    open_window(lane)
    lane.push_many(64)
    timed_out = lane.http.waiting()[:16]
    for posted in timed_out[:4]:
        posted.fail(NoAnswer("slow", timed_out=True))
    assert lane.lane.window.size == 32


def test_a_newer_push_takes_the_place_of_a_sleeping_one(lane):
    """Same device, same collapse key: the older is counted as collapsed, the newer sent in time."""
    lane.push(b"phone:key:old", b"phone:other:kept")
    for posted in lane.http.waiting():
        posted.fail(NotSent("refused"))
    lane.push(b"phone:key:new")
    assert len(lane.http.posted) == 2
    assert lane.stats.messages_collapsed == 1
    lane.advance(1)
    bodies = sorted(posted.body.rpartition(b"=")[2] for posted in lane.http.waiting())
    assert bodies == [b"kept", b"new"]


def test_one_target_may_hold_a_tenth_of_the_retry_queue(tmp_path):
    """Beyond it a push to that target that must sleep is counted as overflowed, and seen."""
    lane = bench(tmp_path, max_queued=3_000)
    lane.lane.start()
    for number in range(31):
        lane.push(b"phone:key%d:x" % number)
        lane.http.posted[-1].fail(NotSent("refused"))
        lane.push(b"healthy:key:x")
        lane.http.posted[-1].say()
    assert lane.stats.messages_overflowed == 1
    assert len(lane.lane.admission.retry_queue) == 30
    errors = lane.lane.recent_errors.latest()
    assert "30 pushes for the target sleep already" in {error.reason for error in errors}
    lane.check()


def test_a_full_retry_queue_pauses_the_lane(tmp_path):
    """A push for which there is no room to sleep is kept: nothing is lost for an answer."""
    lane = bench(tmp_path, max_queued=50)
    lane.lane.start()
    for _ in range(6):
        lane.push_many(1)
        lane.http.posted[-1].fail(NotSent("refused"))
        lane.push_many(1)
        if lane.http.waiting():
            lane.http.posted[-1].say()
    assert lane.lane.session.state is LaneState.PAUSED
    assert len(lane.lane.admission.retry_queue) == 5
    assert lane.stats.messages_overflowed == 0
    while lane.queue.depth:
        lane.advance(1)
        lane.answer_all()
    assert lane.stats.messages_sent == 12


def test_a_full_queue_drops_its_oldest_push(tmp_path):
    """Overflow makes room for the newest, spares what is in flight, and is counted."""
    lane = bench(tmp_path, max_queued=20)
    lane.lane.start()
    lane.push_many(20)
    lane.push_many(10)
    assert lane.stats.messages_overflowed == 10
    assert lane.queue.depth == 20
    lane.check()
    while lane.queue.depth:
        lane.answer_all()
    sent = {int(posted.body.rpartition(b"=")[2]) for posted in lane.http.posted}
    assert sent == {*range(8), *range(18, 30)}


def test_a_push_past_its_age_is_dropped(tmp_path):
    """max_age counts from receipt, wherever the push was meanwhile: queued, asleep or paused."""
    lane = bench(tmp_path, max_age=100)
    lane.lane.start()
    lane.push(b"asleep:key:x")
    lane.http.posted[-1].fail(NotSent("refused"))
    lane.push_many(20)
    lane.answer_all(503, b"", Retry_After="99")
    lane.advance(99)
    lane.answer_all()
    assert lane.stats.messages_sent == 1
    lane.advance(2)
    assert lane.answer_all() == 2
    assert lane.stats.messages_sent == 3
    assert lane.stats.messages_expired == 18


def test_ttl_of_the_json_form_ends_a_push_before_max_age(lane):
    """A push that says it is of no use after 5 s is not sent after 6 s."""
    from node2dm_tw.core.json_form import read_json

    line = b'{"token": "phone", "collapse_key": "k", "data": "x", "ttl": 5}'
    lane.push_many(8)
    _, push = read_json(line, lane.clock.seconds())
    lane.stats.messages_received += 1
    lane.queue.put([push])
    lane.advance(6)
    lane.answer_all()
    assert lane.stats.messages_expired == 1


def test_a_blocked_device_is_left_alone_for_an_hour_of_its_own(lane):
    """Each block ends by itself; pushes to the device are dropped until then."""
    lane.push(b"one:key:x")
    lane.http.posted[-1].say(body=b"Error=DeviceQuotaExceeded")
    lane.advance(1_800, step=60)
    lane.push(b"two:key:x")
    lane.http.posted[-1].say(body=b"Error=DeviceQuotaExceeded")
    assert len(lane.lane.admission.blocked) == 2
    lane.advance(1_799, step=0.5)
    lane.push(b"one:key:x", b"two:key:x")
    assert lane.stats.messages_blocked == 4
    lane.advance(2)
    assert len(lane.lane.admission.blocked) == 1
    lane.push(b"one:key:x", b"two:key:x")
    assert lane.stats.messages_blocked == 5
    assert len(lane.http.posted) == 3


def test_over_quota_locks_the_lane_and_keeps_every_push(lane):
    """QuotaExceeded: nothing more is sent, nothing is dropped."""
    lane.push_many(20)
    lane.http.waiting()[0].say(body=b"Error=QuotaExceeded")
    lane.answer_all(body=b"Error=QuotaExceeded")
    lane.advance(3_600, step=60)
    assert lane.locked == [LockReason.OVER_QUOTA]
    assert len(lane.http.posted) == 8
    assert lane.queue.depth == 20
    lane.check()


def test_a_locked_lane_does_not_sign_in_again(tmp_path):
    """A renewal under way at the lock ends with it, and a token that comes later starts none."""
    lane = bench(tmp_path, script=[3_600.0])
    lane.lane.start()
    lane.push_many(2)
    lane.credentials.hold = True
    lane.advance(3_301, step=1)
    assert lane.credentials.fetches == 2
    over_quota, late = lane.http.waiting()
    over_quota.say(body=b"Error=QuotaExceeded")
    late.say(Update_Client_Auth="late")
    lane.lane.session.signin.renew()
    lane.advance(30 * DAY, step=DAY)
    assert lane.credentials.fetches == 2
    assert lane.lane.session.signin.credential is None


def test_bad_devices_are_reported(lane):
    """Both codes that name the device cause a callback, with the reason."""
    lane.push(b"gone:key:x", b"never:key:x")
    first, second = lane.http.waiting()
    first.say(body=b"Error=NotRegistered")
    second.say(body=b"Error=InvalidRegistration")
    assert lane.bad_devices == [(b"gone", "NotRegistered"), (b"never", "InvalidRegistration")]


def test_a_step_of_the_wall_clock_expires_nothing(tmp_path):
    """A push is as old as the monotonic clock says, whatever the wall clock does meanwhile."""
    lane = bench(tmp_path, max_age=60.0)
    lane.push_many(25)
    lane.wall_offset[0] += 7_200
    lane.lane.start()
    while lane.queue.depth:
        lane.answer_all()
    assert (lane.stats.messages_sent, lane.stats.messages_expired) == (25, 0)


def test_the_wall_clock_may_step_an_hour_back_and_forth(lane):
    """Pauses and sleeps are measured by the monotonic clock: nothing fires early or hangs."""
    lane.push(b"sleeper:key:x")
    lane.http.posted[-1].fail(NotSent("refused"))
    lane.wall_offset[0] += 3_600
    lane.advance(0.75)
    assert len(lane.http.posted) == 1
    lane.wall_offset[0] -= 7_200
    lane.advance(0.25)
    assert len(lane.http.posted) == 2
    lane.http.posted[-1].say(503, b"", Retry_After="3")
    lane.wall_offset[0] += 3_600
    lane.advance(2.75)
    assert len(lane.http.posted) == 2
    lane.wall_offset[0] -= 3_600
    lane.advance(0.25)
    assert len(lane.http.posted) == 3
    lane.answer_all()
    assert lane.stats.messages_sent == 1
    assert lane.stats.messages_expired == 0


def test_a_fault_of_ours_still_ends_the_push_in_a_counter(tmp_path):
    """An answer that cannot be handled refuses its push as an internal error."""

    class Broken(C2DM):
        def judge(self, response, now):
            if response.body != b"id=1":
                raise RuntimeError("no")
            return super().judge(response, now)

    lane = bench(tmp_path, provider=Broken("http://upstream/send"))
    lane.lane.start()
    lane.push_many(2)
    lane.http.posted[0].say(body=b"Error=NotRegistered")
    lane.check()
    assert lane.stats.refused_reasons == {"internal_error": 1}
    lane.answer_all()
    assert lane.stats.messages_sent == 1


def test_a_thousand_expired_pushes_do_not_hold_the_reactor(tmp_path):
    """The lane gives way after a turn, and goes on by itself."""
    lane = bench(tmp_path, max_age=10)
    lane.credentials.hold = True
    lane.lane.start()
    lane.push_many(2_000)
    lane.advance(10)
    lane.credentials.held[0].callback(lane.credentials.make())
    assert 0 < lane.stats.messages_expired < 2_000
    lane.advance(1)
    assert lane.stats.messages_expired == 2_000


def test_stop_gives_every_push_back(lane):
    """After the drain nothing is in flight, asleep or forgotten: the spool has it all."""
    lane.push_many(30)
    lane.http.posted[0].fail(NotSent("refused"))
    stopped = []
    lane.lane.stop(5.0).addCallback(stopped.append)
    lane.advance(4.75)
    assert not stopped
    lane.advance(0.25)
    assert stopped
    assert lane.queue.depth == 30
    lane.queue.stop()
    assert lane.stats.messages_handed_over == 30
    lane.check()
    assert not [call for call in lane.clock.getDelayedCalls() if call.active()]


def test_stop_returns_at_once_when_all_is_sent(lane):
    """Nothing queued, nothing in flight: a stop needs no time."""
    lane.push_many(3)
    lane.answer_all()
    stopped = []
    lane.lane.stop(5.0).addCallback(stopped.append)
    assert stopped
    assert not [call for call in lane.clock.getDelayedCalls() if call.active()]
