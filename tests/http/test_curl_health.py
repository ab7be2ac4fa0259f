"""Silence of a connection told from slowness of a request."""

from node2dm_tw.http.curl_health import MAX_CONNECTIONS, ConnectionHealth, Health


def test_silence_condemns_once():
    """The first time-out condemns; those of requests sent before that follow from it."""
    health = ConnectionHealth()
    health.answered[1] = 99.0
    assert health.on_timeout(1, sent_at=100.0, now=105.0) is Health.SILENT
    assert health.on_timeout(1, sent_at=100.0, now=105.0) is Health.CONDEMNED
    assert health.on_timeout(1, sent_at=104.9, now=109.9) is Health.CONDEMNED
    assert health.on_timeout(2, sent_at=104.9, now=109.9) is Health.SILENT


def test_an_answer_to_another_request_is_life():
    """A connection that answered since the request was sent is only slow."""
    health = ConnectionHealth()
    health.answered[1] = 101.0
    assert health.on_timeout(1, sent_at=100.0, now=105.0) is Health.ALIVE


def test_a_port_comes_back():
    """A connection has nothing of one that had its port before."""
    health = ConnectionHealth()
    health.answered[1] = 99.0
    assert health.on_timeout(1, sent_at=100.0, now=105.0) is Health.SILENT
    assert health.on_timeout(1, sent_at=106.0, now=111.0) is Health.SILENT


def test_memory_is_bounded():
    """However many connections come and go, few are remembered."""
    health = ConnectionHealth()
    for port in range(3 * MAX_CONNECTIONS):
        health.on_connected()
        health.answered[port] = 1.0
        health.on_timeout(port, 2.0, 3.0)
    assert len(health.answered) <= MAX_CONNECTIONS
    assert len(health._condemned) <= MAX_CONNECTIONS
