"""How a real gateway starts, or says why it cannot."""

import fcntl
import json
import os
import re
import signal
import socket
import stat
from contextlib import contextmanager

import pytest

from tests.support.gateway import telnet
from tests.support.waiting import wait_until

PASSWORD = "hush-hush"
ACCOUNT = f"[c2dm]\nusername = sender@example.com\npassword = {PASSWORD}\n"
CAPTURED_BY_TWISTD = "Please look at log file for more information."

FAULTY = f"""
[node2dm]
udp = nowhere
stats = nonsense
colour = red
state_dir = state
web = tcp
[c2dm]
username =
password = {PASSWORD}
timeout = soon
[callback]
shared_secret = {PASSWORD}
[emulator]
listen = 8443
accounts = {PASSWORD}
[fcm]
[nonsense]
"""
FAULTS = [
    "[node2dm] udp = nowhere",
    "[node2dm] stats = nonsense",
    "[node2dm] web = tcp",
    "[node2dm] colour",
    "[emulator] listen = 8443",
    "[emulator] accounts",
    "[c2dm] timeout = soon",
    "[c2dm] username = ",
    "[callback] host",
    "[nonsense]",
]


@contextmanager
def taken(port, kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        if kind == socket.SOCK_STREAM:
            other.listen()
        yield


@contextmanager
def taken_port_of(gateway, which):
    """Another program has this port of the gateway's."""
    port, kind = {
        "udp": (gateway.udp, socket.SOCK_DGRAM),
        "stats": (gateway.stats_port, socket.SOCK_STREAM),
        "emulator": (gateway.emulator_port, socket.SOCK_STREAM),
    }[which]
    with taken(port, kind):
        yield port


def files_below(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def everything_said(gateway, done):
    """What came back, and the log: of what a daemon has to say twistd brings back 100 letters."""
    log = gateway.folder / "log"
    return done.stderr + done.stdout + (log.read_text(encoding="utf-8") if log.exists() else "")


@pytest.mark.parametrize("options", [("-n",), ()], ids=["foreground", "daemon"])
def test_every_fault_of_a_configuration_at_once(make_gateway, options):
    """A line for each, status 1, and nothing is started: no file, no pid file, no log."""
    gateway = make_gateway()
    done = gateway.run(*options, config=FAULTY)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert [line.partition(": ")[0] for line in lines] == FAULTS
    assert PASSWORD not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert files_below(gateway.folder) == {"config.ini"}


def test_a_line_that_cannot_be_read_is_not_repeated(make_gateway):
    """It may be the one with the password."""
    gateway = make_gateway()
    done = gateway.run("-n", config=f"[c2dm]\npassword {PASSWORD}\n")
    assert (done.returncode, done.stderr) == (
        1,
        f"{gateway.file}: line 2: expected option = value\n",
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "expected a configuration file"),
        (("-c", "nowhere.ini"), "nowhere.ini: No such file or directory"),
    ],
)
def test_no_configuration_at_all(make_gateway, arguments, said):
    """One line says what is missing."""
    gateway = make_gateway()
    done = gateway.run_twistd("-n", "--pidfile=", "node2dm", *arguments)
    assert done.returncode == 1
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("which", ["udp", "stats", "emulator"])
def test_a_port_that_is_taken_ends_the_start_with_one_line(make_gateway, which):
    """In the foreground: which port, status 1, no traceback, and nothing is left running."""
    gateway = make_gateway()
    with taken_port_of(gateway, which) as port:
        done = gateway.run("-n")
    assert done.returncode == 1
    assert done.stderr == ""
    (line,) = [line for line in done.stdout.splitlines() if "#critical" in line]
    assert f"node2dm cannot start: {which} cannot listen on 127.0.0.1:{port}: " in line
    assert "Address already in use" in line
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize("which", ["udp", "stats", "emulator"])
def test_a_port_that_is_taken_ends_a_daemons_start(make_gateway, which):
    """Where it was started: twistd's own two lines and status 1; nobody is left behind."""
    gateway = make_gateway()
    with taken_port_of(gateway, which) as port:
        done = gateway.run()
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert f"{which} cannot listen on 127.0.0.1:{port}: Address already in use" in first
    assert second == CAPTURED_BY_TWISTD
    assert "node2dm cannot start: " in gateway.log
    assert "Traceback" not in gateway.log
    wait_until(lambda: not gateway.pid_file.exists(), "its pid file is gone")


def test_after_a_failed_start_the_next_one_works(make_gateway):
    """Nothing that the failed one opened is still held."""
    gateway = make_gateway()
    with taken_port_of(gateway, "stats"):
        assert gateway.run("-n").returncode == 1
    gateway.start()
    gateway.push(b"demo-phone:key:payload")
    gateway.wait_for(messages_sent=1)


UNREACHABLE = f"{ACCOUNT}login_url = https://127.0.0.1:9/\nsend_url = https://127.0.0.1:9/\n"


@pytest.mark.parametrize("config", [UNREACHABLE, "[c2dm]\n[emulator]\n"], ids=["bare", "emulator"])
@pytest.mark.parametrize("options", [("-n",), ()], ids=["foreground", "daemon"])
def test_a_state_dir_that_cannot_be_made(make_gateway, config, options):
    """A file in its place: one line that names it, and status 1."""
    gateway = make_gateway(config)
    (gateway.folder / "state").write_text("", encoding="utf-8")
    done = gateway.run(*options)
    assert done.returncode == 1
    assert "Traceback" not in everything_said(gateway, done)
    assert len(done.stderr.splitlines()) <= 2
    assert "state_dir" in done.stderr + done.stdout
    assert str(gateway.folder / "state") in everything_said(gateway, done)


@pytest.mark.parametrize("options", [("-n",), ()], ids=["foreground", "daemon"])
def test_a_state_dir_that_another_process_has(make_gateway, options):
    """One line says so, and status 1; the other process is not disturbed."""
    gateway = make_gateway()
    (gateway.folder / "state").mkdir()
    lock = os.open(gateway.folder / "state" / "lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = gateway.run(*options)
    finally:
        os.close(lock)
    assert done.returncode == 1
    assert "Traceback" not in everything_said(gateway, done)
    reason = f"state_dir: {gateway.folder / 'state'} cannot be used: another process uses it"
    assert f"node2dm cannot start: {reason}\n" in everything_said(gateway, done)


@pytest.mark.parametrize("option", ["pidfile=missing/pid", "rundir=missing"])
@pytest.mark.parametrize("options", [("-n",), ()], ids=["foreground", "daemon"])
def test_a_folder_of_twistds_options_that_is_not_there(make_gateway, options, option):
    """One line that names option and folder, status 1, and no log."""
    gateway = make_gateway()
    gateway.write_config()
    files = [*options, "--pidfile=pid", "--logfile=log", f"--{option}"]
    done = gateway.run_twistd(*files, "node2dm", "-c", str(gateway.file))
    name, folder = option.partition("=")[0], "missing"
    if name == "pidfile":
        folder = str(gateway.folder / "missing")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"twistd --{name}: {folder} is no folder\n"
    assert files_below(gateway.folder) == {"config.ini"}
    done = gateway.run_twistd(*files, "node2dm", "-c", str(gateway.file), "--check")
    assert (done.returncode, done.stdout) == (0, f"{gateway.file}: ok\n")


KEY_AND_CA = "[fcm]\nservice_account = key.json\n", f"{ACCOUNT}ca_file = ca.pem\n"


@pytest.mark.parametrize("config", KEY_AND_CA, ids=["key", "ca_file"])
@pytest.mark.parametrize("options", [("-n",), ()], ids=["foreground", "daemon"])
def test_a_file_that_cannot_be_used(make_gateway, options, config):
    """Missing, a folder, or of another kind: one line names option and file, and status 1."""
    gateway = make_gateway(config)
    option, _, name = config.strip().splitlines()[-1].partition(" = ")
    path = gateway.folder / name
    for prepare in (
        lambda: None,
        path.mkdir,
        lambda: path.rmdir() or path.write_text("x", "utf-8"),
    ):
        prepare()
        done = gateway.run(*options)
        said = everything_said(gateway, done)
        assert done.returncode == 1
        assert "Traceback" not in said
        (line,) = [
            line for line in said.splitlines() if option in line and "StartFailed" not in line
        ]
        assert name in line
        (gateway.folder / "log").unlink(missing_ok=True)


def test_a_second_gateway_on_the_same_state_dir(make_gateway):
    """Is refused, and the first goes on."""
    first, second = make_gateway().start(), make_gateway()
    second.write_config()
    text = second.file.read_text(encoding="utf-8")
    done = second.run("-n", config=text.replace("= state\n", f"= {first.folder / 'state'}\n"))
    assert done.returncode == 1
    assert "another process uses it" in done.stdout
    first.push(b"demo-phone:key:payload")
    first.wait_for(messages_sent=1)


def test_a_daemon_from_its_start_to_its_stop(make_gateway):
    """It returns with pid file and log made, and works; SIGTERM ends it and its pid file."""
    gateway = make_gateway()
    done = gateway.run()
    pid = int(gateway.pid_file.read_text(encoding="utf-8"))
    try:
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert pid != os.getpid()
        gateway.push(b"demo-phone:key:payload")
        gateway.wait_for(messages_sent=1)
        assert "phone demo-phone received collapse_key=key" in gateway.log
        again = gateway.run()
        assert again.returncode == 1
        assert "Another twistd server is running" in again.stderr
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not gateway.pid_file.exists(), "the pid file is gone")
    assert "Server Shut Down" in gateway.log
    assert "Traceback" not in gateway.log
    socket.create_server(("127.0.0.1", gateway.stats_port)).close()


def test_secrets_are_in_no_log_and_no_stats(make_gateway):
    """At the lowest level, neither password nor auth token; a readable file is warned of."""
    config = f"[c2dm]\n[emulator]\naccounts = sender@example.com:{PASSWORD}\n"
    gateway = make_gateway(config, node2dm="log_level = debug", mode=0o644).start()
    gateway.push(b"demo-phone:key:payload", b"nobody:key:payload", PASSWORD.encode())
    gateway.wait_for(messages_sent=1, messages_bad_device=1, messages_invalid=1)
    token = json.loads((gateway.folder / "state/c2dm.token").read_text(encoding="utf-8"))["auth"]
    everything = gateway.log + telnet(gateway.stats_port, b"stats\r\nversion\r\nhelp\r\nquit\r\n")
    assert len(token) > 10
    assert token not in everything
    assert PASSWORD not in everything
    assert f"{gateway.file} contains a secret and can be read by other users" in gateway.log


def test_a_file_that_only_its_owner_can_read_is_not_warned_of(make_gateway):
    """Nor is one without a secret."""
    config = f"[c2dm]\n[emulator]\naccounts = sender@example.com:{PASSWORD}\n"
    assert "contains a secret" not in make_gateway(config, mode=0o640).start().log
    assert "contains a secret" not in make_gateway(mode=0o644).start().log


def test_the_token_is_kept_for_its_owner_alone(make_gateway):
    """Mode 0600, and whatever else is made, nobody else can read it."""
    gateway = make_gateway().start()
    wait_until((gateway.folder / "state/c2dm.token").exists, "the token is stored")
    assert gateway.stop() in (0, -signal.SIGTERM)
    state = gateway.folder / "state"
    made = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (state, *state.rglob("*"))}
    assert made["c2dm.token"] == 0o600
    open_to_others = {name for name, mode in made.items() if mode & 0o077}
    assert open_to_others <= {"ca.pem"}


def test_a_wrong_password_for_the_emulator(make_gateway):
    """It is refused as Google would, and the gateway says why and tries again."""
    gateway = make_gateway(
        "[c2dm]\nusername = sender@example.com\npassword = wrong\n"
        f"[emulator]\naccounts = sender@example.com:{PASSWORD}\n"
    )
    gateway.start()
    gateway.push(b"demo-phone:key:payload")
    refused = re.compile(r"c2dm: sign-in failed: BadAuthentication; next try in \d+\.\d s")
    wait_until(lambda: len(refused.findall(gateway.log)) >= 2, "a second try")
    stats = gateway.stats()
    assert (stats["messages_in_queue"], stats["messages_sent"]) == (1, 0)
    assert stats["logged_in_to_c2dm"] == "false"
    assert "token_age" not in stats
    assert PASSWORD not in gateway.log


def test_the_account_of_the_emulator_is_the_default_of_the_route(make_gateway):
    """The first of `accounts` signs in where the route names none."""
    accounts = f"accounts = first@example.com:{PASSWORD}, second@example.com:other\n"
    gateway = make_gateway(f"[c2dm]\n[emulator]\n{accounts}").start()
    gateway.push(b"demo-phone:key:payload")
    gateway.wait_for(messages_sent=1)
