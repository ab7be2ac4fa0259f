"""The phone's way to the emulator."""

import pytest

from node2dm_tw.emulator.phone.client import EmulatorClient, RequestRejected, retry


def _retry(outcomes, tries=8):
    slept = []
    outcomes = iter(outcomes)

    def action():
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return retry(action, tries=tries, sleep=slept.append, chance=lambda: 1.0), slept


def test_back_off_doubles():
    """SERVICE_NOT_AVAILABLE is tried again after 1, 2, 4 seconds, at most a minute."""
    busy = [RequestRejected(503, "SERVICE_NOT_AVAILABLE")] * 7
    assert _retry([*busy, "id"]) == ("id", [1, 2, 4, 8, 16, 32, 60])


def test_other_errors_are_final():
    """What another try cannot mend is raised at once."""
    with pytest.raises(RequestRejected, match="INVALID_SENDER"):
        _retry([RequestRejected(400, "INVALID_SENDER"), "id"])


def test_tries_end():
    """At last the error is raised."""
    with pytest.raises(RequestRejected):
        _retry([RequestRejected(503, "SERVICE_NOT_AVAILABLE")] * 3, tries=3)


def test_errors_of_the_emulator(push_emulator):
    """They carry status and reason."""
    with pytest.raises(RequestRejected) as raised:
        push_emulator.client.register("", "app")
    assert (raised.value.status, raised.value.error) == (400, "INVALID_SENDER")
    with pytest.raises(RequestRejected) as raised:
        push_emulator.client.listen("nobody")
    assert raised.value.status == 404
    with pytest.raises(RequestRejected) as raised:
        push_emulator.client.ask("GET", "/nothing")
    assert raised.value.status == 404


def test_a_stranger_is_not_believed(push_emulator):
    """Without the emulator's CA its certificate is refused."""
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        EmulatorClient(push_emulator.base_url).ask("GET", "/stats")


def test_no_answer_is_an_oserror(push_emulator):
    """A connection that is cut is one kind of error, whatever was cut."""
    for cut in ("request", "headers", "body"):
        push_emulator.fault(endpoint="register", cut=cut)
        with pytest.raises(OSError, match=r"."):
            push_emulator.client.register("a@b", "app")
