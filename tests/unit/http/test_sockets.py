"""What the kernel knows of a connection."""

import socket

import pytest

from node2dm_tw.http import sockets
from tests.support.waiting import wait_until


@pytest.fixture
def pair():
    """A connection over TCP: both ends."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as near,
    ):
        far, _ = listening.accept()
        with far:
            yield near, far


def test_user_timeout(pair):
    """Seconds become the kernel's milliseconds, and never 0, which means none."""
    for seconds, milliseconds in ((5, 5000), (0.25, 250), (0.0001, 1)):
        sockets.set_user_timeout(pair[0].fileno(), seconds)
        found = pair[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        assert found == milliseconds


def test_silence(pair):
    """Silence ends when data comes."""
    near, far = pair
    wait_until(lambda: sockets.seconds_silent(near.fileno()) >= 0.05, "silence")
    far.sendall(b"x")
    wait_until(lambda: sockets.seconds_silent(near.fileno()) < 0.05, "the end of the silence")


def test_local_port(pair):
    """The port is that of our end."""
    assert sockets.local_port(pair[0].fileno()) == pair[0].getsockname()[1]


def test_shut_down(pair):
    """Both ends find the connection closed; the descriptor stays its owner's."""
    near, far = pair
    sockets.shut_down(near.fileno())
    assert near.recv(1) == far.recv(1) == b""
    assert near.fileno() >= 0


def test_identity(pair):
    """Two sockets differ, also where one gets the other's descriptor."""
    near, far = (sockets.identity(one.fileno()) for one in pair)
    assert near != far
    assert near == sockets.identity(pair[0].fileno())


def test_what_is_no_connection(tmp_path):
    """A descriptor that is closed, or a file's, or another kind of socket, does no harm."""
    with (tmp_path / "file").open("w") as file, socket.socket(socket.AF_UNIX) as unix:
        for descriptor in (file.fileno(), unix.fileno(), 999_999):
            sockets.set_user_timeout(descriptor, 1)
            sockets.shut_down(descriptor)
            assert sockets.seconds_silent(descriptor) == 0
            assert sockets.local_port(descriptor) == 0
    assert sockets.identity(999_999) == 0
